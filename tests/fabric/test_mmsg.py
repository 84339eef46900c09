from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from app.fabric.ethernet import MAX_FRAME_SIZE, MIN_FRAME_SIZE
from app.fabric.mmsg import BATCH_FRAMES, SLOT_SIZE, Batch, ffi
from tests.fakes import frame_of

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with left, right:
        left.setblocking(False)
        right.setblocking(False)
        yield left, right


def held(batch: Batch) -> list[bytes]:
    """The valid frames, as whoever sends them on sees them."""
    return [bytes(batch.frame(index)) for start, end in batch.runs for index in range(start, end)]


def drained(sock: socket.socket) -> list[bytes]:
    frames = []
    while True:
        try:
            frames.append(sock.recv(1 << 16))
        except BlockingIOError:
            return frames


# CFFI's ABI mode takes the declarations at their word.


@pytest.mark.parametrize(
    ("struct", "size"), [("struct iovec", 16), ("struct msghdr", 56), ("struct mmsghdr", 64), ("size_t", 8)]
)
def test_structs_have_the_sizes_of_the_c_library(struct: str, size: int) -> None:
    assert ffi.sizeof(struct) == size


@pytest.mark.parametrize(
    ("struct", "field", "offset"),
    [
        ("struct iovec", "iov_base", 0),
        ("struct iovec", "iov_len", 8),
        ("struct msghdr", "msg_name", 0),
        ("struct msghdr", "msg_namelen", 8),
        ("struct msghdr", "msg_iov", 16),
        ("struct msghdr", "msg_iovlen", 24),
        ("struct msghdr", "msg_control", 32),
        ("struct msghdr", "msg_controllen", 40),
        ("struct msghdr", "msg_flags", 48),
        ("struct mmsghdr", "msg_hdr", 0),
        ("struct mmsghdr", "msg_len", 56),
    ],
)
def test_fields_lie_where_the_c_library_has_them(struct: str, field: str, offset: int) -> None:
    assert ffi.offsetof(struct, field) == offset


def test_a_slot_holds_the_longest_frame_and_a_byte_to_tell_a_giant_by() -> None:
    assert SLOT_SIZE > MAX_FRAME_SIZE


# Receiving.


@pytest.mark.parametrize("count", [1, 2, 63, 64])
def test_a_batch_is_received_bit_by_bit(pair: Pair, count: int) -> None:
    sender, receiver = pair
    frames = [frame_of(number, 14 + 37 * number) for number in range(count)]
    for frame in frames:
        sender.send(frame)
    batch = Batch()
    batch.receive_datagrams(receiver.fileno())
    assert held(batch) == frames
    assert batch.runs == [(0, count)]
    assert (batch.frames, batch.octets) == (count, sum(map(len, frames)))
    assert (batch.runts, batch.giants) == (0, 0)


def test_what_is_more_than_a_batch_waits_for_the_next(pair: Pair) -> None:
    sender, receiver = pair
    frames = [frame_of(number) for number in range(BATCH_FRAMES + 3)]
    for frame in frames:
        sender.send(frame)
    batch = Batch()
    batch.receive_datagrams(receiver.fileno())
    assert held(batch) == frames[:BATCH_FRAMES]
    batch.receive_datagrams(receiver.fileno())
    assert held(batch) == frames[BATCH_FRAMES:]
    assert batch.runs == [(0, 3)]


def test_with_nothing_to_receive_it_would_block(pair: Pair) -> None:
    with pytest.raises(BlockingIOError):
        Batch().receive_datagrams(pair[1].fileno())


def test_a_bad_descriptor_is_an_error_with_its_number() -> None:
    with pytest.raises(OSError, match="recvmmsg"):
        Batch().receive_datagrams(-1)


R, G, S, L = 13, MAX_FRAME_SIZE + 1, MIN_FRAME_SIZE, MAX_FRAME_SIZE


@pytest.mark.parametrize(
    ("sizes", "runs"),
    [
        ([S], [(0, 1)]),
        ([L], [(0, 1)]),
        ([R], []),
        ([G], []),
        ([0], []),
        ([60000], []),
        ([R, 60], [(1, 2)]),
        ([60, R], [(0, 1)]),
        ([60, R, 60], [(0, 1), (2, 3)]),
        ([G, 60, 60], [(1, 3)]),
        ([60, 60, G], [(0, 2)]),
        ([60, G, R, 60, 60, 1, 61], [(0, 1), (3, 5), (6, 7)]),
        ([R, G, R], []),
        ([0, S, 0, L, 0], [(1, 2), (3, 4)]),
    ],
)
def test_runts_and_giants_are_left_out_and_counted_wherever_they_stand(
    pair: Pair, sizes: list[int], runs: list[tuple[int, int]]
) -> None:
    sender, receiver = pair
    frames = [frame_of(number, size) for number, size in enumerate(sizes)]
    for frame in frames:
        sender.send(frame)
    batch = Batch()
    batch.receive_datagrams(receiver.fileno())
    valid = [frame for frame in frames if S <= len(frame) <= L]
    assert batch.runs == runs
    assert held(batch) == valid
    assert (batch.frames, batch.octets) == (len(valid), sum(map(len, valid)))
    assert batch.runts == sum(size < S for size in sizes)
    assert batch.giants == sum(size > L for size in sizes)


def test_a_batch_forgets_what_was_wrong_with_the_one_before(pair: Pair) -> None:
    sender, receiver = pair
    batch = Batch()
    for frame in (b"runt", frame_of(1, G)):
        sender.send(frame)
    batch.receive_datagrams(receiver.fileno())
    assert (batch.frames, batch.runts, batch.giants) == (0, 1, 1)
    sender.send(frame_of(2))
    batch.receive_datagrams(receiver.fileno())
    assert (batch.frames, batch.runts, batch.giants) == (1, 0, 0)
    assert held(batch) == [frame_of(2)]


def test_a_short_frame_after_a_long_one_has_nothing_of_it(pair: Pair) -> None:
    sender, receiver = pair
    batch = Batch()
    for size in (9000, 60, 1500):
        sender.send(frame_of(7, size))
        batch.receive_datagrams(receiver.fileno())
        assert held(batch) == [frame_of(7, size)]


# Sending.


def test_a_batch_goes_out_as_it_came_in(pair: Pair) -> None:
    sender, receiver = pair
    frames = [frame_of(number, 14 + 41 * number) for number in range(40)]
    for frame in frames:
        sender.send(frame)
    batch = Batch()
    batch.receive_datagrams(receiver.fileno())
    out, arrived = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with out, arrived:
        arrived.setblocking(False)
        assert batch.vector.send(out.fileno(), 0, 40) == 40
        assert drained(arrived) == frames
        assert batch.vector.send(out.fileno(), 5, 9) == 4
        assert drained(arrived) == frames[5:9]


def test_the_same_batch_can_be_sent_to_many(pair: Pair) -> None:
    sender, receiver = pair
    sender.send(frame_of(1))
    sender.send(frame_of(2, 9234))
    batch = Batch()
    batch.receive_datagrams(receiver.fileno())
    for _ in range(3):
        out, arrived = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with out, arrived:
            arrived.setblocking(False)
            assert batch.vector.send(out.fileno(), 0, batch.frames) == 2
            assert drained(arrived) == [frame_of(1), frame_of(2, 9234)]


def test_a_full_socket_takes_a_part_and_then_would_block(pair: Pair) -> None:
    sender, receiver = pair
    frames = [frame_of(number, 9000) for number in range(64)]
    chunk = Batch()
    load(chunk, frames)
    taken = chunk.vector.send(sender.fileno(), 0, 64)
    assert 0 < taken < 64
    with pytest.raises(BlockingIOError):
        chunk.vector.send(sender.fileno(), taken, 64)
    assert drained(receiver) == frames[:taken]
    assert chunk.vector.send(sender.fileno(), taken, taken + 1) == 1
    assert drained(receiver) == [frames[taken]]


def test_a_peer_that_is_gone_is_an_error_with_its_number(pair: Pair) -> None:
    sender, receiver = pair
    receiver.close()
    batch = Batch()
    load(batch, [frame_of(1)])
    with pytest.raises(ConnectionRefusedError):
        batch.vector.send(sender.fileno(), 0, 1)


# Chunks of streams, and devices.


def load(batch: Batch, frames: list[bytes], gap: int = 2) -> None:
    """Put frames into the batch's memory as a stream has them, with `gap` bytes before each."""
    offsets = []
    position = 0
    for frame in frames:
        position += gap
        batch.chunk[position : position + len(frame)] = frame
        offsets.append(position)
        position += len(frame)
    batch.load_chunk(offsets, [len(frame) for frame in frames])


def test_a_chunk_is_sent_frame_by_frame(pair: Pair) -> None:
    sender, receiver = pair
    frames = [frame_of(number, 14 + number) for number in range(64)]
    batch = Batch()
    load(batch, frames)
    assert held(batch) == frames
    assert batch.frames == 64
    assert batch.octets == sum(map(len, frames))
    assert batch.vector.send(sender.fileno(), 0, 64) == 64
    assert drained(receiver) == frames


def test_copies_are_held_like_frames_that_have_come(pair: Pair) -> None:
    sender, receiver = pair
    frames = [frame_of(number, 9234 - number) for number in range(5)]
    batch = Batch()
    load(batch, [frame_of(0)])
    batch.load_frames(frames)
    assert held(batch) == frames
    assert (batch.frames, batch.octets) == (5, sum(map(len, frames)))
    assert batch.vector.send(sender.fileno(), 0, 5) == 5
    assert drained(receiver) == frames


def test_an_empty_chunk_holds_nothing() -> None:
    batch = Batch()
    load(batch, [frame_of(1)])
    load(batch, [])
    assert (batch.frames, batch.octets, batch.runs) == (0, 0, [])


def test_datagrams_and_chunks_take_turns(pair: Pair) -> None:
    sender, receiver = pair
    batch = Batch()
    for turn in range(3):
        load(batch, [frame_of(turn, 100), frame_of(turn, 200)])
        assert batch.vector.send(sender.fileno(), 0, 2) == 2
        batch.receive_datagrams(receiver.fileno())
        assert held(batch) == [frame_of(turn, 100), frame_of(turn, 200)]
        assert batch.vector.send(receiver.fileno(), 0, 2) == 2
        assert drained(sender) == [frame_of(turn, 100), frame_of(turn, 200)]


def test_reads_take_a_frame_each_until_nothing_waits(pair: Pair) -> None:
    sender, receiver = pair  # A datagram socket is read like a tap: one frame a read(2).
    batch = Batch()
    frames = [frame_of(1, 60), frame_of(2, 13), frame_of(3, 9234), frame_of(4, 14)]
    for frame in frames:
        sender.send(frame)
    batch.receive_reads(receiver.fileno())
    assert held(batch) == [frames[0], frames[2], frames[3]]
    assert batch.runs == [(0, 1), (2, 4)]
    assert batch.runts == 1
    out, arrived = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with out, arrived:
        arrived.setblocking(False)
        assert batch.vector.send(out.fileno(), 2, 4) == 2
        assert drained(arrived) == frames[2:]
    with pytest.raises(BlockingIOError):
        batch.receive_reads(receiver.fileno())


def test_a_read_error_is_an_error_with_its_number() -> None:
    read_end, write_end = os.openpty()
    os.close(write_end)
    try:
        with pytest.raises(OSError, match="Input/output error"):
            Batch().receive_reads(read_end)
    finally:
        os.close(read_end)
