from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from app.fabric.link import Health, Link
from app.fabric.monitor import KEPT_OUTCOMES, Monitor, MonitorSpec
from app.fabric.states import LinkState, Role
from tests.fabric.paths import FAR_ADDRESS, FarPath, World, open_world

NOBODY = ipaddress.IPv4Address("10.0.0.99")


@pytest.fixture
async def world(short_dir: Path) -> AsyncIterator[World]:
    async with open_world(short_dir) as opened:
        yield opened


async def watched(world: World, spec: MonitorSpec = MonitorSpec(FAR_ADDRESS)) -> tuple[Link, FarPath, Monitor]:  # noqa: B008 -- frozen
    link, path = await world.dial("path1")
    world.multilink.monitor(link, spec)
    return link, path, world.multilink.monitors[link]


async def test_before_the_first_answer_nothing_is_known(autojump_clock: MockClock, world: World) -> None:
    link, _path, monitor = await watched(world)
    assert (monitor.rtt_s, monitor.lost, monitor.last_heard, link.health) == (None, None, None, Health(None, ""))


@pytest.mark.parametrize("delay_s", [0.0, 0.05, 0.25, 0.6])
async def test_an_answer_tells_the_round_trip_time(autojump_clock: MockClock, world: World, delay_s: float) -> None:
    link, path, monitor = await watched(world)
    path.delay_s = delay_s
    await trio.sleep(5)
    assert monitor.rtt_s == pytest.approx(delay_s + 0.01, abs=0.025), "asked again meanwhile or not"
    assert (monitor.lost, link.health) == (0.0, Health(False, ""))
    assert monitor.last_heard is not None


async def test_it_is_asked_once_an_interval(autojump_clock: MockClock, world: World) -> None:
    link, _path, _monitor = await watched(world, MonitorSpec(FAR_ADDRESS, interval_s=5))
    await trio.sleep(23)
    assert link.tx.frames == 5


async def test_three_questions_in_a_row_without_an_answer_degrade_a_link_and_one_answer_mends_it(
    autojump_clock: MockClock, world: World
) -> None:
    link, path, monitor = await watched(world)
    await trio.sleep(3.5)
    assert monitor.lost == 0
    heard = monitor.last_heard
    path.swallows_up = True
    await trio.sleep(2.8)
    assert link.health.degraded is False, "two are not enough"
    await trio.sleep(1)
    assert link.health == Health(True, "degraded: 10.0.0.2 does not answer over this link")
    assert link.detail == link.health.reason
    assert monitor.lost == pytest.approx(3 / 7, abs=0.08)
    assert monitor.last_heard == heard
    path.swallows_up = False
    await trio.sleep(1.5)
    assert link.health == Health(False, "")
    assert link.detail == ""


async def test_the_share_lost_is_that_of_the_last_questions(autojump_clock: MockClock, world: World) -> None:
    _link, path, monitor = await watched(world)
    path.swallows_down = True
    await trio.sleep(5)
    assert monitor.lost == 1.0
    path.swallows_down = False
    await trio.sleep(KEPT_OUTCOMES + 2)
    assert monitor.lost == 0.0


async def test_an_answer_over_another_link_does_not_count(autojump_clock: MockClock, world: World) -> None:
    link, path, _monitor = await watched(world)
    path.swallows_up = True
    other, _path = await world.dial("path2")
    world.multilink.monitor(other, MonitorSpec(FAR_ADDRESS))
    await trio.sleep(5)
    assert (link.health.degraded, other.health.degraded) == (True, False)


async def test_a_link_that_is_down_is_not_asked(autojump_clock: MockClock, world: World) -> None:
    link, path, monitor = await watched(world)
    await trio.sleep(2.5)
    path.die()
    await trio.sleep(10)
    assert link.state is LinkState.DOWN
    assert (monitor.lost, link.health.degraded) == (0, False)
    assert link.tx.dropped == {}


async def test_a_standby_link_is_watched_like_any_other(autojump_clock: MockClock, world: World) -> None:
    link, _path, _monitor = await watched(world)
    link.set_role(Role.STANDBY)
    await trio.sleep(3)
    assert link.health.degraded is False


async def test_another_watch_takes_the_place_of_the_first_and_none_ends_it(
    autojump_clock: MockClock, world: World
) -> None:
    link, _path, first = await watched(world)
    await trio.sleep(2)
    world.multilink.monitor(link, MonitorSpec(NOBODY))
    await trio.sleep(5)
    assert world.multilink.monitors[link] is not first
    assert link.health.degraded is True
    world.multilink.monitor(link, None)
    await trio.sleep(1)
    assert (link.health, world.multilink.monitors) == (Health(None, ""), {})
    sent = link.tx.frames
    await trio.sleep(5)
    assert link.tx.frames == sent
    assert not world.multilink.inspection.is_on or world.multilink.inspection._is_late_wanted


async def test_it_ends_with_its_link(autojump_clock: MockClock, world: World) -> None:
    link, _path, _monitor = await watched(world)
    await trio.sleep(1.5)
    await world.fabric.retire(link, 0)
    assert world.multilink.monitors == {}
    await trio.sleep(2)
    assert world.multilink.inspection._wanted_by == set()


async def test_the_host_never_hears_of_it(autojump_clock: MockClock, world: World) -> None:
    _link, path, _monitor = await watched(world)
    path.delay_s = 0.15  # Two questions, and the second answer comes when nobody waits for it any more.
    world.is_flowing = True
    await trio.sleep(10)
    await world.check()
