from __future__ import annotations

import pytest

from app.fabric.handoff_report import SKEW_SAMPLES, GapClock, ReportObserver

NAMES = {0: "wifi", 1: "lte"}


def test_a_gap_is_the_longest_time_between_two_batches() -> None:
    gap = GapClock()
    assert gap.longest_s is None
    gap.tick(1.0)
    assert gap.longest_s is None, "one batch has no gap"
    for now in (1.5, 3.5, 3.6):
        gap.tick(now)
    assert gap.longest_s == 2.0


def test_a_scripted_sequence_is_told_as_it_was() -> None:
    report = ReportObserver(NAMES.get)
    for _ in range(3):
        report.delivered(0)
    report.delivered(1)
    for skew_s in (0.03, 0.01, 0.02):
        report.duplicate(1, skew_s)
    report.duplicate(0, 0.5)
    report.forgotten([1])
    report.forgotten([0, 1])
    report.forgotten([])
    for now in (1.0, 1.25):
        report.batch_to_host(2, now)
        report.batch_from_host(5, 2 * now)
    report.settle()
    down, up = report.to_host, report.from_host
    assert (down.frames, down.duplicates, down.longest_gap_s) == (4, 4, 0.25)
    assert (up.frames, up.duplicates, up.longest_gap_s, up.skew_median_s) == (10, 0, 0.5, None)
    assert [(path.first, path.later, path.missed) for path in (down.paths["wifi"], down.paths["lte"])] == [
        (3, 1, 1),
        (1, 3, 2),
    ]
    assert down.skew_median_s == pytest.approx(0.025)
    assert down.skew_p99_s == 0.5


def test_where_there_was_nothing_to_measure_nothing_is_told() -> None:
    report = ReportObserver(NAMES.get)
    report.settle()
    for direction in (report.to_host, report.from_host):
        assert (direction.frames, direction.longest_gap_s, direction.skew_median_s, direction.skew_p99_s) == (
            0,
            None,
            None,
            None,
        )
        assert direction.paths == {}


def test_a_link_that_nobody_knows_any_more_is_told_as_such() -> None:
    report = ReportObserver(NAMES.get)
    report.delivered(7)
    assert report.to_host.paths["a link that is gone"].first == 1


def test_skews_are_sampled_from_all_of_a_long_time_in_bounded_memory() -> None:
    report = ReportObserver(NAMES.get)
    for number in range(20 * SKEW_SAMPLES):
        report.duplicate(1, number / (20 * SKEW_SAMPLES))
    report.settle()
    assert len(report._skews) == SKEW_SAMPLES
    assert report.to_host.duplicates == 20 * SKEW_SAMPLES
    # Uniform between 0 and 1: the median of 4096 of them is off by 0.05 once in 10 thousand million runs.
    assert report.to_host.skew_median_s == pytest.approx(0.5, abs=0.05)
    assert report.to_host.skew_p99_s == pytest.approx(0.99, abs=0.01)
