"""The accept loop of a control socket, and the handshake with whoever comes, hostile or not.

    accept → read at most 256 bytes, for at most HANDSHAKE_TIMEOUT_S → check → data socket → a DatagramPlug → reply

The reply is the plug's to send, once frames flow: a client that has it relies on hearing every frame from then on.
One task a half-open connection, at most MAX_HALF_OPEN of them: one more puts out the oldest, which is the likeliest to
be idle on purpose (an honest client sends its request at once). Whoever is refused is refused by closing at once,
because the clients have no time-out of their own. Each refusal is counted by reason, and costs nobody else anything.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final

import structlog
import trio

from app.fabric.control_dir import ControlDirectory
from app.fabric.errors import MultilinkError
from app.fabric.handshake import (
    MAX_REQUEST_SIZE,
    HandshakeError,
    Request,
    decode_request_untrusted,
    encode_reply,
)
from app.fabric.mmsg import CAPACITY_ERRNOS
from app.fabric.peer_socket import (
    FALLBACK_DIRECTORIES,
    connect_data_socket,
    peer_credentials,
)
from app.fabric.plugs.datagram import DatagramPlug, unlink_if_there

HANDSHAKE_TIMEOUT_S: Final = 3.0
MAX_HALF_OPEN: Final = 128
SILENCE_S: Final = 0.5
"""Whoever has not said what it wants by then gives up its descriptor first, where descriptors are short."""
CAPACITY_PAUSE_S: Final = 0.1
"""After EMFILE and its like: long enough to burn nothing, short enough that nobody notices. As trio's
serve_listeners does.
"""

_log = structlog.get_logger(__name__)


class RefusedError(MultilinkError):
    """The multilink itself has no place for this peer."""

    code = "refused"
    title = "The peer is refused"


class ControlListener:
    """Serves one control socket for as long as its task runs.

    Args:
        sock: listening and non-blocking; owned from now on.
        directory: where the data sockets are bound.
        admit: raises RefusedError if there is no place for a peer just now.
        attach: called with each peer that passed, at once after `admit`, and takes over the plug.
        refused: counts of refusals by reason, added to.
    """

    def __init__(
        self,
        sock: socket.socket,
        directory: ControlDirectory,
        admit: Callable[[], None],
        attach: Callable[[DatagramPlug], None],
        refused: dict[str, int],
    ) -> None:
        self._sock = sock
        self._directory = directory
        self._admit = admit
        self._attach = attach
        self._refused = refused
        self._half_open: dict[trio.CancelScope, float] = {}
        """Those whose request is not whole yet, oldest first: when they were accepted, on Trio's clock."""

    async def serve(self) -> None:
        """Accept until cancelled, then close the socket."""
        try:
            async with trio.open_nursery() as nursery:
                while True:
                    connection = await self._accept()
                    if connection is None:
                        continue
                    if len(self._half_open) >= MAX_HALF_OPEN:
                        self._evict(1)
                    scope = trio.CancelScope()
                    self._half_open[scope] = trio.current_time()
                    nursery.start_soon(self._handle, connection, scope)
        finally:
            trio.lowlevel.notify_closing(self._sock)
            self._sock.close()

    def _evict(self, count: int) -> None:
        """Put out the oldest connections that are half open."""
        for oldest in list(self._half_open)[:count]:
            del self._half_open[oldest]
            oldest.cancel()

    async def _accept(self) -> socket.socket | None:
        await trio.lowlevel.checkpoint()  # Before, not after: what has been accepted is ours to close.
        try:
            connection, _address = self._sock.accept()
        except BlockingIOError:
            await trio.lowlevel.wait_readable(self._sock)
            return None
        except OSError as error:
            if error.errno in CAPACITY_ERRNOS:
                _log.warning("out of descriptors or memory: new peers have to wait", reason=error.strerror)
                silent_since = trio.current_time() - SILENCE_S
                self._evict(sum(accepted < silent_since for accepted in self._half_open.values()))
                await trio.sleep(CAPACITY_PAUSE_S)
                return None
            if isinstance(error, ConnectionError):
                return None  # It left while it was in the backlog.
            raise
        connection.setblocking(False)
        return connection

    async def _handle(self, connection: socket.socket, scope: trio.CancelScope) -> None:
        """Bring one connection to an end: attached, or refused and closed."""
        reason = "connection_lost"
        plug: DatagramPlug | None = None
        try:
            with scope, trio.move_on_after(HANDSHAKE_TIMEOUT_S) as limit:
                plug = await self._shake_hands(connection, scope)
            if limit.cancelled_caught:
                reason = "timeout"
            elif scope.cancelled_caught:
                reason = "evicted"
        except MultilinkError as error:
            reason = error.code
            _log.debug("peer refused", path=self._directory.path, code=error.code, reason=error.detail)
        except OSError as error:
            _log.debug("peer lost in the handshake", path=self._directory.path, reason=error.strerror)
        except Exception:  # noqa: BLE001 -- whatever a stranger sends, a bug of ours costs this one connection
            reason = "internal_error"
            _log.exception("handshake failed", path=self._directory.path)
        finally:
            self._half_open.pop(scope, None)
            if plug is None:
                trio.lowlevel.notify_closing(connection)
                connection.close()
        if plug is None:
            self._refused[reason] = self._refused.get(reason, 0) + 1

    async def _shake_hands(self, connection: socket.socket, scope: trio.CancelScope) -> DatagramPlug:
        request = await _read_request(connection)
        self._half_open.pop(scope, None)
        while True:
            try:
                plug = self._join(connection, request)
            except OSError as error:
                if error.errno not in CAPACITY_ERRNOS:
                    raise
                await trio.sleep(CAPACITY_PAUSE_S)
            else:
                return plug

    def _join(self, connection: socket.socket, request: Request) -> DatagramPlug:
        """Check, answer and attach a client in one go; if anything fails, nothing is left but the connection."""
        peer = peer_credentials(connection)
        with ExitStack() as undo:
            data = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK))
            path = self._directory.bind_data_socket(data)
            undo.callback(unlink_if_there, path)
            directories = (self._directory.path, *FALLBACK_DIRECTORIES)
            connect_data_socket(data, request.data_address, uid=peer.uid, directories=directories)
            self._admit()
            undo.pop_all()
        plug = DatagramPlug(
            data,
            connection,
            greeting=encode_reply(os.fsencode(path)),
            bound_path=path,
            description=request.description,
            peer=peer,
        )
        self._attach(plug)
        return plug


async def _read_request(connection: socket.socket) -> Request:
    """Read until the request is whole.

    Raises:
        HandshakeError: it never can be, or the client left first.
    """
    received = b""
    while True:
        try:
            piece = connection.recv(MAX_REQUEST_SIZE - len(received))
        except BlockingIOError:
            await trio.lowlevel.wait_readable(connection)
            continue
        if not piece:
            raise HandshakeError("the client left before its request was whole")
        received += piece
        request = decode_request_untrusted(received)
        if request is not None:
            return request
