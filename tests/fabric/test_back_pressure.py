from __future__ import annotations

from typing import Final

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from app.fabric.counters import DropReason
from app.fabric.pressure import HOLD_LIMIT_S, LAST_HOLD_LIMIT_S
from app.fabric.queue import CONGESTED_LIMIT_BYTES, LET_GO_BYTES
from tests.fabric.endpoint_rig import Rig, carried
from tests.fakes import PATIENCE_S, frame_of, until

LONG: Final = frame_of(7, 9000)
"""196 of them are what a queue takes before all sources have to wait, 262 are all that it takes."""


async def test_a_queue_that_has_room_keeps_nobody_waiting_where_waiting_would_lose_frames() -> None:
    async with carried() as rig:
        rig.pressure.hasty_sources = 1
        rig.plug.stall()
        for _ in range(196):
            rig.transmit(LONG)
        await trio.testing.wait_all_tasks_blocked(2 * HOLD_LIMIT_S)
        assert not rig.pressure.is_on
        assert not rig.endpoint.is_congested
        rig.transmit(LONG)
        assert rig.pressure.is_on


async def test_senders_who_notice_wait_as_soon_as_anything_is_queued() -> None:
    async with carried() as rig:
        rig.plug.stall()
        rig.transmit(frame_of(1))
        assert rig.pressure.is_on
        rig.plug.resume()
        await until(lambda: not rig.pressure.is_on)
        assert rig.peer.take() == [frame_of(1)]


async def test_a_source_that_loses_what_is_not_read_is_known_while_it_is_there() -> None:
    rig = Rig()
    rig.plug.is_hasty = True
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig.carry)
            await until(lambda: rig.endpoint.plug is not None)
            assert (rig.ahead.hasty_sources, rig.pressure.hasty_sources) == (1, 0)
            rig.plug.kill("gone")
    assert rig.ahead.hasty_sources == 0


async def test_a_full_endpoint_holds_its_pressure_until_it_has_drained() -> None:
    async with carried(capacity=256) as rig:
        rig.plug.stall()
        for _ in range(4):
            rig.transmit(*[LONG] * 64)
        assert rig.pressure.is_on
        rig.plug.resume()
        await until(lambda: not rig.pressure.is_on)
        assert rig.peer.take() == [LONG] * 256
        assert rig.endpoint.queued == (0, 0)
    assert rig.endpoint.tx.dropped == {}


async def test_a_peer_that_stays_stalled_holds_nobody_for_long(autojump_clock: MockClock) -> None:
    async with carried(capacity=300) as rig:
        rig.pressure.destinations = 2
        rig.plug.stall()
        for _ in range(5):
            rig.transmit(*[LONG] * 64)
        assert rig.endpoint.tx.dropped == {DropReason.FULL: 320 - 262}
        started = trio.current_time()
        await until(lambda: not rig.pressure.is_on)
        assert trio.current_time() - started == pytest.approx(HOLD_LIMIT_S, abs=0.01)
        assert rig.endpoint.is_congested
        rig.transmit(LONG)
        assert not rig.pressure.is_on
        assert rig.endpoint.tx.dropped == {DropReason.FULL: 320 - 262, DropReason.CONGESTED: 1}
        rig.plug.resume()
        await until(lambda: not rig.endpoint.is_congested)
        assert rig.peer.take() == [LONG] * 262


@pytest.mark.parametrize("others", ["there are none", "all congested before", "all congested meanwhile"])
async def test_the_last_that_is_not_congested_is_waited_for_longer(autojump_clock: MockClock, others: str) -> None:
    async with carried() as rig:
        rig.pressure.destinations = 1 if others == "there are none" else 2
        if others == "all congested before":
            rig.pressure.give_up("another")
        rig.plug.stall()
        rig.transmit(LONG)
        started = trio.current_time()
        await trio.sleep(HOLD_LIMIT_S / 2)
        if others == "all congested meanwhile":
            rig.pressure.give_up("another")
        await until(lambda: rig.endpoint.is_congested)
        assert trio.current_time() - started == pytest.approx(LAST_HOLD_LIMIT_S, abs=0.01)
        rig.plug.resume()
        await until(lambda: not rig.endpoint.is_congested)
        rig.plug.stall()
        rig.pressure.release("another")
        rig.pressure.destinations = 2
        rig.transmit(LONG)
        started = trio.current_time()
        await until(lambda: rig.endpoint.is_congested)
        assert trio.current_time() - started == pytest.approx(HOLD_LIMIT_S, abs=0.01)


async def test_sources_that_lose_frames_go_on_before_the_queue_is_empty() -> None:
    async with carried(capacity=64) as rig:
        rig.pressure.hasty_sources = 1
        rig.plug.stall()
        for _ in range(4):
            rig.transmit(*[LONG] * 64)
        await until(lambda: rig.pressure.is_on)
        rig.plug.resume()
        while rig.pressure.is_on:
            await trio.lowlevel.checkpoint()
            rig.peer.take()
        assert 0 < rig.endpoint.queued[1] <= LET_GO_BYTES


async def test_what_is_congested_keeps_less_until_it_has_drained(autojump_clock: MockClock) -> None:
    async with carried(capacity=64) as rig:
        rig.plug.stall()
        for _ in range(4):
            rig.transmit(*[LONG] * 64)
        await until(lambda: rig.endpoint.is_congested)
        rig.plug.resume()
        await until(lambda: rig.endpoint.queued[0] == 192)
        rig.transmit(LONG)
        assert rig.endpoint.tx.dropped == {DropReason.CONGESTED: 1}
        rig.peer.take()
        await until(lambda: rig.endpoint.queued[0] == 128)
        rig.transmit(*[LONG] * 64)
        assert rig.endpoint.queued[0] == CONGESTED_LIMIT_BYTES // len(LONG)
        while rig.endpoint.is_congested:
            rig.peer.take()
            await trio.lowlevel.checkpoint()
        rig.plug.stall()
        for _ in range(4):
            rig.transmit(*[LONG] * 64)
        assert rig.endpoint.queued[0] == 256, "as much as at first"


async def test_while_what_is_ahead_is_full_nothing_is_read_and_nothing_lost() -> None:
    async with carried() as rig:
        await trio.testing.wait_all_tasks_blocked()
        rig.ahead.hold(rig)
        rig.peer.put(frame_of(1))
        await trio.testing.wait_all_tasks_blocked()
        assert rig.received == []
        rig.peer.put(frame_of(2))
        rig.ahead.release(rig)
        await until(lambda: len(rig.received) == 2)
    assert rig.received == [frame_of(1), frame_of(2)]


async def test_what_ends_while_it_waits_for_its_turn_is_taken_in_all_the_same() -> None:
    async with carried() as rig:
        rig.ahead.hold(rig)
        rig.peer.put(frame_of(1))
        await trio.testing.wait_all_tasks_blocked()
        rig.plug.kill("gone")
        await until(lambda: rig.reason)
    assert rig.received == [frame_of(1)]
