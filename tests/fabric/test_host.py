from __future__ import annotations

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from app.fabric.counters import DropReason
from app.fabric.errors import ConnectError
from app.fabric.host import Host, HostState
from app.fabric.mmsg import Batch
from app.fabric.pressure import Pressure
from app.fabric.vnl import VdeVnl
from tests.fakes import FakeDialler, dialled_by, frame_of, memory_pair

VNL = VdeVnl("/nowhere")


@pytest.fixture(autouse=True)
def steady(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.fabric.redial._JITTER", 0.0)


def a_host(vnl: VdeVnl | None = None) -> Host:
    batch = Batch()
    return Host(vnl, batch, Pressure(), Pressure(), lambda _batch: None, lambda: None)


def transmit(host: Host, *frames: bytes) -> None:
    host._batch.load_frames(list(frames))
    host.transmit(host._batch)


async def test_before_anybody_has_come_there_is_none() -> None:
    host = a_host()
    assert (host.state, host.url, host.peer, host.description) == (HostState.DETACHED, None, None, "")
    assert host.detail == "no host has come yet"
    with trio.fail_after(1):
        await host.wait_detached()


async def test_the_place_is_taken_from_the_moment_it_is_given() -> None:
    host = a_host()
    plug, _peer = memory_pair(description="a vm")
    host.take_place(plug)
    assert (host.state, host.description) == (HostState.ATTACHED, "a vm")


async def test_a_host_comes_and_goes_with_its_plug(autojump_clock: MockClock) -> None:
    host = a_host()
    plug, peer = memory_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(host.run, plug)
        await trio.testing.wait_all_tasks_blocked()
        assert (host.state, host.detail) == (HostState.ATTACHED, "")
        plug.remark = "the interface is down"
        assert host.detail == "the interface is down"
        transmit(host, frame_of(1))
        assert peer.take() == [frame_of(1)]
        plug.kill("the peer has left")
        await host.wait_detached()
    assert (host.state, host.detail) == (HostState.DETACHED, "the peer has left")
    assert plug.closes == 1


async def test_a_bug_in_its_plug_detaches_it_and_is_told() -> None:
    host = a_host()
    plug, _peer = memory_pair()
    plug.break_with(ZeroDivisionError("a bug"))
    assert await host.run(plug) == "internal error: ZeroDivisionError; please report it"
    assert host.state is HostState.DETACHED
    assert plug.closes == 1


async def test_cancelled_it_leaves_the_place() -> None:
    host = a_host()
    plug, _peer = memory_pair()
    with trio.move_on_after(0.01):
        await host.run(plug)
    assert host.state is HostState.DETACHED
    assert plug.closes == 1


async def test_a_nested_host_is_dialled_again(autojump_clock: MockClock) -> None:
    host = a_host(VNL)
    (first, _), (second, second_peer) = memory_pair(), memory_pair()
    dialler = FakeDialler(ConnectError("nobody answers"), second)
    with dialled_by(dialler):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(host.run_dialled, first)
            await trio.sleep(5)
            assert (host.state, host.url) == (HostState.ATTACHED, "vde:///nowhere")
            first.kill("switch gone")
            await trio.sleep(0.5)
            assert (host.state, host.detail) == (HostState.DETACHED, "switch gone; dialled again in 1.0 s")
            transmit(host, frame_of(1))
            await trio.sleep(1)
            assert host.detail == "nobody answers; dialled again in 2.0 s"
            await trio.sleep(2)
            assert (host.state, host.detail) == (HostState.ATTACHED, "")
            transmit(host, frame_of(2))
            assert second_peer.take() == [frame_of(2)]
            nursery.cancel_scope.cancel()
    assert dialler.asked_at == [6, 8]
    assert host.tx.dropped == {DropReason.CLOSED: 1}


async def test_a_host_without_a_locator_cannot_be_dialled() -> None:
    with pytest.raises(TypeError):
        await a_host().run_dialled(memory_pair()[0])
