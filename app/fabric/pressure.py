"""Back-pressure: sources of frames wait a little while a destination has no room, instead of losing frames to it.

A destination that is full holds the pressure of its direction (host to links, or links to host); every source of that
direction waits for its turn before it reads on, so that what comes too fast stays where it is: in the sources'
sockets. A destination may hold for `hold_limit` in one go. One that is full for longer is congested: it lets go,
loses frames under that reason, and slows nobody until it has drained.

When the pressure is off, the sources go on one by one in the order in which they came: each passes the turn on after
one batch, if there still is room.
"""

from __future__ import annotations

from typing import Final

import trio

HOLD_LIMIT_S: Final = 0.015
"""Longer than a busy peer is off its processor, with what the queue has taken before; short enough for nobody to miss
much when a link stalls for good."""
LAST_HOLD_LIMIT_S: Final = 0.09
"""For the only destination that is not congested: what it does not get, nobody gets. Shorter than TCP's least
retransmission time-out (0.2 s)."""


class Pressure:
    """The pressure of one direction of a multilink."""

    __slots__ = ("_congested", "_holders", "_waiting", "destinations", "hasty_sources", "is_on")

    def __init__(self) -> None:
        self._holders: set[object] = set()
        self._congested: set[object] = set()
        self._waiting = trio.lowlevel.ParkingLot()
        self.destinations = 1
        """How many there are just now; whoever knows tells."""
        self.hasty_sources = 0
        """How many sources there are that lose what is not read in time: they are held as late as can be."""
        self.is_on = False
        """Whether a source has to wait for its turn: a destination is full, or other sources were there first."""

    def hold(self, holder: object) -> None:
        """Keep sources waiting, until `release`. Again: nothing changes."""
        self._holders.add(holder)
        self.is_on = True

    def release(self, holder: object) -> None:
        """`holder` has room; the last one lets the first source go on."""
        self._holders.discard(holder)
        self._congested.discard(holder)
        self.pass_turn()

    def give_up(self, holder: object) -> None:
        """`holder` is congested, and holds nobody until it has said `release`."""
        self.release(holder)
        self._congested.add(holder)

    def hold_limit(self) -> float:
        """For how long, in seconds, a holder may hold in one go, as things are now."""
        return HOLD_LIMIT_S if self.destinations - len(self._congested) > 1 else LAST_HOLD_LIMIT_S

    async def wait_turn(self) -> None:
        """Return when it is this source's turn; it reads at once, and then calls `pass_turn`."""
        self.is_on = True
        try:
            await self._waiting.park()
        finally:
            self._update()

    def pass_turn(self) -> None:
        """Let the next source go on, if there is room."""
        if self.is_on and not self._holders:
            self._waiting.unpark()
            self._update()

    def _update(self) -> None:
        self.is_on = bool(self._holders or self._waiting)
