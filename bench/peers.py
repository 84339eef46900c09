"""The forwarders that are compared, and how each is started and stopped.

All but the switch join their host side, a VDE network that the load generator serves, with the same
plug (`vde://`), so that all do exactly the same work: one hop from that socket to the links' sockets and back. A
switch has no host side: there the generator's host is one more client.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from bench.load import SOURCES, BenchError

START_S = 20.0
STOP_S = 10.0
DIE_WITH_PARENT = ("setpriv", "--pdeathsig", "TERM") if shutil.which("setpriv") else ()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a forwarder runs, and what it finds there.

    `multilinks` are the control directories that it serves, `hosts` the locators of their host sides (fewer: the
    last ones have no host). `cpu` is the processor it may use (None: any), `netns` its network namespace (None: that of
    the bench).
    """

    work: Path
    programs: Path
    multilinks: Sequence[Path]
    hosts: Sequence[str] = ()
    cpu: int | None = None
    netns: str | None = None


@dataclass(frozen=True, slots=True)
class Peer:
    """A kind of forwarder."""

    name: str
    title: str
    short: str
    command: Callable[[Place], list[str]]
    joins_host: bool = True
    taps: bool = True
    has_api: bool = False
    needs: str | None = None

    def missing(self) -> str | None:
        """Why this peer cannot run here, or None."""
        if self.needs and not shutil.which(self.needs):
            return f"{self.needs} is not installed"
        return None


@dataclass(frozen=True, slots=True)
class Forwarder:
    """A forwarder that runs."""

    peer: Peer
    pid: int
    network: Path
    api_socket: Path


def _service(place: Place) -> list[str]:
    hosts = [f"{{{host}}}" for host in place.hosts]
    vnls = [f"multi://{path}{host}" for path, host in zip_longest(place.multilinks, hosts, fillvalue="")]
    run, state = place.work / "run", place.work / "state.db"
    listen = f"unix:{place.work / 'l.sock'}"
    options = ["--runtime-dir", str(run), "--state", str(state), "--listen", listen]
    return [sys.executable, "-m", "app", "serve", *vnls, *options]


def _multi(place: Place) -> list[str]:
    return ["vde_plug", place.hosts[0], f"multi://{place.multilinks[0]}"]


def _switch(place: Place) -> list[str]:
    return ["vde_switch", "-x", "-n", "2048", "-s", str(place.multilinks[0])]


def _limit(place: Place) -> list[str]:
    return [str(place.programs / "limit"), str(place.multilinks[0]), place.hosts[0].removeprefix("vde://")]


def _floor(place: Place) -> list[str]:
    return [sys.executable, "-m", "bench.floor", str(place.multilinks[0]), place.hosts[0].removeprefix("vde://")]


SERVICE = Peer("service", "this service", "service", _service, has_api=True)
MULTI = Peer("multi", "C multi://", "C multi", _multi, needs="vde_plug")
SWITCH = Peer("switch", "vde_switch -x", "switch", _switch, joins_host=False, needs="vde_switch")
LIMIT = Peer("limit", "the limit", "limit", _limit, taps=False)
FLOOR = Peer("floor", "bare Trio", "bare Trio", _floor, taps=False)
PEERS = {peer.name: peer for peer in (SERVICE, MULTI, SWITCH, LIMIT, FLOOR)}


@contextmanager
def start(peer: Peer, place: Place, *, wait: Callable[[], None] | None = None) -> Iterator[Forwarder]:
    """A running forwarder, for as long as the context lasts.

    Args:
        peer: the kind.
        place: where.
        wait: what to wait for once it is started, such as its joining the host.

    Raises:
        BenchError: it does not come up; its last words are in the message.
    """
    prefix = [*DIE_WITH_PARENT, *(["ip", "netns", "exec", place.netns] if place.netns else [])]
    prefix += ["taskset", "--cpu-list", str(place.cpu)] if place.cpu is not None else []
    log = place.work / "log"
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            prefix + peer.command(place),
            stdin=subprocess.PIPE,  # vde_switch leaves when its stdin ends
            stdout=subprocess.DEVNULL,
            stderr=errors,
            cwd=SOURCES.parent,
            process_group=0,
        ) as process,
    ):
        forwarder = Forwarder(peer, process.pid, place.multilinks[0], place.work / "run" / "api.sock")
        try:
            if wait:
                _explained(wait, process, peer, log)
            _await_ready(forwarder, place, process, log)
            yield forwarder
            if process.poll() is not None:
                raise BenchError(f"{peer.title} has ended: {_last_words(log)}")
        finally:
            stop(process)


def _explained(wait: Callable[[], None], process: subprocess.Popen[bytes], peer: Peer, log: Path) -> None:
    try:
        wait()
    except BenchError as error:
        ended = "" if process.poll() is None else f"; it has ended with {process.returncode}"
        raise BenchError(f"{peer.title}: {error}{ended}: {_last_words(log)}") from error


def _await_ready(forwarder: Forwarder, place: Place, process: subprocess.Popen[bytes], log: Path) -> None:
    awaited = [path / "ctl" for path in place.multilinks]
    if forwarder.peer.has_api:
        awaited.append(forwarder.api_socket)
    deadline = time.monotonic() + START_S
    while not all(path.exists() for path in awaited):
        if process.poll() is not None or time.monotonic() > deadline:
            raise BenchError(f"{forwarder.peer.title} does not start: {_last_words(log)}")
        time.sleep(0.01)


def _last_words(log: Path) -> str:
    return " / ".join(log.read_text(errors="replace").strip().splitlines()[-3:]) or "it said nothing"


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ends a process: asked first, then told."""
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
