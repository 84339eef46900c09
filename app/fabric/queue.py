"""A bounded first-in, first-out queue of frames for one endpoint whose socket is full.

Invariant: never more than `limit` bytes; what does not fit is refused, and the caller counts it.
"""

from __future__ import annotations

from collections import deque
from typing import Final

QUEUE_LIMIT_BYTES: Final = 1 << 20
"""About the bandwidth-delay product of 1 Gbit/s and 8 ms: more would only make old frames older."""


class FrameQueue:
    """Copies of frames in the order in which they are to go out."""

    __slots__ = ("_frames", "limit", "octets")

    def __init__(self, limit: int = QUEUE_LIMIT_BYTES) -> None:
        self.limit = limit
        self.octets = 0
        self._frames: deque[bytes] = deque()

    def __len__(self) -> int:
        return len(self._frames)

    def put(self, frame: bytes) -> bool:
        """Append a frame; False, and nothing changed, if it does not fit."""
        if self.octets + len(frame) > self.limit:
            return False
        self._frames.append(frame)
        self.octets += len(frame)
        return True

    def first(self) -> bytes:
        """The frame that is due, left where it is. IndexError if there is none."""
        return self._frames[0]

    def remove_first(self) -> None:
        """Take out the frame that was due. IndexError if there is none."""
        self.octets -= len(self._frames.popleft())

    def clear(self) -> int:
        """Forget everything; how many frames that was."""
        count = len(self._frames)
        self._frames.clear()
        self.octets = 0
        return count
