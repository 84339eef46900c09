"""Copies of a link's frames: complete, with their directions; and nobody waits for who takes them."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import trio
import trio.testing

from app.fabric import capture
from app.fabric.capture import Captures, FrameCapture
from app.fabric.fabric import Fabric
from app.fabric.link import Link
from app.fabric.mmsg import Batch
from app.fabric.vnl import MultiVnl
from tests.fakes import RawClient, frame_of, until


class Looked:
    """Something that frames pass through."""

    def __init__(self) -> None:
        self.capture: FrameCapture | None = None

    def is_looked_at(self) -> bool:
        return self.capture is not None


def loaded(*frames: bytes) -> Batch:
    batch = Batch()
    batch.load_frames(list(frames))
    return batch


async def test_a_reader_gets_what_passes_with_time_and_direction() -> None:
    looked, captures = Looked(), Captures()
    before = time.time_ns()
    with captures.open(looked) as reader:
        assert looked.capture is not None
        looked.capture.inbound(loaded(frame_of(1), frame_of(2, 1514)))
        looked.capture.outbound(loaded(frame_of(3)))
        frames = await reader.take()
    assert [frame.octets for frame in frames] == [frame_of(1), frame_of(2, 1514), frame_of(3)]
    assert [frame.is_inbound for frame in frames] == [True, True, False]
    assert [frame.size for frame in frames] == [60, 1514, 60]
    assert before <= frames[0].at_ns <= frames[1].at_ns <= frames[2].at_ns <= time.time_ns()
    assert not any(frame.lost_before for frame in frames)


async def test_nothing_is_left_on_the_path_when_nobody_looks() -> None:
    looked, captures = Looked(), Captures()
    assert looked.capture is None
    with captures.open(looked), captures.open(looked):
        assert len(captures) == 2
    assert looked.capture is None
    assert len(captures) == 0


async def test_frames_are_cut_to_the_snaplen_and_keep_their_length() -> None:
    looked, captures = Looked(), Captures()
    with captures.open(looked, snaplen=20) as reader:
        assert looked.capture is not None
        looked.capture.inbound(loaded(frame_of(1, 100)))
        (frame,) = await reader.take()
    assert (frame.octets, frame.size) == (frame_of(1, 100)[:20], 100)


async def test_a_reader_ends_after_its_frames_and_costs_nothing_from_then_on() -> None:
    looked, captures = Looked(), Captures()
    with captures.open(looked, limit=2) as reader:
        assert looked.capture is not None
        looked.capture.inbound(loaded(frame_of(1), frame_of(2), frame_of(3)))
        assert not looked.is_looked_at()
        assert len(await reader.take()) == 2
        assert await reader.take() == []
        with captures.open(looked) as other:
            assert looked.capture is not None
            looked.capture.inbound(loaded(frame_of(4)))
            assert len(await other.take()) == 1


async def test_a_slow_reader_loses_its_own_copies_and_is_told_where(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "BUFFER_BYTES", 10 * (60 + capture.FRAME_OVERHEAD))
    looked, captures = Looked(), Captures()
    with captures.open(looked) as slow, captures.open(looked) as quick:
        assert looked.capture is not None
        quick_frames = []
        for number in range(25):
            looked.capture.inbound(loaded(frame_of(number)))
            quick_frames += await quick.take()
        assert [frame.octets for frame in quick_frames] == [frame_of(number) for number in range(25)]
        assert [frame.octets for frame in await slow.take()] == [frame_of(number) for number in range(10)]
        looked.capture.inbound(loaded(frame_of(25)))
        (late,) = await slow.take()
        assert (late.octets, late.lost_before) == (frame_of(25), 15)
        assert (slow.frames, slow.lost, quick.lost) == (11, 15, 0)
        assert captures.lost_frames == 15
    assert captures.lost_frames == 15, "what was lost is remembered"


async def test_closing_ends_those_who_look_and_those_who_come_later() -> None:
    looked, captures = Looked(), Captures()
    with captures.open(looked) as reader:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_expect_end, reader)
            await trio.testing.wait_all_tasks_blocked()
            captures.close()
    with captures.open(looked) as late:
        assert await late.take() == []


async def _expect_end(reader: capture.CaptureReader) -> None:
    assert await reader.take() == []


async def attached_link(fabric: Fabric) -> Link:
    await until(lambda: any(link.state == "up" for link in fabric.links()), "a link")
    return fabric.links()[0]


async def test_a_link_is_captured_both_ways_and_to_its_end(fabric: Fabric, short_dir: Path) -> None:
    multilink = await fabric.add_multilink(MultiVnl(f"{short_dir}/m"))
    with await RawClient.attach(multilink.path, "host") as host:
        with await RawClient.attach(multilink.path) as peer:
            link = await attached_link(fabric)
            with fabric.captures.open(link) as reader:
                await host.send(frame_of(1))
                assert await peer.receive(1) == [frame_of(1)]
                await peer.send(frame_of(2), frame_of(3))
                assert await host.receive(2) == [frame_of(2), frame_of(3)]
                frames = reader.take_now()
                assert [(frame.octets, frame.is_inbound) for frame in frames] == [
                    (frame_of(1), False),
                    (frame_of(2), True),
                    (frame_of(3), True),
                ]
                peer.leave()
                with trio.fail_after(10):
                    assert await reader.take() == []
                assert reader.is_over
