from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from app.fabric.errors import (
    HandoffInvalidError,
    HandoffRunningError,
    NameInvalidError,
    NameTakenError,
    NotFoundError,
)
from app.fabric.handoff_states import HandoffState, OldLinks, VerifyAuto, VerifyNothing
from app.fabric.handoffs import KEPT, HandoffRequest
from app.fabric.states import LinkState, Role
from app.fabric.vnl import MultiVnl
from tests.fabric.paths import VNL, World, open_world


@pytest.fixture
async def world(short_dir: Path) -> AsyncIterator[World]:
    async with open_world(short_dir) as opened:
        yield opened


def planned(world: World, **changes: Any) -> Any:
    return world.fabric.handoffs.plan(world.multilink, HandoffRequest(**{"to": VNL, **changes}))


async def test_a_plan_has_every_name_resolved_and_nothing_happens(autojump_clock: MockClock, world: World) -> None:
    first, _path = await world.dial("first")
    second, _path = await world.dial("second")
    idle, _path = await world.dial("idle", Role.STANDBY)
    plan = planned(world)
    assert (plan.to, plan.old) == (VNL, (first, second)), "every other active link"
    assert (plan.verify, plan.verify_timeout_s, plan.overlap_s, plan.drain_s, plan.old_become) == (
        VerifyAuto(),
        10.0,
        1.0,
        0.5,
        OldLinks.RETIRE,
    )
    assert planned(world, to="idle").to is idle
    assert planned(world, to=idle.id).to is idle
    assert planned(world, to="second").old == (first,), "it may be an active one itself"
    assert planned(world, old=["idle", first.id, "first"]).old == (idle, first)
    assert planned(world, old=[]).old == ()
    await trio.sleep(1)
    assert len(world.multilink.links) == 3
    assert world.fabric.handoffs.all() == []


async def test_links_that_are_down_are_no_old_ones_unless_they_are_named(
    autojump_clock: MockClock, world: World
) -> None:
    down, path = await world.dial("down")
    path.die()
    await trio.sleep(0.1)
    assert down.state is LinkState.DOWN
    assert planned(world).old == ()
    assert planned(world, old=["down"]).old == (down,)
    with pytest.raises(HandoffInvalidError, match="the link down is down: only one that is up"):
        planned(world, to="down")


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"to": "nobody"}, NotFoundError, "'nobody'"),
        ({"old": ["nobody"]}, NotFoundError, "'nobody'"),
        ({"to": MultiVnl("/tmp/vm9")}, HandoffInvalidError, "makes a multilink"),
        ({"to_name": "taken"}, NameTakenError, "'taken'"),
        ({"to_name": "not/good"}, NameInvalidError, "not/good"),
        ({"to": "taken", "old": ["taken"]}, HandoffInvalidError, "the new link is one of the old ones"),
        ({"to": "foreign"}, HandoffInvalidError, "belongs to vm2, not to vm1"),
        ({"old": ["foreign"]}, HandoffInvalidError, "belongs to vm2, not to vm1"),
    ],
)
async def test_what_makes_no_sense_is_refused_and_nothing_begins(
    autojump_clock: MockClock,
    world: World,
    short_dir: Path,
    changes: dict[str, Any],
    error: type[Exception],
    words: str,
) -> None:
    await world.dial("taken")
    await world.fabric.add_multilink(MultiVnl(f"{short_dir}/vm2"))
    await world.fabric.dial(VNL, multilink="vm2", name="foreign")
    for ask in (world.fabric.handoffs.plan, world.fabric.handoffs.start):
        with pytest.raises(error, match=words):
            ask(world.multilink, HandoffRequest(**{"to": VNL, **changes}))
    assert world.fabric.handoffs.all() == []
    assert world.fabric.handoffs.running("vm1") is None


async def test_one_at_a_time_for_a_multilink_and_one_for_each(
    autojump_clock: MockClock, world: World, short_dir: Path
) -> None:
    other = await world.fabric.add_multilink(MultiVnl(f"{short_dir}/vm2"))
    first = world.start(verify=VerifyNothing())
    with pytest.raises(HandoffRunningError, match=first.id):
        world.start(to_name="path3")
    second = world.fabric.handoffs.start(other, HandoffRequest(to=VNL, verify=VerifyNothing()))
    assert world.fabric.handoffs.running("vm1") is first
    assert world.fabric.handoffs.running("vm2") is second
    await first.ended.wait()
    await second.ended.wait()
    assert world.fabric.handoffs.running("vm1") is None
    assert [first.state, second.state] == [HandoffState.COMPLETED] * 2


async def test_the_last_hundred_are_kept(autojump_clock: MockClock, world: World) -> None:
    await world.dial("a")
    await world.dial("b", Role.STANDBY)
    made = []
    for turn in range(KEPT + 3):
        to = "ba"[turn % 2]
        made.append(
            await world.hand_off(to, verify=VerifyNothing(), overlap_s=0, drain_s=0, old_become=OldLinks.STANDBY)
        )
    assert world.fabric.handoffs.all() == made[-KEPT:]
    assert len({handoff.id for handoff in made}) == len(made)
    assert world.fabric.handoffs.find(made[-1].id) is made[-1]
    for gone in (made[0].id, "h0", ""):
        with pytest.raises(NotFoundError, match="the last 100 are kept"):
            world.fabric.handoffs.find(gone)


async def test_one_that_goes_on_is_not_pushed_out(autojump_clock: MockClock, world: World) -> None:
    await world.dial("a")
    handoff = world.start(verify=VerifyNothing(), overlap_s=5)
    await trio.sleep(1)
    assert world.fabric.handoffs.all() == [handoff]
    assert world.fabric.handoffs.find(handoff.id) is handoff
    assert handoff.state is HandoffState.OVERLAPPING
    await handoff.ended.wait()
