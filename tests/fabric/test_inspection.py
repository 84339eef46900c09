from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from app.fabric.counters import DropReason
from app.fabric.inspection import KEPT_ADDRESSES, KEPT_HOST_MACS, LATE_S, Inspection
from app.fabric.link import Link
from app.fabric.mmsg import Batch
from app.fabric.neighbour import IpAddress, solicitation
from app.fabric.states import LinkState
from app.fabric.vnl import PassOrDrop
from tests.fabric.paths import FAR_MAC, HOST_MAC, World, arp_reply, bare_link, numbered, open_world

ADDRESS = ipaddress.IPv4Address("10.0.0.2")
STRANGER = bytes.fromhex("525400000009")


class Bench:
    """An inspection, two links, and what comes out of a batch."""

    def __init__(self, **options: bool | float) -> None:
        self.inspection = Inspection(**options)  # type: ignore[arg-type]  # by name
        self.one, self.two = bare_link("one"), bare_link("two")
        self.answers: list[tuple[str, IpAddress]] = []
        self.inspection.on_answer = lambda link, address: self.answers.append((link.name, address))
        self._batch = Batch()

    def brings(self, link: Link, *frames: bytes, now: float = 1.0) -> list[bytes]:
        self._batch.load_frames(list(frames))
        if not self.inspection.is_on:
            self.inspection.sample(self._batch, link)
            return list(frames)
        self.inspection.inspect(self._batch, link, now)
        left = [bytes(self._batch.frame(index)) for start, end in self._batch.runs for index in range(start, end)]
        assert (len(left), sum(map(len, left))) == (self._batch.frames, self._batch.octets)
        return left

    def host_sends(self, *frames: bytes) -> None:
        self._batch.load_frames(list(frames))
        self.inspection.sample_host(self._batch)

    @property
    def looks(self) -> bool:
        return self.inspection.is_on

    def answer(self, address: ipaddress.IPv4Address = ADDRESS) -> bytes:
        return arp_reply(address, FAR_MAC, self.inspection.mac)


A, B, C = (numbered(number, FAR_MAC) for number in range(3))


# When every frame is looked at.


def test_with_one_link_and_nothing_under_way_only_a_sample_is_looked_at() -> None:
    bench = Bench()
    bench.inspection.links_changed([bench.one], 0.0)
    assert not bench.inspection.is_on
    assert bench.brings(bench.one, A, A, A) == [A, A, A]
    assert len(bench.inspection._filter) == 0
    assert bench.one.rx.dropped == {}


@pytest.mark.parametrize("state", [LinkState.CONNECTING, LinkState.UP, LinkState.DRAINING])
def test_a_second_link_that_may_bring_frames_begins_it(state: LinkState) -> None:
    bench = Bench()
    bench.two.state = state
    bench.inspection.links_changed([bench.one, bench.two], 0.0)
    assert bench.inspection.is_on
    assert bench.brings(bench.one, A) == [A]
    assert bench.brings(bench.two, A, B) == [B]
    assert bench.two.rx.dropped == {DropReason.DUPLICATE: 1}


def test_a_link_that_is_down_does_not() -> None:
    bench = Bench()
    bench.two.state = LinkState.DOWN
    bench.inspection.links_changed([bench.one, bench.two], 0.0)
    assert not bench.inspection.is_on


def test_it_goes_on_for_a_window_after_the_last_but_one_is_gone() -> None:
    bench = Bench(window_s=0.5)
    bench.inspection.links_changed([bench.one, bench.two], 0.0)
    assert bench.brings(bench.one, A, B, now=9.9) == [A, B]
    bench.inspection.links_changed([bench.two], 10.0)
    assert bench.brings(bench.two, B, now=10.1) == []
    assert bench.brings(bench.two, A, now=10.3) == [], "a copy of what the link that is gone had brought"
    assert bench.brings(bench.two, C, now=10.6) == [C]
    assert not bench.looks
    assert len(bench.inspection._filter) == 0, "and nothing is kept"


def test_a_link_that_comes_within_that_window_keeps_it_going() -> None:
    bench = Bench(window_s=0.5)
    three = bare_link("three")
    bench.inspection.links_changed([bench.one, bench.two], 0.0)
    bench.inspection.links_changed([bench.two], 1.0)
    bench.inspection.links_changed([bench.two, three], 1.2)
    assert bench.brings(bench.two, A, now=3.0) == [A]
    assert bench.brings(three, A, now=3.1) == []
    assert bench.inspection.is_on


def test_links_come_and_go_for_ever_and_nothing_grows() -> None:
    bench = Bench(window_s=0.5)
    for turn in range(100):
        now = 10.0 * turn
        fresh = bare_link("fresh")
        bench.inspection.links_changed([bench.one, fresh], now)
        assert bench.brings(bench.one, A, now=now + 1) == [A]
        assert bench.brings(fresh, A, now=now + 1) == []
        bench.inspection.links_changed([bench.one], now + 2)
        bench.brings(bench.one, A, now=now + 3)
        assert not bench.inspection.is_on
    assert bench.inspection._filter._slots <= 2


def test_duplicates_that_are_to_pass_pass() -> None:
    bench = Bench(drops_duplicates=False)
    bench.inspection.links_changed([bench.one, bench.two], 0.0)
    assert not bench.inspection.is_on
    bench.inspection.configure([bench.one, bench.two], 0.0, drops_duplicates=True)
    assert (bench.brings(bench.one, A), bench.brings(bench.two, A)) == ([A], [])
    bench.inspection.configure([bench.one, bench.two], 1.0, drops_duplicates=False)
    assert not bench.inspection.is_on
    assert (bench.inspection.drops_duplicates, bench.inspection.drops_reflections) == (False, False)


def test_the_window_can_be_changed() -> None:
    bench = Bench(window_s=0.5)
    bench.inspection.links_changed([bench.one, bench.two], 0.0)
    bench.inspection.configure([bench.one, bench.two], 0.0, window_s=5.0)
    assert bench.inspection.window_s == 5.0
    assert (bench.brings(bench.one, A, now=1), bench.brings(bench.two, A, now=5)) == ([A], [])


def test_whoever_wants_every_frame_looked_at_gets_it_until_he_lets_go() -> None:
    bench = Bench()
    bench.inspection.want("a")
    bench.inspection.want("b")
    bench.inspection.release("a")
    assert bench.inspection.is_on
    bench.inspection.release("b")
    assert bench.inspection.is_on, "for late answers"
    bench.brings(bench.one, A, now=1.0)
    bench.brings(bench.one, A, now=1.0 + 0.9 * LATE_S)
    assert bench.inspection.is_on
    bench.brings(bench.one, A, now=1.0 + LATE_S)
    assert not bench.inspection.is_on


# Answers.


def test_answers_to_our_own_address_are_told_with_their_link_and_swallowed_on_every_link() -> None:
    bench = Bench()
    bench.inspection.links_changed([bench.one, bench.two], 0.0)
    bench.inspection.want(self := object())
    assert bench.brings(bench.one, A, bench.answer(), B) == [A, B]
    assert bench.brings(bench.two, bench.answer()) == []
    assert bench.answers == [("one", ADDRESS), ("two", ADDRESS)]
    for link in (bench.one, bench.two):
        assert link.rx.dropped == {DropReason.PROBE: 1}
    bench.inspection.release(self)


def test_what_else_is_sent_to_our_own_address_is_swallowed_and_no_answer() -> None:
    bench = Bench()
    bench.inspection.want(bench)
    assert bench.brings(bench.one, bench.inspection.mac + FAR_MAC + b"\x08\x00" + bytes(46)) == []
    assert bench.answers == []
    assert bench.one.rx.dropped == {DropReason.PROBE: 1}


def test_a_question_of_ours_that_comes_back_is_swallowed() -> None:
    bench = Bench()
    bench.inspection.want(bench)
    assert bench.brings(bench.two, solicitation(ADDRESS, bench.inspection.mac), A) == [A]
    assert bench.two.rx.dropped == {DropReason.PROBE: 1}
    assert bench.answers == []


def test_answers_to_others_go_to_the_host() -> None:
    bench = Bench()
    bench.inspection.want(bench)
    to_host = arp_reply(ADDRESS, FAR_MAC, HOST_MAC)
    assert bench.brings(bench.one, to_host) == [to_host]
    assert bench.answers == []


def test_every_multilink_asks_from_an_address_of_its_own() -> None:
    assert len({Inspection().mac for _ in range(20)}) == 20


# Reflections.


def test_the_hosts_own_frames_coming_back_are_counted_and_delivered() -> None:
    bench = Bench()
    bench.host_sends(numbered(1, HOST_MAC))
    frames = [numbered(1, HOST_MAC), numbered(2, HOST_MAC)]
    assert bench.brings(bench.one, *frames) == frames
    assert bench.one.reflections == 1, "as far as was looked: at the first of a batch"
    assert bench.brings(bench.two, A) == [A]
    assert bench.two.reflections == 0


def test_they_are_left_out_where_that_is_wanted() -> None:
    bench = Bench(drops_reflections=True)
    assert bench.inspection.is_on
    bench.host_sends(numbered(1, HOST_MAC))
    assert bench.brings(bench.one, A, numbered(1, HOST_MAC), B, numbered(2, HOST_MAC)) == [A, B]
    assert bench.one.rx.dropped == {DropReason.REFLECTION: 2}
    bench.inspection.configure([], 0.0, drops_reflections=False)
    assert not bench.inspection.is_on


def test_of_the_hosts_addresses_the_last_are_known() -> None:
    bench = Bench(drops_reflections=True)
    macs = [b"\x52\x54\0\0\1" + bytes([number]) for number in range(KEPT_HOST_MACS + 1)]
    for mac in macs:
        bench.host_sends(numbered(1, mac))
    assert bench.brings(bench.one, numbered(1, macs[0])) != [], "long ago"
    assert bench.brings(bench.one, numbered(1, macs[-1])) == []


# Who is there.


def test_who_is_heard_from_the_links_can_be_asked_the_latest_first() -> None:
    bench = Bench()
    addresses = [ipaddress.IPv4Address(f"10.0.0.{number}") for number in range(1, KEPT_ADDRESSES + 4)]
    for address in addresses:
        bench.brings(bench.one, arp_reply(address, FAR_MAC, HOST_MAC))
    assert bench.inspection.recent_addresses() == addresses[: -KEPT_ADDRESSES - 1 : -1]
    bench.brings(bench.one, arp_reply(addresses[-3], FAR_MAC, HOST_MAC))
    assert bench.inspection.recent_addresses()[0] == addresses[-3]


def test_the_host_itself_is_not_one_of_them() -> None:
    bench = Bench()
    bench.host_sends(arp_reply(ADDRESS, HOST_MAC, FAR_MAC))
    assert bench.inspection.recent_addresses() == []


# In a multilink.


@pytest.fixture
async def world(short_dir: Path) -> AsyncIterator[World]:
    async with open_world(short_dir) as opened:
        yield opened


async def test_recording_begins_before_a_dialled_second_link_can_bring_its_first_frame(
    autojump_clock: MockClock, world: World
) -> None:
    """Its first frame is a copy of what the first link brought while the second one was being dialled."""
    _link, first = await world.dial("path1")
    world.gate = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.dial, "path2")
        await trio.sleep(0.1)
        first.down(A)
        await trio.sleep(0.1)
        assert world.multilink.inspection.is_on
        world.gate.set()
        (await world.opened(2)).down(A)
    await trio.sleep(0.1)
    assert dict(world.got_down) == {0: 1}
    assert world.fabric.find_link("path2").rx.dropped == {DropReason.DUPLICATE: 1}


async def test_each_frame_comes_once_over_two_links_and_as_often_as_it_was_sent_over_one(
    autojump_clock: MockClock, world: World
) -> None:
    (_one, first), (_two, second) = await world.dial("path1"), await world.attach()
    for frame in (A, B, A):
        first.down(frame)
        second.down(frame)
    await trio.sleep(0.1)
    assert dict(world.got_down) == {0: 2, 1: 1}
    world.multilink.configure(duplicates=PassOrDrop.PASS)
    first.down(C)
    second.down(C)
    await trio.sleep(0.1)
    assert dict(world.got_down) == {0: 2, 1: 1, 2: 2}


async def test_a_loop_is_told_in_the_detail_of_its_link(autojump_clock: MockClock, world: World) -> None:
    link, path = await world.dial("path1")
    world.host.put(numbered(1, HOST_MAC))
    await trio.sleep(0.1)
    path.down(numbered(1, HOST_MAC))
    await trio.sleep(0.1)
    assert link.detail == "1 of the host's own frames came back: is there a loop?"
    assert dict(world.got_down) == {1: 1}
    world.multilink.configure(reflections=PassOrDrop.DROP)
    path.down(numbered(1, HOST_MAC))
    await trio.sleep(0.1)
    assert dict(world.got_down) == {1: 1}
    assert link.rx.dropped == {DropReason.REFLECTION: 1}
