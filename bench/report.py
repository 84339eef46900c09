"""The results as tables for a reader."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table

from bench.peers import PEERS
from bench.results import Outcome, Results
from bench.rows import METRICS, Kind, Metric

WIDE = {Kind.FLOW}
WIDTH = 140
TITLES = {
    Kind.FLOW: "Frames as fast as they go",
    Kind.HICCUP: "Sinks that pause",
    Kind.FAIR: "Fairness",
    Kind.LATENCY: "One-way latency",
    Kind.TCP: "TCP through taps",
    Kind.IDLE: "Many idle links",
    Kind.STALL: "A link that never reads",
    Kind.API: "The API hammered while frames flow",
    Kind.CORES: "Two forwarders on two cores",
    Kind.SHARED: "Two multilinks in one service",
}
COMPARED_WITH = ("multi", "limit", "floor")


def print_report(results: Results, console: Console) -> None:
    """Prints all tables, then what could not be measured and what went wrong."""
    peers = [name for name in results.settings["peers"] if name in PEERS]
    for kind in Kind:
        outcomes = [outcome for outcome in results.outcomes if outcome.row.kind is kind and outcome.rounds]
        if outcomes:
            console.print(_wide_table(kind, outcomes, peers) if kind in WIDE else _long_table(kind, outcomes, peers))
    for outcome in results.outcomes:
        for peer, reason in outcome.failures.items():
            console.print(f"[yellow]not measured[/]: {outcome.row.title}, {PEERS[peer].title}: ", end="")
            console.print(reason, markup=False)
        for peer in outcome.rounds:
            _print_disorder(outcome, peer, console)


def _print_disorder(outcome: Outcome, peer: str, console: Console) -> None:
    """A forwarder must neither repeat frames nor change their order: say so where one did."""
    for key in ("duplicated", "reordered"):
        count = sum(figures.get(key, 0.0) for figures in outcome.rounds[peer].values())
        if count:
            console.print(f"[red]{key}[/]: {count:,.0f} frames of {outcome.row.title}, {PEERS[peer].title}")


def _table(kind: Kind) -> Table:
    return Table(title=TITLES[kind], title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)


def _shown(outcomes: list[Outcome], peers: list[str]) -> list[str]:
    return [name for name in peers if any(name in outcome.rounds for outcome in outcomes)]


def _ratio_columns(peers: list[str]) -> list[str]:
    return [name for name in COMPARED_WITH if name in peers and "service" in peers]


def _wide_table(kind: Kind, outcomes: list[Outcome], peers: list[str]) -> Table:
    """One line a row: a column for each peer, of the first metric; of the others for the two that matter most."""
    first, *others = METRICS[kind]
    peers = _shown(outcomes, peers)
    few = [name for name in ("service", "multi") if name in peers] or peers[:1]
    table = _table(kind)
    table.add_column("", no_wrap=True)
    for name in peers:
        table.add_column(f"{first.title}\n{PEERS[name].short}", justify="right", vertical="bottom")
    for name in _ratio_columns(peers):
        table.add_column(f"÷ {PEERS[name].short}", justify="right", vertical="bottom")
    for metric in others:
        for name in few:
            table.add_column(f"{metric.title}\n{PEERS[name].short}", justify="right", vertical="bottom")
    for outcome in outcomes:
        table.add_row(
            outcome.row.title,
            *(_cell(outcome, name, first) for name in peers),
            *(_ratio(outcome, name, first) for name in _ratio_columns(peers)),
            *(_cell(outcome, name, metric) for metric in others for name in few),
        )
    return table


def _long_table(kind: Kind, outcomes: list[Outcome], peers: list[str]) -> Table:
    """One line for each metric of each row."""
    shown = _shown(outcomes, peers)
    table = _table(kind)
    table.add_column("", no_wrap=True)
    table.add_column("", no_wrap=True)
    for name in shown:
        table.add_column(PEERS[name].short, justify="right")
    for name in _ratio_columns(shown):
        table.add_column(f"÷ {PEERS[name].short}", justify="right")
    for outcome in outcomes:
        for number, metric in enumerate(METRICS[kind]):
            table.add_row(
                "" if number else outcome.row.title,
                metric.title,
                *(_cell(outcome, name, metric) for name in shown),
                *(_ratio(outcome, name, metric) for name in _ratio_columns(shown)),
            )
    return table


def _cell(outcome: Outcome, peer: str, metric: Metric) -> str:
    value = outcome.median(peer, metric.key)
    if value is None:
        return "–" if peer in outcome.row.peers else ""
    return f"{value * metric.scale:,.{metric.digits}f}{metric.unit}"


def _ratio(outcome: Outcome, peer: str, metric: Metric) -> str:
    value = outcome.ratio(metric.key, peer) if metric.compared else None
    if value is None:
        return ""
    good = value >= 1 if metric.higher else value <= 1
    return f"[{'green' if good else 'red'}]{value:.2f}[/]"
