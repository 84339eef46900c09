"""Asking an address over one link whether it is there: the proof that a link carries in both directions.

The question goes over that link only, from a MAC address of the multilink's own; what comes back *on that link*
counts, and is swallowed. RFC 5227 (ARP probe) and RFC 4861 (neighbour solicitation) say what is sent; their pauses of
a second are for hosts that configure themselves, ours begin shorter, because a host is waiting to be moved.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple

import trio

from app.fabric.inspection import Inspection
from app.fabric.link import Link
from app.fabric.neighbour import IpAddress, solicitation

FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 1.0


class Answer(NamedTuple):
    """Who answered, and how long after the first time it was asked: nothing in an answer tells to which question."""

    address: IpAddress
    after_s: float


class _Asking:
    """One `ask` under way: when each address was first asked, and the answer once there is one."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.asked_at: dict[IpAddress, float] = {}
        self.answer: Answer | None = None
        self.answered = trio.Event()


class Prober:
    """Asks for everything in one multilink that wants to know.

    Args:
        inspection: finds the answers, and swallows them.
    """

    def __init__(self, inspection: Inspection) -> None:
        self._inspection = inspection
        self._asking: set[_Asking] = set()
        inspection.on_answer = self._take_answer

    async def ask(self, link: Link, addresses: Sequence[IpAddress]) -> Answer:
        """Ask `addresses` in turn over `link`, again and again with growing pauses, until one answers on it.

        Returns never if none does: the caller sets the limit. Nothing is sent while the link is not up.
        """
        with self._listening(link) as asking:
            pause_s = FIRST_PAUSE_S
            while True:
                for address in addresses:
                    asking.asked_at.setdefault(address, trio.current_time())
                    link.send_own([solicitation(address, self._inspection.mac)])
                    with trio.move_on_after(pause_s / len(addresses)):
                        await asking.answered.wait()
                    if asking.answer is not None:
                        return asking.answer
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    @contextmanager
    def _listening(self, link: Link) -> Iterator[_Asking]:
        asking = _Asking(link)
        self._asking.add(asking)
        self._inspection.want(asking)
        try:
            yield asking
        finally:
            self._asking.discard(asking)
            self._inspection.release(asking)

    def _take_answer(self, link: Link, address: IpAddress) -> None:
        for asking in self._asking:
            asked_at = asking.asked_at.get(address)
            if asking.link is link and asked_at is not None and asking.answer is None:
                asking.answer = Answer(address, trio.current_time() - asked_at)
                asking.answered.set()
