"""The three loads, and how each tells what became of its frames.

ping   every 10 ms, by its sequence numbers
udp    10 Mbit/s each way, by numbers of its own
tcp    as fast as it goes, by captures at both taps and the kernel's counters
"""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from bench.handoff.capture import Capture, capturing, compare, read
from bench.handoff.programs import Program, run, running
from bench.handoff.sequence import Tally, tally
from bench.handoff.world import FAR, NEAR, TAP, World
from bench.load import SOURCES, BenchError

PING_INTERVAL_S = 0.01
PING_TAIL_S = 0.25
"""Pings that were sent so shortly before the end may have had their answers still under way."""
UDP_SIZE = 1200
UDP_BIT_PER_S = 10_000_000
INTERVAL_S = 0.1
IPERF_END_S = 10.0
_ANSWER = re.compile(r"^\[(?P<time>[0-9.]+)\] .*icmp_seq=(?P<number>\d+) .*?(?P<twice>\(DUP!\))?$")
_SENT = re.compile(r"^(\d+) packets transmitted", re.MULTILINE)


@dataclass(slots=True)
class Outcome:
    """What a load has found: both directions together, each by itself, and what else it knows."""

    total: Tally
    directions: dict[str, Tally]
    more: dict[str, float] = field(default_factory=dict)


def _never() -> Outcome:
    raise BenchError("the load has not come to its end")


@dataclass(slots=True)
class Running:
    """A load that runs; `finish` is asked for the outcome once its context has ended."""

    finish: Callable[[], Outcome] = _never


@contextmanager
def ping(world: World) -> Iterator[Running]:
    """The ping program, every 10 ms. A lost answer is as much a loss as a lost question: there is one direction."""
    options = ["-n", "-D", "-i", f"{PING_INTERVAL_S:g}", FAR]
    load = Running()
    # Into a file: a pipe that is not read would stop it after 64 KiB.
    with running(world.program("ping", *options, netns=world.near)) as program:
        yield load
        program.signal(signal.SIGINT)
        program.wait()
    load.finish = lambda: _read_ping(program.said())


def _read_ping(text: str) -> Outcome:
    sent = _SENT.search(text)
    numbers, times = [], []
    for line in text.splitlines():
        if answer := _ANSWER.match(line):
            numbers.append(int(answer["number"]) - 1)
            times.append(float(answer["time"]))
    if not sent or not numbers:
        raise BenchError(f"ping has no answer at all: {text.strip().splitlines()[-1:]}")
    for at in range(1, len(numbers)):  # its sequence numbers have 16 bits
        while numbers[at] < numbers[at - 1] - 32768:
            numbers[at] += 65536
    interval = max(PING_INTERVAL_S, (times[-1] - times[0]) / max(1, int(sent[1])))
    last = max(numbers) + 1
    counted = last if (int(sent[1]) - last) * interval <= PING_TAIL_S else int(sent[1])
    total = tally(numbers, times, counted)
    return Outcome(total, {"round trip": total}, {"under_way_at_the_end": int(sent[1]) - counted})


@contextmanager
def udp(world: World) -> Iterator[Running]:
    """Numbered datagrams, 10 Mbit/s from each end to the other."""
    rate = UDP_BIT_PER_S / 8 / UDP_SIZE
    ends = [
        world.program(sys.executable, str(SOURCES / "handoff" / "udp.py"), *words, netns=netns, pipes=True)
        for netns, words in (
            (world.near, (NEAR, FAR, f"{rate:.3f}", str(UDP_SIZE))),
            (world.far, (FAR, NEAR, f"{rate:.3f}", str(UDP_SIZE))),
        )
    ]
    load = Running()
    with running(ends[0]), running(ends[1]):
        for end in ends:
            if _stream(end).readline() != b"ready\n":
                raise BenchError(f"the UDP load does not start: {end.last_words()}")
        for end in ends:
            _tell(end, "go")
        yield load
        for end in ends:
            _tell(end, "stop")
        near, far = (json.loads(end.process.communicate(timeout=30)[0]) for end in ends)
    load.finish = lambda: _read_udp(near, far, (world.near, world.far))


def _stream(end: Program) -> Any:
    assert end.process.stdout is not None
    return end.process.stdout


def _tell(end: Program, word: str) -> None:
    assert end.process.stdin is not None
    end.process.stdin.write(f"{word}\n".encode())
    end.process.stdin.flush()


def _read_udp(near: dict[str, Any], far: dict[str, Any], namespaces: tuple[str, str]) -> Outcome:
    directions = {}
    for name, source, sink in (("out", near, far), ("back", far, near)):
        sent_s = [time_ns / 1e9 for time_ns in source["sent"]]
        arrived_s = [time_ns / 1e9 for time_ns in sink["times"]]
        directions[name] = tally(sink["numbers"], arrived_s, len(sent_s), sent_s)
    overflows = sum(_counters(netns).get("UdpRcvbufErrors", 0) for netns in namespaces)
    more = {"not_sent": near["unsent"] + far["unsent"], "receive_buffer_errors": overflows}
    return Outcome(Tally.sum(directions.values()), directions, more)


@contextmanager
def tcp(world: World) -> Iterator[Running]:
    """iperf3 for as long as the context lasts, from the near end to the far one."""
    load = Running()
    server = world.program("iperf3", "-s", "-1", "-J", "-i", str(INTERVAL_S), netns=world.far, pipes=True)
    with running(server):
        _await_listener(world, server)
        with capturing(world) as files:
            client = world.program(
                "iperf3", "-c", FAR, "-J", "-t", "0", "-i", str(INTERVAL_S), netns=world.near, pipes=True
            )
            with running(client):
                yield load
                client.signal(signal.SIGINT)
                said, heard = _last_report(client), _last_report(server)
        drops = {name: _tap_drops(name) for name in (world.near, world.far)}
        counters = _counters(world.near)
    if "sum_sent" not in said.get("end", {}):
        raise BenchError(f"iperf3 does not get through: {said.get('error', client.last_words())}")

    def finish() -> Outcome:
        near, far = (read(path) for path in files)
        return _read_tcp(near, far, {"said": said, "heard": heard, "counters": counters, "drops": drops})

    load.finish = finish


def _last_report(program: Program) -> dict[str, Any]:
    """What iperf3 prints at its end; nothing where it never hears that it is over, or is killed by a broken line."""
    try:
        text = program.process.communicate(timeout=IPERF_END_S)[0]
    except subprocess.TimeoutExpired:
        return {}
    report: dict[str, Any] = json.loads(text or "{}")
    return report


def _read_tcp(near: Capture, far: Capture, found: dict[str, Any]) -> Outcome:
    directions = {
        "out": compare(near, far, socket.inet_aton(NEAR)),
        "back": compare(far, near, socket.inet_aton(FAR)),
    }
    intervals = found["heard"].get("intervals") or found["said"]["intervals"]
    stall = longest = 0.0
    received = seconds = 0.0
    for interval in (each["sum"] for each in intervals):
        stall = 0.0 if interval["bytes"] else stall + interval["seconds"]
        longest = max(longest, stall)
        received += interval["bytes"]
        seconds += interval["seconds"]
    return Outcome(
        Tally.sum(directions.values()),
        directions,
        {
            "retransmissions": found["said"]["end"]["sum_sent"]["retransmits"],
            "mbit_per_s": received * 8 / max(seconds, 0.1) / 1e6,
            "stall_s": longest,
            "timeouts": found["counters"].get("TcpExtTCPTimeouts", 0),
            "lost_at_taps": sum(found["drops"].values()),
        },
    )


def _await_listener(world: World, server: Program) -> None:
    deadline = time.monotonic() + 10
    while ":5201" not in run("ss", "-Hltn", netns=world.far):
        server.check()
        if time.monotonic() > deadline:
            raise BenchError("iperf3 does not listen")
        time.sleep(0.02)


def _tap_drops(netns: str) -> int:
    """Frames that the kernel had for the tap and did not hand to its reader: the tap's queue was full."""
    links = json.loads(run("ip", "-j", "-s", "link", "show", "dev", TAP, netns=netns))
    dropped: int = links[0]["stats64"]["tx"]["dropped"]
    return dropped


def _counters(netns: str) -> dict[str, int]:
    """The namespace's own protocol counters, as `nstat` names them."""
    found: dict[str, int] = {}
    text = run("cat", "/proc/net/snmp", "/proc/net/netstat", netns=netns).splitlines()
    for names, values in zip(text[::2], text[1::2], strict=True):
        group, *keys = names.split()
        found.update((group.rstrip(":") + key, int(value)) for key, value in zip(keys, values.split()[1:], strict=True))
    return found


LOADS = {"ping": ping, "udp": udp, "tcp": tcp}
TITLES = {"ping": "ping every 10 ms", "udp": "UDP 2 x 10 Mbit/s", "tcp": "TCP, unlimited"}
