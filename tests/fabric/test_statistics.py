"""Rates: what a link did within a second, and nothing where it did nothing."""

from __future__ import annotations

from typing import cast

import trio
import trio.testing

from app.fabric.counters import DirectionCounters, DropReason
from app.fabric.link import Link
from app.fabric.statistics import KEPT_SAMPLES, Sample, Statistics


class CountedLink:
    """As much of a link as has counters."""

    def __init__(self) -> None:
        self.rx = DirectionCounters()
        self.tx = DirectionCounters()

    def as_link(self) -> Link:
        return cast("Link", self)


class Sampled:
    """Statistics of some links, and a clock that is set."""

    def __init__(self, *links: CountedLink) -> None:
        self.links = list(links)
        self.now = 1000.0
        self.told: list[dict[Link, Sample]] = []
        self.statistics = Statistics(
            lambda: [link.as_link() for link in self.links],
            lambda: self.now,
            lambda _at, samples: self.told.append(samples),
        )

    async def second(self) -> None:
        self.now += 1
        await self.statistics.sample_once()


async def test_a_sample_is_what_has_come_and_gone_within_its_second() -> None:
    link = CountedLink()
    sampled = Sampled(link)
    link.rx.add(3, 300)
    await sampled.second()
    link.rx.add(2, 120)
    link.tx.add(5, 500)
    link.tx.drop(DropReason.FULL, 4)
    link.rx.drop(DropReason.DUPLICATE, 6)
    link.rx.drop(DropReason.PROBE, 1)
    await sampled.second()
    assert sampled.statistics.history(link.as_link()) == [
        Sample(1001, 3, 300, 0, 0, 0, 0),
        Sample(1002, 2, 120, 5, 500, 4, 6),
    ]
    assert sampled.told[1] == {link.as_link(): Sample(1002, 2, 120, 5, 500, 4, 6)}


async def test_idle_seconds_are_left_out() -> None:
    busy, idle = CountedLink(), CountedLink()
    sampled = Sampled(busy, idle)
    for _ in range(3):
        busy.rx.add(1, 60)
        await sampled.second()
        await sampled.second()
    assert [sample.at for sample in sampled.statistics.history(busy.as_link())] == [1001, 1003, 1005]
    assert sampled.statistics.history(idle.as_link()) == []
    assert [len(samples) for samples in sampled.told] == [1, 0, 1, 0, 1, 0]


async def test_samples_are_kept_for_five_minutes_and_no_longer() -> None:
    link = CountedLink()
    sampled = Sampled(link)
    for _ in range(KEPT_SAMPLES + 10):
        link.rx.add(1, 60)
        await sampled.second()
    history = sampled.statistics.history(link.as_link())
    assert len(history) == KEPT_SAMPLES
    assert history[-1].at == sampled.now
    sampled.now += KEPT_SAMPLES - 0.5
    await sampled.statistics.sample_once()
    assert [sample.at for sample in sampled.statistics.history(link.as_link())] == [history[-1].at]


async def test_links_that_are_gone_are_forgotten() -> None:
    link = CountedLink()
    sampled = Sampled(link)
    link.rx.add(1, 60)
    await sampled.second()
    sampled.links.clear()
    await sampled.second()
    assert sampled.statistics.history(link.as_link()) == []


async def test_a_thousand_links_are_sampled_with_others_in_between() -> None:
    links = [CountedLink() for _ in range(1000)]
    for link in links:
        link.tx.add(1, 60)
    sampled = Sampled(*links)
    steps = 0

    async def others() -> None:
        nonlocal steps
        while True:
            steps += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(others)
        await sampled.second()
        nursery.cancel_scope.cancel()
    assert len(sampled.told[0]) == 1000
    assert steps >= 15


async def test_it_runs_every_second_and_says_how_late(autojump_clock: trio.testing.MockClock) -> None:
    link = CountedLink()
    sampled = Sampled(link)
    late: list[float] = []
    sampled.statistics.on_tick.append(late.append)
    with trio.move_on_after(5.5):
        await sampled.statistics.run()
    assert len(sampled.told) == 5
    assert len(late) == 5
    assert all(abs(each) < 0.001 for each in late)
