"""What became of the frames of a TCP connection, by two captures: one at each end's tap.

Linux numbers the IP headers of a connection, so no two frames of it are alike in their headers, retransmissions
included: a frame that arrives twice was carried twice.
"""

from __future__ import annotations

import signal
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.handoff.programs import Program
from bench.handoff.sequence import Tally, tally
from bench.handoff.world import TAP, World
from bench.load import BenchError

SNAP = 66
"""Ethernet, IP and TCP headers, and the timestamps option."""
BUFFER_KIB = 64 << 10
FILTER = "tcp and tcp[tcpflags] & tcp-rst == 0"
"""Resets belong to no socket, and are alike: a closed one answers with them what still comes."""
SETTLE_S = 1.5
"""What is under way arrives; and tcpdump, which takes a second to see it, forgets at its end what it has not seen."""
_FILE_HEADER = struct.Struct("=IHHiIII")
_RECORD = struct.Struct("=IIII")
_MAGIC_NS = 0xA1B23C4D
_SOURCE = slice(26, 30)


@dataclass(frozen=True, slots=True)
class Capture:
    """The frames that passed a tap: who sent each, a number that stands for its headers, and when it passed."""

    sources: list[bytes]
    keys: list[int]
    times: list[float]

    def of(self, source: bytes) -> tuple[list[int], list[float]]:
        """The frames that an address has sent."""
        chosen = [at for at, each in enumerate(self.sources) if each == source]
        return [self.keys[at] for at in chosen], [self.times[at] for at in chosen]


@contextmanager
def capturing(world: World) -> Iterator[tuple[Path, Path]]:
    """Both taps captured for as long as the context lasts. The answer is the two files, to be read afterwards."""
    files = world.work / "near.pcap", world.work / "far.pcap"
    programs = [_start(world, netns, path) for netns, path in zip((world.near, world.far), files, strict=True)]
    try:
        yield files
        time.sleep(SETTLE_S)
    finally:
        for program in programs:
            program.signal(signal.SIGINT)
        for program in programs:
            program.wait(20.0)


def _start(world: World, netns: str, path: Path) -> Program:
    options = ["-i", TAP, "-s", str(SNAP), "-B", str(BUFFER_KIB), "-n", "--time-stamp-precision=nano", "-Z", "root"]
    program = world.program("tcpdump", *options, "-w", str(path), FILTER, netns=netns)
    deadline = time.monotonic() + 10.0
    while "listening on" not in program.last_words():
        program.check()
        if time.monotonic() > deadline:
            raise BenchError(f"tcpdump does not start: {program.last_words()}")
        time.sleep(0.02)
    return program


def read(path: Path) -> Capture:
    """Reads a capture and removes the file.

    Raises:
        BenchError: it is none that tcpdump has written on this machine.
    """
    data = memoryview(path.read_bytes())
    path.unlink()
    if len(data) < _FILE_HEADER.size or _FILE_HEADER.unpack_from(data)[0] != _MAGIC_NS:
        raise BenchError(f"{path.name} is no capture")
    capture = Capture([], [], [])
    sources, keys, times = capture.sources.append, capture.keys.append, capture.times.append
    at, unpack, size = _FILE_HEADER.size, _RECORD.unpack_from, _RECORD.size
    while at + size <= len(data):
        seconds, nanoseconds, length, _ = unpack(data, at)
        at += size
        frame = bytes(data[at : at + length])
        at += length
        sources(frame[_SOURCE])
        keys(hash(frame))
        times(seconds + nanoseconds / 1e9)
    return capture


def compare(sender: Capture, receiver: Capture, source: bytes) -> Tally:
    """What became of the frames that `source`, the sender's own address, has sent."""
    keys, _ = sender.of(source)
    number_of = {key: number for number, key in enumerate(keys)}
    arrived, times = receiver.of(source)
    known = [(number_of[key], time) for key, time in zip(arrived, times, strict=True) if key in number_of]
    return tally([number for number, _ in known], [time for _, time in known], len(number_of))
