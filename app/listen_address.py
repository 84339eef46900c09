"""Addresses the HTTP API listens on or is reached at: text to frozen values and back.

    ADDRESS = "unix:" ABSOLUTE-PATH
            | IPV4 ":" PORT | "[" IPV6 "]:" PORT | "localhost:" PORT

    accepted                     rejected
    127.0.0.1:8480               8480                  no address
    [::1]:0  (any free port)     ::1:8480              an IPv6 address goes in brackets
    unix:/run/user/1000/x.sock   unix:x.sock           not absolute
    localhost:8480               example.org:8480      a name: which of its addresses is meant?

Invariant: `parse_listen_address(str(address)) == address`. No I/O here.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Final, TypeAlias

from app.fabric.errors import MultilinkError

MAX_UNIX_PATH_BYTES: Final = 107
"""Linux: `sun_path` is 108 bytes, with a closing NUL."""
MAX_PORT: Final = 65535

_UNIX_PREFIX: Final = "unix:"
_EXAMPLE: Final = "give one such as 127.0.0.1:8480, [::1]:8480 or unix:/run/vde-multilink/extra.sock"


class AddressError(MultilinkError):
    """An address that cannot be read, bound or reached."""

    code = "bad_address"
    title = "The address cannot be used"


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A literal IP address and a port; port 0 lets the kernel choose when it is bound."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return ipaddress.ip_address(self.host).is_loopback

    @property
    def url(self) -> str:
        """The address as a web browser takes it."""
        return f"http://{self}"

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """The absolute path of a unix stream socket."""

    path: str

    def __str__(self) -> str:
        return _UNIX_PREFIX + self.path


ListenAddress: TypeAlias = TcpAddress | UnixAddress


def parse_listen_address(text: str) -> ListenAddress:
    """Read an address.

    Raises:
        AddressError: with what is wrong and what would be right.
    """
    if text.startswith(_UNIX_PREFIX):
        return UnixAddress(check_unix_path(text.removeprefix(_UNIX_PREFIX)))
    host, colon, port = text.rpartition(":")
    if not colon or not host:
        raise AddressError(f"{text!r} is no address and port: {_EXAMPLE}")
    return TcpAddress(_parse_host(host), _parse_port(port))


def check_unix_path(path: str) -> str:
    """`path`, if a unix socket can have that name.

    Raises:
        AddressError: it is relative, too long, or has a NUL in it.
    """
    if not path.startswith("/"):
        raise AddressError(f"{path!r} is not an absolute path: write unix:/path/to/socket")
    length = len(path.encode("utf-8", "surrogateescape"))
    if length > MAX_UNIX_PATH_BYTES:
        raise AddressError(
            f"{path} is {length} bytes long, and a unix socket's path may have {MAX_UNIX_PATH_BYTES}:"
            " choose a shorter one"
        )
    if "\0" in path:
        raise AddressError(f"{path!r} has a NUL character in it: leave it out")
    return path


def _parse_host(host: str) -> str:
    if host == "localhost":
        return "127.0.0.1"
    bracketed = host.startswith("[") and host.endswith("]")
    try:
        address = ipaddress.ip_address(host[1:-1] if bracketed else host)
    except ValueError as error:
        raise AddressError(f"{host!r} is no IP address: {_EXAMPLE}") from error
    if bracketed != (address.version == 6):
        raise AddressError(f"{host!r}: an IPv6 address stands in brackets, and nothing else does: {_EXAMPLE}")
    return str(address)


def _parse_port(port: str) -> int:
    if not (port.isascii() and port.isdigit()) or int(port) > MAX_PORT:
        raise AddressError(f"{port!r} is no port: 0 (any free one) to {MAX_PORT}")
    return int(port)
