"""The programs in C: compiling them, and driving the load generator by its commands (see load.c)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

SOURCES = Path(__file__).parent
PROGRAMS = ("load", "limit", "hammer")
Direction = Literal["down", "up", "both"]


class BenchError(Exception):
    """Something that the bench needs is missing or has failed; the message says what."""


def compile_programs(into: Path) -> None:
    """Compiles the programs of the bench into a directory.

    Raises:
        BenchError: there is no C compiler, or it refuses.
    """
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("cc")
    if not compiler:
        raise BenchError("the bench needs a C compiler: install gcc, or name one in CC")
    for program in PROGRAMS:
        source = SOURCES / f"{program}.c"
        command = [compiler, "-O2", "-Wall", "-pthread", "-o", str(into / program), str(source)]
        compiled = subprocess.run(command, check=False, capture_output=True, text=True)
        if compiled.returncode:
            raise BenchError(f"cannot compile {program}.c: {compiled.stderr}")


@dataclass(frozen=True, slots=True)
class Flow:
    """What became of one load; the names are those of load.c's answer."""

    wall_s: float
    cpu_s: float
    generator_cpu_s: float
    sent: int
    expected: int
    received: int
    to_host: int
    duplicated: int
    reordered: int
    foreign: int
    truncated: int
    least_of_a_link: int
    latency_p50_us: float
    latency_p99_us: float
    latency_max_us: float

    @property
    def frames_per_cpu_s(self) -> float:
        """Frames delivered for each second of the forwarder's own processor time."""
        return self.received / self.cpu_s if self.cpu_s else 0.0

    @property
    def frames_per_s(self) -> float:
        """Frames delivered a second."""
        return self.received / self.wall_s if self.wall_s else 0.0

    @property
    def lost_share(self) -> float:
        """The share of the frames that never came."""
        return 1 - self.received / self.expected if self.expected else 0.0


class Load:
    """A load generator: the host and all links of one forwarder."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    @classmethod
    @contextmanager
    def start(cls, programs: Path, *, cpu: int | None) -> Iterator[Self]:
        """A generator on processor `cpu` (None: on any), for as long as the context lasts."""
        prefix = ["taskset", "--cpu-list", str(cpu)] if cpu is not None else []
        process = subprocess.Popen(
            [*prefix, str(programs / "load")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            process_group=0,
        )
        try:
            yield cls(process)
        finally:
            process.kill()
            process.communicate()

    def serve(self, host_dir: Path) -> None:
        """Offers the host side at a directory, for the forwarder to join."""
        self._command(f"serve {host_dir}")

    def accept(self) -> None:
        """Waits until the forwarder has joined the host side."""
        self._command("accept")

    def join(self, network: Path) -> None:
        """Is the host by joining the forwarder as another client."""
        self._command(f"join {network}")

    def attach(self, network: Path, count: int) -> float:
        """Attaches `count` links, one after the other. The answer: how long it took, in seconds."""
        return float(self._command(f"attach {network} {count}")["seconds"])

    def detach(self) -> float:
        """Closes all links. The answer: the seconds until the forwarder had removed its last socket for them."""
        return float(self._command("detach")["seconds"])

    def stall(self, link: int) -> None:
        """Lets a link (from 1) stop reading."""
        self._command(f"stall {link}")

    def begin(
        self,
        direction: Direction,
        *,
        size: int,
        ms: int,
        pids: Sequence[int],
        rate: float = 0.0,
        spin: bool = True,
        hiccup_ms: int = 0,
        lead: int = 0,
    ) -> None:
        """Starts a load; `finish` waits for its end."""
        words = [f"dir={direction}", f"size={size}", f"ms={ms}", f"rate={rate}", f"spin={int(spin)}"]
        words += [f"hiccup={hiccup_ms}", f"lead={lead}", *(f"pid={pid}" for pid in pids)]
        self._write("run " + " ".join(words))

    def finish(self) -> Flow:
        """What became of the load that was begun."""
        return Flow(**self._read())

    def run(self, direction: Direction, *, size: int, ms: int, pids: Sequence[int], **more: Any) -> Flow:
        """A load from its begin to its end; the keywords are those of `begin`."""
        self.begin(direction, size=size, ms=ms, pids=pids, **more)
        return self.finish()

    def _command(self, line: str) -> dict[str, Any]:
        self._write(line)
        answer = self._read()
        if not answer["ok"]:
            raise BenchError(f"the generator could not do '{line.split(maxsplit=1)[0]}' (link {answer['links'] + 1})")
        return answer

    def _write(self, line: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise BenchError(f"the generator has ended with {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer
