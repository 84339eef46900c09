"""What became of numbered frames: lost, twice, out of order; and the longest time that nothing new came. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tally:
    """One direction of a load. `gap_ms` is the longest time between two frames that came for the first time."""

    sent: int
    received: int
    lost: int
    duplicated: int
    reordered: int
    gap_ms: float

    @classmethod
    def sum(cls, tallies: Iterable[Tally]) -> Tally:
        """Both directions as one; the longer of the gaps."""
        all_of_them = list(tallies)
        return cls(
            sum(tally.sent for tally in all_of_them),
            sum(tally.received for tally in all_of_them),
            sum(tally.lost for tally in all_of_them),
            sum(tally.duplicated for tally in all_of_them),
            sum(tally.reordered for tally in all_of_them),
            max(tally.gap_ms for tally in all_of_them),
        )


def tally(
    numbers: Sequence[int],
    times: Sequence[float],
    sent: int,
    sent_times: Mapping[int, float] | Sequence[float] | None = None,
) -> Tally:
    """Counts what arrived.

    A gap that the sender made by sending late is not the network's: what it was late by, compared with the frame that
    came before, is taken off.

    Args:
        numbers: of the frames in the order of their arrival, from 0.
        times: when each arrived, in seconds.
        sent: how many were sent.
        sent_times: when each number was sent, in seconds of the same clock; None where that is not known.
    """
    seen: set[int] = set()
    reordered, gap, highest, last = 0, 0.0, -1, -1
    pace = (sent_times[sent - 1] - sent_times[0]) / (sent - 1) if sent_times and sent > 1 else 0.0
    last_time = 0.0
    for number, time in zip(numbers, times, strict=True):
        if number in seen:
            continue
        seen.add(number)
        if number < highest:
            reordered += 1
        highest = max(highest, number)
        if last >= 0:
            late = max(0.0, sent_times[number] - sent_times[last] - pace * max(1, number - last)) if sent_times else 0.0
            gap = max(gap, time - last_time - late)
        last, last_time = number, time
    return Tally(sent, len(numbers), sent - len(seen), len(numbers) - len(seen), reordered, gap * 1000)
