"""Who moves the load: the C tools by a second process and a signal to the first, or this service by one request.

0           first()                the first path carries
phase_s     move(overlap_s)        the second is made; both carry; the first ends
…           the load goes on over the second
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import httpx

from bench.handoff.ends import End, ServiceEnd, start_c_end, start_service_end
from bench.handoff.paths import PathKind, Way
from bench.handoff.programs import Program
from bench.handoff.world import World
from bench.load import BenchError

DRAIN_S = 0.5
WAIT_S = 30
_LOOK_S = 0.25


class Mover(Protocol):
    """Makes the first path, and later moves to the second."""

    def first(self) -> None:
        """Makes the first path."""

    def move(self, overlap_s: float) -> dict[str, Any]:
        """Makes the second path and, `overlap_s` later, ends the first. The answer is what it has to say of that."""


@dataclass(slots=True)
class CMover:
    """The manual's hand-off: a process a path; the first is killed."""

    world: World
    ways: tuple[Way, Way]
    far: End
    _paths: list[Program] = field(default_factory=list)

    def first(self) -> None:
        """See `Mover.first`."""
        self._start(self.ways[0])

    def move(self, overlap_s: float) -> dict[str, Any]:
        """See `Mover.move`."""
        self._start(self.ways[1])
        _sleep_noting(overlap_s, self.far)
        self._paths[0].signal(signal.SIGTERM)
        time.sleep(0.2)
        self._paths[0].stop()  # killed while stalled, vde_plug leaves its ssh behind
        return {}

    def _start(self, way: Way) -> None:
        self._paths.append(self.world.program(*way.command, netns=self.world.near))


@dataclass(slots=True)
class ServiceMover:
    """One POST /handoffs; or, by hand, POST /links and DELETE /links with the same times."""

    near: ServiceEnd
    ways: tuple[Way, Way]
    far: End
    by_hand: bool

    def first(self) -> None:
        """See `Mover.first`."""
        self.near.ask("POST", "/links", json={"url": self.ways[0].url, "name": self.ways[0].name})

    def move(self, overlap_s: float) -> dict[str, Any]:
        """See `Mover.move`."""
        # Counters of a link that is attached at the far end are gone with it: they are read while it lives.
        noting = threading.Thread(target=_sleep_noting, args=(overlap_s, self.near, self.far))
        noting.start()
        try:
            return self.hand_off(self.ways[1], self.ways[0], overlap_s=overlap_s)
        finally:
            noting.join()

    def hand_off(self, to: Way, away_from: Way, *, overlap_s: float, drain_s: float = DRAIN_S) -> dict[str, Any]:
        """One hand-off. The answer is its resource, or nothing if it was done by hand.

        Raises:
            BenchError: it has not been completed.
        """
        target = {"url": to.url, "name": to.name}
        if self.by_hand:
            until = time.monotonic() + overlap_s
            self.near.ask("POST", "/links", json=target)
            time.sleep(max(0.0, until - time.monotonic()))
            self.near.ask("DELETE", f"/links/{away_from.name}", params={"drain_s": drain_s})
            return {}
        made: dict[str, Any] = self.near.ask(
            "POST",
            "/handoffs",
            json={"to": target, "overlap_s": overlap_s, "drain_s": drain_s},
            headers={"Prefer": f"wait={WAIT_S}"},
            wait_s=WAIT_S + 10,
        )
        if made.get("state") != "completed":
            raise BenchError(f"the hand-off to {to.name} was {made.get('state')}: {made.get('reason')}")
        return made


def _sleep_noting(seconds: float, *ends: End) -> None:
    """Sleeps, and reads the counters just before the end: those of an attached link go when it ends."""
    until = time.monotonic() + seconds
    time.sleep(max(0.0, until - time.monotonic() - _LOOK_S))
    for end in ends:
        if isinstance(end, ServiceEnd):
            with suppress(BenchError, httpx.HTTPError):
                end.note_drops()
    time.sleep(max(0.0, until - time.monotonic()))


@dataclass(frozen=True, slots=True)
class Tools:
    """A kind of hand-off: what is at each end, and who moves."""

    name: str
    title: str
    near: Callable[[World, str, str], End]
    far: Callable[[World, str, str], End]


C, OURS, MIXED = (
    Tools("c", "C multi://", start_c_end, start_c_end),
    Tools("service", "this service", start_service_end, start_service_end),
    Tools("mixed", "service, C far end", start_service_end, start_c_end),
)
TOOLS = {tools.name: tools for tools in (C, OURS, MIXED)}


@dataclass(frozen=True, slots=True)
class Set:
    """Both ends up, nothing between them yet."""

    near: End
    far: End
    ways: tuple[Way, Way]
    mover: Mover

    @property
    def services(self) -> list[ServiceEnd]:
        """Those of the ends that are this service's."""
        return [end for end in (self.near, self.far) if isinstance(end, ServiceEnd)]


def set_up(world: World, tools: Tools, kind: PathKind, *, by_hand: bool) -> Set:
    """Starts both ends and whatever the paths need."""
    near, far = tools.near(world, world.near, "vm1"), tools.far(world, world.far, "vm2")
    ways = kind.make(world, near.network, far.network)
    mover: Mover = ServiceMover(near, ways, far, by_hand) if isinstance(near, ServiceEnd) else CMover(world, ways, far)
    return Set(near, far, ways, mover)
