"""Copies of the frames of one link, for whoever wants to look at them.

    Endpoint --batch--> FrameCapture --copies--> CaptureReader, CaptureReader, ...

An endpoint that nobody looks at has no FrameCapture: it pays for one `is None` a batch. A reader has a buffer of
BUFFER_BYTES; what does not fit is lost to that reader alone, and counted with the next frame that does.

Invariant: `frames` + `lost` of a reader is what has passed between its opening and its end; nothing waits for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple, Protocol

import trio

from app.fabric.ethernet import MAX_FRAME_SIZE
from app.fabric.mmsg import Batch

BUFFER_BYTES: Final = 4 << 20
FRAME_OVERHEAD: Final = 256
"""What Python needs for a frame besides its bytes, so that small frames cannot fill the memory either."""


class CapturedFrame(NamedTuple):
    """One frame: unix time in nanoseconds, its length on the link, as much of it as was asked for, and how many the
    reader has lost just before.
    """

    at_ns: int
    is_inbound: bool
    size: int
    octets: bytes
    lost_before: int


class CaptureReader:
    """What one looker-on gets; made by `Captures.open`.

    Args:
        snaplen: bytes to keep of each frame.
        limit: frames after which it ends; None for no end.
    """

    def __init__(self, snaplen: int, limit: int | None) -> None:
        self.started_ns = time.time_ns()
        self.frames = 0
        """Frames copied for it."""
        self.lost = 0
        """Frames that its buffer had no room for."""
        self.is_over = False
        self._snaplen = snaplen
        self._limit = limit
        self._kept: list[CapturedFrame] = []
        self._room = BUFFER_BYTES
        self._lost_before = 0
        self._news = trio.Event()

    async def take(self) -> list[CapturedFrame]:
        """The frames that have come since the last call, waiting for a first one; none at all at the end."""
        if not self._kept and not self.is_over:
            self._news = trio.Event()
            await self._news.wait()
        else:
            await trio.lowlevel.checkpoint()
        return self.take_now()

    def take_now(self) -> list[CapturedFrame]:
        """The frames that have come, if any."""
        kept, self._kept, self._room = self._kept, [], BUFFER_BYTES
        return kept

    def end(self) -> None:
        """Take in nothing more; what is kept can still be taken."""
        self.is_over = True
        self._news.set()

    def copy(self, batch: Batch, at_ns: int, *, is_inbound: bool) -> None:
        """Keep what there is room for of a batch."""
        snaplen, limit, kept = self._snaplen, self._limit, self._kept
        for start, end in batch.runs:
            for index in range(start, end):
                if limit is not None and self.frames >= limit:
                    self.end()
                    return
                size = batch.sizes[index]
                self._room -= min(size, snaplen) + FRAME_OVERHEAD
                if self._room < 0:
                    self._room += min(size, snaplen) + FRAME_OVERHEAD
                    self.lost += 1
                    self._lost_before += 1
                    continue
                octets = bytes(batch.frame(index)[:snaplen])
                kept.append(CapturedFrame(at_ns, is_inbound, size, octets, self._lost_before))
                self._lost_before = 0
                self.frames += 1
        if limit is not None and self.frames >= limit:
            self.end()
        if kept:
            self._news.set()


class FrameCapture:
    """Gives the frames of one endpoint to everybody who looks.

    Args:
        unused: called when the last reader has ended.
    """

    def __init__(self, unused: Callable[[], object]) -> None:
        self.readers: list[CaptureReader] = []
        self._unused = unused

    def inbound(self, batch: Batch) -> None:
        """Frames have come from the peer."""
        self._copy(batch, is_inbound=True)

    def outbound(self, batch: Batch) -> None:
        """Frames are being sent to the peer."""
        self._copy(batch, is_inbound=False)

    def remove(self, reader: CaptureReader) -> None:
        """`reader` gets nothing more; a second call does nothing."""
        if reader in self.readers:
            self.readers.remove(reader)
            if not self.readers:
                self._unused()

    def end(self) -> None:
        """There will be nothing more to look at."""
        for reader in list(self.readers):
            reader.end()
            self.remove(reader)

    def _copy(self, batch: Batch, *, is_inbound: bool) -> None:
        at_ns = time.time_ns()
        for reader in list(self.readers):
            reader.copy(batch, at_ns, is_inbound=is_inbound)
            if reader.is_over:
                self.remove(reader)


class Captured(Protocol):
    """What frames can be captured of."""

    capture: FrameCapture | None


class Captures:
    """Every capture of a service, so that they can be ended together, and counted."""

    def __init__(self) -> None:
        self.lost = 0
        """Frames lost to readers that have left."""
        self._readers: set[CaptureReader] = set()
        self._is_closed = False

    def __len__(self) -> int:
        return len(self._readers)

    @property
    def lost_frames(self) -> int:
        """Frames that readers were too slow for, all in all."""
        return self.lost + sum(reader.lost for reader in self._readers)

    @contextmanager
    def open(
        self, captured: Captured, *, snaplen: int = MAX_FRAME_SIZE, limit: int | None = None
    ) -> Iterator[CaptureReader]:
        """Copies of what passes through `captured` from now on.

        Args:
            captured: a link, or a host.
            snaplen: bytes to keep of each frame.
            limit: frames after which the reader ends by itself.
        """
        capture = captured.capture
        if capture is None:

            def nobody_looks() -> None:
                captured.capture = None

            capture = captured.capture = FrameCapture(nobody_looks)
        reader = CaptureReader(snaplen, limit)
        if self._is_closed:
            reader.end()
        capture.readers.append(reader)
        self._readers.add(reader)
        try:
            yield reader
        finally:
            reader.end()
            capture.remove(reader)
            self._readers.discard(reader)
            self.lost += reader.lost

    def close(self) -> None:
        """End every reader, and those that come later at once."""
        self._is_closed = True
        for reader in self._readers:
            reader.end()
