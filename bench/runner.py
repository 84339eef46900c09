"""Runs the rows: interleaved, round after round, so that what disturbs the machine disturbs every peer alike.

Rows that send frames through a given number of links share their sessions: one forwarder of each kind is up for all of
them, the idle ones cost nothing. The other rows start their forwarders anew for each measurement.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack

from bench.load import BenchError
from bench.measure import ALONE, IDLE_RATE, measure_flow
from bench.peers import PEERS, Peer
from bench.results import Outcome, Results
from bench.rows import Kind, Row
from bench.sessions import Bench, Session, open_session

Report = Callable[[str], None]
SHARED_SESSIONS = {Kind.FLOW, Kind.HICCUP, Kind.FAIR, Kind.LATENCY}
CALIBRATION_MS = 100


def run_rows(bench: Bench, rows: Iterable[Row], results: Results, report: Report) -> None:
    """Measures every row, and notes what came out in `results`, in the table's order."""
    outcomes = [Outcome(row) for row in rows]
    results.outcomes += outcomes
    peers = [PEERS[name] for name in results.settings["peers"]]
    for outcome in outcomes:
        for peer in peers:
            missing = peer.missing() if peer.name in outcome.row.peers else None
            if missing:
                outcome.failures[peer.name] = missing
    shared = [outcome for outcome in outcomes if outcome.row.kind in SHARED_SESSIONS]
    for links in sorted({outcome.row.links for outcome in shared}):
        group = [outcome for outcome in shared if outcome.row.links == links]
        _run_group(bench, links, group, peers, results.settings["rounds"], report)
    for outcome in outcomes:
        if outcome.row.kind not in SHARED_SESSIONS:
            _run_alone(bench, outcome, peers, results.settings["rounds"], report)


def _takes_part(peer: Peer, outcome: Outcome) -> bool:
    return peer.name in outcome.row.peers and peer.name not in outcome.failures


def _turn(peers: list[Peer], number: int) -> list[Peer]:
    """The order of a round: each begins with another peer."""
    start = number % len(peers)
    return peers[start:] + peers[:start]


def _run_group(bench: Bench, links: int, group: list[Outcome], peers: list[Peer], rounds: int, report: Report) -> None:
    with ExitStack() as stack:
        sessions: dict[str, Session] = {}
        for peer in peers:
            concerned = [outcome for outcome in group if _takes_part(peer, outcome)]
            if not concerned:
                continue
            try:
                sessions[peer.name] = stack.enter_context(open_session(bench, peer, links=links))
            except BenchError as error:
                for outcome in concerned:
                    outcome.failures[peer.name] = str(error)
                report(f"{peer.title}: {error}")
        for number in range(rounds):
            report(f"links: {links:4}   round {number + 1} of {rounds}")
            for outcome in group:
                if number < outcome.row.most_rounds:
                    _run_round(bench, outcome, sessions, _turn(peers, number), number)


def _run_round(bench: Bench, outcome: Outcome, sessions: dict[str, Session], peers: list[Peer], number: int) -> None:
    row = outcome.row
    rate = IDLE_RATE if row.load < 0 else row.load and row.load * _full_rate(sessions, row)
    for peer in peers:
        if peer.name not in sessions or not _takes_part(peer, outcome):
            continue
        try:
            outcome.note(peer.name, number, measure_flow(sessions[peer.name], row, bench.ms(row.ms), rate=rate))
        except BenchError as error:
            outcome.failures[peer.name] = str(error)


def _full_rate(sessions: dict[str, Session], row: Row) -> float:
    """The frames a second that the host can send through the reference: C multi://, where it takes part."""
    session = sessions.get("multi") or next(iter(sessions.values()), None)
    if session is None:
        return IDLE_RATE
    flow = session.load.run(row.direction, size=row.size, ms=CALIBRATION_MS, pids=session.pids)
    return flow.frames_per_s / row.links


def _run_alone(bench: Bench, outcome: Outcome, peers: list[Peer], rounds: int, report: Report) -> None:
    row = outcome.row
    rounds = min(rounds, row.most_rounds)
    for number in range(rounds):
        report(f"{row.title}   round {number + 1} of {rounds}")
        for peer in _turn(peers, number):
            if not _takes_part(peer, outcome):
                continue
            try:
                outcome.note(peer.name, number, ALONE[row.kind](bench, peer, row))
            except BenchError as error:
                outcome.failures[peer.name] = str(error)
                report(f"{peer.title}: {error}")
