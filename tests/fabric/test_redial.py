from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from app.fabric.errors import ConnectError
from app.fabric.plugs.base import Plug
from app.fabric.redial import FIRST_PAUSE_S, LONGEST_PAUSE_S, STABLE_S, Backoff, keep_dialled
from app.fabric.vnl import VdeVnl
from tests.fakes import FakeDialler, dialled_by, memory_pair

VNL = VdeVnl("/nowhere")


def test_pauses_double_up_to_the_longest() -> None:
    backoff = Backoff(jitter=lambda: 0.0)
    assert [backoff.next_pause_s() for _ in range(9)] == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_after_a_reset_the_shortest_comes_first() -> None:
    backoff = Backoff(jitter=lambda: 0.0)
    for _ in range(5):
        backoff.next_pause_s()
    backoff.reset()
    assert backoff.next_pause_s() == FIRST_PAUSE_S


@pytest.mark.parametrize(("jitter", "pauses"), [(1.0, [1.25, 2.5, 5.0]), (-1.0, [0.75, 1.5, 3.0])])
def test_jitter_is_a_quarter_either_way(jitter: float, pauses: list[float]) -> None:
    backoff = Backoff(jitter=lambda: jitter)
    assert [backoff.next_pause_s() for _ in range(3)] == pauses


def test_no_pause_is_longer_than_the_longest() -> None:
    backoff = Backoff(jitter=lambda: 1.0)
    assert max(backoff.next_pause_s() for _ in range(20)) == LONGEST_PAUSE_S


def test_unless_told_otherwise_pauses_are_random() -> None:
    assert len({Backoff().next_pause_s() for _ in range(20)}) > 1


class Carrier:
    """Carries a plug for as long as the script says, and notes what it is told."""

    def __init__(self, *lives_s: float) -> None:
        self.lives_s = list(lives_s)
        self.carried: list[Plug] = []
        self.said: list[str] = []
        self.dials = 0

    async def carry(self, plug: Plug) -> str:
        self.carried.append(plug)
        if not self.lives_s:
            await trio.sleep_forever()
        await trio.sleep(self.lives_s.pop(0))
        return "the peer is gone"

    def count_dial(self) -> None:
        self.dials += 1

    async def keep(self, first: Plug | str) -> None:
        await keep_dialled(VNL, carry=self.carry, waiting=self.said.append, dialling=self.count_dial, first=first)


@pytest.fixture
def steady(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.fabric.redial._JITTER", 0.0)


async def test_each_failure_is_told_and_followed_by_a_longer_pause(autojump_clock: MockClock, steady: None) -> None:
    plug, _peer = memory_pair()
    carrier = Carrier()
    dialler = FakeDialler(ConnectError("nobody answers"), ConnectError("still nobody"), plug)
    with dialled_by(dialler), trio.move_on_after(100):
        await carrier.keep("at first nobody")
    assert dialler.asked_at == [1, 3, 7]
    assert carrier.dials == 3
    assert carrier.said == [
        "at first nobody; dialled again in 1.0 s",
        "nobody answers; dialled again in 2.0 s",
        "still nobody; dialled again in 4.0 s",
    ]
    assert carrier.carried == [plug]


async def test_a_plug_that_does_not_last_does_not_shorten_the_pauses(autojump_clock: MockClock, steady: None) -> None:
    plugs = [memory_pair()[0] for _ in range(3)]
    carrier = Carrier(0.5, 0.5)
    dialler = FakeDialler(*plugs[1:])
    with dialled_by(dialler), trio.move_on_after(100):
        await carrier.keep(plugs[0])
    assert dialler.asked_at == [1.5, 4.0]
    assert carrier.carried == plugs
    assert carrier.said[0] == "the peer is gone; dialled again in 1.0 s"


async def test_after_a_stable_minute_the_pauses_begin_anew(autojump_clock: MockClock, steady: None) -> None:
    plugs = [memory_pair()[0] for _ in range(3)]
    carrier = Carrier(1, STABLE_S)
    dialler = FakeDialler(*plugs[1:])
    with dialled_by(dialler), trio.move_on_after(100):
        await carrier.keep(plugs[0])
    assert dialler.asked_at == [2, 2 + STABLE_S + 1]


async def test_a_peer_that_does_not_answer_in_time_is_a_failure_like_others(
    autojump_clock: MockClock, steady: None
) -> None:
    carrier = Carrier()
    dialler = FakeDialler()
    with dialled_by(dialler), trio.move_on_after(9):
        await carrier.keep("gone")
    assert carrier.said[1].startswith("vde:///nowhere has not answered within 5 s; dialled again in 2.0 s")
    assert dialler.asked_at == [1, 8]
    assert dialler.cancelled == 2, "by the time limit, and by the end of the test"
