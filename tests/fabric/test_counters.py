from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.fabric.counters import DirectionCounters, DropReason

_STEPS = st.lists(
    st.tuples(st.none() | st.sampled_from(DropReason), st.integers(0, 64), st.integers(14, 9234)), max_size=30
)


def test_a_new_one_is_empty_and_its_own() -> None:
    first, second = DirectionCounters(), DirectionCounters()
    first.drop(DropReason.FULL)
    assert second == DirectionCounters(frames=0, bytes=0, dropped={})


def test_handed_on_frames_and_bytes() -> None:
    counters = DirectionCounters()
    counters.add(3, 180)
    counters.add(1, 1514)
    assert (counters.frames, counters.bytes, counters.dropped) == (4, 1694, {})


def test_drops_by_reason() -> None:
    counters = DirectionCounters()
    counters.drop(DropReason.RUNT)
    counters.drop(DropReason.FULL, 5)
    counters.drop(DropReason.RUNT, 2)
    assert counters.dropped == {"runt": 3, "full": 5}
    assert counters.dropped_frames == 8
    assert (counters.frames, counters.bytes) == (0, 0)


def test_no_drop_leaves_no_entry() -> None:
    counters = DirectionCounters()
    counters.drop(DropReason.GIANT, 0)
    assert counters.dropped == {}


@given(_STEPS)
def test_every_frame_is_in_one_place(steps: list[tuple[DropReason | None, int, int]]) -> None:
    counters = DirectionCounters()
    for reason, frames, size in steps:
        if reason is None:
            counters.add(frames, frames * size)
        else:
            counters.drop(reason, frames)
    assert counters.frames + counters.dropped_frames == sum(frames for _, frames, _ in steps)
    assert counters.bytes == sum(frames * size for reason, frames, size in steps if reason is None)
    assert 0 not in counters.dropped.values()
