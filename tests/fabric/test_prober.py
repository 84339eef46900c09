from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from app.fabric.neighbour import solicitation
from app.fabric.prober import Answer
from app.fabric.states import Role
from tests.fabric.paths import FAR_ADDRESS, FAR_MAC, FarPath, World, arp_reply, open_world

NOBODY = ipaddress.IPv4Address("10.0.0.99")


@pytest.fixture
async def world(short_dir: Path) -> AsyncIterator[World]:
    async with open_world(short_dir) as opened:
        yield opened


class Listener:
    """Notes when what was asked."""

    def __init__(self, path: FarPath) -> None:
        self.path = path
        self.heard: list[tuple[float, bytes]] = []
        self._up = path.up
        path.up = self.up  # type: ignore[method-assign]  # to look over its shoulder

    def up(self) -> list[bytes]:
        frames = self._up()
        self.heard += [(round(trio.current_time(), 2), frame) for frame in frames]
        return frames


async def test_the_first_answer_is_told(autojump_clock: MockClock, world: World) -> None:
    link, _path = await world.dial("path1")
    answer = await world.multilink.prober.ask(link, [FAR_ADDRESS])
    assert answer.address == FAR_ADDRESS
    assert answer.after_s == pytest.approx(0.01, abs=0.02)
    assert world.strangers == []


async def test_several_are_asked_in_turn_and_who_answers_is_told(autojump_clock: MockClock, world: World) -> None:
    link, path = await world.dial("path1")
    listener = Listener(path)
    answer = await world.multilink.prober.ask(link, [NOBODY, FAR_ADDRESS])
    assert answer.address == FAR_ADDRESS
    mac = world.multilink.inspection.mac
    assert [frame for _at, frame in listener.heard] == [solicitation(NOBODY, mac), solicitation(FAR_ADDRESS, mac)]


async def test_pauses_grow_to_a_second(autojump_clock: MockClock, world: World) -> None:
    link, path = await world.dial("path1")
    listener = Listener(path)
    began = trio.current_time()
    with trio.move_on_after(5.0):
        await world.multilink.prober.ask(link, [NOBODY])
    asked = [at - began for at, _frame in listener.heard]
    assert asked == pytest.approx([0, 0.1, 0.3, 0.7, 1.5, 2.5, 3.5, 4.5], abs=0.03)


async def test_an_answer_on_another_link_or_for_another_address_is_swallowed_and_does_not_count(
    autojump_clock: MockClock, world: World
) -> None:
    link, _path = await world.dial("path1")
    other, other_path = await world.dial("path2")
    world.answers = False
    answers: list[Answer] = []
    async with trio.open_nursery() as nursery:

        async def ask() -> None:
            answers.append(await world.multilink.prober.ask(link, [FAR_ADDRESS]))

        nursery.start_soon(ask)
        await trio.sleep(0.5)
        other_path.down(arp_reply(FAR_ADDRESS, FAR_MAC, world.multilink.inspection.mac))
        world.paths[0].down(arp_reply(NOBODY, FAR_MAC, world.multilink.inspection.mac))
        await trio.sleep(0.5)
        assert answers == []
        assert other.tx.frames == 0, "asked over the one link only"
        world.answers = True
    assert [answer.address for answer in answers] == [FAR_ADDRESS]
    assert world.strangers == []


async def test_several_may_ask_at_once(autojump_clock: MockClock, world: World) -> None:
    links = [(await world.dial(name))[0] for name in ("path1", "path2")]
    answers: list[Answer] = []

    async def ask(which: int) -> None:
        answers.append(await world.multilink.prober.ask(links[which], [FAR_ADDRESS]))

    async with trio.open_nursery() as nursery:
        for which in (0, 1, 0):
            nursery.start_soon(ask, which)
    assert len(answers) == 3


async def test_nothing_is_left_of_one_who_gives_up(autojump_clock: MockClock, world: World) -> None:
    link, _path = await world.dial("path1")
    with trio.move_on_after(2):
        await world.multilink.prober.ask(link, [NOBODY])
    assert world.multilink.prober._asking == set()
    assert world.multilink.inspection._wanted_by == set()


async def test_a_standby_link_is_asked_like_any_other(autojump_clock: MockClock, world: World) -> None:
    link, _path = await world.dial("path1", Role.STANDBY)
    answer = await world.multilink.prober.ask(link, [FAR_ADDRESS])
    assert answer.address == FAR_ADDRESS


async def test_answers_that_come_late_are_swallowed_too(autojump_clock: MockClock, world: World) -> None:
    link, path = await world.dial("path1")
    path.delay_s = 0.35  # Asked at 0, 0.1 and 0.3: three answers.
    await world.multilink.prober.ask(link, [FAR_ADDRESS])
    world.is_flowing = True
    await trio.sleep(2)
    assert world.strangers == []
    assert not world.multilink.inspection.is_on, "and then nobody looks any more"
    await world.check()
