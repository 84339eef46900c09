"""What the commands show to people: tables that fit 80 columns, in plain words.

Everything that a peer can choose (descriptions, paths, details) is shown as text: never as markup, never as
control characters that a terminal would obey.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.client import Direction, Host, Link, Monitor, Multilink, Peer

PIPE_WIDTH: Final = 200
"""Where no terminal cuts lines, one line a link is what grep and awk want."""

LEFT_OUT: Final = frozenset({"duplicate", "reflection", "probe"})
"""Reasons that are no loss: second copies, the host's own frames, answers to the service itself."""

_STATE_STYLES: Final = {
    "up": "green",
    "attached": "green",
    "connecting": "yellow",
    "draining": "yellow",
    "down": "red",
    "detached": "yellow",
    "retired": "dim",
}
_UNITS: Final = ("B", "kB", "MB", "GB", "TB", "PB")


def stdout_console() -> Console:
    """A console for results: as wide as the terminal, or, in a pipe, as `COLUMNS` says or wide."""
    in_pipe = not sys.stdout.isatty() and not os.environ.get("COLUMNS")
    return Console(width=PIPE_WIDTH if in_pipe else None, highlight=False, markup=False, emoji=False, soft_wrap=False)


def plain(text: str) -> str:
    """`text` with whatever a terminal would not show as a character replaced."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def count_text(count: int) -> str:
    """A number of frames or links, digits in groups."""
    return f"{count:,}"


def bytes_text(octets: int) -> str:
    """A number of bytes in at most three digits and a decimal unit."""
    size, unit = float(octets), 0
    while size >= 999.5 and unit + 1 < len(_UNITS):
        size, unit = size / 1000, unit + 1
    return f"{size:.0f} {_UNITS[unit]}" if unit == 0 or size >= 99.95 else f"{size:.1f} {_UNITS[unit]}"


def since_text(since: str, now: datetime | None = None) -> str:
    """How long ago an RFC 3339 time was."""
    seconds = max(0, int(((now or datetime.now(UTC)) - datetime.fromisoformat(since)).total_seconds()))
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def dropped_frames(*directions: Direction) -> int:
    """Frames lost in these directions; what is left out on purpose is not lost."""
    return sum(
        frames for direction in directions for reason, frames in direction["dropped"].items() if reason not in LEFT_OUT
    )


def links_table(links: Iterable[Link], *, now: datetime | None = None) -> Table:
    """A line a link; a second one says why where a link is not up."""
    table = plain_table()
    table.add_column("LINK", no_wrap=True)
    table.add_column("MULTILINK", no_wrap=True)
    table.add_column("STATE", no_wrap=True)
    table.add_column("PEER", overflow="fold")
    for heading in ("FOR", "RX", "TX", "LOST"):
        table.add_column(heading, justify="right", no_wrap=True)
    for link in links:
        peer = Text(plain(_who(link)))
        degraded = link["health"] == "degraded"
        if link["detail"] and (link["state"] != "up" or degraded):
            peer.append("\n" + plain(link["detail"]), style="red" if degraded else _STATE_STYLES.get(link["state"], ""))
        state = _state(link["state"])
        if degraded:
            state.append("\ndegraded", style="red")
        if link["role"] == "standby":
            state.append("\nstandby", style="cyan")
        table.add_row(
            Text(plain(link["name"]), style="bold"),
            Text(plain(link["multilink"])),
            state,
            peer,
            since_text(link["since"], now),
            bytes_text(link["rx"]["bytes"]),
            bytes_text(link["tx"]["bytes"]),
            _lost(dropped_frames(link["rx"], link["tx"])),
        )
    return table


def link_details(link: Link, *, now: datetime | None = None) -> Table:
    """Everything that is known of one link, a line each."""
    state = _state(link["state"])
    state.append(f" for {since_text(link['since'], now)}, since {link['since']}")
    rows: list[tuple[str, str | Text]] = [
        ("link", Text(plain(link["name"]), style="bold")),
        ("id", link["id"]),
        ("multilink", link["multilink"]),
        ("kind", link["kind"]),
        ("state", state),
        ("detail", link["detail"]),
        ("role", link["role"]),
        ("monitor", _watch(link["monitor"], link["health"])),
        ("url", link["url"] or ""),
        ("says", link["description"]),
        ("process", _process(link["peer"])),
        ("rx", _traffic(link["rx"])),
        ("tx", _traffic(link["tx"])),
    ]
    return details_table(rows)


def multilinks_table(multilinks: Iterable[Multilink]) -> Table:
    """A line a multilink; RX is from the host, TX to it."""
    table = plain_table()
    table.add_column("MULTILINK", no_wrap=True)
    table.add_column("PATH", overflow="fold")
    table.add_column("HOST", overflow="fold")
    for heading in ("LINKS", "HOST RX", "HOST TX", "LOST"):
        table.add_column(heading, justify="right", no_wrap=True)
    for multilink in multilinks:
        host = multilink["host"]
        lost = dropped_frames(host["rx"], host["tx"])
        table.add_row(
            Text(plain(multilink["name"]), style="bold"),
            Text(plain(multilink["path"])),
            _host(host),
            count_text(multilink["links"]),
            bytes_text(host["rx"]["bytes"]),
            bytes_text(host["tx"]["bytes"]),
            _lost(lost),
        )
    return table


def plain_table() -> Table:
    """A table without lines."""
    return Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0), collapse_padding=True)


def details_table(rows: Iterable[tuple[str, str | Text]]) -> Table:
    """Labels and values, a line each; without those that are empty."""
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for label, value in rows:
        if value:
            table.add_row(label, value if isinstance(value, Text) else Text(plain(value)))
    return table


def _state(state: str) -> Text:
    return Text(state, style=_STATE_STYLES.get(state, ""))


def _host(host: Host) -> Text:
    text = _state(host["state"])
    if host["url"]:
        text.append(" " + plain(host["url"]), style="none")
    elif host["peer"]:
        text.append(f" pid {host['peer']['pid']}", style="none")
    if host["detail"] and host["state"] != "attached":
        text.append("\n" + plain(host["detail"]), style="none")
    return text


def _who(link: Link) -> str:
    if link["url"]:
        return link["url"]
    claim, peer = link["description"], link["peer"]
    if peer is None or f"pid={peer['pid']}" in claim.split():
        return claim or link["kind"]  # what it says of itself is what the kernel says
    return f"{claim or link['kind']} ({_process(peer)})"


def _process(peer: Peer | None) -> str:
    return f"pid {peer['pid']}, uid {peer['uid']}" if peer else ""


def _watch(monitor: Monitor | None, health: str | None) -> str:
    if monitor is None:
        return ""
    text = f"asks {monitor['address']} every {monitor['interval_s']:g} s: {health or 'no answer yet'}"
    if monitor["rtt_s"] is not None:
        text += f", {monitor['rtt_s'] * 1000:.1f} ms"
    if monitor["lost"]:
        text += f", {monitor['lost']:.0%} not answered"
    if monitor["last_heard"] is not None:
        text += f", last heard {monitor['last_heard']}"
    return text


def _traffic(direction: Direction) -> str:
    text = f"{count_text(direction['frames'])} frames, {bytes_text(direction['bytes'])}"
    for label, is_left_out in (("lost", False), ("left out", True)):
        dropped = [
            f"{count_text(frames)} {plain(reason)}"
            for reason, frames in direction["dropped"].items()
            if (reason in LEFT_OUT) is is_left_out
        ]
        if dropped:
            text += f"; {label}: {', '.join(dropped)}"
    return text


def _lost(frames: int) -> Text:
    return Text(count_text(frames), style="red" if frames else "dim")
