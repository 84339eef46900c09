from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from app.fabric.failover import carries, failing, successor
from app.fabric.handoff_states import VerifyAddress, VerifyNothing
from app.fabric.link import Health, Link
from app.fabric.monitor import MonitorSpec
from app.fabric.states import LinkState, Role
from tests.fabric.paths import FAR_ADDRESS, World, bare_link, open_world

A, S = Role.ACTIVE, Role.STANDBY


def make_link(role: Role, *, state: LinkState = LinkState.UP, degraded: bool | None = None) -> Link:
    link = bare_link("any", state, role)
    link.health = Health(degraded, "")
    return link


@pytest.mark.parametrize(
    ("state", "degraded", "does"),
    [
        (LinkState.UP, None, True),
        (LinkState.UP, False, True),
        (LinkState.UP, True, False),
        (LinkState.DOWN, None, False),
        (LinkState.CONNECTING, None, False),
        (LinkState.DRAINING, False, False),
    ],
)
def test_a_link_carries_while_it_is_up_and_not_known_to_be_degraded(
    state: LinkState, degraded: bool | None, does: bool
) -> None:
    assert carries(make_link(A, state=state, degraded=degraded)) is does


def test_nobody_succeeds_while_an_active_link_carries() -> None:
    links = [make_link(A, degraded=True), make_link(A), make_link(S)]
    assert successor(links, {}) is None
    assert failing(links) == [links[0]]


def test_nobody_succeeds_who_does_not_carry() -> None:
    links = [make_link(A, degraded=True), make_link(S, degraded=True), make_link(S, state=LinkState.DOWN)]
    assert successor(links, {}) is None


def test_the_best_is_one_found_good_then_the_fastest_then_the_oldest() -> None:
    active = make_link(A, state=LinkState.DOWN)
    unknown, slow, fast, unmeasured = make_link(S), *(make_link(S, degraded=False) for _ in range(3))
    rtt_s = {slow: 0.2, fast: 0.1}
    assert successor([active, unknown, slow, fast, unmeasured], rtt_s) is fast
    assert successor([active, unknown, slow, unmeasured], rtt_s) is slow
    assert successor([active, unknown, unmeasured], rtt_s) is unmeasured
    assert successor([active, unknown], rtt_s) is unknown
    one, other = make_link(S), make_link(S)
    assert successor([active, one, other], {}) is one


# In a multilink. -----------------------------------------------------------------------------------------------------


@pytest.fixture
async def world(short_dir: Path) -> AsyncIterator[World]:
    async with open_world(short_dir) as opened:
        yield opened


ASK = MonitorSpec(FAR_ADDRESS)


async def test_the_best_standby_link_takes_over_from_one_that_is_degraded(
    autojump_clock: MockClock, world: World
) -> None:
    active, path = await world.dial("active")
    slow, slow_path = await world.dial("slow", S)
    fast, _fast_path = await world.dial("fast", S)
    slow_path.delay_s = 0.05
    for link in (active, slow, fast):
        world.multilink.monitor(link, ASK)
    world.multilink.configure(failover=True)
    await trio.sleep(3)
    assert world.links() == {"active": ("up", "active"), "slow": ("up", "standby"), "fast": ("up", "standby")}
    path.swallows_up = True
    await trio.sleep(10)
    assert active.health.degraded is True
    assert world.links() == {"active": ("up", "standby"), "slow": ("up", "standby"), "fast": ("up", "active")}
    world.is_flowing = True
    await trio.sleep(1)
    await world.check()


async def test_a_standby_link_takes_over_at_once_from_one_that_goes_down(
    autojump_clock: MockClock, world: World
) -> None:
    _active, path = await world.dial("active")
    await world.dial("spare", S)
    world.multilink.configure(failover=True)
    world.is_flowing = True
    await trio.sleep(1)
    path.die()
    await trio.sleep(1)
    assert world.links() == {"active": ("down", "standby"), "spare": ("up", "active")}
    await world.check(lost_up=1)


async def test_without_failover_nobody_takes_over_until_it_is_asked_for(
    autojump_clock: MockClock, world: World
) -> None:
    _active, path = await world.dial("active")
    await world.dial("spare", S)
    path.die()
    await trio.sleep(1)
    assert world.links() == {"active": ("down", "active"), "spare": ("up", "standby")}
    world.multilink.configure(failover=True)
    assert world.links() == {"active": ("down", "standby"), "spare": ("up", "active")}


async def test_with_nobody_to_take_over_the_roles_stay(autojump_clock: MockClock, world: World) -> None:
    _active, path = await world.dial("active")
    world.multilink.configure(failover=True)
    path.die()
    await trio.sleep(1)
    assert world.links() == {"active": ("down", "active")}
    await world.dial("late", S)
    assert world.links() == {"active": ("down", "standby"), "late": ("up", "active")}


async def test_it_waits_for_the_end_of_a_hand_off_and_then_acts(autojump_clock: MockClock, world: World) -> None:
    _active, path = await world.dial("active")
    await world.dial("spare", S)
    world.multilink.configure(failover=True)
    world.answers = False
    handoff = world.start(verify=VerifyAddress(FAR_ADDRESS), verify_timeout_s=5)
    await trio.sleep(1)
    path.die()
    await trio.sleep(1)
    assert world.links()["spare"] == ("up", "standby"), "the hand-off sees to it"
    handoff.abort()
    await handoff.ended.wait()
    assert world.links() == {"active": ("down", "standby"), "spare": ("up", "active")}


async def test_a_hand_off_is_not_disturbed_by_it(autojump_clock: MockClock, world: World) -> None:
    await world.dial("active")
    await world.dial("spare", S)
    world.multilink.configure(failover=True)
    world.is_flowing = True
    await world.hand_off(verify=VerifyNothing(), old=["active"])
    assert world.links() == {"spare": ("up", "standby"), "path2": ("up", "active")}
    await world.check()
