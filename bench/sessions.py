"""A forwarder and the generators around it, up and joined: what every measurement starts from."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from bench.load import Flow, Load
from bench.machine import processors
from bench.peers import Forwarder, Peer, Place, start

WARM_UP_MS = 50


@dataclass(slots=True)
class Bench:
    """What all measurements share: the compiled programs, a directory for their files, how long they take."""

    programs: Path
    work: Path
    time_scale: float = 1.0
    _numbers: Iterator[int] = field(default_factory=count)

    def ms(self, wanted: int) -> int:
        """How long a load lasts that by the table lasts `wanted` milliseconds."""
        return int(wanted * self.time_scale)

    @contextmanager
    def directory(self) -> Iterator[Path]:
        """A directory with a short name (paths of unix sockets are short), removed afterwards."""
        path = self.work / str(next(self._numbers))
        path.mkdir()
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)


@contextmanager
def open_bench(*, time_scale: float) -> Iterator[Bench]:
    """A directory for the bench, removed with everything in it at the end."""
    with tempfile.TemporaryDirectory(prefix="mlb", dir="/tmp", ignore_cleanup_errors=True) as name:
        work = Path(name)
        programs = work / "bin"
        programs.mkdir()
        yield Bench(programs, work, time_scale)


@dataclass(frozen=True, slots=True)
class Session:
    """A forwarder and its generators: one a multilink, the host and all links of it."""

    forwarder: Forwarder
    loads: tuple[Load, ...]
    multilinks: tuple[Path, ...]

    @property
    def load(self) -> Load:
        """The generator of the first multilink."""
        return self.loads[0]

    @property
    def pids(self) -> list[int]:
        """Whose processor time counts."""
        return [self.forwarder.pid]

    def warm_up(self) -> Flow:
        """A short load that nobody counts."""
        return self.load.run("both", size=1514, ms=WARM_UP_MS, pids=self.pids)


@contextmanager
def open_session(
    bench: Bench,
    peer: Peer,
    *,
    links: int = 0,
    loads: int = 1,
    idle_multilinks: int = 0,
    cpus: tuple[int, int] | None = None,
) -> Iterator[Session]:
    """A forwarder with a generator for each of its busy multilinks, and `links` links attached to each of those.

    Args:
        bench: what all measurements share.
        peer: the kind of forwarder.
        links: attached before the session is handed over; 0 attaches none and warms nothing up.
        loads: busy multilinks.
        idle_multilinks: multilinks without a host, after the busy ones.
        cpus: the processor of the forwarder and that of the generators.

    Raises:
        BenchError: something does not come up.
    """
    forwarder_cpu, load_cpu = cpus or processors()
    with ExitStack() as stack:
        work = stack.enter_context(bench.directory())
        multilinks = tuple(work / f"x{n}" for n in range(loads + idle_multilinks))
        host_dirs = [work / f"h{n}" for n in range(loads)]
        generators = tuple(stack.enter_context(Load.start(bench.programs, cpu=load_cpu)) for _ in range(loads))
        hosts: list[str] = []
        if peer.joins_host:
            hosts = [f"vde://{path}" for path in host_dirs]
            for load, path in zip(generators, host_dirs, strict=True):
                load.serve(path)

        def await_hosts() -> None:
            for load in generators if peer.joins_host else ():
                load.accept()

        place = Place(work, bench.programs, multilinks, hosts, cpu=forwarder_cpu)
        forwarder = stack.enter_context(start(peer, place, wait=await_hosts))
        session = Session(forwarder, generators, multilinks)
        if not peer.joins_host:
            session.load.join(multilinks[0])
        if links:
            for load, path in zip(generators, multilinks, strict=False):
                load.attach(path, links)
            session.warm_up()
        yield session
