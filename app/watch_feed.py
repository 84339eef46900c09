"""Events for `watch`, from a thread of their own that outlives the service: it comes back whenever that does.

Invariant: events are handed over in order, and what is missed between two connections is told as `missed`.
"""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass
from typing import Final

from app.client import ClientError, ServiceLocation
from app.streams import EVENTS_SILENCE_S, ServerEvent, StreamLostError, open_stream, read_events

RETRY_S: Final = 1.0
FROM_THE_START: Final = "-0"
"""The id of no event: what is still known of all that has happened is told first."""
WAITING_LIMIT: Final = 1000
"""Events that wait to be drawn: the service's own limit comes first."""


@dataclass(frozen=True, slots=True)
class Connected:
    """The stream has begun."""


@dataclass(frozen=True, slots=True)
class Lost:
    """It has ended; `reason` in words. It will be tried again."""

    reason: str


News = ServerEvent | Connected | Lost


class EventFeed:
    """Reads the events of a service, and again when it has been away.

    Args:
        location: where the service is.
        retry_s: how long to wait before it is tried again.
    """

    def __init__(self, location: ServiceLocation, retry_s: float = RETRY_S) -> None:
        self.news: queue.Queue[News] = queue.Queue(WAITING_LIMIT)
        self._location = location
        self._retry_s = retry_s
        self._last_id = FROM_THE_START
        self._stopped = threading.Event()
        # A daemon: it may be waiting for a service that says nothing for 15 s.
        self._thread = threading.Thread(target=self._run, daemon=True, name="events")

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Try no more."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._read()
                reason = "the service is stopping"
            except StreamLostError:
                reason = "the service has gone"
            except ClientError as error:
                reason = error.detail
            self.news.put(Lost(reason))
            self._stopped.wait(self._retry_s)

    def _read(self) -> None:
        headers = {"Last-Event-ID": self._last_id}
        with open_stream(self._location, "/events", headers=headers, silence_s=EVENTS_SILENCE_S) as response:
            self.news.put(Connected())
            for event in read_events(response):
                self._last_id = event.id
                self.news.put(event)
                if self._stopped.is_set():
                    return
