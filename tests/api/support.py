"""What the tests of the API share: an application with a client, a live server, and a client of raw bytes."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import trio
from quart_trio.testing import TrioClient

from app.api import Auth, DialPolicy, Readiness, ServerLimits, create_app, serve_http
from app.api.app import MultilinkApi
from app.fabric.fabric import Fabric

TOKEN = "a-token-of-the-tests"
PROBLEM = "application/problem+json"
HURRY = 20
"""Seconds after which a test that waits for something gives up: far more than it ever takes."""
HEAD = f"Host: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
QUICK = ServerLimits(connections=8, keep_alive_s=1, write_s=0.3, linger_s=0.3)
PATIENT = ServerLimits(keep_alive_s=60, write_s=60, linger_s=60)


@dataclass
class Answer:
    status: int
    headers: Mapping[str, str]
    """By lower-case name."""
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def check_problem(self, status: int, code: str) -> Any:
        """It is a complete problem document with that status and code."""
        assert self.status == status, self.body
        assert self.headers["content-type"] == PROBLEM
        problem = self.json
        assert problem["status"] == status
        assert problem["code"] == code, problem
        assert problem["type"]
        assert problem["title"]
        assert problem["detail"]
        assert "Traceback" not in problem["detail"]
        return problem


@dataclass
class Api:
    """An application and a client that has its token."""

    app: MultilinkApi
    readiness: Readiness = field(default_factory=Readiness)

    async def request(
        self,
        method: str,
        path: str,
        *,
        json_body: Any = None,
        data: bytes | str | None = None,
        headers: Mapping[str, str] | None = None,
        token: str | None = TOKEN,
        scope: dict[str, Any] | None = None,
    ) -> Answer:
        sent = {"Host": "127.0.0.1:8480"}
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        sent |= headers or {}
        body = json.dumps(json_body) if json_body is not None else data
        with trio.fail_after(HURRY):
            client = TrioClient(self.app, use_cookies=False)  # The cookie jar cannot read the hosts we send.
            response = await client.open(path, method=method, headers=sent, data=body, scope_base=scope)
            content = await response.get_data(as_text=False)
        return Answer(response.status_code, {k.lower(): v for k, v in response.headers.items()}, content)


def make_api(fabric: Fabric, *, policy: DialPolicy | None = None, host_names: frozenset[str] = frozenset()) -> Api:
    readiness = Readiness()
    app = create_app(fabric, policy=policy or DialPolicy(), auth=Auth(TOKEN, host_names), readiness=readiness)
    return Api(app, readiness)


@dataclass
class RawClient:
    """One connection; says exactly what it is told to."""

    stream: trio.SocketStream
    _read: bytes = b""

    async def send(self, text: str | bytes) -> None:
        await self.stream.send_all(text.encode() if isinstance(text, str) else text)

    async def request(
        self, method: str, path: str, *, body: str | bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send a request and read its answer."""
        body = body.encode() if isinstance(body, str) else body
        all_headers = {"Host": "localhost", "Authorization": f"Bearer {TOKEN}"}
        if body:
            all_headers["Content-Length"] = str(len(body))
        all_headers |= headers or {}
        head = "".join(f"{name}: {value}\r\n" for name, value in all_headers.items())
        await self.send(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body)
        return await self.read_answer()

    async def read_answer(self) -> Answer:
        with trio.fail_after(HURRY):
            while b"\r\n\r\n" not in self._read:
                await self._read_more()
            head, _, self._read = self._read.partition(b"\r\n\r\n")
            status_line, *lines = head.decode().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            length = int(headers["content-length"])
            while len(self._read) < length:
                await self._read_more()
        body, self._read = self._read[:length], self._read[length:]
        return Answer(int(status_line.split()[1]), headers, body)

    async def read_end(self) -> bytes:
        """Everything that still comes until the server closes."""
        with trio.fail_after(HURRY):
            try:
                while data := await self.stream.receive_some(65536):
                    self._read += data
            except trio.BrokenResourceError:
                pass
        return self._read

    async def _read_more(self) -> None:
        data = await self.stream.receive_some(65536)
        if not data:
            raise AssertionError(f"the server has closed; before that it sent {self._read!r}")
        self._read += data


@dataclass
class LiveServer:
    api: Api
    nursery: trio.Nursery
    shutdown: trio.Event
    stopped: trio.Event
    port: int
    unix_path: Path | None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @asynccontextmanager
    async def connect(self, *, unix: bool = False) -> AsyncIterator[RawClient]:
        if unix:
            assert self.unix_path is not None
            stream: trio.SocketStream = await trio.open_unix_socket(str(self.unix_path))
        else:
            stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        async with stream:
            yield RawClient(stream)


@asynccontextmanager
async def live_server(
    api: Api, *, unix_path: Path | None = None, grace_s: float = 0.5, limits: ServerLimits | None = None
) -> AsyncIterator[LiveServer]:
    """Serve `api` on a port of its own, and on a unix socket if there is a path for it; all gone at the end."""
    sockets = [socket.create_server(("127.0.0.1", 0))]
    if unix_path is not None:
        unix = socket.socket(socket.AF_UNIX)
        unix.bind(str(unix_path))
        unix.listen()
        sockets.append(unix)
    listeners = [trio.SocketListener(trio.socket.from_stdlib_socket(sock)) for sock in sockets]
    port = listeners[0].socket.getsockname()[1]
    shutdown, stopped = trio.Event(), trio.Event()
    serve = partial(serve_http, api.app, listeners, shutdown=shutdown, grace_s=grace_s, limits=limits or ServerLimits())

    async def run(task_status: trio.TaskStatus[None]) -> None:
        await serve(task_status=task_status)
        stopped.set()

    async with trio.open_nursery() as nursery:
        await nursery.start(run)
        try:
            yield LiveServer(api, nursery, shutdown, stopped, port, unix_path)
        finally:
            nursery.cancel_scope.cancel()


async def wait_stopped(server: LiveServer) -> None:
    server.shutdown.set()
    with trio.fail_after(HURRY):
        await server.stopped.wait()
