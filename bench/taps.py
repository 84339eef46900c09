"""TCP through two taps, each in a network namespace of its own, with the forwarder in between.

    one hop     ns A: tap — forwarder's host … forwarder's link — vde_plug — tap :ns B
    two hops    ns A: tap — forwarder's host … link — vde_plug — link … forwarder's host — tap :ns B

The second is how vde_plug's manual joins two multilinks. iperf3 sends from A to B.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench.load import BenchError
from bench.peers import DIE_WITH_PARENT, Peer, Place, start, stop
from bench.rows import Row
from bench.sessions import Bench

SENDER, RECEIVER = "10.77.0.1", "10.77.0.2"
TAP = "t0"
TRIES = 20


@contextmanager
def _namespace(name: str, address: str) -> Iterator[str]:
    _ip("netns", "add", name)
    try:
        _ip("-n", name, "tuntap", "add", TAP, "mode", "tap")
        _ip("-n", name, "address", "add", f"{address}/24", "dev", TAP)
        _ip("-n", name, "link", "set", TAP, "up")
        _ip("-n", name, "link", "set", "lo", "up")
        yield name
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=False)


def _ip(*words: str) -> None:
    made = subprocess.run(["ip", *words], check=False, capture_output=True, text=True)
    if made.returncode:
        raise BenchError(f"ip {' '.join(words)}: {made.stderr.strip()}")


@contextmanager
def _running(*command: str) -> Iterator[None]:
    process = subprocess.Popen(
        [*DIE_WITH_PARENT, *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        process_group=0,
    )
    try:
        yield
    finally:
        stop(process)


def measure_tcp(bench: Bench, peer: Peer, row: Row) -> dict[str, float]:
    """The throughput and retransmissions of one TCP connection.

    Raises:
        BenchError: it takes root, a tap device and iperf3.
    """
    if os.geteuid() or not Path("/dev/net/tun").exists() or not shutil.which("iperf3"):
        raise BenchError("it takes root, /dev/net/tun and iperf3")
    with ExitStack() as stack:
        near = stack.enter_context(_namespace(f"mlb{os.getpid()}a", SENDER))
        far = stack.enter_context(_namespace(f"mlb{os.getpid()}b", RECEIVER))
        networks = [_forwarder(stack, bench, peer, near)]
        if row.hops > 1:
            networks.append(_forwarder(stack, bench, peer, far))
            stack.enter_context(_running("vde_plug", *(f"vde://{network}" for network in networks)))
        else:
            stack.enter_context(_plug_tap(far, networks[0]))
        stack.enter_context(_running("ip", "netns", "exec", far, "iperf3", "--server"))
        report = _iperf(near, bench.ms(row.ms) / 1000)
    end = report["end"]
    return {
        "mbit_per_s": end["sum_received"]["bits_per_second"] / 1e6,
        "retransmissions": end["sum_sent"]["retransmits"],
    }


def _forwarder(stack: ExitStack, bench: Bench, peer: Peer, netns: str) -> Path:
    work = stack.enter_context(bench.directory())
    hosts = [f"tap://{TAP}"] if peer.joins_host else []
    place = Place(work, bench.programs, [work / "x"], hosts, netns=netns)
    network = stack.enter_context(start(peer, place)).network
    if not peer.joins_host:
        stack.enter_context(_plug_tap(netns, network))
    return network


@contextmanager
def _plug_tap(netns: str, network: Path) -> Iterator[None]:
    with _running("ip", "netns", "exec", netns, "vde_plug", f"tap://{TAP}", f"vde://{network}"):
        yield


def _iperf(netns: str, seconds: float) -> dict[str, Any]:
    command = ["ip", "netns", "exec", netns, "iperf3", "--client", RECEIVER, "--json", "--connect-timeout", "1000"]
    command += ["--time", str(max(1, round(seconds)))]
    said = "no answer"
    for _ in range(TRIES):
        client = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
        report: dict[str, Any] = json.loads(client.stdout or "{}")
        if "sum_received" in report.get("end", {}):
            return report
        said = report.get("error", said)
        time.sleep(0.1)
    raise BenchError(f"iperf3 does not get through: {said}")
