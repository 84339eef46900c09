"""What has happened, in order: a bounded ring that late readers catch up from, and readers that are told at once.

Each is a line in the log, but for the rates. Publishing never waits: a reader that has fallen READER_LIMIT events
behind is cut off and counted, and can come back with the number of the last event it has seen. Numbers begin at 1 with
each start of the service; `run` tells one start from another.

Invariant: a reader gets every event after the one it asked for, in order and once, or is told that it has missed some.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import structlog
import trio

_log = structlog.get_logger(__name__)

RING_LIMIT: Final = 2000
READER_LIMIT: Final = 256
"""More than a burst of a thousand links coming up in batches leaves behind, and a few hundred KiB at the worst."""


class EventKind(StrEnum):
    """Kinds of events, as the API spells them."""

    LINK_ADDED = "link_added"
    LINK_UP = "link_up"
    LINK_DOWN = "link_down"
    LINK_DEGRADED = "link_degraded"
    LINK_RECOVERED = "link_recovered"
    LINK_DRAINING = "link_draining"
    LINK_CHANGED = "link_changed"
    LINK_RETIRED = "link_retired"
    HOST_ATTACHED = "host_attached"
    HOST_DETACHED = "host_detached"
    MULTILINK_ADDED = "multilink_added"
    MULTILINK_REMOVED = "multilink_removed"
    HANDOFF = "handoff"
    STATS = "stats"
    MISSED = "missed"
    """Not published: what a reader is given in place of events that the ring holds no longer."""


_LEVELS: Final = {
    EventKind.LINK_ADDED: logging.DEBUG,
    EventKind.LINK_CHANGED: logging.DEBUG,
    EventKind.LINK_DOWN: logging.WARNING,
    EventKind.LINK_DEGRADED: logging.WARNING,
    EventKind.HOST_DETACHED: logging.WARNING,
}
"""How loud each is in the log: one line an event that matters."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. `data` has plain values only, as JSON takes them; `at` is unix time."""

    number: int
    kind: EventKind
    at: float
    data: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class EventPosition:
    """How far a reader has got: the number of an event of one run of the service."""

    run: str
    number: int


class EventLog:
    """The events of one service.

    Args:
        ring_limit: how many are kept for late readers. `stats` are not kept: they are old after a second.
    """

    def __init__(self, ring_limit: int = RING_LIMIT) -> None:
        self.run = secrets.token_hex(4)
        """Tells this start of the service from all others."""
        self.cut_off = 0
        """Readers that fell behind."""
        self._ring: deque[Event] = deque(maxlen=ring_limit)
        self._number = 0
        self._pushed_out = 0
        """The number of the last event that the ring has no room for any more."""
        self._readers: set[trio.MemorySendChannel[Event]] = set()
        self._is_closed = False

    @property
    def readers(self) -> int:
        """How many are being told."""
        return len(self._readers)

    @property
    def position(self) -> EventPosition:
        """Where somebody is who has seen everything so far."""
        return EventPosition(self.run, self._number)

    def publish(self, kind: EventKind, data: Mapping[str, object]) -> None:
        """Tell everybody. Never waits and never fails."""
        self._number += 1
        event = Event(self._number, kind, time.time(), data)
        if kind is not EventKind.STATS:
            _log.log(_LEVELS.get(kind, logging.INFO), kind.value, **data)
            if len(self._ring) == self._ring.maxlen:
                self._pushed_out = self._ring[0].number
            self._ring.append(event)
        for reader in list(self._readers):
            try:
                reader.send_nowait(event)
            except trio.WouldBlock:
                self.cut_off += 1
                self._readers.discard(reader)
                reader.close()
            except trio.BrokenResourceError:
                self._readers.discard(reader)

    @asynccontextmanager
    async def read(self, after: EventPosition | None = None) -> AsyncIterator[trio.MemoryReceiveChannel[Event]]:
        """A channel of events from now on, or from `after` on; it ends when the reader falls behind, or at `close`."""
        missed = self._missed_since(after)
        send, receive = trio.open_memory_channel[Event](READER_LIMIT + len(missed))
        for event in missed:
            send.send_nowait(event)
        if self._is_closed:
            send.close()
        else:
            self._readers.add(send)
        try:
            with receive:
                yield receive
        finally:
            self._readers.discard(send)
            send.close()

    def close(self) -> None:
        """End every reader; whoever comes later gets what the ring holds, and then an end."""
        self._is_closed = True
        for reader in self._readers:
            reader.close()
        self._readers.clear()

    def _missed_since(self, after: EventPosition | None) -> list[Event]:
        if after is None:
            return []
        number = after.number if after.run == self.run else 0
        events = [event for event in self._ring if event.number > number]
        if after.run != self.run or number < self._pushed_out:
            events.insert(0, Event(number, EventKind.MISSED, time.time(), {"since": after.number}))
        return events
