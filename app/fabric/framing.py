"""VDE's stream framing ("vdestream"): a 16-bit big-endian length, then the frame. No I/O.

Lengths of zero are skipped (they are used as keep-alives). The peers lose a frame whose header is split across two
reads, and discard a whole buffer after a length that is too long; this reader takes any split, and skips exactly
the bytes of a frame that is too long, so that what follows is read.
"""

from __future__ import annotations

from typing import Final

from app.fabric.ethernet import MAX_FRAME_SIZE, MIN_FRAME_SIZE

HEADER_SIZE: Final = 2
MAX_ENCODED_SIZE: Final = HEADER_SIZE + MAX_FRAME_SIZE


def encode_frame(frame: bytes) -> bytes:
    """`frame` with its length before it, in one piece: the peers need header and frame together."""
    return len(frame).to_bytes(HEADER_SIZE, "big") + frame


class StreamParser:
    """Finds the frames in the chunks of a stream.

    The caller reads into a buffer that begins with the `tail` of the chunk before. Positions are offsets into that
    buffer, so that no frame need be copied to be forwarded.
    """

    __slots__ = ("_skip", "giants", "runts", "tail")

    def __init__(self) -> None:
        self.tail = b""
        """The incomplete frame at the end of the last chunk, at most MAX_ENCODED_SIZE - 1 bytes."""
        self.runts = 0
        """Frames of 1 to 13 bytes met so far."""
        self.giants = 0
        """Frames of more than 9234 bytes met so far."""
        self._skip = 0

    @property
    def in_mid_frame(self) -> bool:
        """Whether the stream, if it ended now, would end inside a frame."""
        return bool(self.tail) or self._skip > 0

    def parse(self, chunk: memoryview, limit: int) -> tuple[list[int], list[int], int]:
        """Offsets and lengths of the whole frames in `chunk`, at most `limit` of them, and where it stopped.

        With the limit reached, the rest of the chunk is the caller's to parse again; otherwise `tail` holds it.
        """
        offsets: list[int] = []
        lengths: list[int] = []
        position, end = 0, len(chunk)
        self.tail = b""
        if self._skip:
            skipped = min(self._skip, end)
            self._skip -= skipped
            position = skipped
        while len(offsets) < limit:
            start = position + HEADER_SIZE
            if start > end:
                break
            length = chunk[position] << 8 | chunk[position + 1]
            if length > MAX_FRAME_SIZE:
                self.giants += 1
                position = min(start + length, end)
                self._skip = start + length - position
                continue
            if start + length > end:
                break
            position = start + length
            if length >= MIN_FRAME_SIZE:
                offsets.append(start)
                lengths.append(length)
            elif length:
                self.runts += 1
        else:
            return offsets, lengths, position
        self.tail = bytes(chunk[position:end])
        return offsets, lengths, end
