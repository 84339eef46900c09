"""Programs started by a test: known by pid, their output kept, ended with all their children."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from tests.e2e.harness import proc
from tests.e2e.harness.waiting import LIMIT_S, wait_until


class Program:
    """One running program; its stdin stays open until `close`, because many of these leave with it.

    Args:
        argv: the program and its arguments.
        mark: inherited by all its children; of this program alone.
        log: the file that gets its output; stdout and stderr, or stderr alone with a `stdout`.
        env: the whole environment, to which the mark is added.
        stdin: a descriptor or file in place of a pipe.
        stdout: likewise, in place of `log`.
        umask: of the process; the test's own if negative.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        mark: str,
        log: Path,
        env: Mapping[str, str],
        stdin: int | None = None,
        stdout: int | None = None,
        umask: int = -1,
    ) -> None:
        self.argv = list(argv)
        self.mark = mark
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                self.argv,
                stdin=subprocess.PIPE if stdin is None else stdin,
                stdout=output if stdout is None else stdout,
                stderr=output,
                env={**env, proc.MARK_VARIABLE: mark},
                process_group=0,  # no session of its own: dpipe refuses to be the leader of one
                umask=umask,
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def stdin(self) -> IO[bytes]:
        """Its stdin, where that is a pipe."""
        assert self.process.stdin is not None
        return self.process.stdin

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self.process.poll() is None

    def output(self) -> str:
        """What it has said so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def family(self) -> list[int]:
        """It and its living children, of any generation."""
        return proc.marked_pids(self.mark)

    def children(self) -> list[int]:
        """Its living children, of any generation."""
        return [pid for pid in self.family() if pid != self.pid]

    def send(self, number: signal.Signals) -> None:
        """Signal it."""
        self.process.send_signal(number)

    def terminate(self) -> None:
        """SIGTERM to it alone."""
        self.send(signal.SIGTERM)

    def wait(self, limit_s: float = LIMIT_S) -> int:
        """Its exit status once it has ended."""
        try:
            return self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self} has not ended within {limit_s:g} s; it said: {self.output()}") from None

    def kill(self) -> None:
        """SIGKILL to it alone, and its end."""
        self.process.kill()
        self.wait()
        self._close_stdin()

    def close(self) -> None:
        """End it and all its children; a second call does nothing."""
        self._close_stdin()
        for pid in self.family():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.wait()
        wait_until(lambda: not self.family(), f"the children of {self} to end")

    def close_stdin(self) -> None:
        """Let it read the end of its input."""
        self._close_stdin()

    def _close_stdin(self) -> None:
        if self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()

    def __str__(self) -> str:
        return f"{' '.join(self.argv)} (pid {self.pid})"
