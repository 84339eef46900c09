"""Peers behind AF_UNIX sockets: who they are, whether they live, and whether the data socket they name is theirs.

A request names the path to which this side then connects. As root that makes a confused deputy of the service (any user
could have it feed frames to another's socket). So: pin the inode with O_PATH, look at what was pinned, and connect
to just that through /proc/self/fd, which no rename can change in between.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
from dataclasses import dataclass
from pathlib import PurePath
from typing import Final

from app.fabric.errors import MultilinkError

FALLBACK_DIRECTORIES: Final = ("/var/run", "/run", "/var/tmp", "/tmp")  # noqa: S108 -- where the peers bind theirs
"""Where clients bind their data sockets when they may not do so in the control directory itself."""


_UCRED: Final = struct.Struct("=iII")


@dataclass(frozen=True, slots=True)
class PeerCredentials:
    """Who is at the other end, from SO_PEERCRED: noted by the kernel when the peer connected (or listened)."""

    pid: int
    uid: int
    gid: int


def peer_credentials(sock: socket.socket) -> PeerCredentials:
    """The credentials of the process at the other end of a connected unix stream socket."""
    return PeerCredentials(*_UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)))


class ForeignSocketError(MultilinkError):
    """A peer named a data socket that is not its own, not a socket, or not where one may lie."""

    code = "foreign_socket"
    title = "The data socket cannot be the peer's"


def connect_data_socket(sock: socket.socket, address: bytes, *, uid: int, directories: tuple[str, ...] | None) -> None:
    """Connect `sock` to the data socket at `address` after making sure that it belongs to `uid`.

    Args:
        sock: a non-blocking AF_UNIX datagram socket.
        address: a path, or an abstract address (which has no owner to check).
        uid: the peer's, from SO_PEERCRED.
        directories: where the socket may lie; None for anywhere.

    Raises:
        ForeignSocketError: the checks fail.
        OSError: the kernel's own refusal.
    """
    if address.startswith(b"\0"):
        sock.connect(address)
        return
    try:
        pinned = os.open(address, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in {errno.EMFILE, errno.ENFILE, errno.ENOMEM}:
            raise
        raise ForeignSocketError(f"the data socket cannot be looked at: {error.strerror}") from error
    try:
        status = os.fstat(pinned)
        if not stat.S_ISSOCK(status.st_mode):
            raise ForeignSocketError("what the peer named is not a socket")
        if status.st_uid != uid:
            raise ForeignSocketError(f"the data socket belongs to uid {status.st_uid}, the peer is uid {uid}")
        link = f"/proc/self/fd/{pinned}"
        if directories is not None:
            directory = str(PurePath(os.readlink(link)).parent)
            if directory not in {os.path.realpath(allowed) for allowed in directories}:
                raise ForeignSocketError(f"the data socket lies in {directory}, where a client's does not belong")
        sock.connect(link)
    finally:
        os.close(pinned)


def is_live_socket(path: str | bytes) -> bool:
    """Whether a process holds the socket at `path`, found out without its noticing.

    Connecting with the wrong socket type never reaches the owner: the kernel answers EPROTOTYPE where there is one,
    ECONNREFUSED where there is none (net/unix/af_unix.c, unix_find_bsd). A bare connect to a stream socket would send
    the C module's `multi://` spinning.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True  # EPROTOTYPE most of all; what cannot be told apart (EACCES) is left alone.
        return True  # A datagram socket: connected, and its owner was not told.
