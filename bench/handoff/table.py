"""The table for a reader."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table

from bench.handoff.loads import TITLES
from bench.handoff.movers import TOOLS
from bench.handoff.paths import KINDS
from bench.handoff.results import Cell, Results

WIDTH = 140
_COLUMNS = (
    "frames",
    "lost",
    "twice",
    "out of\norder",
    "longest\ngap",
    "retrans-\nmitted",
    "Mbit/s",
    "longest\nstall",
    "lost\nat taps",
    "lost\nafter",
    "copies\ndropped\nwithin",
)
_MUST_BE_ZERO = ("ping", "udp")


def print_table(results: Results, console: Console) -> None:
    """Prints the table, what the services have counted, and where this one falls short."""
    cells = results.summaries()
    for path in dict.fromkeys(cell.path for cell in cells):
        _print_path(KINDS[path].title, [cell for cell in cells if cell.path == path], console)
    for cell in cells:
        _print_drops(cell, console)
    for failure in results.failures:
        console.print("[yellow]not measured[/]: ", end="")
        console.print(failure, markup=False, soft_wrap=True)
    shortfalls = results.shortfalls()
    for line in shortfalls:
        console.print(f"[red]falls short[/]: {line}", soft_wrap=True)
    if not shortfalls and not results.failures and any(cell.tools == "service" for cell in cells):
        console.print("[green]nothing lost, nothing twice; gaps and retransmissions within what is asked[/]")


def _print_path(title: str, cells: list[Cell], console: Console) -> None:
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column("", no_wrap=True)
    table.add_column("handed off by", no_wrap=True, vertical="bottom")
    for column in _COLUMNS:
        table.add_column(column, justify="right", vertical="bottom", no_wrap=True)
    before = ""
    for cell in cells:
        if before and cell.load != before:
            table.add_section()
        table.add_row("" if cell.load == before else TITLES[cell.load], *_figures(cell))
        before = cell.load
    console.print(table)


def _figures(cell: Cell) -> list[str]:
    total, more = cell.outcome.total, cell.outcome.more
    strict, past = cell.load in _MUST_BE_ZERO, cell.lost_past_taps
    return [
        TOOLS[cell.tools].title,
        f"{total.sent:,}",
        _zero(total.lost, strict=strict),
        _zero(total.duplicated, strict=True),
        f"{total.reordered:,}",
        f"{total.gap_ms:.0f} ms",
        f"{more['retransmissions']:,.0f}" if "retransmissions" in more else "",
        f"{more['mbit_per_s']:,.0f}" if "mbit_per_s" in more else "",
        f"{more['stall_s']:.1f} s" if "stall_s" in more else "",
        f"{more['lost_at_taps']:,.0f}" if "lost_at_taps" in more else "",
        "" if past is None else _zero(past, strict=True),
        _zero(cell.dropped, strict=bool(past or (strict and total.lost))) if cell.drops else "",
    ]


def _zero(count: int, *, strict: bool) -> str:
    text = f"{count:,}"
    if not strict:
        return text
    return f"[green]{text}[/]" if count == 0 else f"[red]{text}[/]"


def _print_drops(cell: Cell, console: Console) -> None:
    for end, drops in zip(("near", "far"), cell.drops, strict=False):
        if drops:
            said = ", ".join(f"{reason} {count:,}" for reason, count in sorted(drops.items()))
            line = f"{cell.path}, {cell.load}, {TOOLS[cell.tools].title}, {end} end counted: {said}"
            console.print(line, style="dim", markup=False, soft_wrap=True)
