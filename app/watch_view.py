"""The picture of `watch`, drawn for a terminal of any width: multilinks, links, hand-offs, and what has happened.

Everything that a peer can choose is shown as text: never as markup, never as control characters.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from app.client import Handoff, Link, Multilink
from app.tables import bytes_text, count_text, dropped_frames, plain
from app.watch import SECONDS_KEPT, LogLine, Picture, Rate

BARS: Final = " ▁▂▃▄▅▆▇█"
ASCII_BARS: Final = " .:-=+*#@"
WORDS: Final = 86
"""Columns that everything but the curves of a link takes."""
MIN_CURVE: Final = 8
LOG_LINES: Final = 8
PHASES: Final = ("making", "verifying", "overlapping", "draining")

_RX: Final = "cyan"
_TX: Final = "magenta"
_TONES: Final = {"good": "green", "bad": "red", "busy": "yellow", "": ""}
_STATES: Final = {"up": "green", "connecting": "yellow", "draining": "yellow", "down": "red", "retired": "dim"}
_OVER: Final = {"completed": "green", "rolled_back": "red", "aborted": "yellow"}


class WatchView:
    """A picture, to be printed.

    Args:
        picture: what is shown, as it is when it is drawn.
    """

    def __init__(self, picture: Picture) -> None:
        self._picture = picture

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw it; everything fits the width, the log takes what height is left."""
        bars = ASCII_BARS if options.ascii_only else BARS
        parts: list[RenderableType] = [_heading(self._picture, ascii_only=options.ascii_only)]
        parts += [
            _multilink_panel(self._picture, multilink, options.max_width, bars)
            for multilink in self._picture.multilinks
        ]
        if not self._picture.multilinks and not self._picture.lost:
            parts.append(Text("It has no multilinks.", style="dim"))
        lines = LOG_LINES
        if options.height is not None:
            used = sum(len(console.render_lines(part, options.update(height=None))) for part in parts)
            lines = max(1, options.height - used - 2)
        if self._picture.log:
            parts.append(_log(list(self._picture.log)[-lines:]))
        yield Group(*parts)


def sparkline(values: Sequence[float], highest: float, bars: str = BARS) -> str:
    """A curve, a character a value; whatever is not nothing is seen."""
    if highest <= 0:
        return bars[0] * len(values)
    steps = len(bars) - 1
    return "".join(bars[0 if value <= 0 else min(steps, 1 + int(value / highest * (steps - 1)))] for value in values)


def bits_text(octets_per_s: float) -> str:
    """A rate in bits, as network people have them; empty for none."""
    rate, unit = octets_per_s * 8, 0
    units = ("bit/s", "kbit/s", "Mbit/s", "Gbit/s")
    if not rate:
        return ""
    while rate >= 999.5 and unit + 1 < len(units):
        rate, unit = rate / 1000, unit + 1
    return f"{rate:.0f} {units[unit]}" if unit == 0 or rate >= 99.95 else f"{rate:.1f} {units[unit]}"


def _heading(picture: Picture, *, ascii_only: bool) -> Text:
    mark = "*" if ascii_only else "●"
    text = Text.assemble(("vde-multilink ", "bold"))
    text.append(f"{plain(picture.service)}  ", style="dim")
    if picture.lost:
        text.append(f"{mark} {plain(picture.lost)}", style="red")
    else:
        text.append(f"{mark} live", style="green")
        if picture.now:
            text.append(f"  {datetime.fromtimestamp(picture.now, UTC):%H:%M:%S} UTC", style="dim")
    return text


def _multilink_panel(picture: Picture, multilink: Multilink, width: int, bars: str) -> Panel:
    links = [link for link in picture.links if link["multilink"] == multilink["name"]]
    parts: list[RenderableType] = [_host(multilink)]
    handoff = picture.handoff_shown(multilink["name"])
    if handoff is not None:
        parts.append(_handoff(handoff, is_ascii=bars is ASCII_BARS))
    if links:
        parts += [Text(), _links(picture, links, handoff, width, bars)]
    else:
        parts += [Text(), Text(f"no links yet: vde_plug {plain(multilink['path'])}", style="dim")]
    title = Text.assemble((plain(multilink["name"]), "bold"), f"  {plain(multilink['path'])}")
    return Panel(Group(*parts), title=title, title_align="left", box=box.ROUNDED, border_style="dim", padding=(0, 1))


def _host(multilink: Multilink) -> Text:
    host = multilink["host"]
    is_there = host["state"] == "attached"
    text = Text.assemble(("host ", "dim"))
    text.append(host["state"], style="green" if is_there else "yellow")
    if host["url"]:
        text.append(f" {plain(host['url'])}")
    elif host["peer"]:
        text.append(f" pid {host['peer']['pid']}")
    text.append(f"   sent {bytes_text(host['rx']['bytes'])}, got {bytes_text(host['tx']['bytes'])}")
    lost = dropped_frames(host["rx"], host["tx"])
    if lost:
        text.append(f", {count_text(lost)} frame{'s' if lost > 1 else ''} lost", style="red")
    if host["detail"]:
        text.append(f"   {plain(host['detail'])}", style="dim")
    return text


def _handoff(handoff: Handoff, *, is_ascii: bool) -> Text:
    state = handoff["state"]
    durations = {phase["state"]: phase["duration_s"] for phase in handoff["phases"]}
    to = handoff["to"]["name"] or handoff["to"]["url"] or "a new link"
    text = Text.assemble(("hand-off ", "bold"))
    arrow, done, running = (" > ", "+", "*") if is_ascii else (" → ", "✓", "●")
    text.append(f"{plain(', '.join(handoff['from'])) or 'nothing'}{arrow}{plain(to)}")
    if state in _OVER:
        text.append(f"  {state.replace('_', ' ')}", style=f"bold {_OVER[state]}")
    text.append("\n  ")
    for number, phase in enumerate(PHASES):
        if number:
            text.append(arrow, style="dim")
        if phase == state:
            text.append(f"{running} {phase}", style="bold yellow")
        elif phase in durations:
            text.append(f"{done} {phase} {durations[phase] or 0:.2f} s", style="green" if state == "completed" else "")
        else:
            text.append(phase, style="dim")
    if handoff["reason"]:
        text.append(f"\n  {plain(handoff['reason'])}", style="yellow")
    elif handoff["verified_by"]:
        second = handoff["report"]["to_host"]["duplicates"]
        text.append(f"\n  verified by {plain(handoff['verified_by'])}", style="dim")
        text.append(f"; {count_text(second)} second copies left out" if second else "", style="dim")
    return text


def _links(picture: Picture, links: Sequence[Link], handoff: Handoff | None, width: int, bars: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0), expand=True)
    table.add_column("LINK", no_wrap=True, overflow="ellipsis", min_width=16)
    table.add_column("STATE", no_wrap=True, min_width=11)
    table.add_column("FROM PEER", justify="right", no_wrap=True, min_width=11)
    seconds = min(SECONDS_KEPT, (width - WORDS) // 2)
    seconds = seconds if seconds >= MIN_CURVE else 0
    if seconds:
        table.add_column("", no_wrap=True, width=seconds)
    table.add_column("TO PEER", justify="right", no_wrap=True, min_width=11)
    if seconds:
        table.add_column("", no_wrap=True, width=seconds)
    table.add_column("LOST", justify="right", no_wrap=True, min_width=7)
    table.add_column("RTT", justify="right", no_wrap=True, min_width=7)
    curves = {link["id"]: list(picture.rates.get(link["id"], ()))[-seconds:] if seconds else [] for link in links}
    # One scale for all, so that links can be compared.
    highest = max((max(rate.rx, rate.tx) for rates in curves.values() for rate in rates), default=0)
    for link in links:
        rate = picture.rate_of(link["id"])
        row: list[RenderableType] = [_name(link, handoff), _state(link), Text(bits_text(rate.rx), style=_RX)]
        if seconds:
            row.append(Text(sparkline([each.rx for each in curves[link["id"]]], highest, bars), style=_RX))
        row.append(Text(bits_text(rate.tx), style=_TX))
        if seconds:
            row.append(Text(sparkline([each.tx for each in curves[link["id"]]], highest, bars), style=_TX))
        table.add_row(*row, _lost(link, rate), _round_trip(link))
    return table


def _name(link: Link, handoff: Handoff | None) -> Text:
    text = Text.assemble((plain(link["name"]), "bold"))
    if handoff is not None and handoff["state"] in PHASES:
        if link["name"] == handoff["to"]["name"]:
            text.append(" new", style="bold yellow")
        elif link["name"] in handoff["from"]:
            text.append(" old", style="yellow")
    return text


def _state(link: Link) -> Text:
    text = Text.assemble((link["state"], _STATES.get(link["state"], "")))
    if link["role"] == "standby":
        text.append(" standby", style="cyan")
    if link["health"] == "degraded":
        text.append(" degraded", style="red")
    return text


def _lost(link: Link, rate: Rate) -> Text:
    lost = dropped_frames(link["rx"], link["tx"])
    return Text(count_text(lost), style="bold red" if rate.dropped else "red" if lost else "dim")


def _round_trip(link: Link) -> str:
    monitor = link["monitor"]
    if monitor is None or monitor["rtt_s"] is None:
        return ""
    return f"{monitor['rtt_s'] * 1000:.1f} ms"


def _log(lines: Sequence[LogLine]) -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis")
    for line in lines:
        at = f"{datetime.fromisoformat(line.at):%H:%M:%S}" if line.at else ""
        table.add_row(at, Text(plain(line.text), style=_TONES[line.tone]))
    return table
