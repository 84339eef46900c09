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

    once     digest → (bit mask of the slots that have brought it, when): what was delivered once, nearly everything
    again    digest → [forgotten, delivered, count of slot 0, of slot 1, ...]: what was delivered more than once
    fifo     (time, digests delivered then), oldest first: what is to be forgotten next

Invariant: constant work a frame, and never more than `limit` deliveries remembered, plus those of one batch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import repeat
from typing import Final, Protocol, TypeAlias

WINDOW_S: Final = 0.5
"""Longer than one path is likely to be behind the other, shorter than the pauses of protocols that repeat themselves.
"""
LIMIT: Final = 1 << 17
"""Deliveries remembered: a window of 260,000 frames a second, about 20 MB at the worst."""

_FORGOTTEN, _DELIVERED, _COUNTS = range(3)
Sighting: TypeAlias = tuple[int, float]
"""The bit mask of the slots that have brought a frame, and when it was delivered. All of a batch share one."""


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
        self._once: dict[int, Sighting] = {}
        self._again: dict[int, list[int]] = {}
        self._again_at: dict[int, float] = {}
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
        if not self._members and not self._fifo:
            self._free.clear()
            self._slots = 0
        if self._free and self._free[0][0] + self.window_s <= now:
            slot = self._free.popleft()[1]
        else:
            slot = self._slots
            self._slots += 1
        self._members.add(slot)
        bit = 1 << slot
        for digest, (mask, at) in self._once.items():
            self._once[digest] = (mask | bit, at)
        for entry in self._again.values():
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
        fresh = self._take_in_new(slot, digests, now)
        duplicates: list[int] = []
        if fresh is None:
            fresh, duplicates = self._take_in(slot, digests, now)
        elif self.observer is not None:
            for _digest in fresh:
                self.observer.delivered(slot)
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
        self._once.clear()
        self._again.clear()
        self._again_at.clear()
        self._fifo.clear()
        self._deliveries = 0

    def _take_in_new(self, slot: int, digests: Sequence[int], now: float) -> list[int] | None:
        """Take in a batch of which nothing is known, as is usual; None, and nothing changed, if something is."""
        once = self._once
        if self._again:
            return None
        before = len(once)
        new = (1 << slot, now)
        known = list(map(once.setdefault, digests, repeat(new)))
        if len(once) - before == len(digests):
            return list(digests)
        for digest, sighting in zip(digests, known, strict=True):
            if sighting is new:
                once.pop(digest, None)
        return None

    def _take_in(self, slot: int, digests: Sequence[int], now: float) -> tuple[list[int], list[int]]:
        """Take in any batch, frame by frame; the digests to be delivered, and the indices of the duplicates."""
        once, again, observer, bit = self._once, self._again, self.observer, 1 << slot
        new = (bit, now)
        fresh: list[int] = []
        duplicates: list[int] = []
        for index, digest in enumerate(digests):
            sighting = once.get(digest)
            if sighting is None and (not again or digest not in again):
                once[digest] = new
                is_fresh = True
            elif sighting is not None and not sighting[0] & bit:
                once[digest] = (sighting[0] | bit, sighting[1])
                is_fresh = False
            else:
                is_fresh = self._is_due_again(digest, slot)
            if is_fresh:
                fresh.append(digest)
            else:
                duplicates.append(index)
            if observer is not None:
                self._tell(observer, slot, digest, sighting, now, is_fresh=is_fresh)
        return fresh, duplicates

    def _is_due_again(self, digest: int, slot: int) -> bool:
        """Count one more copy from `slot` of what it has brought before, or was delivered more than once: is it a
        new one?
        """
        entry = self._again.get(digest)
        if entry is None:
            mask, self._again_at[digest] = self._once.pop(digest)
            entry = self._again[digest] = [0, 1, *(mask >> each & 1 for each in range(self._slots))]
        count = _COUNTS + slot
        seen = max(entry[count], entry[_FORGOTTEN])
        if seen < entry[_DELIVERED]:
            entry[count] = seen + 1
            return False
        entry[_DELIVERED] += 1
        entry[count] = entry[_DELIVERED]
        return True

    def _tell(
        self,
        observer: SightingObserver,
        slot: int,
        digest: int,
        sighting: Sighting | None,
        now: float,
        *,
        is_fresh: bool,
    ) -> None:
        if is_fresh:
            observer.delivered(slot)
            if digest in self._again:
                self._again_at[digest] = now
        else:
            delivered_at = self._again_at[digest] if digest in self._again else sighting[1] if sighting else now
            observer.duplicate(slot, now - delivered_at)

    def _forget_oldest(self) -> None:
        _time, digests = self._fifo.popleft()
        self._deliveries -= len(digests)
        if not self._again and self.observer is None:
            deque(map(self._once.pop, digests), maxlen=0)  # Nearly always; no bytecode a frame.
            return
        for digest in digests:
            sighting = self._once.pop(digest, None)
            if sighting is not None:
                missing = [slot for slot in self._members if not sighting[0] >> slot & 1] if self.observer else []
            else:
                missing = self._forget_one_of_many(digest)
            if self.observer is not None:
                self.observer.forgotten(missing)

    def _forget_one_of_many(self, digest: int) -> list[int]:
        entry = self._again[digest]
        entry[_FORGOTTEN] += 1
        missing = [slot for slot in self._members if entry[_COUNTS + slot] < entry[_FORGOTTEN]]
        if entry[_FORGOTTEN] == entry[_DELIVERED]:
            del self._again[digest]
            del self._again_at[digest]
        return missing
