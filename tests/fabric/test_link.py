from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from app.fabric.counters import DropReason
from app.fabric.errors import ConnectError, LinkStateError
from app.fabric.link import Link, LinkKind
from app.fabric.mmsg import Batch
from app.fabric.pressure import Pressure
from app.fabric.states import LinkEvent, LinkState, Role
from app.fabric.vnl import VdeVnl
from tests.fakes import FakeDialler, MemoryPlug, dialled_by, frame_of, memory_pair

VNL = VdeVnl("/nowhere")


class Rig:
    """A link, and what it told: its states as they came, and the frames it brought."""

    def __init__(self, *, dialled: bool = False, reconnect: bool = True) -> None:
        self.batch = Batch()
        self.states: list[LinkState] = []
        self.received: list[bytes] = []
        self.link = Link(
            name="one",
            multilink="m",
            batch=self.batch,
            to_links=Pressure(),
            to_host=Pressure(),
            from_link=self._take,
            changed=lambda link: self.states.append(link.state),
            vnl=VNL if dialled else None,
            reconnect=reconnect,
        )

    def _take(self, link: Link, batch: Batch) -> None:
        link.rx.add(batch.frames, batch.octets)
        self.received += [bytes(batch.frame(at)) for start, end in batch.runs for at in range(start, end)]

    def transmit(self, *frames: bytes) -> None:
        self.batch.load_frames(list(frames))
        self.link.transmit(self.batch)

    async def settle(self, state: LinkState) -> None:
        """Let everybody run until nobody has anything to do, with the link in `state`."""
        await trio.testing.wait_all_tasks_blocked()
        assert self.link.state is state


@asynccontextmanager
async def attached(plug: MemoryPlug) -> AsyncIterator[Rig]:
    rig = Rig()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.link.run, plug)
        await rig.settle(LinkState.UP)
        yield rig
        nursery.cancel_scope.cancel()
    assert rig.link.state is LinkState.RETIRED
    assert rig.link.ended.is_set()


@asynccontextmanager
async def dialled(
    *answers: MemoryPlug | Exception | trio.Event, reconnect: bool = True, keep_down: bool = False
) -> AsyncIterator[tuple[Rig, FakeDialler]]:
    rig, dialler = Rig(dialled=True, reconnect=reconnect), FakeDialler(*answers)
    with dialled_by(dialler):
        async with trio.open_nursery() as nursery:

            async def run() -> None:
                await rig.link.run(keep_down=keep_down)

            nursery.start_soon(run)
            await trio.testing.wait_all_tasks_blocked()
            yield rig, dialler
            nursery.cancel_scope.cancel()
    assert rig.link.state is LinkState.RETIRED
    assert rig.link.ended.is_set()


@pytest.fixture(autouse=True)
def steady(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Pauses of exactly 1, 2, 4 seconds."""
    monkeypatch.setattr("app.fabric.redial._JITTER", 0.0)
    return iter([None])


# Attached links.


async def test_an_attached_link_lives_as_long_as_its_plug() -> None:
    plug, peer = memory_pair(description="a client")
    async with attached(plug) as rig:
        link = rig.link
        assert (link.kind, link.url, link.description, link.detail) == (LinkKind.ATTACHED, None, "a client", "")
        rig.transmit(frame_of(1))
        peer.put(frame_of(2))
        await trio.testing.wait_all_tasks_blocked()
        assert peer.take() == [frame_of(1)]
        assert rig.received == [frame_of(2)]
        plug.kill("the peer has left")
        await link.ended.wait()
        assert link.detail == "the peer has left"
        assert rig.states == [LinkState.UP, LinkState.RETIRED]
        assert link.failure is None
        assert plug.closes == 1


async def test_a_bug_in_a_plug_ends_its_link_only_and_is_told() -> None:
    plug, _peer = memory_pair()
    async with attached(plug) as rig:
        plug.break_with(ZeroDivisionError("a bug"))
        await rig.link.ended.wait()
        assert rig.link.detail == "internal error: ZeroDivisionError; please report it"
        assert rig.states == [LinkState.UP, LinkState.RETIRED]
        assert plug.closes == 1


async def test_cancelled_it_closes_its_plug() -> None:
    plug, _peer = memory_pair()
    async with attached(plug):
        pass
    assert plug.closes == 1


async def test_the_plugs_remark_is_the_detail_while_it_is_up() -> None:
    plug, _peer = memory_pair()
    async with attached(plug) as rig:
        plug.remark = "the interface is down"
        assert rig.link.detail == "the interface is down"
        plug.kill("gone")
        await rig.link.ended.wait()
        assert rig.link.detail == "gone"


async def test_a_role_is_told_when_it_changes() -> None:
    plug, _peer = memory_pair()
    async with attached(plug) as rig:
        rig.link.set_role(Role.STANDBY)
        assert rig.link.role is Role.STANDBY
        assert rig.states == [LinkState.UP, LinkState.UP]


# Retiring.


async def test_a_drain_sends_what_is_queued_and_takes_in_what_is_under_way(autojump_clock: MockClock) -> None:
    plug, peer = memory_pair()
    async with attached(plug) as rig:
        plug.stall()
        rig.transmit(frame_of(1), frame_of(2))
        rig.link.begin_retirement(0.5)
        assert (rig.link.state, rig.link.detail) == (LinkState.DRAINING, "draining")
        await trio.sleep(0.2)
        plug.resume()
        peer.put(frame_of(3))
        await trio.sleep(0.2)
        peer.put(frame_of(4))
        await trio.sleep(0.05)
        assert rig.link.state is LinkState.DRAINING
        await rig.link.ended.wait()
        assert trio.current_time() == pytest.approx(0.5)
        assert peer.take() == [frame_of(1), frame_of(2)]
        assert rig.received == [frame_of(3), frame_of(4)]
        assert rig.link.detail == "retired on request"
        assert rig.states == [LinkState.UP, LinkState.DRAINING, LinkState.RETIRED]
        assert rig.link.tx.dropped == {}


async def test_what_has_not_gone_when_the_drain_ends_is_counted(autojump_clock: MockClock) -> None:
    plug, peer = memory_pair()
    async with attached(plug) as rig:
        plug.stall()
        rig.transmit(*map(frame_of, range(9)))
        rig.link.begin_retirement(0.5)
        await rig.link.ended.wait()
        assert trio.current_time() == pytest.approx(0.5)
        assert peer.take() == []
        assert rig.link.tx.dropped == {DropReason.CLOSED: 9}


async def test_without_a_drain_what_has_arrived_is_taken_in(autojump_clock: MockClock) -> None:
    plug, peer = memory_pair()
    async with attached(plug) as rig:
        peer.put(frame_of(1))
        rig.link.begin_retirement(0)
        await rig.link.ended.wait()
        assert trio.current_time() == 0
        assert rig.received == [frame_of(1)]


async def test_a_peer_that_ends_ends_the_drain_early(autojump_clock: MockClock) -> None:
    plug, _peer = memory_pair()
    async with attached(plug) as rig:
        rig.link.begin_retirement(60)
        await trio.sleep(1)
        plug.kill("gone")
        await rig.link.ended.wait()
        assert trio.current_time() == pytest.approx(1)
        assert rig.link.state is LinkState.RETIRED


async def test_retiring_twice_is_one_drain(autojump_clock: MockClock) -> None:
    plug, _peer = memory_pair()
    async with attached(plug) as rig:
        rig.link.begin_retirement(0.5)
        await trio.sleep(0.3)
        rig.link.begin_retirement(0.5)
        await rig.link.ended.wait()
        assert trio.current_time() == pytest.approx(0.5)
        rig.link.begin_retirement(0.5)
        assert rig.states == [LinkState.UP, LinkState.DRAINING, LinkState.RETIRED]


async def test_no_event_leads_out_of_retirement() -> None:
    plug, _peer = memory_pair()
    async with attached(plug) as rig:
        plug.kill("gone")
        await rig.link.ended.wait()
        for event in LinkEvent:
            with pytest.raises(LinkStateError):
                rig.link._advance(event)
        assert rig.link.state is LinkState.RETIRED


# Dialled links.


async def test_a_dialled_link_is_up_once_it_is_opened() -> None:
    gate = trio.Event()
    plug, _peer = memory_pair()
    async with dialled(gate, plug) as (rig, _dialler):
        assert rig.link.state is LinkState.CONNECTING
        assert not rig.link.settled.is_set()
        gate.set()
        await rig.link.settled.wait()
        assert (rig.link.state, rig.link.kind, rig.link.url) == (LinkState.UP, LinkKind.DIALLED, "vde:///nowhere")


async def test_a_dial_that_fails_at_first_ends_the_link() -> None:
    async with dialled(ConnectError("nobody answers")) as (rig, _dialler):
        await rig.link.ended.wait()
        assert rig.link.settled.is_set()
        assert isinstance(rig.link.failure, ConnectError)
        assert rig.link.detail == "nobody answers"
        assert rig.states == [LinkState.RETIRED]


async def test_a_bug_in_an_opener_is_a_failure_of_this_dial(autojump_clock: MockClock) -> None:
    async with dialled(ZeroDivisionError("a bug")) as (rig, _dialler):
        await rig.link.ended.wait()
        assert isinstance(rig.link.failure, ConnectError)
        assert rig.link.detail == "internal error: ZeroDivisionError; please report it"


async def test_a_link_that_goes_down_is_dialled_again_until_it_is_up(autojump_clock: MockClock) -> None:
    first, second = memory_pair()[0], memory_pair(description="second")[0]
    async with dialled(first, ConnectError("nobody answers"), second) as (rig, dialler):
        await trio.sleep(10)
        first.kill("switch gone")
        await rig.settle(LinkState.DOWN)
        assert rig.link.detail == "switch gone; dialled again in 1.0 s"
        await trio.sleep(1.5)
        assert (rig.link.state, rig.link.detail) == (LinkState.DOWN, "nobody answers; dialled again in 2.0 s")
        await trio.sleep(2)
        assert (rig.link.state, rig.link.detail, rig.link.description) == (LinkState.UP, "", "second")
        assert dialler.asked_at == [0, 11, 13]
        assert rig.states == [
            LinkState.UP,
            LinkState.DOWN,
            LinkState.CONNECTING,
            LinkState.DOWN,
            LinkState.CONNECTING,
            LinkState.UP,
        ]
        assert first.closes == 1


async def test_counters_go_on_over_a_redial(autojump_clock: MockClock) -> None:
    (first, first_peer), (second, second_peer) = memory_pair(), memory_pair()
    async with dialled(first, second) as (rig, _dialler):
        rig.transmit(frame_of(1))
        first_peer.put(frame_of(2))
        await trio.sleep(0.1)
        first.kill("gone")
        await trio.sleep(0.1)
        rig.transmit(frame_of(3))
        await trio.sleep(2)
        rig.transmit(frame_of(4))
        assert second_peer.take() == [frame_of(4)]
        assert (rig.link.tx.frames, rig.link.rx.frames) == (2, 1)
        assert rig.link.tx.dropped == {DropReason.CLOSED: 1}


async def test_a_link_that_is_not_to_reconnect_stays_down_to_be_seen(autojump_clock: MockClock) -> None:
    plug, _peer = memory_pair()
    async with dialled(plug, reconnect=False) as (rig, dialler):
        plug.kill("child exited with status 1")
        await trio.sleep(1000)
        assert (rig.link.state, rig.link.detail) == (LinkState.DOWN, "child exited with status 1")
        assert dialler.asked_at == [0]


async def test_a_kept_link_that_cannot_be_dialled_is_down_and_dialled_again(autojump_clock: MockClock) -> None:
    plug, _peer = memory_pair()
    async with dialled(ConnectError("nobody answers"), plug, keep_down=True) as (rig, dialler):
        assert (rig.link.state, rig.link.detail) == (LinkState.DOWN, "nobody answers; dialled again in 1.0 s")
        await trio.sleep(1.5)
        assert rig.link.state is LinkState.UP
        assert dialler.asked_at == [0, 1]
        assert rig.link.failure is None


async def test_a_kept_link_that_was_never_up_is_one_to_be_remembered(autojump_clock: MockClock) -> None:
    async with dialled(ConnectError("nobody answers"), keep_down=True) as (rig, _dialler):
        rig.link.begin_retirement(60)
        await rig.link.ended.wait()
        assert rig.link.failure is None
        assert rig.link.detail == "retired on request"


async def test_a_link_that_ends_with_its_multilink_says_so() -> None:
    plug, _peer = memory_pair()
    async with attached(plug) as rig:
        pass
    assert rig.link.detail == "its multilink has ended"


@pytest.mark.parametrize("keep_down", [False, True])
async def test_retired_while_it_is_dialled_it_leaves_nothing(keep_down: bool) -> None:
    async with dialled(trio.Event(), keep_down=keep_down) as (rig, dialler):
        rig.link.begin_retirement(60)
        await rig.link.ended.wait()
        assert dialler.cancelled == 1
        assert rig.link.state is LinkState.RETIRED
        assert isinstance(rig.link.failure, ConnectError)


async def test_retired_while_it_is_down_it_is_not_dialled_again(autojump_clock: MockClock) -> None:
    plug, _peer = memory_pair()
    async with dialled(plug) as (rig, dialler):
        plug.kill("gone")
        await rig.settle(LinkState.DOWN)
        rig.link.begin_retirement(60)
        await rig.link.ended.wait()
        assert rig.link.detail == "retired on request"
        assert rig.link.failure is None, "it has been up: it is one to be remembered"
        await trio.sleep(100)
        assert dialler.asked_at == [0]


async def test_retired_while_it_is_dialled_again_it_leaves_nothing(autojump_clock: MockClock) -> None:
    plug, _peer = memory_pair()
    async with dialled(plug) as (rig, dialler):
        plug.kill("gone")
        await trio.sleep(1.5)
        assert rig.link.state is LinkState.CONNECTING
        rig.link.begin_retirement(60)
        await rig.link.ended.wait()
        assert dialler.cancelled == 1
        assert rig.link.failure is None


async def test_retired_while_it_is_up_it_is_not_dialled_again(autojump_clock: MockClock) -> None:
    plug, _peer = memory_pair()
    async with dialled(plug, memory_pair()[0]) as (rig, dialler):
        rig.link.begin_retirement(0.5)
        await rig.link.ended.wait()
        await trio.sleep(100)
        assert dialler.asked_at == [0]
        assert rig.states == [LinkState.UP, LinkState.DRAINING, LinkState.RETIRED]


async def test_retired_while_it_closes_it_is_not_dialled_again(autojump_clock: MockClock) -> None:
    class SlowPlug(MemoryPlug):
        async def aclose(self) -> None:
            await trio.sleep(1)
            await super().aclose()

    plug, _peer = memory_pair()
    plug.__class__ = SlowPlug
    async with dialled(plug) as (rig, dialler):
        plug.kill("gone")
        await trio.sleep(0.5)
        rig.link.begin_retirement(0.5)
        await rig.link.ended.wait()
        assert plug.closes == 1
        assert rig.link.detail == "retired on request"
        assert rig.link.failure is None
        await trio.sleep(100)
        assert dialler.asked_at == [0]


async def test_a_bug_in_a_plug_that_was_up_does_not_make_it_a_link_that_never_was() -> None:
    plug, _peer = memory_pair()
    async with dialled(plug) as (rig, _dialler):
        plug.break_with(ZeroDivisionError("a bug"))
        await rig.link.ended.wait()
        assert rig.link.failure is None
        assert rig.link.detail.startswith("internal error")
