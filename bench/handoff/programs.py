"""Programs of the bench: each in a process group of its own, which ends with it.

Invariant: a group is killed while its leader is not yet reaped, so its number cannot have become another's.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from bench.load import SOURCES, BenchError
from bench.peers import DIE_WITH_PARENT

GRACE_S = 5.0
_POLL_S = 0.01


class Program:
    """A process that runs until `stop`.

    Args:
        command: what to run; found on PATH.
        log: where its stderr goes, and its stdout unless that is a pipe.
        netns: the network namespace; None is that of the bench.
        pipes: its stdin and stdout are pipes; else stdin is a pipe that nothing is written to, so that programs that
            end with their stdin live.
        env: variables beside those of the bench.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        netns: str | None = None,
        pipes: bool = False,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.name = Path(command[0]).name
        self._log = log
        inside = ["ip", "netns", "exec", netns] if netns else []
        with log.open("ab") as errors:
            self.process = subprocess.Popen(
                [*DIE_WITH_PARENT, *inside, *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if pipes else errors,
                stderr=errors,
                cwd=SOURCES.parent,
                process_group=0,
                env={**os.environ, **(env or {})},
            )

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self.process.pid

    def check(self) -> None:
        """Says what became of it.

        Raises:
            BenchError: it has ended.
        """
        if self._has_ended():
            raise BenchError(f"{self.name} has ended: {self.last_words()}")

    def said(self) -> str:
        """What it has said, on stderr, and on stdout unless that is a pipe."""
        return self._log.read_text(errors="replace")

    def last_words(self) -> str:
        """The last lines of that."""
        return " / ".join(self.said().strip().splitlines()[-3:]) or "it said nothing"

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the process alone, unless it has ended."""
        with suppress(ProcessLookupError):
            self.process.send_signal(number)

    def wait(self, timeout_s: float = GRACE_S) -> None:
        """Waits for its end by itself.

        Raises:
            BenchError: it has not come to it.
        """
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            raise BenchError(f"{self.name} does not end: {self.last_words()}") from error
        self._close_pipes()

    def stop(self, grace_s: float = GRACE_S) -> None:
        """SIGTERM, `grace_s`, SIGKILL; the second to whatever is left of its group too. Again: nothing happens."""
        if self.process.returncode is not None:
            return
        self.signal(signal.SIGTERM)
        deadline = time.monotonic() + grace_s
        while not self._has_ended() and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()
        self._close_pipes()

    def _close_pipes(self) -> None:
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()

    def _has_ended(self) -> bool:
        if self.process.returncode is not None:
            return True
        # Looked at, not reaped: see the invariant.
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


@contextmanager
def running(program: Program) -> Iterator[Program]:
    """A program for as long as the context lasts."""
    try:
        yield program
    finally:
        program.stop()


def run(*command: str, netns: str | None = None) -> str:
    """Runs a short command to its end. The answer is its stdout.

    Raises:
        BenchError: it fails.
    """
    words = ["ip", "netns", "exec", netns, *command] if netns else list(command)
    done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=30)
    if done.returncode:
        raise BenchError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def await_true(condition: Callable[[], bool], what: str, limit_s: float = 20.0) -> None:
    """Waits until a callable answers true.

    Raises:
        BenchError: it does not in time.
    """
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            raise BenchError(f"waited {limit_s:g} s in vain for {what}")
        time.sleep(0.02)
