"""The collector waits until no frames flow, but not for ever."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
import trio
from trio.testing import MockClock

from app import garbage
from app.garbage import INTERVAL_S, OVERDUE_S, collect_when_quiet


@pytest.fixture
def full_collections(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """When there was a full collection, of those that are asked for; nothing is frozen in the process of the tests."""
    times: list[float] = []
    monkeypatch.setattr(gc, "collect", lambda: times.append(trio.current_time()))
    monkeypatch.setattr(gc, "freeze", lambda: None)
    before = gc.get_threshold()
    yield times
    assert gc.get_threshold() == before


@pytest.mark.parametrize(
    ("young", "flows", "after_s", "is_collected"),
    [
        (garbage.DUE - 1, False, OVERDUE_S, False),
        (garbage.DUE, False, INTERVAL_S, True),
        (garbage.DUE, True, OVERDUE_S - 2 * INTERVAL_S, False),
        (garbage.DUE, True, OVERDUE_S, True),
    ],
)
async def test_a_full_collection_waits_for_its_time(
    full_collections: list[float],
    monkeypatch: pytest.MonkeyPatch,
    autojump_clock: MockClock,
    young: int,
    flows: bool,
    after_s: float,
    is_collected: bool,
) -> None:
    frames = 0

    def count_frames() -> int:
        nonlocal frames
        frames += flows
        return frames

    monkeypatch.setattr(gc, "get_count", lambda: (0, 0, young))
    with trio.move_on_after(after_s + INTERVAL_S / 2):
        await collect_when_quiet(count_frames)
    at_the_start = 1
    assert len(full_collections) == at_the_start + is_collected


async def test_python_never_makes_a_full_one_by_itself(
    full_collections: list[float], autojump_clock: MockClock
) -> None:
    with trio.move_on_after(INTERVAL_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(collect_when_quiet, lambda: 0)
            await trio.sleep(INTERVAL_S / 2)
            assert gc.isenabled()
            assert gc.get_threshold()[2] >= 10**6
