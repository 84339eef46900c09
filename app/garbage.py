"""Keeps Python's garbage collector out of the way of frames.

Nothing on the frame path makes garbage. HTTP and links that come and go do, and a full collection then looks at every
object there is: some 50 ms once everything is imported, and 20 ms more for a thousand links. Hence:

    what is there once the service is ready   frozen: it stays as long as the process, and is never looked at again
    young objects                             collected as ever, but fewer at a time: half a millisecond
    everything that came later                looked at while no frames flow, or when it really is due

Invariant: there always comes a full collection; frames only put it off.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Final

import trio

INTERVAL_S: Final = 1.0
YOUNG: Final = (700, 3)
"""Python's own are 700 and 10: of ten times 700 objects, a collection may look at all."""
DUE: Final = 10
"""Young collections after which a full one is made as soon as it is quiet; Python's own."""
OVERDUE_S: Final = 600.0
"""After so long it is made although frames flow. Garbage that outlives young collections is rare."""
_NEVER: Final = 10**9


async def collect_when_quiet(count_frames: Callable[[], int]) -> None:
    """Run until cancelled; then Python's own settings hold again.

    Args:
        count_frames: how many frames have been moved so far.
    """
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*YOUNG, _NEVER)
    try:
        frames, collected_at = count_frames(), trio.current_time()
        while True:
            await trio.sleep(INTERVAL_S)
            last, frames, now = frames, count_frames(), trio.current_time()
            if gc.get_count()[2] >= DUE and (frames == last or now >= collected_at + OVERDUE_S):
                gc.collect()
                collected_at = now
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
