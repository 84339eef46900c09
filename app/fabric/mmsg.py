"""Batches of frames: recvmmsg(2) and sendmmsg(2) through CFFI, without a Python object a frame.

A Batch is one set of buffers, shared by everything in a multilink. It is filled by one plug and handed to others in
one go::

    slots   | frame 0 ....... | frame 1 ....... | ...   receive_datagrams(), receive_reads()
    chunk   | len|frame 0|len|frame 1|len|fra           load_chunk(), after a plug has read into `chunk`

Invariant: what a Batch holds is valid until the next await of the task that filled it; nobody keeps a reference into
it. Runts and giants are found here; `runs` are the stretches of frames between them, nearly always one stretch with
all.

CFFI's ABI mode needs no compiler and does not check struct layouts: tests/fabric/test_mmsg.py does (x86-64 and
aarch64 glibc and musl alike: msghdr 56, mmsghdr 64 bytes).
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from itertools import repeat
from typing import Any, Final

import cffi

from app.fabric.ethernet import MAX_FRAME_SIZE, MIN_FRAME_SIZE

BATCH_FRAMES: Final = 64
"""Frames a batch: enough to spread the cost of a wake-up, few enough to share the loop fairly."""
SLOT_SIZE: Final = 9280
"""Bytes a slot: the longest frame, one byte more to tell a giant by, and whole cache lines."""
KEPT_SIZES: Final = 8
"""Frame sizes for which the views of all slots are kept: 12 KiB each."""

_RECEIVE_SIZE: Final = MAX_FRAME_SIZE + 1
_SEND_FLAGS: Final = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL

ffi: Final = cffi.FFI()
ffi.cdef("""
    struct iovec { void *iov_base; size_t iov_len; };
    struct msghdr {
        void *msg_name; unsigned int msg_namelen; struct iovec *msg_iov; size_t msg_iovlen;
        void *msg_control; size_t msg_controllen; int msg_flags;
    };
    struct mmsghdr { struct msghdr msg_hdr; unsigned int msg_len; };
    int recvmmsg(int, struct mmsghdr *, unsigned int, int, void *);
    int sendmmsg(int, struct mmsghdr *, unsigned int, int);
""")
_libc: Final[Any] = ffi.dlopen(None)

# struct mmsghdr and struct iovec as arrays of 32-bit words; the sizes in play fit into the low word of a size_t.
_HEADER_WORDS: Final = 16
_LENGTH_WORD: Final = 14
_IOVEC_WORDS: Final = 4
_IOV_LEN_WORD: Final = 2


class FrameVector:
    """Message headers and I/O vectors for up to `capacity` frames, one buffer a frame."""

    __slots__ = ("capacity", "headers", "iovecs", "lengths", "received")

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.iovecs: Any = ffi.new("struct iovec[]", capacity)
        self.headers: Any = ffi.new("struct mmsghdr[]", capacity)
        for index in range(capacity):
            self.headers[index].msg_hdr.msg_iov = self.iovecs + index
            self.headers[index].msg_hdr.msg_iovlen = 1
        words = memoryview(ffi.buffer(self.iovecs)).cast("B").cast("I")
        self.lengths = words[_IOV_LEN_WORD::_IOVEC_WORDS]
        """The iov_len of every frame, writable."""
        words = memoryview(ffi.buffer(self.headers)).cast("B").cast("I")
        self.received = words[_LENGTH_WORD::_HEADER_WORDS]
        """The msg_len of every frame, as the kernel left it."""

    def send(self, fd: int, start: int, end: int) -> int:
        """Send the frames `start` to `end` as one datagram each; how many the socket took.

        Raises:
            BlockingIOError: the socket is full and took none.
            OSError: the first of the frames failed, with its errno.
        """
        sent: int = _libc.sendmmsg(fd, self.headers + start, end - start, _SEND_FLAGS)
        if sent < 0:
            raise _os_error("sendmmsg")
        return sent


class Batch:
    """The buffers of one multilink and what is in them just now.

    After a receive or a load: `frames` valid frames of `octets` bytes together, in `runs` of indices; `runts` and
    `giants` are how many others there were. `sizes[i]` is the length of frame i.
    """

    __slots__ = (
        "_chunk_vector", "_first_slot", "_in_chunk", "_memory", "_offsets", "_receive_vector", "_slot_vector",
        "_slots", "_views_by_size", "chunk", "frames", "giants", "lone_frame", "octets", "runs", "runts", "sizes",
        "vector",
    )  # fmt: skip

    def __init__(self) -> None:
        size = BATCH_FRAMES * SLOT_SIZE
        self._memory: Any = ffi.new("uint8_t[]", size)
        self.chunk = memoryview(ffi.buffer(self._memory)).cast("B")
        """All of the buffers as one piece of memory, for plugs that read streams."""
        self._slots = [self.chunk[at : at + _RECEIVE_SIZE] for at in range(0, size, SLOT_SIZE)]
        self._first_slot = self._slots[:1]
        self._views_by_size: dict[int, list[memoryview]] = {}
        self._receive_vector = FrameVector(BATCH_FRAMES)
        self._slot_vector = FrameVector(BATCH_FRAMES)
        self._chunk_vector = FrameVector(BATCH_FRAMES)
        for index in range(BATCH_FRAMES):
            for vector in (self._receive_vector, self._slot_vector):
                vector.iovecs[index].iov_base = self._memory + index * SLOT_SIZE
                vector.iovecs[index].iov_len = _RECEIVE_SIZE
        self._offsets: list[int] = []
        self._in_chunk = False
        self.vector = self._slot_vector
        self.sizes: list[int] = []
        self.runs: list[tuple[int, int]] = []
        self.frames = self.octets = self.runts = self.giants = 0
        self.lone_frame: memoryview | None = None
        """The frame that `receive_datagram` took."""

    def receive_datagrams(self, fd: int) -> None:
        """Take what waits on a datagram socket, up to BATCH_FRAMES frames, in one system call.

        Raises:
            BlockingIOError: nothing waits.
            OSError: what the kernel reported.
        """
        count: int = _libc.recvmmsg(fd, self._receive_vector.headers, BATCH_FRAMES, socket.MSG_DONTWAIT, ffi.NULL)
        if count < 0:
            raise _os_error("recvmmsg")
        lengths = self._receive_vector.received[:count]
        self._slot_vector.lengths[:count] = lengths
        self._hold(self._slot_vector, lengths.tolist())

    def receive_datagram(self, fd: int) -> None:
        """Take one frame from a datagram socket: for one, read(2) costs half of what recvmmsg(2) does.

        Raises:
            BlockingIOError: nothing waits.
            OSError: what the kernel reported.
        """
        size = os.readv(fd, self._first_slot)
        self._slot_vector.lengths[0] = size
        self._hold(self._slot_vector, [size])
        self.lone_frame = self.chunk[:size]

    def receive_reads(self, fd: int) -> None:
        """Take what waits on a device that gives one frame a read(2), such as a tap.

        Raises:
            BlockingIOError: nothing waits.
            OSError: what the kernel reported before a first frame.
        """
        sizes: list[int] = []
        for slot in self._slots:
            try:
                sizes.append(os.readv(fd, [slot]))
            except OSError:
                if not sizes:
                    raise
                break  # Reported again at the next call, if it lasts.
            self._slot_vector.lengths[len(sizes) - 1] = sizes[-1]
        self._hold(self._slot_vector, sizes)

    def load_chunk(self, offsets: list[int], sizes: list[int]) -> None:
        """Hold frames that a plug has read into `chunk`, none of them a runt or a giant."""
        vector, memory = self._chunk_vector, self._memory
        for index, (offset, size) in enumerate(zip(offsets, sizes, strict=True)):
            vector.iovecs[index].iov_base = memory + offset
            vector.lengths[index] = size
        self._hold(vector, sizes)
        self._offsets = offsets

    def load_frames(self, frames: list[bytes]) -> None:
        """Hold copies of `frames`, at most BATCH_FRAMES of them, none a runt or a giant."""
        sizes = [len(frame) for frame in frames]
        for index, frame in enumerate(frames):
            self._slots[index][: sizes[index]] = frame
            self._slot_vector.lengths[index] = sizes[index]
        self._hold(self._slot_vector, sizes)

    def frame(self, index: int) -> memoryview:
        """The bytes of one frame, valid as long as the batch is."""
        start = self._offsets[index] if self._in_chunk else index * SLOT_SIZE
        return self.chunk[start : start + self.sizes[index]]

    def digests(self, digest: Callable[[memoryview, int], int], seed: int) -> list[int]:
        """The digest of every valid frame, in their order."""
        if self._in_chunk:
            return [digest(self.frame(index), seed) for start, end in self.runs for index in range(start, end)]
        slots, sizes = self._slots, self.sizes
        if self.frames == len(sizes) == sizes.count(sizes[0]):
            return list(map(digest, self._views(sizes[0])[: self.frames], repeat(seed)))
        return [digest(slots[index][: sizes[index]], seed) for start, end in self.runs for index in range(start, end)]

    def _views(self, size: int) -> list[memoryview]:
        """The first `size` bytes of every slot; most batches hold frames of one size, and of few sizes."""
        views = self._views_by_size.get(size)
        if views is None:
            if len(self._views_by_size) == KEPT_SIZES:
                self._views_by_size.clear()
            views = self._views_by_size[size] = [slot[:size] for slot in self._slots]
        return views

    def leave_out(self, indices: set[int]) -> None:
        """Take some of the valid frames out of the batch; the caller counts them."""
        runs: list[tuple[int, int]] = []
        for start, end in self.runs:
            first = start
            for index in range(start, end):
                if index in indices:
                    if index > first:
                        runs.append((first, index))
                    first = index + 1
            if end > first:
                runs.append((first, end))
        self.runs = runs
        self.frames -= len(indices)
        self.octets -= sum(self.sizes[index] for index in indices)

    def _hold(self, vector: FrameVector, sizes: list[int]) -> None:
        self.vector = vector
        self.lone_frame = None
        self._in_chunk = vector is self._chunk_vector
        self.sizes = sizes
        self.frames = len(sizes)
        self.octets = sum(sizes)
        self.runts = self.giants = 0
        self.runs = [(0, self.frames)] if sizes else []
        if sizes and (min(sizes) < MIN_FRAME_SIZE or max(sizes) > MAX_FRAME_SIZE):
            self._leave_out_misfits()

    def _leave_out_misfits(self) -> None:
        misfits = {index for index, size in enumerate(self.sizes) if not MIN_FRAME_SIZE <= size <= MAX_FRAME_SIZE}
        self.runts = sum(self.sizes[index] < MIN_FRAME_SIZE for index in misfits)
        self.giants = len(misfits) - self.runts
        self.leave_out(misfits)


def _os_error(call: str) -> OSError:
    number = ffi.errno
    # OSError's constructor picks the subclass that belongs to the number (BlockingIOError and so on).
    return OSError(number, f"{call}: {os.strerror(number)}")


CAPACITY_ERRNOS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""The process or the kernel is out of something for now: to be waited out, never spun on."""
