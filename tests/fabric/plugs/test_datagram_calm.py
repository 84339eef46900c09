"""A frame that comes alone goes on its way first; then there is a look at what else has come."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator

import pytest

from app.fabric.ethernet import MAX_FRAME_SIZE
from app.fabric.mmsg import Batch
from app.fabric.plugs.datagram import DatagramPlug
from tests.fakes import RawPeer, frame_of


class CalmRig:
    """A plug that has found nothing at its last look, and its peer."""

    def __init__(self) -> None:
        data, their_data = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        control, their_control = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        for sock in (data, their_data, control, their_control):
            sock.setblocking(False)
        self.plug = DatagramPlug(data, control)
        self.peer = RawPeer(their_control, their_data)
        self.batch = Batch()
        self.look_in_vain()

    def look_in_vain(self) -> None:
        with pytest.raises(BlockingIOError):
            self.plug.receive(self.batch)

    def received(self) -> list[bytes]:
        self.plug.receive(self.batch)
        return [bytes(self.batch.frame(at)) for start, end in self.batch.runs for at in range(start, end)]


@pytest.fixture
async def rig() -> AsyncIterator[CalmRig]:
    made = CalmRig()
    yield made
    await made.plug.aclose()
    made.peer.leave()


FRAMES = [frame_of(number, 14 + 300 * number) for number in range(5)]


async def test_the_first_of_many_comes_alone_and_the_rest_in_one_batch(rig: CalmRig) -> None:
    await rig.peer.send(*FRAMES)

    assert rig.received() == FRAMES[:1]
    assert rig.plug.may_have_more
    assert rig.received() == FRAMES[1:]
    assert not rig.plug.may_have_more


async def test_in_a_burst_nothing_comes_alone(rig: CalmRig) -> None:
    await rig.peer.send(*FRAMES)
    rig.received()
    rig.received()

    await rig.peer.send(*FRAMES)
    assert rig.received() == FRAMES


async def test_after_one_frame_and_a_look_in_vain_it_is_calm_again(rig: CalmRig) -> None:
    for _ in range(2):
        await rig.peer.send(FRAMES[1])
        assert rig.received() == FRAMES[1:2]
        rig.look_in_vain()
    await rig.peer.send(*FRAMES)
    assert rig.received() == FRAMES[:1]


async def test_a_lone_frame_is_sent_bit_by_bit(rig: CalmRig) -> None:
    await rig.peer.send(FRAMES[3])
    rig.plug.receive(rig.batch)

    assert rig.plug.send(rig.batch, 0, 1) == 1
    assert rig.peer.receive_now() == [FRAMES[3]]


async def test_what_is_sent_after_a_lone_frame_is_what_was_loaded(rig: CalmRig) -> None:
    await rig.peer.send(FRAMES[3])
    rig.plug.receive(rig.batch)
    rig.batch.load_frames(FRAMES[1:2])

    assert rig.plug.send(rig.batch, 0, 1) == 1
    assert rig.peer.receive_now() == FRAMES[1:2]


@pytest.mark.parametrize(("size", "runts", "giants"), [(13, 1, 0), (0, 1, 0), (MAX_FRAME_SIZE + 1, 0, 1)])
async def test_a_lone_misfit_is_none_of_the_frames(rig: CalmRig, size: int, runts: int, giants: int) -> None:
    await rig.peer.send(bytes(size))

    assert rig.received() == []
    assert (rig.batch.frames, rig.batch.octets, rig.batch.runts, rig.batch.giants) == (0, 0, runts, giants)
