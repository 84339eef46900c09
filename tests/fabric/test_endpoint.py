from __future__ import annotations

import pytest
import trio
import trio.testing

from app.fabric.counters import DropReason
from app.fabric.endpoint import Endpoint
from app.fabric.mmsg import Batch
from app.fabric.queue import FrameQueue
from tests.fabric.endpoint_rig import Rig, carried
from tests.fakes import PATIENCE_S, MemoryPlug, frame_of, memory_pair, until


def offered(endpoint: Endpoint) -> int:
    return endpoint.tx.frames + endpoint.tx.dropped_frames


async def test_frames_go_both_ways_and_are_counted() -> None:
    async with carried() as rig:
        rig.transmit(frame_of(1), frame_of(2, 100))
        assert rig.peer.take() == [frame_of(1), frame_of(2, 100)]
        assert (rig.endpoint.tx.frames, rig.endpoint.tx.bytes) == (2, 160)
        rig.peer.put(frame_of(3), frame_of(4, 9234))
        await until(lambda: rig.received)
        assert rig.received == [frame_of(3), frame_of(4, 9234)]
        assert (rig.endpoint.rx.frames, rig.endpoint.rx.bytes) == (2, 60 + 9234)
    assert rig.endpoint.tx.dropped == rig.endpoint.rx.dropped == {}


async def test_a_busy_plug_is_read_again_without_waiting_and_others_have_their_turns() -> None:
    class CountingPlug(MemoryPlug):
        waits = 0

        async def wait_readable(self) -> None:
            self.waits += 1
            await super().wait_readable()

    rig = Rig()
    rig.plug.__class__ = CountingPlug
    turns = 0

    async def somebody_else() -> None:
        nonlocal turns
        while len(rig.received) < 640:
            turns += 1
            await trio.lowlevel.checkpoint()

    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig.carry)
            await trio.testing.wait_all_tasks_blocked()
            rig.peer.put(*[frame_of(number) for number in range(640)])
            nursery.start_soon(somebody_else)
            await until(lambda: len(rig.received) == 640)
            await trio.testing.wait_all_tasks_blocked()
            assert isinstance(rig.plug, CountingPlug)
            assert rig.plug.waits == 2, "before the first frame, and after the last"
            assert turns >= 9, "one for each batch of 64"
            rig.endpoint.stop("over")


async def test_runts_and_giants_are_counted_and_not_handed_on() -> None:
    async with carried() as rig:
        rig.peer.put(frame_of(1), b"runt", frame_of(2, 9235), frame_of(3), b"", frame_of(4, 60000))
        rig.peer.put(b"x")
        await until(lambda: rig.endpoint.rx.dropped_frames == 5)
    assert rig.received == [frame_of(1), frame_of(3)]
    assert rig.endpoint.rx.dropped == {DropReason.RUNT: 3, DropReason.GIANT: 2}


async def test_runts_between_frames_are_not_sent_on() -> None:
    async with carried() as rig:
        rig.batch.load_frames([frame_of(1), b"runt", frame_of(2), frame_of(3), b"runt"])
        rig.endpoint.transmit(rig.batch)
        assert rig.peer.take() == [frame_of(1), frame_of(2), frame_of(3)]
    assert (rig.endpoint.tx.frames, rig.endpoint.tx.bytes) == (3, 180)
    assert rig.endpoint.tx.dropped == {}


@pytest.mark.parametrize("capacity", [1, 2, 3, 7, 64])
async def test_what_a_full_plug_refuses_is_queued_and_goes_out_in_order(capacity: int) -> None:
    frames = [frame_of(number, 60 + number) for number in range(60)]
    async with carried(capacity) as rig:
        arrived: list[bytes] = []
        for start in range(0, 60, 20):
            rig.transmit(*frames[start : start + 20])
        rig.batch.load_frames([frame_of(999)] * 64)  # Whatever is in the batch meanwhile, copies are queued.
        while len(arrived) < 60:
            await trio.lowlevel.checkpoint()
            arrived += rig.peer.take()
        assert arrived == frames
        await until(lambda: rig.endpoint.tx.frames == 60)
    assert rig.endpoint.tx.bytes == sum(map(len, frames))
    assert rig.endpoint.tx.dropped == {}


async def test_runs_of_a_batch_with_runts_keep_their_order_when_the_plug_is_full() -> None:
    async with carried(1) as rig:
        rig.batch.load_frames([frame_of(1), b"runt", frame_of(2), frame_of(3), b"runt", frame_of(4)])
        rig.endpoint.transmit(rig.batch)
        arrived: list[bytes] = []
        while len(arrived) < 4:
            await trio.lowlevel.checkpoint()
            arrived += rig.peer.take()
    assert arrived == [frame_of(number) for number in (1, 2, 3, 4)]


async def test_when_the_queue_is_full_too_drops_are_counted_exactly() -> None:
    async with carried() as rig:
        rig.endpoint._queue = FrameQueue(limit=10 * 60)
        rig.plug.stall()
        rig.transmit(*map(frame_of, range(8)))
        rig.transmit(*map(frame_of, range(8, 20)))
        assert rig.endpoint.tx.frames == 0
        assert rig.endpoint.tx.dropped == {DropReason.FULL: 10}
        rig.plug.resume()
        await until(lambda: rig.endpoint.tx.frames == 10)
        assert rig.peer.take() == [frame_of(number) for number in range(10)]
    assert rig.endpoint.tx.dropped == {DropReason.FULL: 10}
    assert offered(rig.endpoint) == 20


async def test_a_refused_frame_is_counted_as_such_and_not_as_sent() -> None:
    async with carried() as rig:
        rig.plug.refuse()
        rig.transmit(frame_of(1, 100), frame_of(2), frame_of(3))
        assert rig.peer.take() == [frame_of(2), frame_of(3)]
    assert (rig.endpoint.tx.frames, rig.endpoint.tx.bytes) == (2, 120)
    assert rig.endpoint.tx.dropped == {DropReason.REFUSED: 1}


async def test_a_refused_frame_of_the_queue_is_counted_too() -> None:
    async with carried() as rig:
        rig.plug.stall()
        rig.transmit(frame_of(1, 100), frame_of(2))
        rig.plug.refuse()
        rig.plug.resume()
        await until(lambda: rig.peer.inbox)
        assert rig.peer.take() == [frame_of(2)]
    assert (rig.endpoint.tx.frames, rig.endpoint.tx.bytes) == (1, 60)
    assert rig.endpoint.tx.dropped == {DropReason.REFUSED: 1}


async def test_what_is_still_queued_at_the_end_is_counted_as_closed() -> None:
    async with carried() as rig:
        rig.plug.stall()
        rig.transmit(*map(frame_of, range(7)))
    assert rig.endpoint.tx.frames == 0
    assert rig.endpoint.tx.dropped == {DropReason.CLOSED: 7}
    assert rig.peer.inbox == type(rig.peer.inbox)()


async def test_without_a_plug_frames_are_counted_as_closed() -> None:
    rig = Rig()
    rig.transmit(frame_of(1), frame_of(2))
    assert rig.endpoint.tx.dropped == {DropReason.CLOSED: 2}


async def test_the_peers_end_is_the_end_with_its_reason() -> None:
    async with carried() as rig:
        rig.plug.kill("the cable was cut")
        await until(lambda: rig.reason)
    assert rig.reason == "the cable was cut"
    assert rig.plug.closes == 1
    assert rig.endpoint.plug is None


async def test_an_end_that_only_sending_notices_is_the_end_too() -> None:
    class DeafPlug(MemoryPlug):
        async def wait_ended(self) -> str:
            await trio.sleep_forever()
            raise AssertionError

        async def wait_readable(self) -> None:
            await trio.sleep_forever()

    rig = Rig()
    rig.plug.__class__ = DeafPlug
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig.carry)
            await until(lambda: rig.endpoint.plug is not None)
            rig.plug.kill("nobody is there")
            rig.transmit(frame_of(1), frame_of(2))
    assert rig.reason == "nobody is there"
    assert rig.endpoint.tx.dropped == {DropReason.CLOSED: 2}


async def test_what_had_arrived_before_the_end_is_taken_in() -> None:
    async with carried() as rig:
        rig.peer.put(*(frame_of(number) for number in range(200)))
        rig.plug.kill("gone")
        await until(lambda: rig.reason)
    assert rig.received == [frame_of(number) for number in range(200)]


async def test_a_peer_that_never_stops_does_not_hold_up_the_end() -> None:
    class EndlessPlug(MemoryPlug):
        def receive(self, batch: Batch) -> None:
            self.inbox.append(frame_of(1))
            super().receive(batch)

    rig = Rig()
    rig.plug.__class__ = EndlessPlug
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig.carry)
            await until(lambda: rig.endpoint.plug is not None)
            rig.endpoint.stop("enough")
    assert rig.reason == "enough"


async def test_the_first_reason_counts() -> None:
    async with carried() as rig:
        rig.endpoint.stop("first")
        rig.endpoint.stop("second")
    assert rig.reason == "first"


async def test_the_plug_is_closed_when_it_is_cancelled_and_when_it_breaks() -> None:
    cancelled = Rig()
    with trio.move_on_after(0.01):
        await cancelled.carry()
    assert cancelled.plug.closes == 1
    broken = Rig()
    broken.plug.break_with(ZeroDivisionError("a bug"))
    with pytest.RaisesGroup(ZeroDivisionError):
        await broken.carry()
    assert broken.plug.closes == 1
    assert broken.endpoint.plug is None


async def test_waiting_for_the_queue_to_be_empty() -> None:
    async with carried() as rig:
        await rig.endpoint.wait_queue_empty()
        rig.plug.stall()
        rig.transmit(frame_of(1))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig.endpoint.wait_queue_empty)
            await trio.testing.wait_all_tasks_blocked()
            assert nursery.child_tasks
            rig.plug.resume()
        assert rig.peer.take() == [frame_of(1)]


async def test_a_successor_finds_the_endpoint_as_new_but_for_its_counters() -> None:
    rig = Rig()
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig.carry)
            await until(lambda: rig.endpoint.plug is not None)
            rig.plug.stall()
            rig.transmit(frame_of(1))
            rig.plug.kill("gone")
        rig.plug, rig.peer = memory_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig.carry)
            await until(lambda: rig.endpoint.plug is not None)
            rig.transmit(frame_of(2))
            assert rig.peer.take() == [frame_of(2)]
            rig.endpoint.stop("over")
    assert rig.endpoint.tx.frames == 1
    assert rig.endpoint.tx.dropped == {DropReason.CLOSED: 1}
    assert not rig.pressure.is_on


@pytest.mark.parametrize("round_", range(20))
async def test_frames_for_a_full_plug_that_ends_are_counted_whenever_they_come(round_: int) -> None:
    """Between the end of the last child and the end of `carry` the nursery takes no task for the queue any more."""
    sent = 0
    async with carried(capacity=1) as rig:
        rig.plug.stall()
        for _ in range(round_ % 4):
            await trio.lowlevel.checkpoint()
        rig.endpoint.stop("gone")
        while rig.reason is None:
            rig.transmit(frame_of(sent))
            sent += 1
            await trio.lowlevel.checkpoint()
        assert offered(rig.endpoint) == sent
        assert rig.reason == "gone"
