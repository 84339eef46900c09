"""The service as users start it: a process of its own with a runtime directory of its own, driven over HTTP."""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import httpx

from tests.e2e.harness import proc
from tests.e2e.harness.programs import Program
from tests.e2e.harness.waiting import wait_until

ROOT: Final = Path(__file__).parents[3]
COMMAND: Final = (sys.executable, "-m", "app")
STOP_LIMIT_S: Final = 10.0
"""The contract says 2 s; slow machines are given more before a test fails."""


def command_environment(**changes: str) -> dict[str, str]:
    """This process's environment without settings for the service, and with the project on the path."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("VDE_MULTILINK_", "XDG_"))}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **changes}


class Service:
    """`vde-multilink serve`, from when it is ready.

    Args:
        launch: starts a program of the test.
        home: gets the runtime directory and the state file.
        arguments: of `serve`: locators and flags.
    """

    def __init__(self, launch: Callable[[Sequence[str]], Program], home: Path, arguments: Sequence[str]) -> None:
        home.mkdir(exist_ok=True)
        self.home = home
        self.runtime_dir = home / "r"
        self.socket = self.runtime_dir / "api.sock"
        self.program = launch(
            [*COMMAND, "serve", *arguments, "--runtime-dir", str(self.runtime_dir), "--state", str(home / "state")]
            + ([] if "--listen" in arguments else ["--listen", "127.0.0.1:0"])
        )
        self.api = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(self.socket)), base_url="http://localhost", timeout=60
        )
        self._closed = False
        wait_until(lambda: "dashboard: " in self.program.output() or not self.program.running, "the last line")
        assert self.program.running, f"the service has not started: {self.program.output()}"
        assert self.api.get("/readyz").status_code == 200

    @property
    def pid(self) -> int:
        """The process that serves."""
        return self.program.pid

    # What the API says.

    def links(self, **query: str) -> list[dict[str, Any]]:
        """GET /links."""
        answer = self.api.get("/links", params=query)
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["links"]
        return found

    def link(self, id_or_name: str) -> dict[str, Any]:
        """GET /links/{id}."""
        answer = self.api.get(f"/links/{id_or_name}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def retired(self, link_id: str) -> dict[str, Any] | None:
        """The retired link of that id."""
        return next((link for link in self.links(state="retired") if link["id"] == link_id), None)

    def dial(self, url: str | Path, multilink: str | None = None, **body: Any) -> dict[str, Any]:
        """POST /links, which has to succeed."""
        request = {"url": str(url), **({"multilink": multilink} if multilink else {}), **body}
        answer = self.api.post("/links", json=request)
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        assert answer.headers["location"].endswith(f"/links/{made['id']}")
        return made

    def retire(self, link: str, **query: str) -> dict[str, Any]:
        """DELETE /links/{id}, which has to succeed."""
        answer = self.api.delete(f"/links/{link}", params=query)
        assert answer.status_code == 200, answer.text
        ended: dict[str, Any] = answer.json()
        return ended

    def multilinks(self) -> list[dict[str, Any]]:
        """GET /multilinks."""
        answer = self.api.get("/multilinks")
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["multilinks"]
        return found

    def multilink(self, name: str) -> dict[str, Any]:
        """GET /multilinks/{name}."""
        answer = self.api.get(f"/multilinks/{name}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def wait_host(self, name: str, state: str = "attached") -> dict[str, Any]:
        """The multilink's host, once it is attached (or detached)."""

        def ask() -> dict[str, Any]:
            host: dict[str, Any] = self.multilink(name)["host"]
            return host if host["state"] == state else {}

        return wait_until(ask, f"{state} host")

    def wait_link(self, which: Callable[[dict[str, Any]], bool], what: str = "a link") -> dict[str, Any]:
        """The first live link that answers to `which`, once there is one."""
        return wait_until(lambda: next((link for link in self.links() if which(link)), {}), what)

    def wait_none_connecting(self) -> None:
        """Return when every link that has been seen by now is up, or has failed."""
        wait_until(lambda: not self.links(state="connecting"), "no link to be connecting")

    def wait_peer(self, pid: int) -> dict[str, Any]:
        """The link of that process, once it is up."""
        return self.wait_link(
            lambda link: link["state"] == "up" and link["peer"] is not None and link["peer"]["pid"] == pid,
            f"the link of process {pid}",
        )

    # What the kernel says.

    def cpu_share(self, over_s: float = 1.5) -> float:
        """Processor time used per second, over the next seconds."""
        before, started = proc.cpu_seconds(self.pid), time.monotonic()
        time.sleep(over_s)
        return (proc.cpu_seconds(self.pid) - before) / (time.monotonic() - started)

    def descriptors(self) -> int:
        """How many it has open."""
        return len(proc.open_descriptors(self.pid))

    def limit_descriptors(self, soft: int) -> None:
        """Change its RLIMIT_NOFILE as it runs."""
        _, hard = resource.prlimit(self.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(self.pid, resource.RLIMIT_NOFILE, (soft, hard))

    # Its end.

    def stop(self, number: signal.Signals = signal.SIGTERM) -> float:
        """Signal it; exit 0 and nothing left of it. How long that took, in seconds."""
        paths = [Path(multilink["path"]) for multilink in self.multilinks()]
        self.api.close()
        started = time.monotonic()
        self.program.send(number)
        status = self.program.wait(STOP_LIMIT_S)
        took_s = time.monotonic() - started
        self._closed = True
        assert status == 0, f"exit status {status}: {self.program.output()}"
        assert not [path for path in paths if os.path.lexists(path)], "control directories are left"
        assert not os.path.lexists(self.runtime_dir), os.listdir(self.runtime_dir)
        assert not self.program.family(), "children are left"
        assert "Traceback" not in self.program.output(), self.program.output()
        return took_s

    def kill(self) -> None:
        """SIGKILL: everything it made is left as it is."""
        self.api.close()
        self._closed = True
        self.program.kill()

    def forget(self) -> None:
        """The test has ended it by itself."""
        self.api.close()
        self._closed = True

    def close(self) -> None:
        """Stop it, unless it has been stopped or killed; it may not have ended by itself."""
        if not self._closed:
            self.stop()
