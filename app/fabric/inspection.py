"""Looking into frames: duplicates, answers to our own questions, reflections, and who is there to be asked.

While one link is up and nothing is under way, only the first frame of a batch is looked at (`sample`). With a second
link coming, a question asked or a report wanted, every frame from the links is (`inspect`), and some are left out of
the batch:

    to our own MAC            an answer to a question of ours: swallowed, the host never sees it
    from our own MAC          a question of ours that came back, out of a loop: swallowed too
    brought by another link   a duplicate, see `app.fabric.dedup`
    from the host's own MAC   a reflection: counted; left out only where the user wants that (a station may have moved)

Invariant: each frame left out is counted under its reason in the `rx` of the link that brought it.
"""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import xxhash

from app.fabric import neighbour
from app.fabric.counters import DropReason
from app.fabric.dedup import WINDOW_S, DuplicateFilter, SightingObserver
from app.fabric.link import Link
from app.fabric.mmsg import Batch
from app.fabric.neighbour import IpAddress
from app.fabric.states import LinkState

KEPT_ADDRESSES: Final = 16
KEPT_HOST_MACS: Final = 64
"""A host may be a bridge with stations behind it."""
LATE_S: Final = 0.5
"""For how long answers are swallowed that come after somebody has stopped asking."""
LIVE: Final = frozenset({LinkState.CONNECTING, LinkState.UP, LinkState.DRAINING})
"""States in which a link may bring frames, or is about to: the far end sends from the moment we dial."""


class Inspection:
    """What is known from the frames of one multilink.

    Args:
        drops_duplicates: whether second copies are left out.
        drops_reflections: whether the host's own frames, coming back, are left out.
        window_s: for how long a frame is known, in seconds.
    """

    def __init__(
        self, *, drops_duplicates: bool = True, drops_reflections: bool = False, window_s: float = WINDOW_S
    ) -> None:
        self.mac = neighbour.own_mac(os.urandom(6))
        """The locally administered address that our questions come from."""
        self.on_answer: Callable[[Link, IpAddress], object] | None = None
        """Called for each answer to our own address, with the link that brought it."""
        self.is_on = drops_reflections
        """Whether every frame has to be looked at."""
        self._drops_duplicates = drops_duplicates
        self._drops_reflections = drops_reflections
        self._filter = DuplicateFilter(window_s)
        self._seed = int.from_bytes(os.urandom(8), "big")
        self._slots: dict[Link, int] = {}
        self._quiet_from: float | None = None
        self._wanted_by: set[object] = set()
        self._is_late_wanted = False
        self._late_until: float | None = None
        self._addresses: OrderedDict[IpAddress, float] = OrderedDict()
        self._host_macs: OrderedDict[bytes, None] = OrderedDict()

    @property
    def window_s(self) -> float:
        """For how long a frame is known, in seconds."""
        return self._filter.window_s

    @property
    def drops_duplicates(self) -> bool:
        """Whether second copies are left out."""
        return self._drops_duplicates

    @property
    def drops_reflections(self) -> bool:
        """Whether reflections are left out."""
        return self._drops_reflections

    def configure(
        self,
        links: list[Link],
        now: float,
        *,
        drops_duplicates: bool | None = None,
        drops_reflections: bool | None = None,
        window_s: float | None = None,
    ) -> None:
        """Change what is left out; None leaves a setting as it is."""
        if drops_duplicates is not None:
            self._drops_duplicates = drops_duplicates
        if drops_reflections is not None:
            self._drops_reflections = drops_reflections
        if window_s is not None:
            self._filter.window_s = window_s
        self.links_changed(links, now)

    def links_changed(self, links: list[Link], now: float) -> None:
        """Take note of links that have come, gone or changed state; before a new one can bring its first frame."""
        live = [link for link in links if link.state in LIVE] if self._drops_duplicates else []
        for link in self._slots.keys() - set(live):
            self._filter.leave(self._slots.pop(link), now)
        if len(live) > 1:
            for link in live:
                if link not in self._slots:
                    self._slots[link] = self._filter.join(now)
            self._quiet_from = None
        elif self._slots and self._quiet_from is None:
            # A copy of what the link that is gone had brought may still come over the one that is left.
            self._quiet_from = now + self._filter.window_s
        self._update()

    def want(self, who: object) -> None:
        """Have every frame looked at, until `release`."""
        self._wanted_by.add(who)
        self._update()

    def release(self, who: object) -> None:
        """`who` does not need every frame any more."""
        self._wanted_by.discard(who)
        if not self._wanted_by:
            # An answer to what was asked may still come. The time runs from the next batch, with which it is told.
            self._is_late_wanted, self._late_until = True, None
        self._update()

    def observe(self, observer: SightingObserver | None) -> None:
        """Tell `observer` which link brings what first, and how much later the others do; None ends it."""
        self._filter.observer = observer

    def settle(self, now: float) -> None:
        """Bring what observers are told up to `now`: what never came is known once its time is over."""
        self._filter.forget(now)

    def link_name_of(self, slot: int) -> str | None:
        """The name of the link that observers know as `slot`; None once it has gone."""
        return next((link.name for link, taken in self._slots.items() if taken == slot), None)

    def recent_addresses(self) -> list[IpAddress]:
        """Who has been heard in ARP and ND from the links, the latest first."""
        return list(reversed(self._addresses))

    def sample(self, batch: Batch, link: Link) -> None:
        """Look at the first frame of what `link` brought."""
        frame = batch.frame(batch.runs[0][0])
        self._listen(frame)
        if bytes(frame[6:12]) in self._host_macs:
            link.reflections += 1

    def sample_host(self, batch: Batch) -> None:
        """Learn from the first frame of what the host sent where its frames come from."""
        mac = bytes(batch.frame(batch.runs[0][0])[6:12])
        if mac not in self._host_macs:
            self._host_macs[mac] = None
            if len(self._host_macs) > KEPT_HOST_MACS:
                self._host_macs.popitem(last=False)

    def inspect(self, batch: Batch, link: Link, now: float) -> None:
        """Look at every frame of what `link` brought, and leave out of `batch` what is not to be delivered."""
        self.sample(batch, link)
        if self._wanted_by or self._is_late_wanted or self._drops_reflections:
            self._leave_out_by_address(batch, link)
        slot = self._slots.get(link)
        if slot is not None and batch.frames:
            digests = batch.digests(xxhash.xxh3_64_intdigest, self._seed)
            duplicates = self._filter.sift(slot, digests, now)
            if duplicates:
                link.rx.drop(DropReason.DUPLICATE, len(duplicates))
                indices = [index for start, end in batch.runs for index in range(start, end)]
                batch.leave_out({indices[position] for position in duplicates})
        if self._quiet_from is not None and now >= self._quiet_from:
            self._forget(now)
        if self._is_late_wanted and not self._wanted_by:
            self._end_late(now)

    def _leave_out_by_address(self, batch: Batch, link: Link) -> None:
        left_out: set[int] = set()
        for start, end in batch.runs:
            for index in range(start, end):
                header = bytes(batch.frame(index)[:12])
                if self.mac in {header[:6], header[6:]}:
                    left_out.add(index)
                    link.rx.drop(DropReason.PROBE)
                    if header[:6] == self.mac:
                        self._answered(link, bytes(batch.frame(index)))
                elif self._drops_reflections and header[6:] in self._host_macs:
                    left_out.add(index)
                    link.rx.drop(DropReason.REFLECTION)
        if left_out:
            batch.leave_out(left_out)

    def _answered(self, link: Link, frame: bytes) -> None:
        address = neighbour.answer_untrusted(frame)
        if address is not None and self.on_answer is not None:
            self.on_answer(link, address)

    def _listen(self, frame: memoryview) -> None:
        ethertype = frame[12] << 8 | frame[13]
        if ethertype in {neighbour.ETHERTYPE_ARP, neighbour.ETHERTYPE_IPV6}:
            address = neighbour.heard_address(bytes(frame))
            if address is not None:
                self._addresses[address] = time.time()
                self._addresses.move_to_end(address)
                if len(self._addresses) > KEPT_ADDRESSES:
                    self._addresses.popitem(last=False)

    def _forget(self, now: float) -> None:
        self._quiet_from = None
        for slot in self._slots.values():
            self._filter.leave(slot, now)
        self._slots.clear()
        self._filter.clear()
        self._update()

    def _end_late(self, now: float) -> None:
        if self._late_until is None:
            self._late_until = now + LATE_S
        elif now >= self._late_until:
            self._is_late_wanted = False
            self._update()

    def _update(self) -> None:
        self.is_on = bool(self._slots or self._wanted_by or self._is_late_wanted or self._drops_reflections)
