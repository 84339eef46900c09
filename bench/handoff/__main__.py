"""The command: `python -m bench.handoff`, or `make bench-handoff`."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console

from bench.handoff.loads import LOADS
from bench.handoff.movers import TOOLS, Tools, set_up
from bench.handoff.paths import KINDS, PathKind
from bench.handoff.repeat import repeat
from bench.handoff.results import Cell, Results
from bench.handoff.table import WIDTH, print_table
from bench.handoff.world import open_world
from bench.load import BenchError
from bench.machine import describe_machine

PHASE_S = 4.0
QUICK_PHASE_S = 3.0
SETTINGS = ("by_hand", "rounds", "tools", "tap_queue")
Tell = Callable[[str], None]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.handoff",
        description="Hands loads off from one path to another, by the C tools and by this service, in one run: one "
        "path, both, the other, as long each. Takes root. The exit code is 1 where the service falls short.",
    )
    parser.add_argument("--quick", action="store_true", help="ping and UDP only, 3 s each phase")
    parser.add_argument("--rows", metavar="PATTERN,...", default="", help="such as 'ssh-*,wire-tcp', see --list")
    parser.add_argument("--tools", metavar="NAME,...", default="c,service", help=f"of {', '.join(TOOLS)}: %(default)s")
    parser.add_argument("--seconds", type=float, metavar="S", help=f"how long a phase lasts (default: {PHASE_S:g})")
    parser.add_argument("--rounds", type=int, default=1, metavar="N", help="sums and medians of so many: %(default)s")
    parser.add_argument("--tap-queue", type=int, metavar="N", help="frames that a tap queues (default: Linux's 1,000)")
    parser.add_argument("--by-hand", action="store_true", help="POST and DELETE /links instead of POST /handoffs")
    parser.add_argument("--repeat", type=int, metavar="N", help="instead: N hand-offs back and forth, ping and UDP")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write all figures there, as JSON")
    parser.add_argument("--list", action="store_true", help="name the rows and end")
    arguments = parser.parse_args()
    arguments.tools = arguments.tools.split(",")
    if unknown := set(arguments.tools) - set(TOOLS):
        parser.error(f"no such tools: {', '.join(sorted(unknown))} (there are {', '.join(TOOLS)})")
    if arguments.repeat is not None and arguments.repeat < 1:
        parser.error("--repeat must be at least 1")
    if arguments.rounds < 1:
        parser.error("--rounds must be at least 1")
    if arguments.seconds is not None and arguments.seconds <= 0:
        parser.error("--seconds must be more than 0")
    return arguments


def _rows(arguments: argparse.Namespace) -> list[tuple[PathKind, str]]:
    """The paths and loads that are asked for; without --rows, `back` is left to those who ask for it."""
    patterns = [pattern for pattern in arguments.rows.split(",") if pattern] or ["ssh-*", "wire-*"]
    loads = [load for load in LOADS if not (arguments.quick and load == "tcp")]
    rows = [
        (kind, load)
        for kind in KINDS.values()
        for load in loads
        if any(fnmatchcase(f"{kind.name}-{load}", pattern) for pattern in patterns)
    ]
    if not rows:
        raise BenchError(f"no row matches {arguments.rows!r}: --list names them")
    return rows


def _measure(tools: Tools, kind: PathKind, load: str, phase_s: float, *, by_hand: bool, tap_queue: int | None) -> Cell:
    with open_world(tap_queue) as world:
        ends = set_up(world, tools, kind, by_hand=by_hand)
        ends.mover.first()
        world.await_answer()
        with LOADS[load](world) as running:
            time.sleep(phase_s)
            began = time.monotonic()
            handoff = ends.mover.move(phase_s)
            move_s = time.monotonic() - began
            time.sleep(phase_s)
            for end in ends.services:
                end.note_drops()
        drops = [end.drops() for end in ends.services]
        return Cell(kind.name, load, tools.name, running.finish(), drops, handoff, move_s)


def _table(arguments: argparse.Namespace, tell: Tell) -> Results:
    phase_s = arguments.seconds or (QUICK_PHASE_S if arguments.quick else PHASE_S)
    settings = {"phase_s": phase_s, **{key: getattr(arguments, key) for key in SETTINGS}}
    results = Results(describe_machine(), settings)
    for kind, load in _rows(arguments) * arguments.rounds:
        if missing := kind.missing():
            results.failures.append(f"{kind.title}, {load}: not installed: {', '.join(missing)}")
            continue
        for name in arguments.tools:
            tell(f"{kind.title}, {load}, {TOOLS[name].title}")
            try:
                how = {"by_hand": arguments.by_hand, "tap_queue": arguments.tap_queue}
                results.cells.append(_measure(TOOLS[name], kind, load, phase_s, **how))
            except BenchError as error:
                results.failures.append(f"{kind.name}-{load}, {TOOLS[name].title}: {error}")
                tell(f"  {error}")
    return results


def _in_a_row(arguments: argparse.Namespace, console: Console, tell: Tell) -> tuple[int, list[dict[str, Any]]]:
    kinds = dict.fromkeys(kind.name for kind, _ in _rows(arguments))
    found = [repeat(KINDS[name], arguments.repeat, by_hand=arguments.by_hand, tell=tell) for name in kinds]
    for each in found:
        for line in each.lines():
            console.print(line, markup=False, soft_wrap=True)
    return int(not all(each.is_clean for each in found)), [each.to_json() for each in found]


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _run(arguments: argparse.Namespace, console: Console, tell: Tell) -> int:
    document: Any
    if arguments.repeat:
        code, document = _in_a_row(arguments, console, tell)
    else:
        results = _table(arguments, tell)
        print_table(results, console)
        code, document = int(bool(results.failures or results.shortfalls())), results.to_json()
    if arguments.out:
        arguments.out.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
        console.print(f"written: {arguments.out}")
    return code


def main() -> int:
    """Runs the bench. The answer is the exit code."""
    arguments = _arguments()
    if arguments.list:
        for kind in KINDS.values():
            for load in LOADS:
                print(f"{kind.name}-{load}")
        return 0
    signal.signal(signal.SIGTERM, _interrupt)
    progress = Console(stderr=True, highlight=False)
    console = Console()
    try:
        return _run(
            arguments,
            console if console.is_terminal else Console(width=WIDTH),
            lambda line: progress.print(line, style="dim", markup=False),
        )
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
