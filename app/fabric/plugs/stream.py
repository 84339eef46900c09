"""Frames over a pair of byte streams, in VDE's stream framing: pipes, terminals of a child, a process's own stdin
and stdout.
"""

from __future__ import annotations

import errno
import os
from typing import Final

import trio

from app.fabric import framing
from app.fabric.errors import PlugClosedError
from app.fabric.mmsg import BATCH_FRAMES, Batch
from app.fabric.plugs.base import Plug

READ_SIZE: Final = 1 << 16
"""What a pipe holds by default, and so the most that one read can bring."""


class StreamPlug(Plug):
    """Frames read from one descriptor and written to another; they may be the same one.

    The descriptors are non-blocking and stay the caller's to close: a subclass says in `aclose` how.
    """

    def __init__(self, read_fd: int, write_fd: int, *, description: str = "") -> None:
        super().__init__(description=description)
        self._read_fd = read_fd
        self._write_fd = write_fd
        self._parser = framing.StreamParser()
        self._rest = b""
        self._rest_has_frames = False
        self._written = 0
        """Bytes of the frame refused last, length included, that are out already."""

    def receive(self, batch: Batch) -> None:
        """See `Plug.receive`: the frames of one large read, or more of those that an earlier one brought."""
        chunk = batch.chunk
        filled = len(self._rest)
        chunk[:filled] = self._rest
        if not self._rest_has_frames:
            filled += self._read(chunk[filled : filled + READ_SIZE])
        runts, giants = self._parser.runts, self._parser.giants
        offsets, sizes, position = self._parser.parse(chunk[:filled], BATCH_FRAMES)
        self._rest_has_frames = position < filled
        self._rest = bytes(chunk[position:filled]) if self._rest_has_frames else self._parser.tail
        batch.load_chunk(offsets, sizes)
        batch.runts = self._parser.runts - runts
        batch.giants = self._parser.giants - giants

    def send(self, batch: Batch, start: int, end: int) -> int:
        """See `Plug.send`: one writev for all of them.

        A frame of which only a part went out counts as not sent: its owner offers it again first, and then the rest
        of it goes.
        """
        pieces: list[bytes | memoryview] = []
        for index in range(start, end):
            pieces.append(batch.sizes[index].to_bytes(framing.HEADER_SIZE, "big"))
            pieces.append(batch.frame(index))
        if self._written:
            pieces[0:2] = [framing.encode_frame(bytes(batch.frame(start)))[self._written :]]
        written = self._written + self._write(pieces)
        sent = 0
        while start + sent < end and written >= (size := framing.HEADER_SIZE + batch.sizes[start + sent]):
            written -= size
            sent += 1
        self._written = written
        return sent

    async def wait_readable(self) -> None:
        """See `Plug.wait_readable`."""
        if self._rest_has_frames:
            await trio.lowlevel.checkpoint()
        else:
            await trio.lowlevel.wait_readable(self._read_fd)

    async def wait_writable(self) -> None:
        """See `Plug.wait_writable`."""
        await trio.lowlevel.wait_writable(self._write_fd)

    def ended(self) -> PlugClosedError:
        """What to raise at the end of the stream that is read."""
        return PlugClosedError("the other side closed the stream" + (" in mid-frame" if self._rest else ""))

    def _read(self, into: memoryview) -> int:
        try:
            count = os.readv(self._read_fd, [into])
        except BlockingIOError:
            raise
        except OSError as error:
            if error.errno in {errno.ECONNRESET, errno.EIO}:
                raise self.ended() from error
            raise PlugClosedError(f"the stream cannot be read: {error.strerror}") from error
        if not count:
            raise self.ended()
        return count

    def _write(self, pieces: list[bytes | memoryview]) -> int:
        """Bytes written, 0 if the stream is full."""
        try:
            return os.writev(self._write_fd, pieces)
        except BlockingIOError:
            return 0
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise PlugClosedError("the other side closed the stream") from error
            raise PlugClosedError(f"the stream cannot be written: {error.strerror}") from error
