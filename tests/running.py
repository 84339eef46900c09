"""The service and the commands as processes, as users run them; whatever a test does, none is left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).parents[1]
START_LIMIT_S = 30.0
"""Only so that a test which fails also ends."""


def clean_environment(**changes: str) -> dict[str, str]:
    """This process's environment without settings of ours, and with `changes`."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("VDE_MULTILINK", "_VDE_", "COLUMNS"))
    }
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **changes}


def run_command(
    *arguments: str, stdin: str | None = None, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "app", *arguments],
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        timeout=START_LIMIT_S,
        cwd=cwd,
        env=clean_environment(**environment),
    )


class ServiceProcess:
    """`vde-multilink serve` (or `plug`) with its files in `directory`.

    Args:
        directory: gets the runtime directory `rt` and the state file `state`.
        arguments: the command line after the command.
        command: `serve` or `plug`.
        ready: the line on stderr that says it is.
        environment: variables to set.
    """

    def __init__(
        self, directory: Path, *arguments: str, command: str = "serve", ready: str = r"^dashboard: ", **environment: str
    ) -> None:
        self.directory = directory
        self.runtime_dir = directory / "rt"
        self.lines: list[str] = []
        self._ready = re.compile(ready)
        self._event = threading.Event()
        own = [f"--runtime-dir={self.runtime_dir}"] if command == "serve" else []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "app", command, f"--state={directory / 'state'}", *own, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=clean_environment(**environment),
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def __enter__(self) -> Self:
        try:
            self.wait_ready()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def wait_ready(self) -> None:
        """Return once the line has come."""
        if not self._event.wait(START_LIMIT_S) or not any(self._ready.search(line) for line in self.lines):
            raise AssertionError(f"the service has not started: {self.lines}")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and return the exit status."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """The exit status."""
        status = self.process.wait(START_LIMIT_S)
        self._reader.join(START_LIMIT_S)
        return status

    def close(self) -> None:
        """Kill it, if it still runs."""
        self.process.kill()
        self.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()

    def run(self, *arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command that asks this service."""
        environment.setdefault("VDE_MULTILINK_RUNTIME_DIR", str(self.runtime_dir))
        return run_command(*arguments, stdin=None, cwd=cwd, **environment)

    def announced(self, label: str) -> list[str]:
        """What stands after `label: ` in the lines on stderr."""
        return [line.removeprefix(f"{label}: ") for line in self.lines if line.startswith(f"{label}: ")]

    def _read(self) -> None:
        stderr = self.process.stderr
        assert stderr is not None
        for line in stderr:
            self.lines.append(line.decode().rstrip("\n"))
            if self._ready.search(self.lines[-1]):
                self._event.set()
        self._event.set()


def wait_until(condition: Callable[[], bool]) -> None:
    """Return once `condition` holds."""
    deadline = threading.Event()
    for _ in range(int(START_LIMIT_S / 0.02)):
        if condition():
            return
        deadline.wait(0.02)
    raise AssertionError("it has not come about")


@contextmanager
def started(directory: Path, *arguments: str, **options: str) -> Iterator[ServiceProcess]:
    """A service on a free port, ready."""
    with ServiceProcess(directory, *arguments, "--listen=127.0.0.1:0", **options) as service:
        yield service


__all__ = ["ServiceProcess", "clean_environment", "run_command", "started", "wait_until"]
