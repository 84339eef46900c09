"""Binding the API's sockets: nothing that lives is disturbed, nothing stays behind.

Invariant: a name in the file system is removed only if nothing listens on it, or if it is still the very
socket (device and inode) that was bound here.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from app.fabric.peer_socket import is_live_socket
from app.listen_address import AddressError, ListenAddress, TcpAddress, UnixAddress

BACKLOG: Final = 128
_SOCKET_MODE: Final = 0o600


@contextmanager
def bind_listener(address: ListenAddress) -> Iterator[tuple[socket.socket, ListenAddress]]:
    """A listening socket, and the address that it really has (its port, where 0 was asked for).

    Raises:
        AddressError: it is in use, or cannot be bound; says why and what to do.
    """
    if isinstance(address, TcpAddress):
        with _bind_tcp(address) as sock:
            yield sock, TcpAddress(address.host, sock.getsockname()[1])
    else:
        with _bind_unix(address) as sock:
            yield sock, address


@contextmanager
def _bind_tcp(address: TcpAddress) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            sock.bind((address.host, address.port))
            sock.listen(BACKLOG)
        except OSError as error:
            raise AddressError(_tcp_reason(address, error)) from error
        yield sock


def _tcp_reason(address: TcpAddress, error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return f"{address} is in use, by another service perhaps: stop it, or choose another port with --listen"
        case errno.EACCES:
            return f"{address} may be bound by root only: choose a port above 1023 with --listen"
        case errno.EADDRNOTAVAIL:
            return f"{address} is not an address of this machine: choose another with --listen"
        case _:
            return f"{address} cannot be listened on: {error.strerror}"


@contextmanager
def _bind_unix(address: UnixAddress) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as sock:
        _clear(address.path)
        try:
            sock.bind(address.path)
        except OSError as error:
            raise AddressError(f"{address} cannot be bound: {error.strerror}") from error
        bound = os.lstat(address.path)
        try:
            # It refuses connections until it listens: so nobody comes in before the mode is set.
            Path(address.path).chmod(_SOCKET_MODE)
            sock.listen(BACKLOG)
            yield sock
        finally:
            _unlink_if_same(address.path, bound)


def _clear(path: str) -> None:
    """Remove the socket of a service that was killed.

    Raises:
        AddressError: something else is there, or something lives there.
    """
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise AddressError(f"{path} cannot be looked at: {error.strerror}") from error
    if not stat.S_ISSOCK(status.st_mode):
        raise AddressError(f"{path} exists and is not a socket: move it away, or choose another path")
    if is_live_socket(path):
        raise AddressError(f"another process listens on {path}: stop it, or choose another path")
    try:
        _unlink_if_same(path, status)
    except OSError as error:
        raise AddressError(f"the dead socket {path} cannot be removed: {error.strerror}") from error


def _unlink_if_same(path: str, status: os.stat_result) -> None:
    try:
        if os.path.samestat(os.lstat(path), status):
            Path(path).unlink()
    except FileNotFoundError:
        pass
