"""One end of the UDP load: sends numbered datagrams at a steady pace, and takes in those of the other end.

    python udp.py OWN_ADDRESS PEER_ADDRESS DATAGRAMS_PER_S SIZE

It says `ready` once it can receive; `go` on stdin starts it, `stop` ends its sending; it hears for LINGER_S longer and
then prints one JSON document: when it sent each datagram, and which ones came when. Times are the kernel's
(CLOCK_REALTIME), so that a late turn of this process is nobody's gap.
"""

from __future__ import annotations

import contextlib
import gc
import json
import select
import socket
import struct
import sys
import time
from dataclasses import dataclass, field

PORT = 9000
LINGER_S = 0.6
BUFFER = 16 << 20
SO_TIMESTAMPNS = 35
_STAMP = struct.Struct("@qq")
_NUMBER = struct.Struct("!Q")
_NS = 1_000_000_000


@dataclass(slots=True)
class End:
    """A socket and what has happened on it."""

    socket: socket.socket
    size: int
    sent: list[int] = field(default_factory=list)
    unsent: int = 0
    numbers: list[int] = field(default_factory=list)
    times: list[int] = field(default_factory=list)

    def send(self) -> None:
        """Sends the next datagram."""
        number = len(self.sent)
        self.sent.append(time.time_ns())
        try:
            self.socket.send(_NUMBER.pack(number).ljust(self.size, b"\0"))
        except BlockingIOError:
            self.unsent += 1

    def receive(self) -> None:
        """Takes in whatever has come."""
        with contextlib.suppress(BlockingIOError):
            while True:
                data, ancillary, _, _ = self.socket.recvmsg(_NUMBER.size, 64)
                seconds, nanoseconds = _STAMP.unpack(ancillary[0][2][: _STAMP.size])
                self.numbers.append(_NUMBER.unpack(data)[0])
                self.times.append(seconds * _NS + nanoseconds)


def _open(own: str, peer: str) -> socket.socket:
    end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    end.setblocking(False)
    end.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    # Room for more than the receiver may be late by: only the network is to lose datagrams here.
    end.setsockopt(socket.SOL_SOCKET, getattr(socket, "SO_RCVBUFFORCE", 33), BUFFER)
    end.bind((own, PORT))
    end.connect((peer, PORT))
    return end


def _run(end: End, interval_ns: int) -> None:
    commands = select.epoll()
    commands.register(sys.stdin.fileno(), select.EPOLLIN)
    commands.register(end.socket.fileno(), select.EPOLLIN)
    due = time.monotonic_ns()
    until: int | None = None
    while True:
        now = time.monotonic_ns()
        if until is None:
            while due <= now:
                end.send()
                due += interval_ns
        elif now >= until:
            return
        wait = (due if until is None else until) - time.monotonic_ns()
        for number, _ in commands.poll(max(0, wait) / _NS):
            if number == end.socket.fileno():
                end.receive()
            else:
                commands.unregister(number)  # `stop`, or the end of stdin
                until = time.monotonic_ns() + int(LINGER_S * _NS)


def main() -> None:
    """Runs one end."""
    own, peer, rate, size = sys.argv[1:]
    with _open(own, peer) as opened:
        end = End(opened, int(size))
        print("ready", flush=True)
        if sys.stdin.readline().strip() != "go":
            return
        gc.disable()
        _run(end, int(_NS / float(rate)))
    json.dump({"sent": end.sent, "unsent": end.unsent, "numbers": end.numbers, "times": end.times}, sys.stdout)


if __name__ == "__main__":
    main()
