"""The resource /events: what happens, as it happens (server-sent events), and /links/{id}/history.

A stream begins with a comment, so that whoever waits knows that it has begun, and with the id of the last event
before it, so that whoever loses it at once can still come back without missing anything. A comment follows whenever
nothing has happened for KEEP_ALIVE_S.

Invariant: a body holds no cancel scope and no nursery from one piece to the next (Quart may end it anywhere), and
a reader that does not take its piece keeps nobody waiting: the fabric cuts it off, or the connection does.
"""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

import trio
from quart import Blueprint, Response, request
from quart.wrappers.response import ResponseBody

from app.api.auth import connection_state
from app.api.event_json import EventEncoder, position_text, rates_members, read_position_untrusted
from app.api.event_schemas import EventsQuery
from app.api.parsing import read_query
from app.api.problems import InvalidRequestError
from app.api.responses import json_text_response
from app.api.schema_types import rfc3339
from app.api.schemas import NoQuery, ProblemItem
from app.fabric.events import Event, EventKind, EventLog, EventPosition
from app.fabric.statistics import INTERVAL_S, KEPT_SAMPLES

if TYPE_CHECKING:
    from app.fabric.fabric import Fabric

EVENTS_TYPE: Final = "text/event-stream"
KEEP_ALIVE_S: Final = 15.0
RETRY_MS: Final = 1000
"""After how long a browser comes back by itself."""
GATHER_S: Final = 0.02
"""What happens within it goes out in one piece: for 200 readers each piece is 200 ways through the HTTP server."""
_EVENTS_A_PIECE: Final = 32
_SAMPLES_A_STEP: Final = 50
_KINDS: Final = frozenset(EventKind)


class EventHandlers:
    """The operations that tell what happens.

    Args:
        fabric: what it happens to; owned by the caller.
    """

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric
        self._encoder = EventEncoder(fabric.events.run)

    def blueprint(self) -> Blueprint:
        """The routes of this resource."""
        routes = Blueprint("events", __name__)
        routes.add_url_rule("/events", view_func=self.get_events, methods=["GET"])
        routes.add_url_rule("/links/<link_id>/history", view_func=self.get_history, methods=["GET"])
        return routes

    async def get_events(self) -> Response:
        """GET /events: from now on, or from after `Last-Event-ID`."""
        query = read_query(EventsQuery)
        kinds = _kinds(query.kinds)
        last: str | None = request.headers.get("Last-Event-ID", query.last_event_id)
        # Taken here: the head of the answer goes out before the body begins to read, and its receiver may rely on it.
        after = self._fabric.events.position if last is None else read_position_untrusted(last)
        body = (
            b""
            if request.method == "HEAD"
            else EventBody(self._fabric.events, self._encoder, after, kinds, connection_state(request).get("stalled"))
        )
        response = Response(body, content_type=EVENTS_TYPE, headers={"X-Accel-Buffering": "no"})
        response.timeout = None
        return response

    async def get_history(self, link_id: str) -> Response:
        """GET /links/{id}/history: a sample a second, idle seconds left out."""
        read_query(NoQuery)
        link = self._fabric.find_link(link_id)
        texts: list[str] = []
        for number, sample in enumerate(self._fabric.statistics.history(link)):
            if number % _SAMPLES_A_STEP == _SAMPLES_A_STEP - 1:
                await trio.lowlevel.checkpoint()  # Frames come first.
            texts.append(f'{{"at":"{rfc3339(sample.at)}",{rates_members(sample)}}}')
        return json_text_response(
            f'{{"link":"{link.id}","at":"{rfc3339(time.time())}","interval_s":{INTERVAL_S},'
            f'"kept_s":{KEPT_SAMPLES * INTERVAL_S},"samples":[{",".join(texts)}]}}'
        )


class EventBody(ResponseBody):
    """One reader's stream, piece by piece.

    Args:
        events: what is read.
        encoder: shared by all readers.
        after: what the reader has seen already.
        kinds: what it wants to be told.
        stalled: set when the connection is cut because nobody reads.
    """

    def __init__(
        self,
        events: EventLog,
        encoder: EventEncoder,
        after: EventPosition,
        kinds: frozenset[EventKind],
        stalled: trio.Event | None,
    ) -> None:
        self._events = events
        self._encoder = encoder
        self._after = after
        self._kinds = kinds
        self._has_begun = False
        self._stalled = stalled
        self._stack = AsyncExitStack()
        self._channel: trio.MemoryReceiveChannel[Event]

    async def __aenter__(self) -> Self:
        self._channel = await self._stack.enter_async_context(self._events.read(self._after))
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._stalled is not None and self._stalled.is_set() and self._channel.statistics().open_send_channels:
            self._events.cut_off += 1  # By the connection: in quiet times the fabric's own limit is far away.
        await self._stack.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if not self._has_begun:
            self._has_begun = True
            return f": events of vde-multilink\nretry: {RETRY_MS}\nid: {position_text(self._after)}\n\n".encode()
        events: list[Event] = []
        with trio.move_on_after(KEEP_ALIVE_S):
            await self._receive(events)
        if not events:
            return b": still here\n\n"
        return b"".join([await self._encoder.encode(event) for event in events])

    async def _receive(self, events: list[Event]) -> None:
        """Put the next event that is wanted into `events`, and what has come with it.

        Raises:
            StopAsyncIteration: there is no more.
        """
        try:
            while not events:
                event = await self._channel.receive()
                if event.kind in self._kinds:
                    events.append(event)
            await trio.sleep(GATHER_S)
            while len(events) < _EVENTS_A_PIECE:
                event = self._channel.receive_nowait()
                if event.kind in self._kinds:
                    events.append(event)
        except trio.WouldBlock:
            return
        except trio.EndOfChannel:
            if not events:
                raise StopAsyncIteration from None


def _kinds(text: str | None) -> frozenset[EventKind]:
    if text is None:
        return _KINDS
    wanted = set(text.split(","))
    unknown = wanted - _KINDS
    if unknown:
        message = f"{', '.join(sorted(unknown))}: no such kind; there are {', '.join(EventKind)}"
        raise InvalidRequestError(f"query.kinds: {message}.", items=[ProblemItem(where="query.kinds", message=message)])
    return frozenset(EventKind(kind) for kind in wanted) | {EventKind.MISSED}
