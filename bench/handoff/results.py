"""What came out: a cell for each row and kind of tools, and what is asked of this service in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import median
from typing import Any

from bench.handoff.ends import lost_of
from bench.handoff.loads import Outcome
from bench.handoff.sequence import Tally

SPARE_GAP_MS = 5.0
"""Two gaps that differ by less are alike: so long is a turn of another process on the same processor."""


@dataclass(slots=True)
class Cell:
    """One load over one pair of paths, handed off by one kind of tools. `drops` has a counter for each service."""

    path: str
    load: str
    tools: str
    outcome: Outcome
    drops: list[Counter[str]]
    handoff: dict[str, Any]
    move_s: float

    @property
    def dropped(self) -> int:
        """Copies of frames dropped inside the services, but for what they drop on purpose.

        Where two paths carried, the other copy may have arrived all the same: nothing is lost by that alone.
        """
        return sum(map(lost_of, self.drops))

    @property
    def lost_past_taps(self) -> int | None:
        """Frames that the sender's tap has handed on and that never arrived; None where nothing tells."""
        taps = self.outcome.more.get("lost_at_taps")
        return None if taps is None else max(0, self.outcome.total.lost - int(taps))

    def to_json(self) -> dict[str, Any]:
        """For --out."""
        document = asdict(replace(self, drops=[]))
        counted = {"drops": [dict(drops) for drops in self.drops]}
        return {**document, **counted, "dropped": self.dropped, "lost_past_taps": self.lost_past_taps}


@dataclass(slots=True)
class Results:
    """All cells of a run; those of the same row and tools are its rounds."""

    machine: dict[str, str | int]
    settings: dict[str, Any]
    cells: list[Cell] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def summaries(self) -> list[Cell]:
        """One cell for all rounds of a row: the sums of what is counted, the medians of gaps, rates and
        retransmissions.
        """
        rounds: dict[tuple[str, str, str], list[Cell]] = {}
        for cell in self.cells:
            rounds.setdefault((cell.path, cell.load, cell.tools), []).append(cell)
        return [_summary(cells) for cells in rounds.values()]

    def shortfalls(self) -> list[str]:
        """Where the service falls short of what is asked of it."""
        summaries = self.summaries()
        peers = {(cell.path, cell.load): cell for cell in summaries if cell.tools == "c"}
        said = []
        for cell in summaries:
            if cell.tools == "service":
                peer = peers.get((cell.path, cell.load))
                find = _tcp_shortfalls if cell.load == "tcp" else _plain_shortfalls
                said += [f"{cell.path}, {cell.load}: {line}" for line in find(cell, peer)]
        return said

    def to_json(self) -> dict[str, Any]:
        """The document that is written to --out."""
        return {
            "machine": self.machine,
            "settings": self.settings,
            "rounds": [cell.to_json() for cell in self.cells],
            "failures": self.failures,
            "shortfalls": self.shortfalls(),
        }


def _plain_shortfalls(cell: Cell, peer: Cell | None) -> list[str]:
    total, said = cell.outcome.total, []
    if total.lost:
        said.append(f"{total.lost:,} lost")
    if total.duplicated:
        said.append(f"{total.duplicated:,} came twice")
    if peer and total.gap_ms > peer.outcome.total.gap_ms + SPARE_GAP_MS:
        said.append(f"a gap of {total.gap_ms:.0f} ms, longer than {peer.outcome.total.gap_ms:.0f} ms")
    return said


def _tcp_shortfalls(cell: Cell, peer: Cell | None) -> list[str]:
    more, said = cell.outcome.more, []
    if peer and more["retransmissions"] > (theirs := peer.outcome.more["retransmissions"]) / 10:
        said.append(f"{more['retransmissions']:,.0f} retransmissions, more than a tenth of {theirs:,.0f}")
    if more["stall_s"] > 1:
        said.append(f"stalled for {more['stall_s']:.1f} s")
    if cell.dropped and cell.lost_past_taps:
        said.append(f"{cell.lost_past_taps:,} frames lost past the taps, {cell.dropped:,} dropped in the service")
    return said


def _summary(cells: Sequence[Cell]) -> Cell:
    if len(cells) == 1:
        return cells[0]
    outcomes = [cell.outcome for cell in cells]
    summed = ("lost_at_taps",)
    more = {
        key: (sum if key in summed else median)(outcome.more[key] for outcome in outcomes) for key in outcomes[0].more
    }
    directions = {
        name: _over_rounds([outcome.directions[name] for outcome in outcomes]) for name in outcomes[0].directions
    }
    total = _over_rounds([outcome.total for outcome in outcomes])
    drops = [sum((cell.drops[end] for cell in cells), Counter[str]()) for end in range(len(cells[0].drops))]
    moved = median(cell.move_s for cell in cells)
    return replace(cells[0], outcome=Outcome(total, directions, more), drops=drops, handoff={}, move_s=moved)


def _over_rounds(tallies: Sequence[Tally]) -> Tally:
    return replace(Tally.sum(tallies), gap_ms=median(tally.gap_ms for tally in tallies))
