"""The command: `python -m bench`, or `make bench`."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path
from types import FrameType

from rich.console import Console

from bench.load import SOURCES, BenchError, compile_programs
from bench.machine import allow_many_files, describe_machine
from bench.peers import PEERS
from bench.plot import draw
from bench.report import WIDTH, print_report
from bench.results import Results
from bench.rows import ROWS, choose_rows
from bench.runner import run_rows
from bench.sessions import open_bench

ROUNDS = 5
QUICK_SCALE = 0.5


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Compares the service with the C peers, interleaved, in one run. A full run writes results.json "
        "and results.svg beside the sources; one of --quick, --rows or --peers writes them only where --out says.",
    )
    parser.add_argument("--quick", action="store_true", help="a few rows, one round: a smoke test")
    parser.add_argument("--rows", metavar="PATTERN", help="only these, such as 'down-*-1514,tcp-*' (--list names them)")
    parser.add_argument("--rounds", type=int, metavar="N", help=f"the median is taken over so many (default: {ROUNDS})")
    parser.add_argument("--peers", metavar="NAME,...", default=",".join(PEERS), help="default: %(default)s")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where results.json and results.svg go")
    parser.add_argument("--list", action="store_true", help="name the rows and end")
    arguments = parser.parse_args()
    arguments.peers = tuple(arguments.peers.split(","))
    if unknown := set(arguments.peers) - set(PEERS):
        parser.error(f"no such peer: {', '.join(sorted(unknown))} (there are {', '.join(PEERS)})")
    if arguments.rounds is not None and arguments.rounds < 1:
        parser.error("--rounds must be at least 1")
    return arguments


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _measure(arguments: argparse.Namespace) -> Results:
    rows = choose_rows(arguments.rows, quick=arguments.quick, peers=arguments.peers)
    if not rows:
        raise BenchError(f"no row matches {arguments.rows!r}: --list names them")
    settings = {
        "rounds": arguments.rounds or (1 if arguments.quick else ROUNDS),
        "quick": arguments.quick,
        "peers": list(arguments.peers),
    }
    results = Results(describe_machine(), settings)
    progress = Console(stderr=True, highlight=False)
    with open_bench(time_scale=QUICK_SCALE if arguments.quick else 1.0) as bench:
        compile_programs(bench.programs)
        run_rows(bench, rows, results, lambda line: progress.print(line, style="dim", markup=False))
    return results


def main() -> int:
    """Runs the bench. The answer is the exit code: 1 if the service could not be measured somewhere."""
    arguments = _arguments()
    if arguments.list:
        for row in ROWS:
            print(f"{row.name:18} {row.title}")
        return 0
    signal.signal(signal.SIGTERM, _interrupt)
    allow_many_files()
    try:
        results = _measure(arguments)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return 130
    console = Console()
    print_report(results, console if console.is_terminal else Console(width=WIDTH))
    partial = arguments.quick or arguments.rows or len(arguments.peers) < len(PEERS)
    out = arguments.out or (None if partial else SOURCES)
    if out:
        out.mkdir(parents=True, exist_ok=True)
        (out / "results.json").write_text(json.dumps(results.to_json(), indent=1, ensure_ascii=False) + "\n")
        (out / "results.svg").write_text(draw(results))
        console.print("written: results.json, results.svg")
    return int(any("service" in outcome.failures for outcome in results.outcomes))


if __name__ == "__main__":
    sys.exit(main())
