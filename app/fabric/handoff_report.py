"""What a hand-off saw in each direction: frames, duplicates, gaps, and which path was first and by how much.

Counting goes on from the start of a hand-off to its end, on what is looked at anyway: the filter of duplicates tells of
each frame from the links (`SightingObserver`), the multilink of each batch from the host.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

SKEW_SAMPLES: Final = 4096
"""Kept of the skews, chosen at random among all: enough for a p99 (Vitter's algorithm R)."""


@dataclass(slots=True)
class PathCount:
    """What one link did, in one direction. To the host: `first`, `later` and `missed`; from the host: `frames`,
    `dropped`.
    """

    first: int = 0
    later: int = 0
    missed: int = 0
    frames: int = 0
    dropped: int = 0


@dataclass(slots=True)
class DirectionReport:
    """One direction of a hand-off. Seconds; None where there was nothing to measure."""

    frames: int = 0
    duplicates: int = 0
    longest_gap_s: float | None = None
    skew_median_s: float | None = None
    skew_p99_s: float | None = None
    paths: dict[str, PathCount] = field(default_factory=dict)


class GapClock:
    """The longest time between two batches."""

    __slots__ = ("_last", "longest_s")

    def __init__(self) -> None:
        self._last: float | None = None
        self.longest_s: float | None = None

    def tick(self, now: float) -> None:
        """Frames have passed at `now`."""
        if self._last is not None and now - self._last > (self.longest_s or 0.0):
            self.longest_s = now - self._last
        self._last = now


class ReportObserver:
    """Collects while a hand-off is under way; a `SightingObserver`.

    Args:
        name_of: the name of the link behind a slot of the filter; None for one that has gone.
    """

    def __init__(self, name_of: Callable[[int], str | None]) -> None:
        self.to_host = DirectionReport()
        self.from_host = DirectionReport()
        self._name_of = name_of
        self._to_host_gap = GapClock()
        self._from_host_gap = GapClock()
        self._skews: list[float] = []
        self._skews_seen = 0

    def delivered(self, slot: int) -> None:
        """See `SightingObserver`."""
        self._path(slot).first += 1

    def duplicate(self, slot: int, skew_s: float) -> None:
        """See `SightingObserver`."""
        self._path(slot).later += 1
        self.to_host.duplicates += 1
        self._skews_seen += 1
        if len(self._skews) < SKEW_SAMPLES:
            self._skews.append(skew_s)
        elif (place := random.randrange(self._skews_seen)) < SKEW_SAMPLES:  # noqa: S311 -- a sample, no secret
            self._skews[place] = skew_s

    def forgotten(self, missing: Sequence[int]) -> None:
        """See `SightingObserver`."""
        for slot in missing:
            self._path(slot).missed += 1

    def batch_to_host(self, frames: int, now: float) -> None:
        """So many frames have gone on to the host."""
        self.to_host.frames += frames
        self._to_host_gap.tick(now)

    def batch_from_host(self, frames: int, now: float) -> None:
        """So many frames have come from the host."""
        self.from_host.frames += frames
        self._from_host_gap.tick(now)

    def settle(self) -> None:
        """Work out what is not counted but computed; again at any time."""
        self.to_host.longest_gap_s = self._to_host_gap.longest_s
        self.from_host.longest_gap_s = self._from_host_gap.longest_s
        if self._skews:
            self.to_host.skew_median_s = statistics.median(self._skews)
            self.to_host.skew_p99_s = sorted(self._skews)[int(len(self._skews) * 0.99)]

    def _path(self, slot: int) -> PathCount:
        return self.to_host.paths.setdefault(self._name_of(slot) or "a link that is gone", PathCount())
