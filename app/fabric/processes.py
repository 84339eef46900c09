"""Ending a child process together with everything it has started. Source: proc(5), setsid(2), pidfd_open(2).

A child that leads a session of its own is found, with its children, by the session's number even after it has died,
and its descendants by their parents as long as the chain lasts. Signals go through pidfds: a number that the kernel
has given to somebody else in the meantime is never hit.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProcessEntry:
    """One line of the process table; `started` (clock ticks since boot) tells a reused pid from the process meant."""

    pid: int
    parent: int
    session: int
    started: int
    is_zombie: bool


def read_process(pid: int) -> ProcessEntry | None:
    """What /proc says of one process, or None if there is no such process any more."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except OSError:
        return None
    # The second field is the program's name in parentheses and may hold anything, spaces and parentheses included.
    fields = text[text.rindex(b")") + 2 :].split()
    return ProcessEntry(pid, int(fields[1]), int(fields[3]), int(fields[19]), fields[0] in b"ZX")


def process_family(leader: int, *, is_reaped: bool = False) -> list[ProcessEntry]:
    """The living processes of the session that `leader` leads, and its living descendants in other sessions.

    A leader that is reaped has no descendants any more, and its number may be somebody else's by now, unless it is
    still that of a session.
    """
    entries = [entry for name in os.listdir("/proc") if name.isdigit() and (entry := read_process(int(name)))]
    family = set() if is_reaped else {leader}
    grew = True
    while grew:
        more = {entry.pid for entry in entries if entry.parent in family or entry.session == leader} - family
        family |= more
        grew = bool(more)
    return [entry for entry in entries if entry.pid in family and not entry.is_zombie]


def signal_processes(processes: Iterable[ProcessEntry], signum: signal.Signals) -> None:
    """Send `signum` to each that still is the process it was; those that are gone are passed over."""
    for process in processes:
        try:
            fd = os.pidfd_open(process.pid)
        except OSError:
            continue
        try:
            now = read_process(process.pid)
            if now is not None and now.started == process.started:
                signal.pidfd_send_signal(fd, signum)
        except OSError:
            continue  # It has ended by itself, or has become somebody else's (set-uid): neither is ours to end.
        finally:
            os.close(fd)


def any_alive(processes: Iterable[ProcessEntry]) -> bool:
    """Whether one of them still runs."""
    for process in processes:
        now = read_process(process.pid)
        if now is not None and now.started == process.started and not now.is_zombie:
            return True
    return False
