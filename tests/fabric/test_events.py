"""The log of events: in order, once, and nobody who reads slowly is waited for."""

from __future__ import annotations

import pytest
import trio

from app.fabric import events
from app.fabric.events import Event, EventKind, EventLog, EventPosition


def publish(log: EventLog, count: int, kind: EventKind = EventKind.LINK_UP) -> None:
    for number in range(count):
        log.publish(kind, {"name": f"link-{number}"})


async def numbers_after(log: EventLog, after: EventPosition | None, count: int) -> list[int]:
    async with log.read(after) as channel:
        return [(await channel.receive()).number for _ in range(count)]


async def rest(channel: trio.MemoryReceiveChannel[Event]) -> list[Event]:
    return [event async for event in channel]


async def test_a_reader_is_told_what_happens_from_then_on() -> None:
    log = EventLog()
    publish(log, 3)
    async with log.read() as channel:
        assert log.readers == 1
        publish(log, 2)
        assert [(await channel.receive()).number for _ in range(2)] == [4, 5]
    assert log.readers == 0


async def test_who_comes_back_is_told_what_has_happened_since() -> None:
    log = EventLog()
    publish(log, 5)
    assert await numbers_after(log, EventPosition(log.run, 2), 3) == [3, 4, 5]
    async with log.read(log.position) as channel:
        publish(log, 1)
        assert (await channel.receive()).number == 6


async def test_who_has_missed_some_is_told_so_before_the_rest() -> None:
    log = EventLog(ring_limit=3)
    publish(log, 5)
    async with log.read(EventPosition(log.run, 1)) as channel:
        first = await channel.receive()
        assert (first.kind, first.data) == (EventKind.MISSED, {"since": 1})
        assert [(await channel.receive()).number for _ in range(3)] == [3, 4, 5]
    assert await numbers_after(log, EventPosition(log.run, 2), 3) == [3, 4, 5], "it has missed nothing"


async def test_another_run_s_position_is_before_everything() -> None:
    log = EventLog()
    publish(log, 2)
    async with log.read(EventPosition("another", 1)) as channel:
        assert [(await channel.receive()).kind for _ in range(3)] == [
            EventKind.MISSED,
            EventKind.LINK_UP,
            EventKind.LINK_UP,
        ]


async def test_rates_are_told_but_not_kept() -> None:
    log = EventLog(ring_limit=3)
    publish(log, 2)
    async with log.read() as channel:
        publish(log, 100, EventKind.STATS)
        assert (await channel.receive()).kind is EventKind.STATS
    assert await numbers_after(log, EventPosition(log.run, 0), 2) == [1, 2]


async def test_who_falls_behind_is_cut_off_and_counted_and_can_come_back() -> None:
    log = EventLog()
    async with log.read() as slow, log.read() as quick:
        seen: list[int] = []
        for _ in range(events.READER_LIMIT + 10):
            publish(log, 1)
            seen.append((await quick.receive()).number)
        assert (log.cut_off, log.readers) == (1, 1)
        got = await rest(slow)
        assert [event.number for event in got] == list(range(1, events.READER_LIMIT + 1)), (
            "what was in hand, then the end"
        )
        assert seen == list(range(1, events.READER_LIMIT + 11))
    back = await numbers_after(log, EventPosition(log.run, got[-1].number), 10)
    assert back == list(range(events.READER_LIMIT + 1, events.READER_LIMIT + 11))


async def test_a_ring_full_of_events_does_not_cut_off_its_reader() -> None:
    log = EventLog()
    publish(log, events.RING_LIMIT + 5)
    async with log.read(EventPosition(log.run, 0)) as channel:
        publish(log, events.READER_LIMIT)
        assert log.cut_off == 0
        assert (await channel.receive()).kind is EventKind.MISSED


async def test_closing_ends_those_who_read_and_those_who_come_later() -> None:
    log = EventLog()
    publish(log, 2)
    async with log.read() as channel:
        log.close()
        with pytest.raises(trio.EndOfChannel):
            await channel.receive()
    async with log.read(EventPosition(log.run, 0)) as late:
        assert [event.number for event in await rest(late)] == [1, 2]
    publish(log, 1)
    assert log.readers == 0


async def test_a_reader_that_has_gone_is_forgotten() -> None:
    log = EventLog()
    async with log.read() as channel:
        await channel.aclose()
        publish(log, 1)
        assert (log.readers, log.cut_off) == (0, 0)
