"""How each kind of row is measured, once for one forwarder. A measurement is a dictionary of figures by metric."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack

from bench.load import BenchError, Flow, Load
from bench.machine import cpu_seconds, processors, resident_kib
from bench.peers import Peer
from bench.rows import Kind, Row
from bench.sessions import Bench, Session, open_session
from bench.taps import measure_tcp

Figures = dict[str, float]

IDLE_RATE = 1000.0
HICCUP_MS = 5
HAMMER_START_S = 0.3
SETTLE_S = 0.3
LEAD = 64
"""Both ways at once, the cheap frames (host to all) and the dear ones (a link to the host) must come in the same
proportion for everybody; left alone, C multi:// takes 13 of the former for each of the latter with 16 links."""


def measure_flow(session: Session, row: Row, ms: int, *, rate: float = 0.0) -> Figures:
    """A load through a session: rows of the kinds FLOW, HICCUP, FAIR and LATENCY."""
    flow = session.load.run(
        row.direction,
        size=row.size,
        ms=ms,
        pids=session.pids,
        rate=rate,
        hiccup_ms=HICCUP_MS if row.kind is Kind.HICCUP else 0,
        lead=LEAD if row.direction == "both" else 0,
    )
    return _figures(flow, row.links)


def _figures(flow: Flow, links: int) -> Figures:
    return {
        "frames_per_cpu_s": flow.frames_per_cpu_s,
        "frames_per_s": flow.frames_per_s,
        "lost_share": flow.lost_share,
        "least_share": flow.least_of_a_link * links / flow.received if flow.received else 0.0,
        "to_host_share": flow.to_host / flow.received if flow.received else 0.0,
        "duplicated": flow.duplicated,
        "reordered": flow.reordered,
        "cpu_share": flow.cpu_s / flow.wall_s if flow.wall_s else 0.0,
        "latency_p50_us": flow.latency_p50_us,
        "latency_p99_us": flow.latency_p99_us,
        "latency_max_us": flow.latency_max_us,
    }


def _measure_idle(bench: Bench, peer: Peer, row: Row) -> Figures:
    with open_session(bench, peer) as session:
        pid, network = session.forwarder.pid, session.forwarder.network
        before_kib = resident_kib(pid)
        attach_s = session.load.attach(network, row.links)
        time.sleep(SETTLE_S)
        after_kib = resident_kib(pid)
        cpu_before, began = cpu_seconds(pid), time.monotonic()
        time.sleep(bench.ms(row.ms) / 1000)
        idle_share = (cpu_seconds(pid) - cpu_before) / (time.monotonic() - began)
        retire_s = session.load.detach()
    return {
        "attach_s": attach_s,
        "retire_s": retire_s,
        "kib_per_link": (after_kib - before_kib) / row.links,
        "resident_mib": after_kib / 1024,
        "idle_cpu_share": idle_share,
    }


def _measure_stall(bench: Bench, peer: Peer, row: Row) -> Figures:
    ms = bench.ms(row.ms)
    with open_session(bench, peer, links=row.links) as session:

        def run(links: int) -> tuple[float, float]:
            flow = session.load.run("down", size=row.size, ms=ms, pids=session.pids)
            return flow.frames_per_s / links, flow.lost_share

        before, _ = run(row.links)
        session.load.stall(row.links)
        first, first_lost = run(row.links - 1)
        then, then_lost = run(row.links - 1)
    return {
        "first_rate_ratio": first / before,
        "first_lost_share": first_lost,
        "then_rate_ratio": then / before,
        "then_lost_share": then_lost,
    }


def _measure_api(bench: Bench, peer: Peer, row: Row) -> Figures:
    ms = bench.ms(row.ms)
    with (
        open_session(bench, peer, links=row.links, idle_multilinks=1) as session,
        Load.start(bench.programs, cpu=processors()[1]) as idle,
    ):
        idle.attach(session.multilinks[1], row.idle_links)
        time.sleep(SETTLE_S)

        def run(rate: float = 0.0) -> Flow:
            return session.load.run("down", size=row.size, ms=ms, pids=session.pids, rate=rate, spin=False)

        quiet = run()
        rate = row.load * quiet.frames_per_s / row.links
        quiet_paced = run(rate)
        hammer_s = HAMMER_START_S + 2.5 * ms / 1000
        # Behind everybody else: what is measured is what the service does, not who gets a processor.
        command = ["nice", "-n", "19"]
        command += [str(bench.programs / "hammer"), str(session.forwarder.api_socket), "/links", str(row.connections)]
        with subprocess.Popen([*command, str(hammer_s)], stdout=subprocess.PIPE, process_group=0) as hammer:
            try:
                time.sleep(HAMMER_START_S)
                hammered, paced = run(), run(rate)
                output, _ = hammer.communicate(timeout=60)
            except subprocess.TimeoutExpired as error:
                raise BenchError("GET /links gave no answer for a minute") from error
            finally:
                hammer.kill()
    answers = json.loads(output)
    if not answers["answers"]:
        raise BenchError("GET /links gave no answer at all")
    return {
        "rate_ratio": hammered.frames_per_s / quiet.frames_per_s,
        "lost_share": hammered.lost_share,
        "quiet_p99_us": quiet_paced.latency_p99_us,
        "latency_p99_us": paced.latency_p99_us,
        "latency_max_us": paced.latency_max_us,
        "paced_lost_share": paced.lost_share,
        "answers_per_s": answers["answers"] / hammer_s,
        "answer_p50_ms": answers["p50_ms"],
        "answers_failed": answers["failures"],
    }


def _together(loads: list[tuple[Load, list[int]]], row: Row, ms: int) -> list[Flow]:
    for load, pids in loads:
        load.begin(row.direction, size=row.size, ms=ms, pids=pids, spin=False)
    return [load.finish() for load, _ in loads]


def _measure_cores(bench: Bench, peer: Peer, row: Row) -> Figures:
    cores = processors()
    if cores[0] == cores[1]:
        raise BenchError("it takes two processors")
    with ExitStack() as stack:
        sessions = [
            stack.enter_context(open_session(bench, peer, links=row.links, cpus=(core, core))) for core in cores
        ]
        loads = [(session.load, session.pids) for session in sessions]
        alone = [_together([load], row, bench.ms(row.ms))[0].frames_per_s for load in loads]
        both = [flow.frames_per_s for flow in _together(loads, row, bench.ms(row.ms))]
    one = sum(alone) / len(alone)
    return {"one_per_s": one, "two_per_s": sum(both), "rate_ratio": sum(both) / one}


def _measure_shared(bench: Bench, peer: Peer, row: Row) -> Figures:
    with open_session(bench, peer, links=row.links, loads=2) as session:
        loads = [(load, session.pids) for load in session.loads]
        ms = bench.ms(row.ms)
        one = _together(loads[:1], row, ms)[0].frames_per_cpu_s
        both = _together(loads, row, ms)
    two = sum(flow.received for flow in both) / max(flow.cpu_s for flow in both)
    return {"one_per_cpu_s": one, "two_per_cpu_s": two, "rate_ratio": two / one}


ALONE: dict[Kind, Callable[[Bench, Peer, Row], Figures]] = {
    Kind.TCP: measure_tcp,
    Kind.IDLE: _measure_idle,
    Kind.STALL: _measure_stall,
    Kind.API: _measure_api,
    Kind.CORES: _measure_cores,
    Kind.SHARED: _measure_shared,
}
"""The kinds of row that have a session of their own for every measurement."""
