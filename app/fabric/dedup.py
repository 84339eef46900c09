"""Which frames are second copies: those that another link has brought already. Pure; time is passed in.

While two links carry the same traffic, each frame comes once over either. The first copy is delivered, the others are
dropped. Identical frames over *one* link are genuine (ARP repeats, TCP's duplicate ACKs) and all pass. So for each
digest it is counted how often it was delivered, and how often each link has brought it: a link's copy is a duplicate
exactly while that link is behind.

    link A:  X X . X        counted  A 3
    link B:  . X X X        counted  B 3, each one a duplicate of one of A's
    delivered 3 times

What was delivered is owed to the other links for `window_s`; after that a copy counts as a frame of its own. In doubt a
frame is delivered: to lose a legitimate one is the worse error.

    table   digest → [forgotten, delivered, time of the last delivery, slot that made it, count of slot 0, of slot 1,
    ...]
    fifo    (time, digests delivered then), oldest first: what is to be forgotten next

Invariant: constant work a frame, and never more than `limit` deliveries remembered, plus those of one batch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final, Protocol

WINDOW_S: Final = 0.5
"""Longer than one path is likely to be behind the other, shorter than the pauses of protocols that repeat themselves.
"""
LIMIT: Final = 1 << 17
"""Deliveries remembered: a window of 260,000 frames a second, about 40 MB at the worst."""

_FORGOTTEN, _DELIVERED, _TIME, _COUNTS = range(4)


class SightingObserver(Protocol):
    """Told of every frame while somebody wants a report; slots as given out by `DuplicateFilter.join`."""

    def delivered(self, slot: int) -> None:
        """The link of `slot` brought a frame that no other had brought."""

    def duplicate(self, slot: int, skew_s: float) -> None:
        """The link of `slot` brought, `skew_s` after it, what another had brought first."""

    def forgotten(self, missing: Sequence[int]) -> None:
        """The window of a delivery is over, and the links of the slots `missing` never brought it."""


class DuplicateFilter:
    """What the links of one multilink have brought lately.

    Args:
        window_s: for how long a delivery is remembered, in seconds.
        limit: how many deliveries are remembered at most; beyond it the oldest are forgotten early.
    """

    def __init__(self, window_s: float = WINDOW_S, limit: int = LIMIT) -> None:
        self.window_s = window_s
        self.observer: SightingObserver | None = None
        self.forgotten_early = 0
        """Deliveries that had to be forgotten before their window was over."""
        self._limit = limit
        self._table: dict[int, list[int | float]] = {}
        self._fifo: deque[tuple[float, list[int]]] = deque()
        self._deliveries = 0
        self._slots = 0
        self._members: set[int] = set()
        self._free: deque[tuple[float, int]] = deque()

    def __len__(self) -> int:
        """How many deliveries are remembered."""
        return self._deliveries

    def join(self, now: float) -> int:
        """A slot for a link that may bring frames from `now` on. What was delivered before it is not owed to it."""
        self.forget(now)
        if not self._members and not self._table:
            self._free.clear()
            self._slots = 0
        if self._free and self._free[0][0] + self.window_s <= now:
            slot = self._free.popleft()[1]
        else:
            slot = self._slots
            self._slots += 1
        self._members.add(slot)
        for entry in self._table.values():
            entry.extend([0] * (_COUNTS + self._slots - len(entry)))
            entry[_COUNTS + slot] = entry[_DELIVERED]
        return slot

    def leave(self, slot: int, now: float) -> None:
        """The link of `slot` brings nothing more; its slot is given out again when all it brought is forgotten."""
        self._members.discard(slot)
        self._free.append((now, slot))

    def sift(self, slot: int, digests: Sequence[int], now: float) -> list[int]:
        """Take in what the link of `slot` has brought; the indices of those that are duplicates."""
        self.forget(now)
        table, observer = self._table, self.observer
        count = _COUNTS + slot
        fresh_entry: list[int | float] = [0, 1, now, *([0] * self._slots)]
        fresh_entry[count] = 1
        fresh: list[int] = []
        duplicates: list[int] = []
        for index, digest in enumerate(digests):
            entry = table.get(digest)
            if entry is None:
                table[digest] = fresh_entry.copy()
                fresh.append(digest)
                continue
            seen = max(entry[count], entry[_FORGOTTEN])
            if seen < entry[_DELIVERED]:
                entry[count] = seen + 1
                duplicates.append(index)
                if observer is not None:
                    observer.duplicate(slot, now - entry[_TIME])
                continue
            entry[_DELIVERED] += 1
            entry[count] = entry[_DELIVERED]
            entry[_TIME] = now
            fresh.append(digest)
        if observer is not None:
            for _ in fresh:
                observer.delivered(slot)
        if fresh:
            self._fifo.append((now, fresh))
            self._deliveries += len(fresh)
            while self._deliveries > self._limit and len(self._fifo) > 1:
                self.forgotten_early += len(self._fifo[0][1])
                self._forget_oldest()
        return duplicates

    def forget(self, now: float) -> None:
        """Forget every delivery whose window is over."""
        horizon = now - self.window_s
        while self._fifo and self._fifo[0][0] <= horizon:
            self._forget_oldest()

    def clear(self) -> None:
        """Forget everything at once, and owe nobody anything."""
        self._table.clear()
        self._fifo.clear()
        self._deliveries = 0

    def _forget_oldest(self) -> None:
        _time, digests = self._fifo.popleft()
        self._deliveries -= len(digests)
        for digest in digests:
            entry = self._table[digest]
            entry[_FORGOTTEN] += 1
            if self.observer is not None:
                missing = [slot for slot in self._members if entry[_COUNTS + slot] < entry[_FORGOTTEN]]
                self.observer.forgotten(missing)
            if entry[_FORGOTTEN] == entry[_DELIVERED]:
                del self._table[digest]
