from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.fabric.dedup import DuplicateFilter, Sighting

WINDOW_S = 0.5
STEP_S = 0.05
Arrival = tuple[float, int, int]
"""When, on which link, which frame."""


def sift_all(
    arrivals: Sequence[Arrival], links: int, filter_: DuplicateFilter | None = None
) -> tuple[Counter[int], Counter[int]]:
    """How often each frame was delivered, and how often dropped; what comes at one time on one link is one batch."""
    sifted = filter_ or DuplicateFilter(WINDOW_S)
    slots = [sifted.join(0.0) for _ in range(links)]
    delivered: Counter[int] = Counter()
    dropped: Counter[int] = Counter()
    for (now, link), group in groupby(arrivals, key=lambda arrival: arrival[:2]):
        frames = [frame for _now, _link, frame in group]
        duplicates = set(sifted.sift(slots[link], frames, now))
        delivered.update(frame for index, frame in enumerate(frames) if index not in duplicates)
        dropped.update(frame for index, frame in enumerate(frames) if index in duplicates)
    return delivered, dropped


@st.composite
def journeys(draw: st.DrawFn) -> tuple[int, list[Arrival]]:
    """Distinct frames over two or three links, each of which loses any and reorders within the window."""
    links = draw(st.integers(2, 3))
    steps_within_window = round(WINDOW_S / STEP_S) - 1
    arrivals = [
        (STEP_S * (number + delay), link, number)
        for number in range(draw(st.integers(0, 40)))
        for link in range(links)
        if (delay := draw(st.none() | st.integers(0, steps_within_window))) is not None
    ]
    return links, sorted(arrivals)


@given(journeys())
def test_of_distinct_frames_all_that_came_on_any_path_are_delivered_and_each_once(
    journey: tuple[int, list[Arrival]],
) -> None:
    links, arrivals = journey
    delivered, dropped = sift_all(arrivals, links)
    assert delivered == Counter({number for _now, _link, number in arrivals})
    assert delivered + dropped == Counter(number for _now, _link, number in arrivals)


@given(st.integers(1, 4), st.lists(st.integers(0, 3), max_size=30), st.randoms(use_true_random=False))
def test_identical_frames_over_links_without_loss_are_delivered_as_often_as_they_were_sent(
    links: int, frames: list[int], chance: random.Random
) -> None:
    remaining = [chance.sample(frames, len(frames)) for _ in range(links)]  # Each reorders in its own way.
    arrivals: list[Arrival] = []
    while any(remaining):
        link = chance.choice([each for each, rest in enumerate(remaining) if rest])
        arrivals.append((0.001 * len(arrivals), link, remaining[link].pop()))
    delivered, _dropped = sift_all(arrivals, links)
    assert delivered == Counter(frames)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), max_size=60))
def test_of_identical_frames_as_many_are_delivered_as_the_best_path_brought(brought: list[tuple[int, int]]) -> None:
    delivered, _dropped = sift_all([(0.001 * at, link, frame) for at, (link, frame) in enumerate(brought)], 3)
    for frame in range(3):
        assert delivered[frame] == max(Counter(brought)[link, frame] for link in range(3))


def test_identical_frames_in_one_batch_all_pass_and_their_copies_do_not() -> None:
    filter_ = DuplicateFilter(WINDOW_S)
    first, second = filter_.join(0.0), filter_.join(0.0)
    assert filter_.sift(first, [7, 7, 8, 7], 1.0) == []
    assert filter_.sift(second, [7, 8, 7, 7, 7], 1.1) == [0, 1, 2, 3], "the fourth 7 is one of its own"
    assert filter_.sift(first, [7, 7], 1.2) == [0]


@pytest.mark.parametrize(("behind_s", "is_duplicate"), [(0.0, True), (0.499, True), (0.5, False), (3.0, False)])
def test_what_comes_after_the_window_is_delivered(behind_s: float, is_duplicate: bool) -> None:
    filter_ = DuplicateFilter(WINDOW_S)
    first, second = filter_.join(0.0), filter_.join(0.0)
    assert filter_.sift(first, [1], 10.0) == []
    assert filter_.sift(second, [1], 10.0 + behind_s) == ([0] if is_duplicate else [])


def test_each_delivery_of_a_repeated_frame_has_a_window_of_its_own() -> None:
    filter_ = DuplicateFilter(WINDOW_S)
    first, second = filter_.join(0.0), filter_.join(0.0)
    for now in (1.0, 1.3, 1.6):
        assert filter_.sift(first, [5], now) == []
    # That of 1.0 is forgotten: two are owed to the other link, and not three.
    assert filter_.sift(second, [5, 5, 5], 1.7) == [0, 1]


def test_a_link_that_joins_is_not_owed_what_was_delivered_before() -> None:
    filter_ = DuplicateFilter(WINDOW_S)
    first = filter_.join(0.0)
    assert filter_.sift(first, [1, 2, 2], 1.0) == []
    late = filter_.join(1.1)
    assert filter_.sift(late, [1, 2], 1.2) == [], "in doubt it is delivered"
    assert filter_.sift(first, [1, 2], 1.3) == [0, 1], "and those are owed to the first link now"
    assert filter_.sift(first, [3], 1.3) == []
    assert filter_.sift(late, [3], 1.4) == [0]


def test_what_a_link_brought_that_has_left_is_still_owed_to_the_others() -> None:
    filter_ = DuplicateFilter(WINDOW_S)
    first, second = filter_.join(0.0), filter_.join(0.0)
    filter_.sift(first, [1], 1.0)
    filter_.leave(first, 1.1)
    assert filter_.sift(second, [1], 1.2) == [0]


def test_a_slot_is_given_out_again_only_when_all_it_brought_is_forgotten() -> None:
    filter_ = DuplicateFilter(WINDOW_S)
    first, second = filter_.join(0.0), filter_.join(0.0)
    filter_.sift(first, [1], 1.0)
    filter_.leave(first, 1.0)
    assert filter_.join(1.2) not in {first, second}
    assert filter_.join(1.5) == first


def test_a_reused_slot_owes_and_is_owed_nothing_of_its_former_link() -> None:
    filter_ = DuplicateFilter(WINDOW_S)
    first, second = filter_.join(0.0), filter_.join(0.0)
    filter_.sift(first, [9], 1.0)
    filter_.leave(first, 1.0)
    filter_.sift(second, [1, 1], 1.4)
    again = filter_.join(1.5)
    assert again == first
    assert filter_.sift(again, [1, 9, 4], 1.6) == [], "what was delivered before it came, and what is forgotten"
    assert filter_.sift(second, [1, 4, 9], 1.7) == [0, 1, 2]


@given(
    st.lists(st.tuples(st.sampled_from(["join", "leave", "bring"]), st.integers(0, 3), st.integers(0, 5)), max_size=80)
)
def test_whatever_comes_and_goes_distinct_frames_of_a_link_are_delivered_at_least_once(
    events: list[tuple[str, int, int]],
) -> None:
    filter_ = DuplicateFilter(WINDOW_S)
    slots: list[int] = [filter_.join(0.0)]
    seen: dict[int, float] = {}
    for at, (event, which, frame) in enumerate(events):
        now = 0.1 * at
        if event == "join":
            slots.append(filter_.join(now))
            assert len(set(slots)) == len(slots), "two links never share a slot"
        elif event == "leave" and slots:
            filter_.leave(slots.pop(which % len(slots)), now)
        elif event == "bring" and slots:
            if filter_.sift(slots[which % len(slots)], [frame], now):
                assert now - seen[frame] < WINDOW_S, "dropped only as a copy of what was delivered lately"
            else:
                seen[frame] = now


def test_links_that_come_and_go_for_ever_take_no_more_slots() -> None:
    filter_ = DuplicateFilter(WINDOW_S)
    filter_.join(0.0)
    taken = set()
    for round_ in range(200):
        slot = filter_.join(float(round_))
        taken.add(slot)
        filter_.sift(slot, [round_], round_ + 0.1)
        filter_.leave(slot, round_ + 0.2)
    assert len(taken) == 1


def test_no_more_than_the_limit_is_remembered_and_what_is_forgotten_for_it_is_counted() -> None:
    filter_ = DuplicateFilter(WINDOW_S, limit=100)
    first, second = filter_.join(0.0), filter_.join(0.0)
    for batch in range(50):
        assert filter_.sift(first, list(range(10 * batch, 10 * batch + 10)), 1.0) == []
        assert len(filter_) <= 100
        assert len(filter_._once) + len(filter_._again) <= 100
    assert filter_.forgotten_early == 400
    assert filter_.sift(second, [0, 499], 1.1) == [1], "the oldest are delivered again, the latest are known"


def test_one_batch_may_be_larger_than_the_limit() -> None:
    filter_ = DuplicateFilter(WINDOW_S, limit=10)
    first, second = filter_.join(0.0), filter_.join(0.0)
    filter_.sift(first, list(range(64)), 1.0)
    assert filter_.sift(second, list(range(64)), 1.0) == list(range(64))


def test_forgetting_leaves_nothing_behind() -> None:
    filter_ = DuplicateFilter(WINDOW_S)
    slot = filter_.join(0.0)
    filter_.sift(slot, [1, 1, 2], 1.0)
    filter_.sift(slot, [1, 3], 1.3)
    filter_.forget(1.5)
    assert (len(filter_), sorted([*filter_._once, *filter_._again])) == (2, [1, 3])
    filter_.forget(1.8)
    assert (len(filter_), filter_._once, filter_._again, len(filter_._fifo)) == (0, {}, {}, 0)


def test_clearing_leaves_nothing_behind_either() -> None:
    filter_ = DuplicateFilter(WINDOW_S)
    first, second = filter_.join(0.0), filter_.join(0.0)
    filter_.sift(first, [1, 1, 2], 1.0)
    filter_.clear()
    assert (len(filter_), filter_._once, filter_._again, len(filter_._fifo)) == (0, {}, {}, 0)
    assert filter_.sift(second, [1], 1.1) == []
    assert filter_.sift(first, [1], 1.2) == [0]


class CountingTable(dict[int, Sighting]):
    """A table that counts how many of its entries are looked at or changed, and will not be walked through."""

    touched = 0

    def get(self, key: int, default: Any = None) -> Any:
        self.touched += 1
        return super().get(key, default)

    def __setitem__(self, key: int, value: Sighting) -> None:
        self.touched += 1
        super().__setitem__(key, value)

    def pop(self, key: int, default: Any = None) -> Any:
        self.touched += 1
        return super().pop(key, default)

    def setdefault(self, key: int, default: Any = None) -> Any:
        self.touched += 1
        return super().setdefault(key, default)

    def __iter__(self) -> Any:
        raise AssertionError("no frame is worth a walk through the table")

    values = items = __iter__


def test_a_frame_costs_the_same_however_many_are_remembered() -> None:
    filter_ = DuplicateFilter(WINDOW_S)
    first, second = filter_.join(0.0), filter_.join(0.0)
    table = CountingTable()
    filter_._once = table
    costs = []
    for number in range(4096):  # 0.5 s of window: 512 remembered from the 512th on.
        table.touched = 0
        filter_.sift(first, [number], number / 1024)
        filter_.sift(second, [number], number / 1024)
        costs.append(table.touched)
    assert len(filter_) == 512
    assert set(costs[:400]) == {4}, "entered; met, looked up, marked"
    assert set(costs[600:]) == {5}, "and one taken out"


# What observers are told.


class Witness:
    def __init__(self) -> None:
        self.told: list[object] = []

    def delivered(self, slot: int) -> None:
        self.told.append(("delivered", slot))

    def duplicate(self, slot: int, skew_s: float) -> None:
        self.told.append(("duplicate", slot, round(skew_s, 6)))

    def forgotten(self, missing: Sequence[int]) -> None:
        self.told.append(("forgotten", list(missing)))


def test_an_observer_hears_who_was_first_who_was_later_and_who_never_came() -> None:
    filter_ = DuplicateFilter(WINDOW_S)
    witness = filter_.observer = Witness()
    first, second = filter_.join(0.0), filter_.join(0.0)
    filter_.sift(first, [1, 2], 1.0)
    filter_.sift(second, [1], 1.2)
    filter_.forget(1.5)
    assert witness.told == [
        ("delivered", first),
        ("delivered", first),
        ("duplicate", second, 0.2),
        ("forgotten", []),
        ("forgotten", [second]),
    ]


def test_a_link_that_has_left_or_came_later_has_missed_nothing() -> None:
    filter_ = DuplicateFilter(WINDOW_S)
    witness = filter_.observer = Witness()
    first, second = filter_.join(0.0), filter_.join(0.0)
    filter_.sift(first, [1], 1.0)
    filter_.leave(second, 1.1)
    filter_.join(1.2)
    filter_.forget(2.0)
    assert witness.told[-1] == ("forgotten", [])
