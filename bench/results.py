"""What came out: figures by row, peer and round; their medians and the ratios between peers; the JSON document."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import Any

from bench.peers import PEERS
from bench.rows import METRICS, Metric, Row

SERVICE = "service"
Figures = dict[str, float]


@dataclass(slots=True)
class Outcome:
    """What one row gave: a dictionary of figures for each round of each peer, or why there are none."""

    row: Row
    rounds: dict[str, dict[int, Figures]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def note(self, peer: str, number: int, figures: Figures) -> None:
        """Keeps the figures of a round."""
        self.rounds.setdefault(peer, {})[number] = figures

    def median(self, peer: str, key: str) -> float | None:
        """The median of a metric over all rounds, or None where the peer has none."""
        rounds = self.rounds.get(peer)
        return median(figures[key] for figures in rounds.values()) if rounds else None

    def worst(self, peer: str, metric: Metric) -> float | None:
        """The worst round of a metric."""
        rounds = self.rounds.get(peer)
        if not rounds:
            return None
        return (min if metric.higher else max)(figures[metric.key] for figures in rounds.values())

    def ratio(self, key: str, to: str, of: str = SERVICE) -> float | None:
        """How a peer compares with another: the median over the rounds, each compared with the same round's."""
        pairs = [
            (figures[key], self.rounds[to][number][key])
            for number, figures in self.rounds.get(of, {}).items()
            if number in self.rounds.get(to, {})
        ]
        ratios = [ours / theirs for ours, theirs in pairs if theirs]
        return median(ratios) if ratios else None


@dataclass(slots=True)
class Results:
    """All outcomes of a run of the bench."""

    machine: dict[str, str | int]
    settings: dict[str, Any]
    outcomes: list[Outcome] = field(default_factory=list)

    def outcome(self, name: str) -> Outcome | None:
        """The outcome of the row with that name."""
        return next((outcome for outcome in self.outcomes if outcome.row.name == name), None)

    def to_json(self) -> dict[str, Any]:
        """The document that is written to results.json."""
        return {
            "machine": self.machine,
            "settings": self.settings,
            "peers": {name: PEERS[name].title for name in self.settings["peers"]},
            "rows": [_row_json(outcome) for outcome in self.outcomes],
        }


def _row_json(outcome: Outcome) -> dict[str, Any]:
    row, metrics = outcome.row, METRICS[outcome.row.kind]
    return {
        "name": row.name,
        "title": row.title,
        "kind": row.kind.value,
        "links": row.links,
        "size": row.size,
        "direction": row.direction,
        "medians": {
            peer: {key: _rounded(outcome.median(peer, key)) for key in next(iter(rounds.values()))}
            for peer, rounds in outcome.rounds.items()
        },
        "worst": {
            peer: {metric.key: _rounded(outcome.worst(peer, metric)) for metric in metrics} for peer in outcome.rounds
        },
        "ratios": {
            f"{of}/{to}": {m.key: _rounded(outcome.ratio(m.key, to, of)) for m in metrics if m.compared}
            for of, to in (("service", "multi"), ("service", "limit"), ("limit", "multi"))
            if of in outcome.rounds and to in outcome.rounds
        },
        "rounds": {peer: len(rounds) for peer, rounds in outcome.rounds.items()},
        "failures": outcome.failures,
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")
