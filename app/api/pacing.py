"""Frames come first: how much of the loop's time the API may have while frames flow.

    step of a request | pause, four times as long | step | pause | ...          at most a fifth of the time

A step is what a task does between two of its awaits: nothing else runs meanwhile, no frame is forwarded. `paced` runs
a coroutine step by step, takes the processor time of each, and puts the pauses between them. All tasks of one pacer
take turns, in the order in which they came, and the pause after one's step is everybody's: 200 clients get no more
of the loop than one. While no frames flow there are no pauses. Steps are kept short by whoever writes them: what is
long has awaits in it.

Invariant: what a step was given it gets, the pause only comes first. Hence pauses are shielded from cancellation
(a lock that a task has been handed would be lost with the pause), and short; after `stop` there are none.
"""

from __future__ import annotations

import math
import time
import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Final, TypeVar

import trio

SHARE: Final = 0.2
"""Of the loop's time, while frames flow. A quarter is the most it may be; and after a step caches are cold."""
QUANTUM_S: Final = 0.0003
"""Steps that are shorter than this together are followed by no pause: it costs a wake-up."""
LONGEST_PAUSE_S: Final = 0.05
QUIET_S: Final = 0.05
"""Without a frame for so long, frames do not flow."""

ResultT = TypeVar("ResultT")


class Pacer:
    """The turns of everything that must not hold up frames.

    Args:
        count_frames: how many frames have been moved so far; called after every quantum.
        clock: seconds, for the pauses.
        used: seconds of processor time, for the steps. By the clock, a step would be charged for what other processes
            do on this processor.
    """

    def __init__(
        self,
        count_frames: Callable[[], int],
        clock: Callable[[], float] = time.perf_counter,
        used: Callable[[], float] = time.thread_time,
    ) -> None:
        self._count_frames = count_frames
        self._clock = clock
        self._used = used
        self._turn = trio.StrictFIFOLock()
        self._used_s = 0.0
        self._free_at = -math.inf
        self._frames = 0
        self._frames_at = -math.inf
        self._is_stopped = False

    def stop(self) -> None:
        """No more pauses, from now on: what is under way is to end soon."""
        self._is_stopped = True
        self._free_at = -math.inf

    @types.coroutine
    def paced(self, steps: Coroutine[Any, Any, ResultT]) -> Generator[Any, Any, ResultT]:
        """Run `steps` as if it were awaited, with pauses between its steps; what it returns."""
        clock, used = self._clock, self._used
        given: Any = None
        try:
            while True:
                if self._turn.locked() or clock() < self._free_at:
                    yield from self._wait_turn().__await__()
                began = used()
                try:
                    trap = steps.send(given)
                except StopIteration as end:
                    result: ResultT = end.value
                    return result
                finally:
                    self.charge(used() - began)
                given = yield trap
        finally:
            steps.close()

    def charge(self, used_s: float) -> None:
        """A step has taken `used_s`: put off the next one, if frames flow."""
        self._used_s += used_s
        if self._used_s < QUANTUM_S:
            return
        pause_s = min(self._used_s * (1 / SHARE - 1), LONGEST_PAUSE_S)
        self._used_s = 0.0
        if self._frames_flow() and not self._is_stopped:
            self._free_at = self._clock() + pause_s

    def _frames_flow(self) -> bool:
        now, frames = self._clock(), self._count_frames()
        if frames != self._frames:
            self._frames, self._frames_at = frames, now
        return now - self._frames_at < QUIET_S

    async def _wait_turn(self) -> None:
        with trio.CancelScope(shield=True):
            # Let go before the step: whoever is next wakes after it, and finds the pause that it has made.
            async with self._turn:
                while (left_s := self._free_at - self._clock()) > 0:  # noqa: ASYNC110 -- the time itself moves on
                    await trio.sleep(left_s)
