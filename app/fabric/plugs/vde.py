"""vde://DIR[PORT-or-PORTGROUP]: this side as the client of a switch, of another multilink, of anything with a ctl
socket.

The order, as vdeplug4 has it: connect to DIR/PORTGROUP, failing that to DIR/ctl; bind a data socket in DIR, failing
that where everybody may write; send the request that names it; the reply names the server's; connect to that; remove
our own name.
"""

from __future__ import annotations

import itertools
import os
import pwd
import socket
from contextlib import ExitStack
from typing import Final

import trio

from app.fabric.errors import ConnectError
from app.fabric.handshake import (
    SOCKADDR_UN_SIZE,
    HandshakeError,
    Request,
    decode_reply_untrusted,
    encode_request,
)
from app.fabric.peer_socket import ForeignSocketError, connect_data_socket, peer_credentials
from app.fabric.plugs.base import Plug, register_plug
from app.fabric.plugs.datagram import DatagramPlug, unlink_if_there
from app.fabric.vnl import VdeVnl, Vnl

_RETRY_S: Final = 0.02
"""A full backlog of a unix socket is EAGAIN, for which nothing can be waited for (unix(7))."""
_FALLBACKS: Final = ("/var/run", "/var/tmp", "/tmp")  # noqa: S108 -- where servers let a client's data socket lie
_counter: Final = itertools.count()


async def open_vde_plug(vnl: Vnl) -> Plug:
    """Join the control directory that `vnl` names.

    Raises:
        ConnectError: nobody answers there, or we are refused.
    """
    if not isinstance(vnl, VdeVnl):
        raise TypeError(f"a vde:// locator is due, not {vnl!r}")
    with ExitStack() as undo, ExitStack() as names:
        control = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK))
        data = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK))
        try:
            await _connect_control(control, vnl)
            server = peer_credentials(control)
            bound = _bind_data(data, vnl.path)
            # The server has connected to the name once it has replied, or never will: either way it has done its
            # service.
            names.callback(unlink_if_there, bound)
            if server.uid not in {0, os.geteuid()}:
                os.chmod(bound, 0o666)  # noqa: S103 -- for the server alone to connect to; gone again in a moment
            reply = await _request(control, vnl, bound)
            connect_data_socket(data, decode_reply_untrusted(reply), uid=server.uid, directories=None)
        except (HandshakeError, ForeignSocketError) as error:
            raise ConnectError(f"{vnl} has answered, but not as a VDE switch does: {error.detail}") from error
        except OSError as error:
            raise ConnectError(f"{vnl} cannot be joined: {error.strerror or error}") from error
        undo.pop_all()
        return DatagramPlug(data, control, peer=server)


async def _connect_control(control: socket.socket, vnl: VdeVnl) -> None:
    if vnl.portgroup is not None:
        try:
            await _connect(control, os.path.join(vnl.path, vnl.portgroup))
        except OSError:
            pass  # Not a portgroup of this server's: its ctl will do, as for every VDE client.
        else:
            return
    path = os.path.join(vnl.path, "ctl")
    try:
        await _connect(control, path)
    except FileNotFoundError as error:
        raise ConnectError(f"{path} does not exist: is a switch or a multilink running at {vnl.path}?") from error
    except ConnectionRefusedError as error:
        raise ConnectError(f"nobody answers on {path}: what served it is gone; start it again") from error
    except PermissionError as error:
        raise ConnectError(f"{path} may not be used by this service's user: see mode= and grp= of its owner") from error
    except OSError as error:
        raise ConnectError(f"{path} cannot be connected to: {error.strerror or error}") from error


async def _connect(sock: socket.socket, path: str) -> None:
    while True:
        try:
            sock.connect(path)
        except BlockingIOError:
            await trio.sleep(_RETRY_S)
        else:
            return


def _bind_data(data: socket.socket, directory: str) -> str:
    """Bind to a fresh name that the server accepts: in its directory, or where everybody may write."""
    number = next(_counter)
    pid = os.getpid()
    candidates = [os.path.join(os.path.abspath(directory), f".{pid:05d}-{number:05d}")]
    candidates += [f"{fallback}/vde.{pid:05d}-{number:05d}" for fallback in _FALLBACKS]
    problem = OSError("no name was tried")
    for name in candidates:
        try:
            data.bind(name)
        except OSError as error:
            problem = error
            continue
        os.chmod(name, 0o600)
        return name
    raise problem


async def _request(control: socket.socket, vnl: VdeVnl, bound: str) -> bytes:
    """Send the request and read the reply, which may come in pieces."""
    number = vnl.port_number
    request = Request(
        data_address=os.fsencode(bound),
        description=f"vde-multilink: user={_user_name()} pid={os.getpid()}",
        port=number or 0,
        port_zero=number == 0,
    )
    control.send(encode_request(request))
    reply = b""
    while len(reply) < SOCKADDR_UN_SIZE:
        await trio.lowlevel.wait_readable(control)
        try:
            piece = control.recv(SOCKADDR_UN_SIZE - len(reply))
        except BlockingIOError:
            continue
        except ConnectionResetError:
            piece = b""
        if not piece:
            raise ConnectError(f"{vnl} refuses this link: it closed the connection instead of answering")
        reply += piece
    return reply


def _user_name() -> str:
    uid = os.geteuid()
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"u{uid}"


register_plug("vde", open_vde_plug)
