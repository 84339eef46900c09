"""Answers of the API that go on: read as they come, by commands and scripts.

`with open_stream(location, "/events", silence_s=EVENTS_SILENCE_S) as response`, and then `for event in
read_events(response)`.

Invariant: whatever becomes of the service while a stream is read is a StreamLostError.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import httpx

from app.client import ClientError, ServiceLocation, cannot_connect, open_http, read_answer

ANSWER_S: Final = 10.0
EVENTS_SILENCE_S: Final = 40.0
"""The service says something every 15 s."""


class StreamLostError(ClientError):
    """A stream has ended that should have gone on."""

    code = "stream_lost"
    title = "The service has gone"


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event: its id, for Last-Event-ID, and what it says."""

    id: str
    kind: str
    data: dict[str, Any]


@contextmanager
def open_stream(
    location: ServiceLocation,
    path: str,
    *,
    query: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    silence_s: float | None = None,
) -> Iterator[httpx.Response]:
    """Ask for `path`; the response has its headers, and its body is to be iterated over.

    Args:
        location: where the service is.
        path: what is asked for.
        query: its parameters.
        headers: to be sent.
        silence_s: after how long without a byte the stream counts as lost; None: never.

    Raises:
        ClientError: as `app.client.Client` raises it; StreamLostError once the stream had begun.
    """
    with open_http(location, httpx.Timeout(ANSWER_S, read=silence_s)) as http:
        try:
            with http.stream("GET", path, params=query, headers=headers) as response:
                if not response.is_success:
                    response.read()
                    read_answer(location, response)
                yield response
        except httpx.ConnectError as error:
            raise cannot_connect(location, error) from error
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise StreamLostError(
                f"the service at {location} has gone: {str(error) or type(error).__name__}"
            ) from error


def read_events(response: httpx.Response) -> Iterator[ServerEvent]:
    """The events of a stream; one without a kind where nothing has happened, but the service is still there."""
    return parse_events(response.iter_lines())


def parse_events(lines: Iterable[str]) -> Iterator[ServerEvent]:
    """Server-sent events, as the HTML standard has them, from the lines of a stream."""
    last_id, kind, data = "", "", list[str]()
    for line in lines:
        if line:
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if field == "data":
                data.append(value)
            elif field == "event":
                kind = value
            elif field == "id":
                last_id = value
            continue
        yield ServerEvent(last_id, kind, json.loads("\n".join(data))) if data else ServerEvent(last_id, "", {})
        kind, data = "", []
