"""What people see of a hand-off: its phases as they go by, and what it has come to. At most 80 columns.

On a terminal the phases are drawn again and again; elsewhere each one is a line, once it is over.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from app.client import Handoff, HandoffPlan
from app.tables import count_text, details_table, plain, plain_table

PHASES: Final = ("making", "verifying", "overlapping", "draining")
FINAL_STATES: Final = frozenset({"completed", "rolled_back", "aborted"})
REFRESH_PER_S: Final = 10
_FINAL_STYLES: Final = {"completed": "green", "rolled_back": "red", "aborted": "yellow"}


class HandoffDisplay:
    """Shows a hand-off while it runs; a context manager.

    Args:
        console: where to; its kind says how.
        clock: seconds that only grow.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._seen_at: dict[str, float] = {}
        self._lines = 0
        self._spinner = Spinner("dots", style="cyan")
        self._live = (
            Live(console=console, refresh_per_second=REFRESH_PER_S, transient=True) if console.is_terminal else None
        )

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, handoff: Handoff) -> None:
        """Take in how it stands now."""
        if self._live is not None:
            self._live.update(self._progress(handoff))
            return
        ended = [phase for phase in handoff["phases"] if phase["duration_s"] is not None]
        for phase in ended[self._lines :]:
            self._console.print(_phase_text(handoff, phase["state"], phase["duration_s"]), soft_wrap=True)
        self._lines = len(ended)

    def show_end(self, handoff: Handoff) -> None:
        """What it has come to; after `show`, and after the context."""
        if self._live is not None:
            for phase in handoff["phases"]:
                self._console.print(_phase_text(handoff, phase["state"], phase["duration_s"]))
        self._console.print(_outcome(handoff), soft_wrap=self._live is None)
        self._console.print()
        self._console.print(report_tables(handoff))

    def _progress(self, handoff: Handoff) -> RenderableType:
        now = self._clock()
        table = Table.grid(padding=(0, 1))
        durations = {phase["state"]: phase["duration_s"] for phase in handoff["phases"]}
        for name in PHASES:
            if name not in durations:
                table.add_row("", Text(name, style="dim"))
                continue
            duration_s = durations[name]
            is_running = duration_s is None
            if duration_s is None:
                duration_s = now - self._seen_at.setdefault(name, now)
            mark: RenderableType = self._spinner if is_running else Text("\N{CHECK MARK}", style="green")
            style = "bold cyan" if is_running else ""
            table.add_row(mark, Text(name, style=style), f"{duration_s:5.2f} s", Text(_note(handoff, name)))
        return Group(table, _counts(handoff))


def plan_details(plan: HandoffPlan) -> Table:
    """What would be done, a line each."""
    to = plan["to"]
    url = to["url"] or ""
    name = to["name"] or "(gets a name)"
    rows = [
        ("multilink", plan["multilink"]),
        ("from", ", ".join(plan["from"]) or "(nothing: it only joins)"),
        ("to", f"{name}  {url}" if to["link"] is None else f"{name}, which is there"),
        ("verify", f"{_verify_text(plan)}, within {plan['verify_timeout_s']:g} s"),
        ("overlap", f"{plan['overlap_s']:g} s"),
        ("drain", f"{plan['drain_s']:g} s, then the old links are {_become(plan)}"),
    ]
    return details_table([(label, plain(text)) for label, text in rows])


def report_tables(handoff: Handoff) -> RenderableType:
    """The directions, and what each path did."""
    report = handoff["report"]
    ways = plain_table()
    ways.add_column("DIRECTION", no_wrap=True)
    for heading in ("FRAMES", "SECOND COPIES", "LONGEST GAP"):
        ways.add_column(heading, justify="right", no_wrap=True)
    to_host, from_host = report["to_host"], report["from_host"]
    ways.add_row(
        "to the host", count_text(to_host["frames"]), count_text(to_host["duplicates"]), _ms(to_host["longest_gap_s"])
    )
    ways.add_row("from the host", count_text(from_host["frames"]), "", _ms(from_host["longest_gap_s"]))
    paths = plain_table()
    paths.add_column("PATH", overflow="fold")
    for heading in ("FIRST", "SECOND", "MISSED", "SENT", "LOST"):
        paths.add_column(heading, justify="right", no_wrap=True)
    for name in dict.fromkeys((*from_host["paths"], *to_host["paths"])):
        brought, sent = to_host["paths"].get(name), from_host["paths"].get(name)
        paths.add_row(
            plain(name),
            *((count_text(brought[what]) if brought else "") for what in ("first", "later", "missed")),
            *((count_text(sent[what]) if sent else "") for what in ("frames", "dropped")),
        )
    parts: list[RenderableType] = [ways, "", paths]
    if to_host["skew_median_s"] is not None:
        median, p99 = _ms(to_host["skew_median_s"]), _ms(to_host["skew_p99_s"])
        parts += ["", Text(f"The second copy came {median} later (median; 99 % within {p99}) and was dropped.")]
    return Group(*parts)


def _phase_text(handoff: Handoff, name: str, duration_s: float | None) -> Text:
    is_last = handoff["phases"][-1]["state"] == name
    failed = is_last and handoff["state"] in FINAL_STATES - {"completed"}
    text = Text()
    text.append("\N{MULTIPLICATION X} " if failed else "\N{CHECK MARK} ", style="red" if failed else "green")
    text.append(f"{name:<12}")
    text.append(f"{duration_s or 0:6.2f} s  ", style="dim")
    text.append(_note(handoff, name))
    return text


def _note(handoff: Handoff, name: str) -> str:
    to = handoff["to"]
    if name == "making":
        return plain(f"{to['name'] or ''} {to['url'] or ''}".strip())
    if name == "verifying":
        return plain(handoff["verified_by"])
    if name == "overlapping":
        return "both carry"
    return plain(", ".join(handoff["from"]))


def _outcome(handoff: Handoff) -> Text:
    state, name = handoff["state"], plain(handoff["to"]["name"] or "")
    text = Text(state.replace("_", " "), style=f"bold {_FINAL_STYLES.get(state, '')}")
    if state == "completed":
        old = plain(", ".join(handoff["from"]))
        text.append(f": {plain(handoff['multilink'])} is on {name}" + (f", {old} {_became(handoff)}" if old else ""))
    else:
        text.append(f": {plain(handoff['reason'])}")
    return text


def _verify_text(plan: HandoffPlan) -> str:
    verify = plan["verify"]
    if verify == "auto":
        return "a frame from the new link, or an answer over it from somebody heard lately"
    if verify == "none":
        return "nothing: a connected link is good enough"
    proof = dict(verify)
    if "frames" in proof:
        return f"{proof['frames']} frames from the new link"
    return f"{proof['address']} answers over the new link"


def _become(plan: HandoffPlan) -> str:
    return "retired" if plan["old"] == "retire" else "kept on standby"


def _became(handoff: Handoff) -> str:
    many = len(handoff["from"]) > 1
    if handoff["old"] == "retire":
        return "are retired" if many else "is retired"
    return "are on standby" if many else "is on standby"


def _counts(handoff: Handoff) -> Text:
    to_host, from_host = handoff["report"]["to_host"], handoff["report"]["from_host"]
    text = Text(style="dim")
    text.append(f"  {count_text(to_host['frames'])} frames to the host, ")
    text.append(f"{count_text(to_host['duplicates'])} second copies dropped, ")
    text.append(f"{count_text(from_host['frames'])} from the host")
    return text


def _ms(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds * 1000:.1f} ms" if seconds < 0.9995 else f"{seconds:.2f} s"
