"""Rates of every link, a sample a second, for the last five minutes.

A second in which a link was idle takes no memory: it is left out, and filled in by whoever reads.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

import trio

from app.fabric.counters import DropReason
from app.fabric.link import Link

INTERVAL_S: Final = 1.0
KEPT_SAMPLES: Final = 300
_CHUNK: Final = 50
"""Links a turn of the loop: frames come first."""


class Sample(NamedTuple):
    """What one link did within the second that ended at `at` (unix time). Frames and bytes, not bits."""

    at: float
    rx_frames: int
    rx_bytes: int
    tx_frames: int
    tx_bytes: int
    dropped: int
    duplicates: int


class _Totals(NamedTuple):
    rx_frames: int
    rx_bytes: int
    tx_frames: int
    tx_bytes: int
    dropped: int
    duplicates: int

    @classmethod
    def of(cls, link: Link) -> _Totals:
        rx, tx = link.rx, link.tx
        duplicates = rx.dropped.get(DropReason.DUPLICATE, 0)
        # Not lost: a second copy, and an answer that only we had asked for.
        expected = duplicates + rx.dropped.get(DropReason.PROBE, 0)
        dropped = rx.dropped_frames + tx.dropped_frames - expected
        return cls(rx.frames, rx.bytes, tx.frames, tx.bytes, dropped, duplicates)


class LinkHistory:
    """The samples of one link, oldest first; idle seconds are left out."""

    __slots__ = ("_totals", "samples")

    def __init__(self) -> None:
        self.samples: deque[Sample] = deque(maxlen=KEPT_SAMPLES)
        self._totals = _Totals(0, 0, 0, 0, 0, 0)

    def take(self, link: Link, at: float) -> Sample | None:
        """The sample of the second that ends `at`; None if the link was idle."""
        totals, before = _Totals.of(link), self._totals
        if totals == before:
            return None
        self._totals = totals
        sample = Sample(at, *(now - then for now, then in zip(totals, before, strict=True)))
        self.samples.append(sample)
        return sample

    def forget(self, before: float) -> None:
        """Drop the samples that ended before then."""
        while self.samples and self.samples[0].at < before:
            self.samples.popleft()


class Statistics:
    """Samples every link once a second.

    Args:
        links: gives the live links.
        clock: unix time.
        sampled: told the samples of each second, idle links left out; must not await.
    """

    def __init__(
        self,
        links: Callable[[], Iterable[Link]],
        clock: Callable[[], float],
        sampled: Callable[[float, dict[Link, Sample]], object],
    ) -> None:
        self._links = links
        self._clock = clock
        self._sampled = sampled
        self.on_tick: list[Callable[[float], object]] = []
        """Told each second how late the loop was to begin it, in seconds: how long others have held it."""
        self._histories: dict[Link, LinkHistory] = {}

    def history(self, link: Link) -> list[Sample]:
        """The samples of the last five minutes, oldest first, idle seconds left out."""
        history = self._histories.get(link)
        return [] if history is None else list(history.samples)

    async def run(self) -> None:
        """Sample until cancelled."""
        due = trio.current_time()
        while True:
            due = max(due + INTERVAL_S, trio.current_time())
            await trio.sleep_until(due)
            late_s = trio.current_time() - due
            for tell in self.on_tick:
                tell(late_s)
            await self.sample_once()

    async def sample_once(self) -> None:
        """Take one sample of every link, in chunks with the loop's other work between them."""
        at = self._clock()
        samples: dict[Link, Sample] = {}
        links = list(self._links())
        for number, link in enumerate(links):
            if number % _CHUNK == _CHUNK - 1:
                await trio.lowlevel.checkpoint()
            history = self._histories.get(link)
            if history is None:
                history = self._histories[link] = LinkHistory()
            history.forget(at - KEPT_SAMPLES * INTERVAL_S)
            sample = history.take(link, at)
            if sample is not None:
                samples[link] = sample
        for gone in self._histories.keys() - set(links):
            del self._histories[gone]
        self._sampled(at, samples)
