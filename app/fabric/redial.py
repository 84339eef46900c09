"""Dialling again: a plug that has ended is opened anew, each time after a longer pause.

The pauses are jittered, so that many links that lost the same peer do not come back all at once, and start anew after a
stable minute.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

import trio

from app.fabric.errors import MultilinkError
from app.fabric.plugs.base import Plug, open_plug
from app.fabric.vnl import Vnl

FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 60.0
STABLE_S: Final = 60.0
_JITTER: Final = 0.25


class Backoff:
    """Pauses that double from FIRST_PAUSE_S to LONGEST_PAUSE_S, each give or take a quarter.

    Args:
        jitter: a number between -1 and 1 for each call; for tests.
    """

    def __init__(self, jitter: Callable[[], float] | None = None) -> None:
        self._jitter = jitter or (lambda: random.uniform(-1, 1))  # noqa: S311 -- spreads load, keeps no secret
        self._next_s = FIRST_PAUSE_S

    def next_pause_s(self) -> float:
        """The pause due now, in seconds."""
        pause_s = self._next_s
        self._next_s = min(2 * pause_s, LONGEST_PAUSE_S)
        return min(pause_s * (1 + _JITTER * self._jitter()), LONGEST_PAUSE_S)

    def reset(self) -> None:
        """Begin again with the shortest pause."""
        self._next_s = FIRST_PAUSE_S


async def keep_dialled(
    vnl: Vnl,
    *,
    carry: Callable[[Plug], Awaitable[str]],
    waiting: Callable[[str], object],
    dialling: Callable[[], object],
    first: Plug | str,
) -> NoReturn:
    """Carry frames over one plug after the other until cancelled.

    Args:
        vnl: what is dialled.
        carry: moves frames through a plug until it ends and tells why.
        waiting: told why nothing is open, and how long the pause is.
        dialling: told when a pause is over.
        first: a plug that is open already, or why there is none.
    """
    backoff = Backoff()
    plug_or_reason = first
    while True:
        reason = plug_or_reason
        if isinstance(reason, Plug):
            opened_at = trio.current_time()
            reason = await carry(reason)
            if trio.current_time() - opened_at >= STABLE_S:
                backoff.reset()
        pause_s = backoff.next_pause_s()
        waiting(f"{reason}; dialled again in {pause_s:.1f} s")
        await trio.sleep(pause_s)
        dialling()
        try:
            plug_or_reason = await open_plug(vnl)
        except MultilinkError as error:
            plug_or_reason = error.detail
