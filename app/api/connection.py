"""One HTTP connection: Hypercorn's HTTP/1.1 protocol over a Trio stream, with limits on everything a client can delay.

    what a client can be slow at      what ends it
    sending the headers               keep_alive_s after connecting, or after the last answer
    sending the body                  the application's BODY_TIMEOUT, 408
    reading the answer                write_s for one piece of it: the connection is cut
    leaving after an answer           linger_s

Hypercorn's own `TCPServer` has no limit for the third, so that such a client also holds up a shutdown for ever; it
waits keep_alive_s for clients that are long gone; and it closes with the request's body still unread, at which the
kernel resets the connection and the answer is lost.

Invariant: when `run` returns, or is cancelled, the socket is closed and no task of the connection is left.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final, cast

import h11
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.worker_context import TrioSingleTask, WorkerContext
from hypercorn.typing import AppWrapper, ConnectionState

from app.api.auth import UNIX_TRANSPORT
from app.api.problems import PROBLEM_TYPE, problem_bytes, protocol_problem
from app.fabric.peer_socket import peer_credentials

MAX_RECV: Final = 2**16


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """How much, and how long, clients may take.

    Attributes:
        connections: at most so many at a time on each listener; further ones are answered 503 at once.
        keep_alive_s: for the headers of a request to arrive, and between two requests.
        write_s: for a client to take one piece of an answer.
        linger_s: for a client to read an answer that came before its request was sent completely.
    """

    connections: int = 256
    keep_alive_s: float = 10.0
    write_s: float = 20.0
    linger_s: float = 1.0


class _Http11Protocol(H11Protocol):
    """HTTP/1.1 and nothing else: no HTTP/2, no WebSockets, and errors of the protocol are problem documents too."""

    async def _check_protocol(self, event: h11.Request) -> None:
        """Leave every upgrade alone, as a server may: h2c would bring in a second protocol with limits of its own."""

    async def _create_stream(self, request: h11.Request) -> None:
        # Without the header there is no WebSocket: it is answered as the plain request that it is.
        headers = [(name, value) for name, value in request.headers if name != b"upgrade"]
        plain = h11.Request(
            method=request.method, target=request.target, headers=headers, http_version=request.http_version
        )
        if not request.http_version.startswith(b"1."):
            await self._send_error_response(505)
            await self.send(Closed())
            return
        await super()._create_stream(plain)

    async def _send_error_response(self, status_code: int) -> None:
        body = problem_bytes(protocol_problem(status_code))
        headers = [
            (b"content-type", PROBLEM_TYPE.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
            (b"cache-control", b"no-store"),
            (b"x-content-type-options", b"nosniff"),
        ]
        all_headers = list(chain(headers, self.config.response_headers("h11")))
        await self._send_h11_event(h11.Response(status_code=status_code, headers=all_headers))
        await self._send_h11_event(h11.Data(data=body))
        await self._send_h11_event(h11.EndOfMessage())


class Connection:
    """Serves one client until either side has had enough.

    The requests' scope has, under `state`: `transport` ("unix" or "tcp"), on a unix socket `peer`, the client's
    PeerCredentials, and `stalled`, an event that is set when the connection is cut because the client does not read.

    Args:
        app: the application.
        config: Hypercorn's; its keep_alive_timeout is the one that counts.
        context: tells, by `terminated`, that the server is shutting down.
        stream: the client; closed when `run` ends.
        limits: for what Hypercorn has no setting.
    """

    def __init__(
        self, app: AppWrapper, config: Config, context: WorkerContext, stream: trio.SocketStream, limits: ServerLimits
    ) -> None:
        self._app = app
        self._config = config
        self._context = context
        self._stream = stream
        self._limits = limits
        self._send_lock = trio.Lock()
        self._idle = TrioSingleTask()
        self._reading = trio.CancelScope()
        self._finished = False
        self._stalled = trio.Event()
        self._tasks: TaskGroup
        self._protocol: _Http11Protocol

    async def run(self) -> None:
        """Serve the connection; returns when it is closed."""
        try:
            async with TaskGroup() as self._tasks:
                self._protocol = self._make_protocol()
                await self._protocol.initiate()
                await self._idle.restart(self._tasks, self._close_when_idle)
                await self._read()
        except OSError:
            return  # The client had gone before anything could be asked of its socket.
        finally:
            self.close()

    def close(self) -> None:
        """Close the socket at once; whatever waits for it ends. May be called from any task, and again."""
        self._stream.socket.close()

    def _make_protocol(self) -> _Http11Protocol:
        sock = self._stream.socket
        state: dict[str, Any] = {"transport": "tcp", "stalled": self._stalled}
        client: tuple[str, int] | None = None
        if sock.family == socket.AF_UNIX:
            # Trio's socket has the methods of the standard library's, but not its type.
            state |= {"transport": UNIX_TRANSPORT, "peer": peer_credentials(cast("socket.socket", sock))}
        else:
            client = sock.getpeername()[:2]
        return _Http11Protocol(
            self._app,
            self._config,
            self._context,
            self._tasks,
            ConnectionState(state),
            False,  # no TLS
            client,
            None,
            self._send,
        )

    async def _read(self) -> None:
        with self._reading:
            while True:
                try:
                    data = await self._stream.receive_some(MAX_RECV)
                    if not self._finished:
                        await self._protocol.handle(RawData(bytes(data)))
                except (trio.ClosedResourceError, trio.BrokenResourceError):
                    break
                if not data:
                    break
        self._finished = True
        await self._protocol.handle(Closed())
        await self._idle.stop()

    async def _send(self, event: Event) -> None:
        """What the protocol has for us to do."""
        if isinstance(event, RawData):
            await self._write(event.data)
        elif isinstance(event, Closed):
            await self._finish()
        elif isinstance(event, Updated):
            if not event.idle:
                await self._idle.stop()
            elif not self._finished:
                await self._idle.restart(self._tasks, self._close_when_idle)

    async def _write(self, data: bytes) -> None:
        lost = False
        async with self._send_lock:
            # Shielded, because half an answer cannot be taken back; hence a limit of its own.
            deadline = trio.current_time() + self._limits.write_s
            with trio.CancelScope(shield=True, deadline=deadline) as scope:
                try:
                    await self._stream.send_all(data)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    lost = True
        if scope.cancelled_caught:
            self._stalled.set()
        if lost or scope.cancelled_caught:
            self.close()
            await self._protocol.handle(Closed())

    async def _finish(self) -> None:
        """End our side; the other may read on. The rest of its request is thrown away, for at most linger_s."""
        if self._finished:
            return
        self._finished = True
        if self._protocol.connection.their_state in {h11.SEND_BODY, h11.ERROR}:
            self._reading.deadline = trio.current_time() + self._limits.linger_s
            try:
                async with self._send_lock:
                    await self._stream.send_eof()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self.close()
        else:
            self.close()
        await self._protocol.handle(Closed())

    async def _close_when_idle(self) -> None:
        with trio.move_on_after(self._config.keep_alive_timeout):
            await self._context.terminated.wait()
        self._finished = True
        self.close()
