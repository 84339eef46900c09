"""The two ends: a multilink on each, its host the tap of its namespace; the C module's, or this service's.

Both kinds open the tap with a plug in the same process that serves the multilink.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from bench.handoff.programs import Program, await_true
from bench.handoff.world import TAP, World
from bench.load import BenchError

NOT_LOST = frozenset({"duplicate", "reflection", "probe"})
"""What the service drops on purpose: nothing of it is missing at the host."""


@dataclass(slots=True)
class End:
    """A multilink with its host."""

    network: Path
    program: Program


@dataclass(slots=True)
class ServiceEnd(End):
    """One of this service, with its API and what was last read of its counters."""

    api: Path
    _dropped: dict[str, dict[str, int]] = field(default_factory=dict)

    def ask(self, method: str, path: str, *, wait_s: float = 60.0, **options: Any) -> Any:
        """Asks the API; each time over a connection of its own, so that none is a descriptor left over.

        Raises:
            BenchError: it refuses.
        """
        transport = httpx.HTTPTransport(uds=str(self.api))
        with httpx.Client(transport=transport, base_url="http://localhost", timeout=wait_s) as client:
            answer = client.request(method, path, **options)
        if not answer.is_success:
            raise BenchError(f"{method} {path}: {answer.status_code}: {answer.text}")
        return answer.json()

    def links(self) -> list[dict[str, Any]]:
        """The live links."""
        links: list[dict[str, Any]] = self.ask("GET", "/links")["links"]
        return links

    def note_drops(self) -> None:
        """Reads what has been dropped by now; a link that has ended keeps what was read last."""
        for link in [*self.links(), *self.ask("GET", "/links", params={"state": "retired"})["links"]]:
            for way in ("rx", "tx"):
                self._dropped[f"{link['id']} {way}"] = link[way]["dropped"]
        for multilink in self.ask("GET", "/multilinks")["multilinks"]:
            for way in ("rx", "tx"):
                self._dropped[f"host {way}"] = multilink["host"][way]["dropped"]

    def drops(self) -> Counter[str]:
        """What has been dropped, by direction and reason: `tx full` is towards a link, `host tx full` to the host."""
        self.note_drops()
        total: Counter[str] = Counter()
        for owner, reasons in self._dropped.items():
            where = owner if owner.startswith("host") else owner.split()[1]
            for reason, count in reasons.items():
                total[f"{where} {reason}"] += count
        return total

    def holdings(self) -> dict[str, Any]:
        """What the process has: descriptors by kind, descendants, files of its own; to compare before and after."""
        kinds: Counter[str] = Counter()
        folder = Path(f"/proc/{self.program.pid}/fd")
        for entry in folder.iterdir():
            try:
                target = str(entry.readlink())
            except FileNotFoundError:
                continue
            kinds[target.partition(":[")[0] if ":[" in target else target] += 1
        files = sorted(path.name for path in self.network.iterdir())
        return {
            "descriptors": dict(sorted(kinds.items())),
            "children": len(_descendants(self.program.pid)),
            "files": len(files),
            "runtime_files": len(list(self.api.parent.iterdir())),
            "links": len(self.links()),
        }


def lost_of(drops: Counter[str]) -> int:
    """How many of the dropped frames were not dropped on purpose."""
    return sum(count for reason, count in drops.items() if reason.split()[-1] not in NOT_LOST)


def _descendants(pid: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if fields[0] != "Z":
                parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found: list[int] = []
    todo = [pid]
    while todo:
        children = parents.get(todo.pop(), [])
        found += children
        todo += children
    return found


def start_c_end(world: World, netns: str, name: str) -> End:
    """The C module's multi://, with the tap as its host."""
    network = world.work / name
    program = world.program("vde_plug", f"tap://{TAP}", f"multi://{network}", netns=netns)
    await_true(lambda: _is_up(program, network / "ctl"), "the C multi://")
    return End(network, program)


def start_service_end(world: World, netns: str, name: str) -> ServiceEnd:
    """This service, with the tap as the host of its one multilink."""
    network, run, listen = world.work / name, world.work / f"{name}.run", world.work / f"{name}.sock"
    api = run / "api.sock"
    options = ["--runtime-dir", str(run), "--state", str(world.work / f"{name}.db"), "--listen", f"unix:{listen}"]
    vnl = f"multi://{network}{{tap://{TAP}}}"
    program = world.program(sys.executable, "-m", "app", "serve", vnl, *options, "--allow", "cmd", netns=netns)
    end = ServiceEnd(network, program, api)
    await_true(lambda: _is_up(program, api) and _is_ready(end), "the service")
    return end


def _is_up(program: Program, path: Path) -> bool:
    program.check()
    return os.path.lexists(path)


def _is_ready(end: ServiceEnd) -> bool:
    try:
        multilinks = end.ask("GET", "/multilinks")["multilinks"]
    except (httpx.TransportError, BenchError):
        time.sleep(0.05)
        return False
    return all(multilink["host"]["state"] == "attached" for multilink in multilinks)
