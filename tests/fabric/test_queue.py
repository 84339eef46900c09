from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.fabric.ethernet import MAX_FRAME_SIZE
from app.fabric.mmsg import BATCH_FRAMES
from app.fabric.queue import QUEUE_LIMIT_BYTES, FrameQueue
from tests.fakes import frame_of


def test_frames_come_out_in_the_order_in_which_they_went_in() -> None:
    queue = FrameQueue()
    frames = [frame_of(number, 60 + number) for number in range(10)]
    assert all(queue.put(frame) for frame in frames)
    assert (len(queue), queue.octets) == (10, sum(map(len, frames)))
    out = []
    while queue:
        due = queue.first(3)
        assert queue.first(3) == due, "looking at them leaves them there"
        queue.remove_first(len(due))
        out += due
    assert out == frames
    assert queue.octets == 0


def test_what_does_not_fit_is_refused_and_changes_nothing() -> None:
    queue = FrameQueue(limit=100)
    assert queue.put(bytes(60))
    assert not queue.put(bytes(41))
    assert (len(queue), queue.octets) == (1, 60)
    assert queue.put(bytes(40)), "exactly the limit fits"
    assert not queue.put(bytes(1))


def test_room_comes_back_with_every_frame_that_goes() -> None:
    queue = FrameQueue(limit=100)
    queue.put(bytes(60))
    queue.put(bytes(40))
    queue.remove_first(1)
    assert queue.put(bytes(60))
    assert queue.octets == 100


def test_clear_tells_how_many_frames_were_lost() -> None:
    queue = FrameQueue()
    for number in range(7):
        queue.put(frame_of(number))
    assert queue.clear() == 7
    assert (len(queue), queue.octets) == (0, 0)
    assert queue.clear() == 0


def test_more_than_there_is_can_be_looked_at_but_not_removed() -> None:
    queue = FrameQueue()
    assert queue.first(5) == []
    queue.put(frame_of(1))
    assert queue.first(5) == [frame_of(1)]
    with pytest.raises(IndexError):
        queue.remove_first(2)


def test_there_is_room_for_what_can_be_put() -> None:
    queue = FrameQueue(limit=100)
    queue.put(bytes(60))
    assert queue.has_room(40)
    assert not queue.has_room(41)


def test_the_default_holds_a_whole_batch_of_the_longest_frames_and_is_bounded() -> None:
    queue = FrameQueue()
    put = 0
    while queue.put(bytes(MAX_FRAME_SIZE)):
        put += 1
    assert put >= BATCH_FRAMES
    assert queue.octets <= QUEUE_LIMIT_BYTES


@given(st.lists(st.one_of(st.none(), st.integers(14, 200))))
def test_the_bytes_are_always_those_of_the_frames(steps: list[int | None]) -> None:
    queue = FrameQueue(limit=500)
    model: list[bytes] = []
    for number, size in enumerate(steps):
        if size is not None:
            frame = frame_of(number, size)
            fits = sum(map(len, model)) + size <= 500
            assert queue.put(frame) is fits
            if fits:
                model.append(frame)
        elif model:
            assert queue.first(1) == [model.pop(0)]
            queue.remove_first(1)
        assert queue.octets == sum(map(len, model))
        assert len(queue) == len(model)
