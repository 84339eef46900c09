"""Hand-offs back and forth in a row, under ping and UDP: what is lost, what comes twice, and what is left over."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from bench.handoff.ends import ServiceEnd
from bench.handoff.loads import Outcome, ping, udp
from bench.handoff.movers import OURS, ServiceMover, set_up
from bench.handoff.paths import PathKind
from bench.handoff.world import open_world
from bench.load import BenchError

OVERLAP_S = 0.3
DRAIN_S = 0.2
QUIET_S = 1.0
SETTLE_S = 5.0


@dataclass(slots=True)
class Repeated:
    """What came of a row of hand-offs; the holdings are those of the near service and of the far one."""

    path: str
    count: int
    seconds: list[float]
    outcomes: dict[str, Outcome]
    before: list[dict[str, Any]]
    after: list[dict[str, Any]]

    @property
    def left(self) -> list[str]:
        """What the services have more or less of than before."""
        return [
            f"{end} {what}: {then[what]} before, {now[what]} after"
            for end, then, now in zip(("near", "far"), self.before, self.after, strict=True)
            for what in then
            if then[what] != now[what]
        ]

    @property
    def is_clean(self) -> bool:
        """Nothing lost, nothing twice, nothing left over."""
        totals = [outcome.total for outcome in self.outcomes.values()]
        return not self.left and not any(total.lost or total.duplicated for total in totals)

    def lines(self) -> list[str]:
        """For a reader."""
        seconds = sorted(self.seconds)
        times = f"each {seconds[0]:.2f} to {seconds[-1]:.2f} s, median {median(seconds):.2f} s"
        said = [f"{self.path}: {self.count} hand-offs in a row, {times}"]
        for name, outcome in self.outcomes.items():
            total = outcome.total
            said.append(
                f"  {name}: {total.sent:,} sent, {total.lost:,} lost, {total.duplicated:,} twice, "
                f"{total.reordered:,} reordered, longest gap {total.gap_ms:.0f} ms"
            )
        for end, now in zip(("near", "far"), self.after, strict=True):
            said.append(
                f"  {end} service: {sum(now['descriptors'].values())} descriptors, {now['children']} children, "
                f"{now['files']} files, {now['links']} links"
            )
        said += [f"  left over: {line}" for line in self.left] or ["  nothing left over"]
        return said

    def to_json(self) -> dict[str, Any]:
        """For --out."""
        return {**asdict(self), "left": self.left, "is_clean": self.is_clean}


def repeat(kind: PathKind, count: int, *, by_hand: bool, tell: Callable[[str], None]) -> Repeated:
    """`count` hand-offs back and forth; an odd one is followed by one more, so that it ends where it began.

    Raises:
        BenchError: one of them is not completed.
    """
    count += count % 2
    with open_world() as world:
        ends = set_up(world, OURS, kind, by_hand=by_hand)
        mover = ends.mover
        if not isinstance(mover, ServiceMover):
            raise BenchError("only this service is asked for hand-offs in a row")
        mover.first()
        world.await_answer()
        with ExitStack() as stack:
            loads = {"ping": stack.enter_context(ping(world)), "UDP": stack.enter_context(udp(world))}
            time.sleep(QUIET_S)
            before = [end.holdings() for end in ends.services]
            seconds = []
            for number in range(count):
                to, away_from = ends.ways[(number + 1) % 2], ends.ways[number % 2]
                began = time.monotonic()
                mover.hand_off(to, away_from, overlap_s=OVERLAP_S, drain_s=DRAIN_S)
                seconds.append(time.monotonic() - began)
                tell(f"{kind.name}: hand-off {number + 1} of {count}, to {to.name}: {seconds[-1]:.2f} s")
            time.sleep(QUIET_S)
            after = _settled(ends.services, before)
        outcomes = {name: load.finish() for name, load in loads.items()}
    return Repeated(kind.name, count, seconds, outcomes, before, after)


def _settled(services: list[ServiceEnd], before: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What they hold once the last of a retired link has been closed."""
    deadline = time.monotonic() + SETTLE_S
    while (after := [end.holdings() for end in services]) != before and time.monotonic() < deadline:
        time.sleep(0.1)
    return after
