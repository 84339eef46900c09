"""A bounded first-in, first-out queue of frames for one endpoint whose socket is full.

Invariant: never more than `limit` bytes; what does not fit is refused, and the caller counts it.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import Final

from app.fabric.ethernet import MAX_FRAME_SIZE
from app.fabric.mmsg import BATCH_FRAMES

_BATCH_BYTES: Final = BATCH_FRAMES * MAX_FRAME_SIZE

QUEUE_LIMIT_BYTES: Final = 4 * _BATCH_BYTES
"""Room for what comes while a busy peer is off its processor: 1,500 frames of 1514 bytes, 15 ms at 100,000 a second."""
HOLD_FROM_BYTES: Final = 3 * _BATCH_BYTES
"""Where a source loses what is not read in time (a tap), sources wait from here on; what is left is for the batch that
is under way. Where none does, they wait as soon as anything is queued."""
LET_GO_BYTES: Final = HOLD_FROM_BYTES // 2
"""They go on again from here, instead of waiting until the queue is empty."""
CONGESTED_LIMIT_BYTES: Final = 2 * _BATCH_BYTES
"""For a link that stays full: what waits here for long is late, and late frames are of no more use than lost ones."""


class FrameQueue:
    """Copies of frames in the order in which they are to go out."""

    __slots__ = ("_frames", "limit", "octets")

    def __init__(self, limit: int = QUEUE_LIMIT_BYTES) -> None:
        self.limit = limit
        self.octets = 0
        self._frames: deque[bytes] = deque()

    def __len__(self) -> int:
        return len(self._frames)

    def has_room(self, size: int) -> bool:
        """Whether a frame of `size` bytes fits."""
        return self.octets + size <= self.limit

    def put(self, frame: bytes) -> bool:
        """Append a frame; False, and nothing changed, if it does not fit."""
        if not self.has_room(len(frame)):
            return False
        self._frames.append(frame)
        self.octets += len(frame)
        return True

    def first(self, count: int) -> list[bytes]:
        """Up to `count` frames that are due, left where they are."""
        return list(islice(self._frames, count))

    def remove_first(self, count: int) -> None:
        """Take out the `count` frames that were due. IndexError if there are fewer."""
        for _ in range(count):
            self.octets -= len(self._frames.popleft())

    def clear(self) -> int:
        """Forget everything; how many frames that was."""
        count = len(self._frames)
        self._frames.clear()
        self.octets = 0
        return count
