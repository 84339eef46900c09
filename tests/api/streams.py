"""Answers that go on, read piece by piece from a live server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import h11
import trio

from tests.api.support import HURRY, TOKEN, LiveServer


@dataclass
class Block:
    """One event of a stream, or a comment."""

    fields: dict[str, str] = field(default_factory=dict)
    comment: str = ""

    @property
    def kind(self) -> str:
        return self.fields.get("event", "")

    @property
    def id(self) -> str:
        return self.fields["id"]

    @property
    def data(self) -> Any:
        return json.loads(self.fields["data"])


class Stream:
    """The answer to one GET, as it comes."""

    def __init__(self, stream: trio.SocketStream, http: h11.Connection) -> None:
        self.stream = stream
        self.status = 0
        self.headers: Mapping[str, str] = {}
        self._http = http
        self._text = b""

    async def begin(self) -> None:
        event = await self._next()
        assert isinstance(event, h11.Response)
        self.status = event.status_code
        self.headers = {name.decode().lower(): value.decode() for name, value in event.headers}

    async def read_some(self) -> bytes:
        """More of the body; nothing at its end."""
        event = await self._next()
        return bytes(event.data) if isinstance(event, h11.Data) else b""

    async def read_rest(self) -> bytes:
        """The body up to its proper end."""
        parts = []
        while part := await self.read_some():
            parts.append(part)
        return b"".join(parts)

    async def block(self) -> Block:
        """The next event or comment."""
        while b"\n\n" not in self._text:
            more = await self.read_some()
            assert more, f"the stream has ended; before that it said {self._text!r}"
            self._text += more
        text, _, self._text = self._text.partition(b"\n\n")
        block = Block()
        for line in text.decode().split("\n"):
            name, _, value = line.partition(": ")
            if name:
                assert name not in block.fields
                block.fields[name] = value
            else:
                block.comment = value
        return block

    async def event(self, kind: str = "") -> Block:
        """The next event; of that kind, if one is given, whatever comes before it."""
        while True:
            block = await self.block()
            if "data" in block.fields and (not kind or block.kind == kind):
                return block

    async def _next(self) -> Any:
        with trio.fail_after(HURRY):
            while True:
                event = self._http.next_event()
                if event is not h11.NEED_DATA:
                    return event
                self._http.receive_data(await self.stream.receive_some(65536))


@asynccontextmanager
async def get_stream(
    server: LiveServer, path: str, *, headers: Mapping[str, str] | None = None, unix: bool = False
) -> AsyncIterator[Stream]:
    """Ask, and have the answer's head."""
    async with server.connect(unix=unix) as raw:
        http = h11.Connection(h11.CLIENT)
        all_headers = {"Host": "localhost", "Authorization": f"Bearer {TOKEN}", **(headers or {})}
        pairs = [(name.encode(), value.encode("latin1")) for name, value in all_headers.items()]
        request = h11.Request(method="GET", target=path, headers=pairs)
        sent = http.send(request)
        ended = http.send(h11.EndOfMessage())
        await raw.send((sent or b"") + (ended or b""))
        stream = Stream(raw.stream, http)
        await stream.begin()
        yield stream
