"""Serves an ASGI application on sockets that somebody else has made, and stops in time.

Hypercorn's own `serve` binds for itself (and removes a live service's socket file to do so), and never ends while a
client does not read. This one keeps every connection in hand:

    shutdown is set → no more connections → streams and idle ones closed → the others have grace_s → all are cut

Invariant: `serve_http` returns, or ends under cancellation, at most about grace_s after it was asked to, whatever
the clients do; then every socket, the listeners too, is closed.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.lifespan import Lifespan
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper

from app.api.app import MultilinkApi
from app.api.connection import Connection, ServerLimits
from app.api.pacing import Pacer
from app.api.problems import PROBLEM_TYPE, make_problem, problem_bytes

logger = logging.getLogger(__name__)

DEFAULT_GRACE_S: Final = 0.5
DEFAULT_LIMITS: Final = ServerLimits()
_LIFESPAN_S: Final = 5.0
_REFUSALS: Final = 32
"""Connections over the limit that are told so at a time; any more are just closed."""
_REFUSAL_S: Final = 0.5


async def serve_http(
    app: MultilinkApi,
    listeners: Sequence[trio.SocketListener],
    *,
    shutdown: trio.Event,
    grace_s: float = DEFAULT_GRACE_S,
    limits: ServerLimits = DEFAULT_LIMITS,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `app` until `shutdown` is set.

    Start it with `await nursery.start(partial(serve_http, app, listeners, shutdown=shutdown))`.

    Args:
        app: the application.
        listeners: TCP or unix stream sockets, bound and listening. They are closed at the end, whichever way it comes;
            a unix socket's file is left to whoever made it.
        shutdown: to be set by the caller when the service is to stop.
        grace_s: how long requests under way may take from then on. Then their connections are cut and their handlers
            cancelled.
        limits: how much, and how long, clients may take.
        task_status: started once connections are taken.

    Errors: running out of descriptors (EMFILE, ENFILE, ENOBUFS, ENOMEM) is logged and waited out. An error in one
    connection is logged and ends that connection. Any other error of a listener is raised.
    """
    config = _hypercorn_config(limits)
    wrapped = ASGIWrapper(app)
    lifespan = Lifespan(wrapped, config, {})
    async with trio.open_nursery() as lifespan_nursery:
        await lifespan_nursery.start(lifespan.handle_lifespan)
        await lifespan.wait_for_startup()
        await _serve_until(wrapped, app, config, listeners, shutdown, grace_s, limits, task_status)
        await lifespan.wait_for_shutdown()
        lifespan_nursery.cancel_scope.cancel()


async def _serve_until(
    app: AppWrapper,
    api: MultilinkApi,
    config: Config,
    listeners: Sequence[trio.SocketListener],
    shutdown: trio.Event,
    grace_s: float,
    limits: ServerLimits,
    task_status: trio.TaskStatus[None],
) -> None:
    context, pacer = WorkerContext(None), api.pacer
    doors = [_Door(app, pacer, config, context, limits) for _ in listeners]
    async with trio.open_nursery() as connections:
        try:
            async with trio.open_nursery() as accepting:
                for door, listener in zip(doors, listeners, strict=True):
                    serve = partial(trio.serve_listeners, door.handle, [listener], handler_nursery=connections)
                    await accepting.start(serve)
                task_status.started()
                await shutdown.wait()
                accepting.cancel_scope.cancel()
            api.close_streams()
            pacer.stop()
            await context.terminated.set()
            with trio.move_on_after(grace_s):
                for door in doors:
                    await door.wait_empty()
        finally:
            pacer.stop()
            # The sockets first, and without awaiting: what is being sent is shielded, and only ends with its socket.
            for door in doors:
                door.close_all()
            connections.cancel_scope.cancel()


@dataclass(slots=True, eq=False)
class _Door:
    """One listener's connections. Each has its own limit, so that nobody on TCP can shut out the unix socket."""

    app: AppWrapper
    pacer: Pacer
    config: Config
    context: WorkerContext
    limits: ServerLimits
    _open: set[Connection] = field(default_factory=set)
    _refusing: set[trio.SocketStream] = field(default_factory=set)
    _left: trio.Event = field(default_factory=trio.Event)

    async def handle(self, stream: trio.SocketStream) -> None:
        """Serve, or refuse, one client; never raises but when cancelled."""
        if len(self._open) >= self.limits.connections:
            await self._refuse(stream)
            return
        connection = Connection(self.app, self.config, self.context, stream, self.limits)
        self._open.add(connection)
        try:
            await self.pacer.paced(connection.run())
        except* Exception as group:
            logger.error("a connection has ended with an error of ours", exc_info=group)  # noqa: TRY400 - is a group
        finally:
            self._open.discard(connection)
            self._left.set()

    async def wait_empty(self) -> None:
        """Return when no connection is open."""
        while self._open:
            self._left = trio.Event()
            await self._left.wait()

    def close_all(self) -> None:
        """Cut every connection, at once."""
        for connection in self._open:
            connection.close()
        for stream in self._refusing:
            stream.socket.close()

    async def _refuse(self, stream: trio.SocketStream) -> None:
        if len(self._refusing) >= _REFUSALS:
            return  # trio.serve_listeners closes it.
        self._refusing.add(stream)
        try:
            with trio.move_on_after(_REFUSAL_S):
                await stream.send_all(_too_many(self.limits.connections))
                await stream.send_eof()
                # Closed with the request unread, the kernel would reset the connection, and the answer be lost.
                while await stream.receive_some():
                    pass
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return
        finally:
            self._refusing.discard(stream)


def _too_many(limit: int) -> bytes:
    detail = f"{limit} connections are open: close some, or wait a little and try again."
    body = problem_bytes(make_problem(503, "too_many_connections", detail))
    head = (
        "HTTP/1.1 503 Service Unavailable\r\n"
        f"Content-Type: {PROBLEM_TYPE}\r\nContent-Length: {len(body)}\r\n"
        "Connection: close\r\nRetry-After: 1\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n\r\n"
    )
    return head.encode() + body


def _hypercorn_config(limits: ServerLimits) -> Config:
    config = Config()
    config.accesslog = None
    config.errorlog = logging.getLogger("app.api.hypercorn")
    config.include_server_header = False
    config.keep_alive_timeout = limits.keep_alive_s
    config.startup_timeout = _LIFESPAN_S
    config.shutdown_timeout = _LIFESPAN_S
    return config
