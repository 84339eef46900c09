"""Hand-offs in virtual time; the table of what can happen in each phase is at the top."""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from app.fabric.counters import DropReason
from app.fabric.errors import HandoffRunningError, LinkStateError
from app.fabric.handoff import Handoff, HandoffPlan
from app.fabric.handoff_states import (
    PHASES,
    HandoffState,
    OldLinks,
    Verify,
    VerifyAddress,
    VerifyAuto,
    VerifyFrames,
    VerifyNothing,
)
from app.fabric.link import Link, LinkChange, LinkKind
from app.fabric.states import LinkState, Role
from tests.fabric.paths import (
    FAR_ADDRESS,
    FAR_MAC,
    VNL,
    FarPath,
    World,
    arp_reply,
    nothing,
    numbered,
    open_world,
    reached,
)

ASK_FAR: Verify = VerifyAddress(FAR_ADDRESS)
KEPT = {"path1": ("up", "active")}
MOVED = {"path2": ("up", "active")}


@pytest.fixture
async def world(short_dir: Path, autojump_clock: MockClock) -> AsyncIterator[World]:
    async with open_world(short_dir) as opened:
        yield opened


class Table:
    """One cell: an old link, frames both ways, and a hand-off that is in a phase and stays there until `go_on`."""

    def __init__(self, world: World, old: tuple[Link, FarPath], old_become: OldLinks) -> None:
        self.world = world
        self.old, self.old_path = old
        world.gate = trio.Event()
        world.answers = False
        world.is_flowing = True
        self.handoff = world.start(verify=ASK_FAR, overlap_s=1.0, drain_s=0.5, old_become=old_become)

    @property
    def new_path(self) -> FarPath:
        return self.world.paths[-1]

    async def reach(self, phase: HandoffState) -> None:
        if phase is not HandoffState.MAKING:
            self.world.gate.set()
        if phase in {HandoffState.OVERLAPPING, HandoffState.DRAINING}:
            self.world.answers = True
        await reached(self.handoff, phase)
        await trio.sleep(0.2)
        assert self.handoff.state is phase

    async def end(self) -> None:
        self.world.gate.set()
        self.world.answers = True
        await self.handoff.ended.wait()


@pytest.fixture
async def table(world: World, old_become: OldLinks, old_kind: LinkKind) -> Table:
    old = await world.old_link(old_kind)
    if old[0].name != "path1":
        world.fabric.rename_link(old[0], "path1")
    return Table(world, old, old_become)


either_becomes = pytest.mark.parametrize("old_become", list(OldLinks))
either_kind = pytest.mark.parametrize("old_kind", list(LinkKind))
each_phase = pytest.mark.parametrize("phase", PHASES)


# The table. ----------------------------------------------------------------------------------------------------------


@each_phase
@either_becomes
@either_kind
async def test_the_new_path_dies(autojump_clock: MockClock, table: Table, phase: HandoffState) -> None:
    world, handoff = table.world, table.handoff
    await table.reach(phase)
    if phase is HandoffState.MAKING:
        world.refuses = "nobody answers there"
    else:
        table.new_path.die()
    await table.end()
    assert handoff.state is HandoffState.ROLLED_BACK
    if phase is HandoffState.MAKING:
        assert handoff.reason == "nobody answers there"
    else:
        assert handoff.reason.startswith("path2 went down") or handoff.reason.startswith("path2 went retired")
        assert f"while {phase}: the peer is gone" in handoff.reason
    assert world.links() == KEPT
    assert world.multilink.links == [table.old]
    await trio.sleep(0.5)
    # While the old one drains nothing is sent to it: what went to the new one as it died is gone.
    await world.check(lost_up=1 if phase is HandoffState.DRAINING else 0)
    assert [phase.state for phase in handoff.phases] == list(PHASES[: PHASES.index(phase) + 1])


@each_phase
@either_becomes
@either_kind
async def test_the_old_path_dies(
    autojump_clock: MockClock, table: Table, phase: HandoffState, old_kind: LinkKind, old_become: OldLinks
) -> None:
    world, handoff = table.world, table.handoff
    await table.reach(phase)
    table.old_path.die()
    await trio.sleep(0.2)
    await table.end()
    assert (handoff.state, handoff.reason) == (HandoffState.COMPLETED, "")
    stays = old_kind is LinkKind.DIALLED and (old_become is OldLinks.STANDBY)
    if stays:
        assert world.links() == {"path1": ("down", "standby"), **MOVED}
    else:
        assert world.links() == MOVED
    await trio.sleep(0.5)
    # While the new path is being made there is no other: what is sent then has nowhere to go.
    outage = 30 if phase is HandoffState.MAKING else 0
    await world.check(lost_up=outage, lost_down=outage)


@each_phase
@either_becomes
@either_kind
async def test_it_is_aborted(autojump_clock: MockClock, table: Table, phase: HandoffState) -> None:
    world, handoff = table.world, table.handoff
    await table.reach(phase)
    handoff.abort()
    await handoff.ended.wait()
    assert (handoff.state, handoff.reason) == (HandoffState.ABORTED, "aborted on request")
    assert world.links() == KEPT
    assert world.multilink.links == [table.old]
    assert not any(path.is_open for path in world.paths[1:]), "what it had made is closed"
    await trio.sleep(0.5)
    await world.check()
    with pytest.raises(LinkStateError, match="aborted already"):
        handoff.abort()


@each_phase
@either_becomes
@either_kind
async def test_a_second_one_is_asked_for(
    autojump_clock: MockClock, table: Table, phase: HandoffState, old_become: OldLinks
) -> None:
    world, handoff = table.world, table.handoff
    await table.reach(phase)
    with pytest.raises(HandoffRunningError, match=f"{handoff.id} is {phase}"):
        world.start(to_name="path3")
    assert world.fabric.handoffs.all() == [handoff]
    await table.end()
    assert handoff.state is HandoffState.COMPLETED
    old = {"path1": ("up", "standby")} if old_become is OldLinks.STANDBY else {}
    assert world.links() == {**old, **MOVED}
    await trio.sleep(0.5)
    await world.check()
    second = await world.hand_off(verify=VerifyNothing(), to_name="path3")
    assert second.state is HandoffState.COMPLETED, "now that the first is over"


@each_phase
@either_becomes
@pytest.mark.parametrize("old_kind", [LinkKind.DIALLED])
async def test_its_multilink_is_removed(autojump_clock: MockClock, table: Table, phase: HandoffState) -> None:
    world, handoff = table.world, table.handoff
    await table.reach(phase)
    await world.fabric.remove_multilink("vm1")
    await handoff.ended.wait()
    assert handoff.is_over
    assert handoff.state is not HandoffState.COMPLETED or phase is HandoffState.DRAINING
    assert world.fabric.links() == []
    assert not any(path.is_open for path in world.paths)


@each_phase
async def test_the_service_stops(short_dir: Path, autojump_clock: MockClock, phase: HandoffState) -> None:
    async with open_world(short_dir) as world:
        old = await world.dial("path1")
        table = Table(world, old, OldLinks.RETIRE)
        await table.reach(phase)
    handoff = table.handoff
    assert handoff.ended.is_set()
    assert (handoff.state, handoff.reason) == (HandoffState.ABORTED, "the service has stopped")
    assert [path.near.closes for path in world.paths if path.is_open] == []
    assert world.fabric.links() == []
    assert list(short_dir.iterdir()) == []


# What verifies. ------------------------------------------------------------------------------------------------------


async def test_nothing_need_be_verified(autojump_clock: MockClock, world: World) -> None:
    await world.dial("path1")
    handoff = await world.hand_off(verify=VerifyNothing())
    assert (handoff.state, handoff.verified_by) == (HandoffState.COMPLETED, "nothing: not asked for")
    assert world.links() == MOVED


@pytest.mark.parametrize(("frames", "said"), [(1, "1 frame that came over it"), (5, "5 frames that came over it")])
async def test_so_many_frames_of_the_new_link_are_enough(
    autojump_clock: MockClock, world: World, frames: int, said: str
) -> None:
    _old, old_path = await world.dial("path1")
    handoff = world.start(verify=VerifyFrames(frames))
    for number in range(frames):
        assert handoff.state in {HandoffState.MAKING, HandoffState.VERIFYING}
        old_path.down(numbered(1000 + number, FAR_MAC))  # These do not count.
        await trio.sleep(0.1)
        world.paths[-1].down(numbered(1000 + number, FAR_MAC))  # And that they are second copies does not matter.
        await trio.sleep(0.1)
    assert handoff.state is HandoffState.OVERLAPPING
    await handoff.ended.wait()
    assert handoff.verified_by == said


async def test_frames_that_do_not_come_are_told(autojump_clock: MockClock, world: World) -> None:
    await world.dial("path1")
    handoff = await world.hand_off(verify=VerifyFrames(2), verify_timeout_s=1)
    assert handoff.state is HandoffState.ROLLED_BACK
    assert handoff.reason == (
        "path2 is connected but has not proved within 1 s that it carries: fewer than 2 frames came over it"
    )


async def test_an_answer_on_the_new_link_counts_and_the_host_never_hears_of_it(
    autojump_clock: MockClock, world: World
) -> None:
    await world.dial("path1")
    world.is_flowing = True
    handoff = await world.hand_off(verify=ASK_FAR)
    assert handoff.state is HandoffState.COMPLETED
    assert handoff.verified_by.startswith("10.0.0.2 answered within ")
    assert handoff.new_link is not None
    assert handoff.new_link.rx.dropped[DropReason.PROBE] >= 1
    await world.check()


async def test_an_answer_on_the_old_link_does_not_count(autojump_clock: MockClock, world: World) -> None:
    old, old_path = await world.dial("path1")
    world.answers = False
    handoff = world.start(verify=ASK_FAR, verify_timeout_s=2)
    await trio.sleep(0.1)
    old_path.down(arp_reply(FAR_ADDRESS, FAR_MAC, world.multilink.inspection.mac))
    await handoff.ended.wait()
    assert handoff.state is HandoffState.ROLLED_BACK
    assert "10.0.0.2 has not answered over it" in handoff.reason
    assert old.rx.dropped == {DropReason.PROBE: 1}, "swallowed all the same"
    assert world.links() == KEPT
    assert world.strangers == []


async def test_an_answer_of_somebody_else_does_not_count(autojump_clock: MockClock, world: World) -> None:
    await world.dial("path1")
    world.answers = False
    handoff = world.start(verify=ASK_FAR, verify_timeout_s=2)
    await trio.sleep(0.1)
    other = ipaddress.IPv4Address("10.0.0.3")
    world.paths[-1].down(arp_reply(other, FAR_MAC, world.multilink.inspection.mac))
    await handoff.ended.wait()
    assert handoff.state is HandoffState.ROLLED_BACK


async def test_questions_are_asked_again_with_growing_pauses_until_the_time_is_over(
    autojump_clock: MockClock, world: World
) -> None:
    await world.dial("path1")
    world.answers = False
    before = trio.current_time()
    handoff = await world.hand_off(verify=ASK_FAR, verify_timeout_s=10)
    assert trio.current_time() - before == pytest.approx(10, abs=0.1)
    assert handoff.new_link is not None
    assert handoff.new_link.tx.frames == 13, "0.1, 0.2, 0.4, 0.8 s of pause, then 1 s each"


async def test_auto_takes_a_connected_link_where_nobody_has_been_heard(autojump_clock: MockClock, world: World) -> None:
    await world.dial("path1")
    handoff = await world.hand_off(verify=VerifyAuto())
    assert handoff.state is HandoffState.COMPLETED
    assert handoff.verified_by == "being connected: nobody has been heard who could be asked"


async def hear_far_end(path: FarPath) -> None:
    path.down(arp_reply(FAR_ADDRESS, FAR_MAC, b"\xff" * 6))
    await trio.sleep(0.1)


async def test_auto_takes_a_first_frame(autojump_clock: MockClock, world: World) -> None:
    _old, path = await world.dial("path1")
    await hear_far_end(path)
    world.answers = False
    world.is_flowing = True
    handoff = await world.hand_off(verify=VerifyAuto())
    assert handoff.state is HandoffState.COMPLETED
    assert handoff.verified_by == "1 frame that came over it"


async def test_auto_takes_an_answer_from_one_who_has_been_heard(autojump_clock: MockClock, world: World) -> None:
    _old, path = await world.dial("path1")
    await hear_far_end(path)
    path.down(arp_reply(ipaddress.IPv4Address("10.0.0.99"), FAR_MAC, b"\xff" * 6))
    handoff = world.start(verify=VerifyAuto())
    await handoff.ended.wait()
    assert handoff.state is HandoffState.COMPLETED
    # Its answer is a frame that came over it as well: whichever of the two is seen first.
    assert handoff.verified_by.startswith(("10.0.0.2 answered", "1 frame"))


async def test_auto_rolls_back_where_neither_comes(autojump_clock: MockClock, world: World) -> None:
    _old, path = await world.dial("path1")
    await hear_far_end(path)
    world.answers = False
    handoff = await world.hand_off(verify=VerifyAuto(), verify_timeout_s=3)
    assert handoff.state is HandoffState.ROLLED_BACK
    assert "no frame came over it, and none of those heard lately answered over it" in handoff.reason
    assert world.links() == KEPT


# Paths that connect and do not carry. --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verify", "up", "down"),
    [
        (ASK_FAR, True, True),
        (ASK_FAR, True, False),
        (ASK_FAR, False, True),
        (VerifyFrames(1), True, True),
        (VerifyFrames(1), False, True),
        (VerifyAuto(), True, True),
        (VerifyAuto(), False, True),
    ],
)
async def test_a_path_that_swallows_is_not_gone_over_to_and_nothing_is_lost_meanwhile(
    autojump_clock: MockClock, world: World, verify: Verify, up: bool, down: bool
) -> None:
    _old, old_path = await world.dial("path1")
    old_path.down(arp_reply(FAR_ADDRESS, FAR_MAC, b"\xff" * 6))
    await trio.sleep(0.1)
    world.strangers.clear()
    world.is_flowing = True
    before = trio.current_time()
    handoff = world.start(verify=verify, verify_timeout_s=3)
    path = await world.opened(2)
    path.swallows_up, path.swallows_down = up, down
    await handoff.ended.wait()
    assert handoff.state is HandoffState.ROLLED_BACK
    assert "is connected but has not proved within 3 s that it carries" in handoff.reason
    assert trio.current_time() - before == pytest.approx(3, abs=0.1)
    assert world.links() == KEPT
    await world.check()
    (retired,) = world.fabric.retired_links()
    assert retired is handoff.new_link
    assert retired.tx.frames < 20, "nothing of the host's was sent to it: only questions"


async def test_until_it_is_verified_the_new_link_is_heard_and_not_sent_to(
    autojump_clock: MockClock, world: World
) -> None:
    await world.dial("path1")
    world.answers = False
    world.is_flowing = True
    handoff = world.start(verify=ASK_FAR)
    await trio.sleep(1)
    new = world.fabric.find_link("path2")
    assert (new.role, new.tx.frames < 10, new.rx.frames + new.rx.dropped_frames > 50) == (Role.STANDBY, True, True)
    world.answers = True
    await reached(handoff, HandoffState.OVERLAPPING)
    await trio.sleep(0.5)
    assert (new.role, new.tx.frames > 40) == (Role.ACTIVE, True)
    await handoff.ended.wait()
    await world.check()


async def test_when_the_last_old_link_dies_the_unproved_one_is_sent_to_at_once(
    autojump_clock: MockClock, world: World
) -> None:
    (_one, first), (_two, second) = await world.dial("path1"), await world.dial("other")
    world.answers = False
    world.is_flowing = True
    handoff = world.start(verify=ASK_FAR, verify_timeout_s=5)
    await trio.sleep(0.5)
    new = world.fabric.find_link("path2")
    first.die()
    await trio.sleep(0.5)
    assert new.role is Role.STANDBY
    second.die()
    await trio.sleep(0.5)
    assert (new.role, handoff.state) == (Role.ACTIVE, HandoffState.VERIFYING)
    await handoff.ended.wait()
    assert handoff.state is HandoffState.COMPLETED
    assert handoff.verified_by == "nothing: every old link has gone meanwhile, and this one is what is left"
    assert world.links() == MOVED
    await world.check()


async def test_an_old_link_that_has_come_back_is_not_gone(autojump_clock: MockClock, world: World) -> None:
    first = await world.fabric.dial(VNL, name="path1", reconnect=True)
    await world.dial("other")
    world.answers = False
    world.is_flowing = True
    world.start(verify=ASK_FAR, verify_timeout_s=10)
    await trio.sleep(0.5)
    world.paths[0].die()
    await trio.sleep(2)
    assert first.state is LinkState.UP, "dialled again"
    world.paths[1].die()
    await trio.sleep(0.5)
    assert world.fabric.find_link("path2").role is Role.STANDBY
    first.begin_retirement(0)
    await trio.sleep(0.1)
    assert world.fabric.find_link("path2").role is Role.ACTIVE


# To a link that is there, and what becomes of the old ones. ----------------------------------------------------------


@pytest.mark.parametrize("old_become", list(OldLinks))
async def test_a_standby_link_becomes_active(autojump_clock: MockClock, world: World, old_become: OldLinks) -> None:
    await world.dial("path1")
    standby, _path = await world.dial("path2", Role.STANDBY)
    world.is_flowing = True
    handoff = await world.hand_off("path2", verify=ASK_FAR, old_become=old_become)
    assert handoff.state is HandoffState.COMPLETED
    assert handoff.new_link is standby
    old = {"path1": ("up", "standby")} if old_become is OldLinks.STANDBY else {}
    assert world.links() == {**old, **MOVED}
    await world.check()


@pytest.mark.parametrize("phase", PHASES[1:])
@pytest.mark.parametrize("dies", [True, False])
async def test_a_standby_link_stays_one_when_it_is_rolled_back(
    autojump_clock: MockClock, world: World, phase: HandoffState, dies: bool
) -> None:
    await world.dial("path1")
    standby, path = await world.dial("path2", Role.STANDBY)
    world.is_flowing = True
    await trio.sleep(0.5)
    world.answers = False
    handoff = world.start("path2", verify=ASK_FAR)
    if phase is not HandoffState.VERIFYING:
        world.answers = True
    await reached(handoff, phase)
    await trio.sleep(0.2)
    if dies:
        path.die()
    else:
        handoff.abort()
    await handoff.ended.wait()
    assert handoff.state is (HandoffState.ROLLED_BACK if dies else HandoffState.ABORTED)
    assert world.links() == {**KEPT, "path2": ("down" if dies else "up", "standby")}
    assert standby in world.multilink.links, "it was not made here"
    await world.check()


async def test_a_standby_link_that_goes_down_before_it_begins_is_told(autojump_clock: MockClock, world: World) -> None:
    await world.dial("path1")
    _link, path = await world.dial("path2", Role.STANDBY)
    handoff = world.start("path2")
    path.die()
    await handoff.ended.wait()
    assert handoff.state is HandoffState.ROLLED_BACK
    assert "the peer is gone" in handoff.reason
    assert world.links() == {**KEPT, "path2": ("down", "standby")}


async def test_back_and_forth_many_times_nothing_is_lost_and_nothing_left(
    autojump_clock: MockClock, world: World
) -> None:
    await world.dial("path2")
    await world.dial("path1", Role.STANDBY)
    world.is_flowing = True
    for turn in range(50):
        to = ("path1", "path2")[turn % 2]
        handoff = await world.hand_off(to, overlap_s=0.1, drain_s=0.1, old_become=OldLinks.STANDBY)
        assert handoff.state is HandoffState.COMPLETED
    assert world.links() == {"path1": ("up", "standby"), "path2": ("up", "active")}
    await world.check()


async def test_only_the_links_that_are_named_are_left(autojump_clock: MockClock, world: World) -> None:
    for name in ("path1", "path3"):
        await world.dial(name)
    await world.dial("idle", Role.STANDBY)
    handoff = await world.hand_off(old=["path3"], verify=VerifyNothing())
    assert [link.name for link in handoff.plan.old] == ["path3"]
    assert world.links() == {**KEPT, "idle": ("up", "standby"), **MOVED}


@pytest.mark.parametrize("ending", ["new dies", "abort"])
async def test_every_old_link_is_as_it_was_after_a_drain_was_taken_back(
    autojump_clock: MockClock, world: World, ending: str
) -> None:
    await world.dial("path1")
    await world.attach()
    await world.dial("idle", Role.STANDBY)
    before = world.links()
    world.is_flowing = True
    told: list[tuple[LinkChange, str]] = []
    world.fabric.on_change.append(lambda change, link: told.append((change, link.name)))
    handoff = world.start(old=["path1", "attached-1", "idle"], verify=VerifyNothing(), drain_s=2)
    await reached(handoff, HandoffState.DRAINING)
    await trio.sleep(1)
    assert {world.links()[name][0] for name in before} == {"draining"}
    if ending == "abort":
        handoff.abort()
    else:
        world.paths[-1].die()
    await handoff.ended.wait()
    assert world.links() == before
    await trio.sleep(3)
    assert world.links() == before, "and no drain that began goes on"
    # What was told to be retired was told to be there again.
    for name in before:
        assert [change for change, which in told if which == name] == ["retired", "dialled"]
    await world.check()


async def test_an_abort_in_the_moment_in_which_draining_begins_finds_the_old_link_up(
    autojump_clock: MockClock, world: World
) -> None:
    """`resume` may come before the task that drains has run for the first time."""
    link, _path = await world.dial("path1")
    for _ in range(20):  # Which of two tasks goes first is trio's to choose.
        link.begin_retirement(0.2)
        assert link.resume()
        await trio.sleep(1)
        assert world.links() == KEPT


async def test_a_link_that_somebody_retires_meanwhile_is_not_brought_back(
    autojump_clock: MockClock, world: World
) -> None:
    link, _path = await world.dial("path1")
    other, _path = await world.dial("other")
    handoff = world.start(verify=VerifyNothing(), overlap_s=1, drain_s=2)
    await reached(handoff, HandoffState.OVERLAPPING)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.fabric.retire, link, 3)
        await reached(handoff, HandoffState.DRAINING)
        nursery.start_soon(world.fabric.retire, other, 3)
        await trio.sleep(0.5)
        handoff.abort()
        await handoff.ended.wait()
        assert {name: state for name, (state, _role) in world.links().items()} == {
            "path1": "draining",
            "other": "draining",
        }
    assert world.links() == {}


async def test_a_link_that_drains_for_somebody_else_goes_on_to_when_it_is_aborted(
    autojump_clock: MockClock, world: World
) -> None:
    link, _path = await world.dial("path1")
    handoff = world.start(verify=VerifyNothing(), overlap_s=5)
    await reached(handoff, HandoffState.OVERLAPPING)
    link.begin_retirement(1)
    await trio.sleep(0.5)
    handoff.abort()
    await handoff.ended.wait()
    assert world.links() == {"path1": ("draining", "active")}
    await link.ended.wait()


async def test_an_abort_before_it_has_begun_leaves_nothing(autojump_clock: MockClock, world: World) -> None:
    await world.dial("path1")
    handoff = world.start(verify=VerifyNothing())
    handoff.abort()
    await handoff.ended.wait()
    assert handoff.state is HandoffState.ABORTED
    assert world.links() == KEPT


async def test_what_is_queued_for_the_old_link_goes_out_while_it_drains(
    autojump_clock: MockClock, world: World
) -> None:
    _link, path = await world.dial("path1")
    path.near.stall()
    world.host.put(*(numbered(number, FAR_MAC) for number in range(30)))
    handoff = world.start(verify=VerifyNothing(), overlap_s=0.1, drain_s=1)
    await reached(handoff, HandoffState.DRAINING)
    world.paths[-1].swallows_up = True  # What comes, comes over the old one.
    path.near.resume()
    await handoff.ended.wait()
    assert world.got_up == set(range(30))


async def test_what_is_under_way_from_the_old_link_is_taken_in_while_it_drains(
    autojump_clock: MockClock, world: World
) -> None:
    _link, path = await world.dial("path1")
    path.delay_s = 0.4
    world.is_flowing = True
    await trio.sleep(0.5)
    handoff = world.start(verify=VerifyNothing(), overlap_s=0.1, drain_s=0.5)
    (await world.opened(2)).swallows_down = True
    await reached(handoff, HandoffState.DRAINING)
    world.is_flowing = False
    await handoff.ended.wait()
    await world.check()


# What is told of it. -------------------------------------------------------------------------------------------------


async def test_each_phase_is_told_with_when_it_began_and_how_long_it_took(
    autojump_clock: MockClock, world: World
) -> None:
    old, _path = await world.dial("path1")
    plan = HandoffPlan(
        to=VNL,
        to_name="path2",
        old=(old,),
        verify=VerifyNothing(),
        verify_timeout_s=1,
        overlap_s=2,
        drain_s=3,
        old_become=OldLinks.RETIRE,
    )
    told: list[HandoffState] = []
    handoff = Handoff(world.multilink, plan, nothing, lambda handoff: told.append(handoff.state), trio.current_time)
    await handoff.run()
    assert told == [*PHASES, HandoffState.COMPLETED]
    assert [phase.state for phase in handoff.phases] == list(PHASES)
    durations = [phase.duration_s for phase in handoff.phases]
    assert durations == pytest.approx([0, 0, 2, 3], abs=0.05)
    started = [phase.started for phase in handoff.phases]
    assert started == sorted(started)


async def test_the_report_counts_wins_skew_and_what_never_came(autojump_clock: MockClock, world: World) -> None:
    """30 frames: the old path brings all of them, the new one 0.1 s later all but every third."""
    _old, old_path = await world.dial("path1")
    handoff = world.start(verify=VerifyNothing(), overlap_s=3, drain_s=0.5)
    await reached(handoff, HandoffState.OVERLAPPING)
    new_path = world.paths[-1]
    new_path.delay_s = 0.1
    for number in range(30):
        old_path.down(numbered(number, FAR_MAC))
        if number % 3:
            new_path.down(numbered(number, FAR_MAC))
        world.host.put(numbered(number, FAR_MAC))
        await trio.sleep(0.05)
    await handoff.ended.wait()
    report = handoff.report
    assert (report.to_host.frames, report.to_host.duplicates, report.from_host.frames) == (30, 20, 30)
    old, new = report.to_host.paths["path1"], report.to_host.paths["path2"]
    assert (old.first, old.later, old.missed) == (30, 0, 0)
    assert (new.first, new.later, new.missed) == (0, 20, 10)
    assert report.to_host.skew_median_s == pytest.approx(0.1, abs=0.011)
    assert report.to_host.skew_p99_s == pytest.approx(0.1, abs=0.011)
    assert report.to_host.longest_gap_s == pytest.approx(0.05, abs=0.011)
    assert report.from_host.longest_gap_s == pytest.approx(0.05, abs=0.011)
    assert (report.from_host.skew_median_s, report.from_host.duplicates) == (None, 0)
    assert {name: (path.frames, path.dropped) for name, path in report.from_host.paths.items()} == {
        "path1": (30, 0),
        "path2": (30, 0),
    }


async def test_the_report_can_be_read_while_it_is_under_way(autojump_clock: MockClock, world: World) -> None:
    await world.dial("path1")
    world.is_flowing = True
    handoff = world.start(verify=VerifyNothing(), overlap_s=5)
    await trio.sleep(2)
    handoff.update_report()
    early = handoff.report.from_host.paths["path2"].frames
    assert early > 100
    await handoff.ended.wait()
    assert handoff.report.from_host.paths["path2"].frames > early


async def test_afterwards_nobody_looks_at_every_frame(autojump_clock: MockClock, world: World) -> None:
    await world.dial("path1")
    world.is_flowing = True

    def is_looked_at() -> bool:
        return world.multilink.inspection.is_on

    assert not is_looked_at()
    handoff = world.start(verify=ASK_FAR)
    await reached(handoff, HandoffState.OVERLAPPING)
    assert is_looked_at()
    await handoff.ended.wait()
    await trio.sleep(2)
    assert not is_looked_at()
    assert world.multilink.report is None
    assert len(world.multilink.inspection._filter) == 0


async def test_a_bug_rolls_back_and_is_told(
    autojump_clock: MockClock, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.dial("path1")

    async def broken(_self: object, _new: Link) -> str:
        raise ZeroDivisionError

    monkeypatch.setattr(Handoff, "_verify", broken)
    handoff = await world.hand_off()
    assert handoff.state is HandoffState.ROLLED_BACK
    assert handoff.reason == "internal error: ZeroDivisionError; please report it"
    assert world.links() == KEPT
