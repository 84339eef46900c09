from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from app.fabric.errors import PlugClosedError
from app.fabric.framing import encode_frame
from app.fabric.mmsg import BATCH_FRAMES, Batch
from app.fabric.plugs.stream import StreamPlug
from tests.fakes import PATIENCE_S, frame_of


class PipePlug(StreamPlug):
    """A stream plug over a pipe each way. `far_read` and `far_write` are the peer's ends."""

    def __init__(self) -> None:
        read_fd, self.far_write = os.pipe()
        self.far_read, write_fd = os.pipe()
        for fd in (read_fd, write_fd, self.far_read):
            os.set_blocking(fd, False)
        super().__init__(read_fd, write_fd)
        self.open = {read_fd, write_fd, self.far_read, self.far_write}

    def close(self, *fds: int) -> None:
        for fd in fds or tuple(self.open):
            self.open.remove(fd)
            os.close(fd)

    async def aclose(self) -> None:
        self.close()


@pytest.fixture
def plug() -> Iterator[PipePlug]:
    made = PipePlug()
    yield made
    made.close()


def taken(plug: StreamPlug, batch: Batch) -> list[bytes]:
    """Every frame that can be received now."""
    frames: list[bytes] = []
    while True:
        try:
            plug.receive(batch)
        except BlockingIOError:
            return frames
        frames += [bytes(batch.frame(at)) for start, end in batch.runs for at in range(start, end)]


def read_all(fd: int) -> bytes:
    data = b""
    while True:
        try:
            piece = os.read(fd, 1 << 20)
        except BlockingIOError:
            return data
        if not piece:
            return data
        data += piece


sizes = st.one_of(st.integers(14, 80), st.integers(14, 9234), st.sampled_from([14, 1514, 9234]))
frames_lists = st.lists(st.builds(frame_of, st.integers(0, 1000), sizes), max_size=5)


@given(frames_lists, st.data())
def test_any_chunking_gives_the_same_frames(frames: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(map(encode_frame, frames))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    plug, batch = PipePlug(), Batch()
    try:
        received = []
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
            os.write(plug.far_write, stream[start:end])
            received += taken(plug, batch)
        assert received == frames
    finally:
        plug.close()


def test_one_byte_at_a_time(plug: PipePlug) -> None:
    frames = [frame_of(1, 14), frame_of(2, 60), frame_of(3, 300)]
    batch, received = Batch(), []
    for byte in b"".join(map(encode_frame, frames)):
        os.write(plug.far_write, bytes([byte]))
        received += taken(plug, batch)
    assert received == frames


def test_more_frames_in_a_read_than_a_batch_holds_come_one_batch_after_the_other(plug: PipePlug) -> None:
    frames = [frame_of(number, 14 + number % 50) for number in range(3 * BATCH_FRAMES + 5)]
    os.write(plug.far_write, b"".join(map(encode_frame, frames)))
    batch = Batch()
    counts: list[int] = []
    received: list[bytes] = []
    while len(received) < len(frames):
        plug.receive(batch)
        counts.append(batch.frames)
        received += [bytes(batch.frame(at)) for at in range(batch.frames)]
    assert received == frames
    assert counts == [64, 64, 64, 5]


async def test_it_is_readable_as_long_as_an_earlier_read_has_frames_left(plug: PipePlug) -> None:
    os.write(plug.far_write, b"".join(encode_frame(frame_of(number)) for number in range(BATCH_FRAMES + 1)))
    batch = Batch()
    plug.receive(batch)
    with trio.fail_after(PATIENCE_S):
        await plug.wait_readable()
    plug.receive(batch)
    assert batch.frames == 1
    with trio.move_on_after(0.01) as limit:
        await plug.wait_readable()
    assert limit.cancelled_caught


def test_runts_and_giants_are_counted_and_what_follows_is_read(plug: PipePlug) -> None:
    batch = Batch()
    stream = [frame_of(1), frame_of(2, 13), b"", frame_of(3, 9235), frame_of(4, 20000), frame_of(5), frame_of(6, 1)]
    os.write(plug.far_write, b"".join(map(encode_frame, stream)))
    plug.receive(batch)
    assert [bytes(batch.frame(at)) for at in range(batch.frames)] == [frame_of(1), frame_of(5)]
    assert (batch.frames, batch.runts, batch.giants) == (2, 2, 2)
    os.write(plug.far_write, encode_frame(frame_of(7)))
    plug.receive(batch)
    assert (batch.frames, batch.runts, batch.giants) == (1, 0, 0)


def test_a_batch_goes_out_length_and_frame_together(plug: PipePlug) -> None:
    frames = [frame_of(number, 14 + 11 * number) for number in range(64)]
    batch = Batch()
    batch.load_frames(frames)
    assert plug.send(batch, 0, 64) == 64
    assert read_all(plug.far_read) == b"".join(map(encode_frame, frames))
    assert plug.send(batch, 7, 9) == 2
    assert read_all(plug.far_read) == b"".join(map(encode_frame, frames[7:9]))


@pytest.mark.parametrize("read_size", [1, 1000, 4096, 5000])
def test_a_frame_that_went_out_in_part_is_finished_first(read_size: int) -> None:
    # Over a socket, because there any number of bytes can be free; a pipe frees whole pages.
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with left, right:
        left.setblocking(False)
        right.setblocking(False)
        left.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)

        class SocketPlug(StreamPlug):
            async def aclose(self) -> None:
                raise NotImplementedError

        plug, batch = SocketPlug(left.fileno(), left.fileno()), Batch()
        frames = [frame_of(number, size) for number, size in enumerate([9234, 14, 60, 9000, 1514, 14, 14, 9234])]
        batch.load_frames(frames)
        position, stream = 0, b""
        while position < len(frames):
            sent = plug.send(batch, position, len(frames))
            position += sent
            try:
                stream += right.recv(read_size if position < len(frames) else 1 << 20)
            except BlockingIOError:
                continue
        while True:
            try:
                stream += right.recv(1 << 20)
            except BlockingIOError:
                break
        assert stream == b"".join(map(encode_frame, frames))


def test_a_full_pipe_takes_part_of_a_frame_that_counts_as_not_sent(plug: PipePlug) -> None:
    fcntl.fcntl(plug.far_read, fcntl.F_SETPIPE_SZ, 4096)
    batch = Batch()
    frames = [frame_of(1, 3000), frame_of(2, 3000), frame_of(3, 3000)]
    batch.load_frames(frames)
    assert plug.send(batch, 0, 3) == 1
    stream = b"".join(map(encode_frame, frames))
    first = read_all(plug.far_read)
    assert first == stream[:4096]
    # What is left is offered from another batch, as the queue does it.
    other = Batch()
    other.load_frames(frames[1:])
    assert plug.send(other, 0, 2) == 1
    second = read_all(plug.far_read)
    assert first + second == stream[:8192]
    other.load_frames(frames[2:])
    assert plug.send(other, 0, 1) == 1
    assert first + second + read_all(plug.far_read) == stream


def test_a_full_pipe_takes_nothing(plug: PipePlug) -> None:
    fcntl.fcntl(plug.far_read, fcntl.F_SETPIPE_SZ, 4096)
    os.write(plug._write_fd, bytes(4096))
    batch = Batch()
    batch.load_frames([frame_of(1)])
    assert plug.send(batch, 0, 1) == 0
    assert read_all(plug.far_read) == bytes(4096)
    assert plug.send(batch, 0, 1) == 1
    assert read_all(plug.far_read) == encode_frame(frame_of(1))


def test_the_end_of_the_stream_is_the_end_of_the_plug_after_its_last_frame(plug: PipePlug) -> None:
    os.write(plug.far_write, encode_frame(frame_of(1)))
    plug.close(plug.far_write)
    batch = Batch()
    plug.receive(batch)
    assert batch.frames == 1
    with pytest.raises(PlugClosedError, match="closed the stream$"):
        plug.receive(batch)


@pytest.mark.parametrize("cut", [1, 2, 40])
def test_an_end_in_mid_frame_is_told(plug: PipePlug, cut: int) -> None:
    os.write(plug.far_write, encode_frame(frame_of(1)) + encode_frame(frame_of(2))[:cut])
    plug.close(plug.far_write)
    batch = Batch()
    plug.receive(batch)
    assert batch.frames == 1
    with pytest.raises(PlugClosedError, match="in mid-frame"):
        plug.receive(batch)


def test_writing_to_a_closed_stream_is_the_end_of_the_plug(plug: PipePlug) -> None:
    plug.close(plug.far_read)
    batch = Batch()
    batch.load_frames([frame_of(1)])
    with pytest.raises(PlugClosedError, match="closed the stream"):
        plug.send(batch, 0, 1)
