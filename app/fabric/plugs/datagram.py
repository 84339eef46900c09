"""What attached links, the host socket and dialled vde:// plugs have in common: a data socket and a control
connection.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import Final

import trio

from app.fabric.errors import PlugClosedError
from app.fabric.mmsg import Batch
from app.fabric.peer_socket import PeerCredentials
from app.fabric.plugs.base import Plug

_LEFT: Final = "the peer has left: it closed its control connection"
_GONE: Final = frozenset({errno.ECONNREFUSED, errno.ECONNRESET, errno.ENOTCONN, errno.EPIPE})
"""What a data socket says once the process at the other end is dead."""
_FULL: Final = frozenset({errno.EAGAIN, errno.EWOULDBLOCK})
SEND_BUFFER_BYTES: Final = 1 << 20
"""What the kernel may hold for a peer: a batch of the longest frames, 450 frames of 1514 bytes. Its default (208 KiB)
holds 13 of the longest, so that most of a batch would go through our queue. EPOLLOUT comes once three quarters of it
are free."""
_SO_SNDBUFFORCE: Final = 32
"""From asm-generic/socket.h; Python has no name for it."""
_OWN_FAULT: Final = frozenset({errno.EMSGSIZE, errno.ENOBUFS, errno.ENOMEM, errno.EINVAL})
"""This frame cannot go, others may."""


class DatagramPlug(Plug):
    """A connected AF_UNIX datagram socket, and the stream connection whose end is the end of the plug.

    Args:
        data: non-blocking and connected; owned by the plug from now on.
        control: non-blocking, the handshake done; owned by the plug from now on.
        greeting: sent on `control` when frames can flow: the reply of a handshake.
        bound_path: the name of `data` in the file system, removed at the end; None if it has none any more.
    """

    __slots__ = ("_bound_path", "_control", "_data", "_fd", "_greeting", "_is_calm")

    def __init__(
        self,
        data: socket.socket,
        control: socket.socket,
        *,
        greeting: bytes = b"",
        bound_path: str | None = None,
        description: str = "",
        peer: PeerCredentials | None = None,
    ) -> None:
        super().__init__(description=description, peer=peer)
        self._data = data
        self._control = control
        self._greeting = greeting
        self._bound_path = bound_path
        self._fd = data.fileno()
        self._is_calm = False
        """Nothing waited, or one frame, when there was a last look: the next one is likely to come alone."""
        _size_send_buffer(data)

    def begin(self) -> None:
        """See `Plug.begin`. Not sooner: a peer that has its reply relies on hearing every frame from then on."""
        if self._greeting:
            try:
                self._control.send(self._greeting, socket.MSG_NOSIGNAL)
            except OSError as error:
                raise PlugClosedError(self._reason(error)) from error

    def receive(self, batch: Batch) -> None:
        """See `Plug.receive`. A frame that comes alone goes on its way before there is a look at what else has come."""
        try:
            if self._is_calm:
                self._is_calm = False
                batch.receive_datagram(self._fd)
                self.may_have_more = True
            else:
                self.may_have_more = False
                batch.receive_datagrams(self._fd)
                self._is_calm = len(batch.sizes) == 1
        except BlockingIOError:
            self._is_calm = True
            raise
        except OSError as error:
            raise PlugClosedError(self._reason(error)) from error

    def send(self, batch: Batch, start: int, end: int) -> int:
        """See `Plug.send`."""
        position = start
        while position < end:
            try:
                if batch.lone_frame is not None:
                    self._data.send(batch.lone_frame)  # Costs less than sendmmsg(2) does for one.
                    position += 1
                else:
                    position += batch.vector.send(self._fd, position, end)
            except OSError as error:
                if position > start and error.errno in _GONE:
                    break  # What went before is counted first; the next call meets the error again.
                if not self._refuses_one(error, batch.sizes[position]):
                    break
                position += 1
        return position - start

    async def wait_readable(self) -> None:
        """See `Plug.wait_readable`."""
        await trio.lowlevel.wait_readable(self._fd)

    async def wait_writable(self) -> None:
        """See `Plug.wait_writable`."""
        await trio.lowlevel.wait_writable(self._fd)

    async def wait_ended(self) -> str:
        """Return once the control connection is closed or says anything at all: either means that the peer has left."""
        await trio.lowlevel.wait_readable(self._control)
        try:
            said = self._control.recv(1, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return await self.wait_ended()
        except OSError as error:
            return self._reason(error)
        return "the peer has left: it spoke on its control connection" if said else _LEFT

    async def aclose(self) -> None:
        """See `Plug.aclose`."""
        if self._fd < 0:
            return
        self._fd = -1  # A stale number must not reach whatever gets it next.
        for sock in (self._data, self._control):
            trio.lowlevel.notify_closing(sock)
            sock.close()
        if self._bound_path is not None:
            unlink_if_there(self._bound_path)

    def _refuses_one(self, error: OSError, size: int) -> bool:
        """True: one frame was refused and is noted. False: the socket is full. Raises if the peer is gone."""
        if error.errno in _FULL:
            return False
        if error.errno in _OWN_FAULT:
            self.refused.append(size)
            return True
        raise PlugClosedError(self._reason(error)) from error

    def _reason(self, error: OSError) -> str:
        if error.errno in _GONE:
            return "the peer is gone: its data socket is closed"
        return f"the data socket failed: {error.strerror}"


def _size_send_buffer(sock: socket.socket) -> None:
    """As large as SEND_BUFFER_BYTES, or as net.core.wmem_max allows. The kernel doubles what it is told (socket(7))."""
    half = SEND_BUFFER_BYTES // 2
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, half)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, half)


def unlink_if_there(path: str) -> None:
    """Remove a name; that it is gone already is fine, and a directory that went away or changed hands is not ours to
    mend.
    """
    try:
        os.unlink(path)
    except OSError:
        return
