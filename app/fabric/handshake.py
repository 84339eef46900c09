"""The request and the reply of the VDE control socket: bytes to values and back, no I/O.

    offset size  request field (native byte order, packed)
         0    4  magic 0xfeedface
         4    4  version, 3
         8    4  type: low byte 0 = new control, 1 = new "port 0"; type >> 8 = port number, 0 = any
        12  110  struct sockaddr_un of the client's data socket: family (2), path (108)
       122 <=128 description, not NUL-terminated

The reply is a bare, zero-padded sockaddr_un of 110 bytes: the service's data socket for this client.
Source: what vdeplug4, vde-2, QEMU and user-mode Linux send and expect.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from typing import Final

from app.fabric.errors import MultilinkError

MAGIC: Final = 0xFEEDFACE
VERSION: Final = 3
TYPE_NEW_CONTROL: Final = 0
TYPE_NEW_PORT0: Final = 1

SUN_PATH_SIZE: Final = 108
SOCKADDR_UN_SIZE: Final = 110
REQUEST_HEAD_SIZE: Final = 122
MAX_DESCRIPTION_SIZE: Final = 128
MAX_REQUEST_SIZE: Final = 256
"""The peers' servers read no more than this, and so does this one."""

_MAGIC_BYTES: Final = struct.pack("=I", MAGIC)
_HEAD: Final = struct.Struct(f"=IIIH{SUN_PATH_SIZE}s")
_SOCKADDR: Final = struct.Struct(f"=H{SUN_PATH_SIZE}s")


class HandshakeError(MultilinkError):
    """Bytes that are no request or no reply this protocol knows; the connection is to be closed."""

    code = "bad_handshake"
    title = "The peer does not speak VDE"


@dataclass(frozen=True, slots=True)
class Request:
    """A client's request to join.

    `data_address` is the client's data socket as the `socket` module takes it: a path, or with a leading
    NUL an abstract address. `description` is the client's claim, made safe to show.
    """

    data_address: bytes
    description: str = ""
    port: int = 0
    port_zero: bool = False

    @property
    def is_abstract(self) -> bool:
        """Whether the data socket lies in the abstract name space rather than in the file system."""
        return self.data_address.startswith(b"\0")


def encode_request(request: Request) -> bytes:
    """The request's bytes: 122 and the description.

    Raises:
        HandshakeError: the address does not fit into sockaddr_un.
    """
    kind = (TYPE_NEW_PORT0 if request.port_zero else TYPE_NEW_CONTROL) | request.port << 8
    head = _HEAD.pack(MAGIC, VERSION, kind, socket.AF_UNIX, _sun_path(request.data_address))
    return head + request.description.encode()[:MAX_DESCRIPTION_SIZE]


def decode_request_untrusted(data: bytes) -> Request | None:
    """The request in `data`, or None while it is too short to tell.

    A first piece that cannot become a request is refused at once, however short.

    Raises:
        HandshakeError: wrong magic, version, type, family or address.
    """
    if data[:4] != _MAGIC_BYTES[: len(data)]:
        raise HandshakeError("the request does not begin with VDE's magic number")
    if len(data) < REQUEST_HEAD_SIZE:
        return None
    _magic, version, kind, family, sun_path = _HEAD.unpack_from(data)
    if version != VERSION:
        raise HandshakeError(f"the request is of version {version}; version {VERSION} is spoken here")
    if kind & 0xFF not in {TYPE_NEW_CONTROL, TYPE_NEW_PORT0}:
        raise HandshakeError(f"the request is of type {kind & 0xFF}; 0 and 1 are known here")
    return Request(
        data_address=_address(family, sun_path),
        description=sanitise(data[REQUEST_HEAD_SIZE : REQUEST_HEAD_SIZE + MAX_DESCRIPTION_SIZE]),
        port=kind >> 8,
        port_zero=bool(kind & 0xFF),
    )


def encode_reply(address: bytes) -> bytes:
    """The 110 bytes that tell the client where to send its frames.

    Raises:
        HandshakeError: the address does not fit into sockaddr_un.
    """
    return _SOCKADDR.pack(socket.AF_UNIX, _sun_path(address))


def decode_reply_untrusted(data: bytes) -> bytes:
    """The address in a server's reply.

    Raises:
        HandshakeError: too short, or no usable unix address.
    """
    if len(data) < SOCKADDR_UN_SIZE:
        raise HandshakeError(f"the reply has {len(data)} bytes; {SOCKADDR_UN_SIZE} are due")
    return _address(*_SOCKADDR.unpack_from(data))


def sanitise(description: bytes) -> str:
    """A description as it may be shown: UTF-8, every control or unprintable character replaced."""
    text = description.rstrip(b"\0").decode("utf-8", "replace")
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def _sun_path(address: bytes) -> bytes:
    # A path needs its closing NUL; of an abstract address all 108 bytes count.
    limit = SUN_PATH_SIZE if address.startswith(b"\0") else SUN_PATH_SIZE - 1
    if not address or len(address) > limit:
        raise HandshakeError(f"a socket address of {len(address)} bytes: 1 to {limit} fit")
    return address


def _address(family: int, sun_path: bytes) -> bytes:
    if family != socket.AF_UNIX:
        raise HandshakeError(f"address family {family} is not AF_UNIX")
    if sun_path.startswith(b"\0"):
        # Legacy UML binds all 108 bytes of its abstract name, the trailing NULs among them.
        if sun_path == bytes(SUN_PATH_SIZE):
            raise HandshakeError("the data socket's address is empty")
        return sun_path
    path, nul, _rest = sun_path.partition(b"\0")
    if not nul:
        raise HandshakeError("the data socket's path is not NUL-terminated")
    return path
