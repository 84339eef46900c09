from __future__ import annotations

import errno
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from app.fabric.errors import PlugClosedError
from app.fabric.mmsg import Batch
from app.fabric.plugs.datagram import DatagramPlug, unlink_if_there
from tests.fakes import PATIENCE_S, RawPeer, frame_of


class Rig:
    """A plug over two socket pairs, its peer, and a batch."""

    def __init__(self, bound_path: str | None = None) -> None:
        data, their_data = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        control, their_control = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        for sock in (data, their_data, control, their_control):
            sock.setblocking(False)
        self.data = data
        self.plug = DatagramPlug(data, control, bound_path=bound_path)
        self.peer = RawPeer(their_control, their_data)
        self.batch = Batch()

    def load(self, *frames: bytes) -> None:
        self.batch.load_frames(list(frames))

    def received(self) -> list[bytes]:
        self.plug.receive(self.batch)
        return [bytes(self.batch.frame(at)) for start, end in self.batch.runs for at in range(start, end)]


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    made = Rig()
    yield made
    await made.plug.aclose()
    made.peer.leave()


async def test_frames_go_both_ways_bit_by_bit(rig: Rig) -> None:
    frames = [frame_of(number, 14 + 20 * number) for number in range(64)]
    rig.load(*frames)
    assert rig.plug.send(rig.batch, 0, 64) == 64
    assert rig.peer.receive_now() == frames
    await rig.peer.send(*frames)
    await rig.plug.wait_readable()
    assert rig.received() == frames


async def test_with_nothing_there_it_would_block(rig: Rig) -> None:
    with pytest.raises(BlockingIOError):
        rig.plug.receive(rig.batch)


async def test_a_full_socket_takes_a_part_and_wait_writable_tells_when_there_is_room(rig: Rig) -> None:
    rig.data.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 100_000)
    frames = [frame_of(number, 9000) for number in range(64)]
    rig.load(*frames)
    sent = rig.plug.send(rig.batch, 0, 64)
    assert 0 < sent < 64
    assert rig.plug.send(rig.batch, sent, 64) == 0
    with trio.move_on_after(0.01) as limit:
        await rig.plug.wait_writable()
    assert limit.cancelled_caught
    assert rig.peer.receive_now() == frames[:sent]
    with trio.fail_after(PATIENCE_S):
        await rig.plug.wait_writable()
    assert rig.plug.send(rig.batch, sent, sent + 3) == 3
    assert rig.peer.receive_now() == frames[sent : sent + 3]
    assert rig.plug.refused == []


async def test_a_frame_that_the_kernel_refuses_is_noted_and_the_others_go(rig: Rig) -> None:
    rig.data.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    rig.load(frame_of(0), frame_of(1, 9233), frame_of(2), frame_of(3, 9234))
    assert rig.plug.send(rig.batch, 0, 4) == 4
    assert rig.plug.refused == [9233, 9234]
    assert rig.peer.receive_now() == [frame_of(0), frame_of(2)]


async def test_a_peer_that_is_gone_ends_sending(rig: Rig) -> None:
    rig.peer.leave()
    rig.load(frame_of(0))
    with pytest.raises(PlugClosedError, match="the peer is gone"):
        rig.plug.send(rig.batch, 0, 1)


async def test_a_peer_that_goes_in_mid_batch_ends_sending_after_what_had_gone(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = iter([2])

    class Vector:
        @staticmethod
        def send(fd: int, start: int, end: int) -> int:
            for count in taken:
                return count
            raise ConnectionResetError(errno.ECONNRESET, "reset")

    rig.load(*map(frame_of, range(4)))
    monkeypatch.setattr(rig.batch, "vector", Vector)
    assert rig.plug.send(rig.batch, 0, 4) == 2
    with pytest.raises(PlugClosedError, match="the peer is gone"):
        rig.plug.send(rig.batch, 2, 4)


@pytest.mark.parametrize("number", [errno.ECONNREFUSED, errno.ECONNRESET, errno.ENOTCONN, errno.EPIPE])
async def test_every_way_to_say_that_the_peer_is_gone_is_understood(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(fd: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Batch, "receive_datagrams", lambda _batch, fd: fail(fd))
    with pytest.raises(PlugClosedError, match="the peer is gone: its data socket is closed"):
        rig.plug.receive(rig.batch)


async def test_another_error_ends_the_plug_with_its_reason(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_batch: Batch, _fd: int) -> None:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    monkeypatch.setattr(Batch, "receive_datagrams", fail)
    with pytest.raises(PlugClosedError, match="Bad file descriptor"):
        rig.plug.receive(rig.batch)


async def test_the_end_of_the_control_connection_is_the_end(rig: Rig) -> None:
    rig.peer.control.close()
    with trio.fail_after(PATIENCE_S):
        assert await rig.plug.wait_ended() == "the peer has left: it closed its control connection"


async def test_a_byte_on_the_control_connection_is_the_end_too(rig: Rig) -> None:
    rig.peer.control.send(b"x")
    with trio.fail_after(PATIENCE_S):
        assert "spoke" in await rig.plug.wait_ended()


async def test_closing_takes_both_sockets_and_the_name(short_dir: Path) -> None:
    (short_dir / "fd0").write_text("")
    rig = Rig(f"{short_dir}/fd0")
    await rig.plug.aclose()
    assert list(short_dir.iterdir()) == []
    await rig.peer.wait_left()
    with pytest.raises(OSError, match="refused|reset"):
        rig.peer.data.send(frame_of(0))
    await rig.plug.aclose()
    rig.peer.leave()


async def test_closing_works_under_cancellation(short_dir: Path) -> None:
    (short_dir / "fd0").write_text("")
    rig = Rig(f"{short_dir}/fd0")
    with trio.CancelScope() as scope:
        scope.cancel()
        await rig.plug.aclose()
    assert list(short_dir.iterdir()) == []
    await rig.peer.wait_left()
    rig.peer.leave()


def test_removing_a_name_that_is_gone_is_fine(short_dir: Path) -> None:
    unlink_if_there(f"{short_dir}/nothing")
    unlink_if_there(f"{short_dir}/no/nothing")
    unlink_if_there(str(short_dir))
    assert short_dir.exists()
