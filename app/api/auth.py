"""Who may use the API: a token over TCP, the socket file's mode (0600) over the unix socket.

Over TCP any web page can make its visitor's browser send requests to 127.0.0.1. Three things keep such a page out:

- the token, which it does not know;
- the Host header: a page whose name was made to point at this machine (DNS rebinding) is of our origin to the
  browser, but the browser still sends that name. An IP address cannot be rebound, so any address will do;
- the Origin header: browsers put it on everything that changes something, and it must be our own.

Invariant: without a good Host nothing is answered over TCP, not even what needs no token.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from quart import Request

from app.api.problems import HostNotAllowedError, OriginNotAllowedError, UnauthorizedError

PUBLIC_PATHS: Final = frozenset({"/", "/healthz", "/readyz", "/openapi.yaml"})
"""What needs no token: it tells nothing of the links, and the page has to come before its user can give one."""
PUBLIC_PREFIX: Final = "/dashboard/"

UNIX_TRANSPORT: Final = "unix"
_CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="vde-multilink"'}
_HOST: Final = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[^\[\]:/?#@\\\s]+)(?::(?P<port>[0-9]{1,5}))?")
_HTTP_PORT: Final = 80


class HostPort(NamedTuple):
    """A Host header taken apart: a lower-case name or an address without brackets, and a port."""

    name: str
    port: int


@dataclass(frozen=True, slots=True)
class Auth:
    """What a request must show.

    Attributes:
        token: the bearer token of TCP clients.
        host_names: names, other than localhost and addresses, under which the service is reached.
        token_name: what the log calls those who have the token.
    """

    token: str
    host_names: frozenset[str] = frozenset()
    token_name: str = "token"  # noqa: S105 -- what it is called, not what it is

    def __post_init__(self) -> None:
        """Refuse a token that everybody would know."""
        if not self.token:
            raise ValueError("the token is empty: without one nobody could be let in, nor kept out")

    def check(self, request: Request) -> None:
        """Let `request` pass, or refuse it.

        Raises:
            HostNotAllowedError, OriginNotAllowedError: a web page may be behind it.
            UnauthorizedError: there is no token, or a wrong one.
        """
        if connection_state(request).get("transport") == UNIX_TRANSPORT:
            return
        host = self._check_host(request.headers.get("Host", ""))
        _check_origin(request.headers.get("Origin"), host)
        if request.path not in PUBLIC_PATHS and not request.path.startswith(PUBLIC_PREFIX):
            self._check_token(request.headers.get("Authorization", ""))

    def _check_host(self, text_untrusted: str) -> HostPort:
        host = parse_host(text_untrusted)
        if host is None or not self._is_own_name(host.name):
            raise HostNotAllowedError(
                "The Host header must be localhost, an IP address, or a name that this service was told is its own: "
                "use its address, or add the name to its configuration."
            )
        return host

    def _is_own_name(self, name: str) -> bool:
        return name == "localhost" or name in {own.lower() for own in self.host_names} or _is_address(name)

    def _check_token(self, header_untrusted: str) -> None:
        scheme, _, token = header_untrusted.partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise UnauthorizedError(
                "Send the header Authorization: Bearer TOKEN; the service keeps its token in the file token of its "
                "runtime directory. Its unix socket needs none.",
                headers=_CHALLENGE,
            )
        # Bytes: compare_digest takes no text beyond ASCII, and a header may hold any.
        if not hmac.compare_digest(token.strip().encode("utf-8", "surrogatepass"), self.token.encode()):
            raise UnauthorizedError(
                "That is not this service's token: it is in the file token of the service's runtime directory, "
                "and may have changed when the service was started again.",
                headers={"WWW-Authenticate": _CHALLENGE["WWW-Authenticate"] + ', error="invalid_token"'},
            )


def parse_host(text_untrusted: str) -> HostPort | None:
    """Take a Host header apart; None if it is none."""
    match = _HOST.fullmatch(text_untrusted)
    if match is None:
        return None
    port = _HTTP_PORT if match["port"] is None else int(match["port"])
    return HostPort(match["name"].strip("[]").lower(), port)


def _check_origin(origin_untrusted: str | None, host: HostPort) -> None:
    if origin_untrusted is None:
        return
    scheme, _, rest = origin_untrusted.partition("://")
    # "null" (sandboxed frames, files) has no host at all.
    if scheme != "http" or parse_host(rest) != host:
        raise OriginNotAllowedError(
            "This request comes from a web page of another origin: use the service's own page, or a program."
        )


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def connection_state(request: Request) -> Mapping[str, Any]:
    """What is known of the connection: `transport`, and on a unix socket `peer`."""
    # A test client's requests have no connection behind them: they count as TCP, which is the stricter.
    scope: Mapping[str, Any] = request.scope
    state: Mapping[str, Any] = scope.get("state") or {}
    return state
