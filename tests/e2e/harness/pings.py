"""A ping that runs on while a test changes the network under it, and what became of each request."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass

from tests.e2e.harness.programs import Program

_REPLY = re.compile(r"icmp_seq=(\d+) ")
_SENT = re.compile(r"(\d+) packets transmitted")


@dataclass(frozen=True, slots=True)
class PingReport:
    """What ping saw; `missing` are requests without an answer that were followed by one with."""

    sent: int
    answered: int
    duplicates: int
    missing: tuple[int, ...]


def stop_ping(ping: Program) -> PingReport:
    """End a `ping` that prints every reply, and read its report."""
    ping.send(signal.SIGINT)
    ping.wait()
    text = ping.output()
    replies = [int(number) for number in _REPLY.findall(text)]
    summary = _SENT.search(text)
    assert summary, text
    assert replies, text
    sent = int(summary[1])
    last = max(replies)
    # Those asked in the last moment have had no time to be answered.
    assert last >= sent - 20, f"the end of {sent} requests is missing: the last reply was to {last}"
    missing = tuple(sorted(set(range(1, last + 1)) - set(replies)))
    return PingReport(sent, len(set(replies)), len(replies) - len(set(replies)), missing)
