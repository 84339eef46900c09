"""Typed client of the HTTP API, for the commands and for scripts.

    from app.client import Client, find_service

    with Client(find_service()) as client:
        link = client.add_link("/tmp/vm2", multilink="vm1")
        print(link["id"], link["state"])

What comes back is the API's JSON, unchanged. Every failure is a ClientError whose detail is worth showing.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self, cast
from urllib.parse import quote

import httpx

from app.client_requests import given, handoff_request
from app.client_types import (
    Direction,
    Handoff,
    HandoffList,
    HandoffPlan,
    History,
    Host,
    Link,
    LinkList,
    Monitor,
    MonitorSpec,
    Multilink,
    MultilinkList,
    PassOrDrop,
    Peer,
    Verify,
)
from app.fabric.errors import MultilinkError
from app.listen_address import TcpAddress, UnixAddress, parse_listen_address
from app.runtime_dir import API_SOCKET_NAME, TOKEN_NAME, default_runtime_dir
from app.tokens import TokenError, check_token, read_token_file

__all__ = [
    "Client",
    "ClientError",
    "Direction",
    "Handoff",
    "HandoffList",
    "HandoffPlan",
    "History",
    "Host",
    "Link",
    "LinkList",
    "Monitor",
    "MonitorSpec",
    "Multilink",
    "MultilinkList",
    "NotRunningError",
    "PassOrDrop",
    "Peer",
    "RefusedError",
    "ServiceLocation",
    "Verify",
    "find_service",
    "handoff_request",
]

DEFAULT_TIMEOUT_S: Final = 30.0
"""Longer than the service itself waits for anything but a drain."""

START_HINT: Final = "start it with: vde-multilink serve"


class ClientError(MultilinkError):
    """The service cannot be asked, or has refused.

    Attributes:
        detail: what is wrong and what to do next, in the service's words where it answered.
        status: the answer's HTTP status; None without an answer.
        problem_code: the stable code of the answer's problem document; None without one.
    """

    code = "client_error"
    title = "The service could not be asked"

    def __init__(self, detail: str, *, status: int | None = None, problem_code: str | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.problem_code = problem_code


class NotRunningError(ClientError):
    """Nothing answers where the service should be."""

    code = "not_running"
    title = "The service does not run"


class RefusedError(ClientError):
    """The service has answered, with a problem document."""

    code = "refused"
    title = "The service refuses"


@dataclass(frozen=True, slots=True)
class ServiceLocation:
    """Where a service's API is, and the token it takes there."""

    address: UnixAddress | TcpAddress | str
    """A string is the `http://` or `https://` URL of a service elsewhere, behind a proxy perhaps."""
    token: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return self.address.url if isinstance(self.address, TcpAddress) else str(self.address)


def find_service(
    api: str | None = None,
    *,
    runtime_dir: Path | None = None,
    token_file: Path | None = None,
    environ: Mapping[str, str] = os.environ,
) -> ServiceLocation:
    """Where the service's API is, for someone who says as much about it as the arguments do.

    Args:
        api: `unix:/path`, `127.0.0.1:8480` or `http://...`; else VDE_MULTILINK_API, else the runtime
            directory's api.sock.
        runtime_dir: else VDE_MULTILINK_RUNTIME_DIR, else the user's own.
        token_file: else VDE_MULTILINK_TOKEN, else VDE_MULTILINK_TOKEN_FILE, else the token in the runtime directory.
        environ: the environment.

    Raises:
        AddressError: `api` is no address.
        TokenError: the token that was named cannot be used.
    """
    if runtime_dir is None:
        named = environ.get("VDE_MULTILINK_RUNTIME_DIR")
        runtime_dir = Path(named) if named else default_runtime_dir(environ)
    runtime_dir = runtime_dir.absolute()
    api = api or environ.get("VDE_MULTILINK_API") or f"unix:{runtime_dir / API_SOCKET_NAME}"
    if api.startswith(("http://", "https://")):
        return ServiceLocation(api.rstrip("/"), _find_token(runtime_dir, token_file, environ))
    address = parse_listen_address(api)
    if isinstance(address, UnixAddress):
        return ServiceLocation(address)
    return ServiceLocation(address, _find_token(runtime_dir, token_file, environ))


def _find_token(runtime_dir: Path, token_file: Path | None, environ: Mapping[str, str]) -> str | None:
    if token_file is not None:
        return read_token_file(token_file)
    if environ.get("VDE_MULTILINK_TOKEN"):
        return check_token(environ["VDE_MULTILINK_TOKEN"], "VDE_MULTILINK_TOKEN")
    if environ.get("VDE_MULTILINK_TOKEN_FILE"):
        return read_token_file(Path(environ["VDE_MULTILINK_TOKEN_FILE"]))
    with suppress(TokenError):  # none here: the service answers 401, and says so
        return read_token_file(runtime_dir / TOKEN_NAME)
    return None


class Client:
    """A connection to a service's API; close it, or use it as a context manager.

    Args:
        location: where the service is; None: this user's own.
        timeout_s: how long an answer may take.

    Every method raises NotRunningError where nothing answers, RefusedError where the service says no, and
    ClientError for what is neither.
    """

    def __init__(self, location: ServiceLocation | None = None, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        self.location = find_service() if location is None else location
        self._timeout_s = timeout_s
        self._http = open_http(self.location, timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; a second call does nothing."""
        self._http.close()

    def links(self, *, multilink: str | None = None, state: str | None = None) -> LinkList:
        """The links, those of one multilink or in one state only if said so; `retired` lists the last that were."""
        query = {name: value for name, value in (("multilink", multilink), ("state", state)) if value is not None}
        return cast("LinkList", self._ask("GET", "/links", query=query))

    def link(self, id_or_name: str) -> Link:
        """One link."""
        return cast("Link", self._ask("GET", _path("links", id_or_name)))

    def add_link(
        self,
        url: str,
        *,
        multilink: str | None = None,
        name: str | None = None,
        reconnect: bool = True,
        role: Literal["active", "standby"] | None = None,
        monitor: MonitorSpec | None = None,
    ) -> Link:
        """Dial `url` and return the link once it is up."""
        body = {"url": url, "reconnect": reconnect}
        body |= given(multilink=multilink, name=name, role=role, monitor=monitor)
        return cast("Link", self._ask("POST", "/links", body=body))

    def change_link(
        self,
        id_or_name: str,
        *,
        name: str | None = None,
        role: Literal["active", "standby"] | None = None,
        monitor: MonitorSpec | Literal["off"] | None = None,
    ) -> Link:
        """Rename a link, change its role, or watch it; what is None stays as it is."""
        body = given(name=name, role=role, monitor=monitor)
        if monitor == "off":
            body["monitor"] = None
        return cast("Link", self._ask("PATCH", _path("links", id_or_name), body=body))

    def retire_link(self, id_or_name: str, *, drain_s: float | None = None) -> Link:
        """Drain a link and end it; returns it as it was at the end."""
        query = {} if drain_s is None else {"drain_s": f"{drain_s:g}"}
        timeout_s = self._timeout_s + (drain_s or 0)
        return cast("Link", self._ask("DELETE", _path("links", id_or_name), query=query, timeout_s=timeout_s))

    def multilinks(self) -> MultilinkList:
        """Every multilink of the service."""
        return cast("MultilinkList", self._ask("GET", "/multilinks"))

    def multilink(self, name: str) -> Multilink:
        """One multilink."""
        return cast("Multilink", self._ask("GET", _path("multilinks", name)))

    def add_multilink(self, url: str) -> Multilink:
        """Make a multilink from a `multi://` locator."""
        return cast("Multilink", self._ask("POST", "/multilinks", body={"url": url}))

    def change_multilink(
        self,
        name: str,
        *,
        duplicates: PassOrDrop | None = None,
        reflections: PassOrDrop | None = None,
        window_s: float | None = None,
        failover: bool | None = None,
    ) -> Multilink:
        """Change what is done with duplicates, reflections and degraded links; what is None stays as it is."""
        body = given(duplicates=duplicates, reflections=reflections, window_s=window_s, failover=failover)
        return cast("Multilink", self._ask("PATCH", _path("multilinks", name), body=body))

    def remove_multilink(self, name: str) -> Multilink:
        """End a multilink and its links; returns it as it was at the end."""
        return cast("Multilink", self._ask("DELETE", _path("multilinks", name)))

    def history(self, id_or_name: str) -> History:
        """The last five minutes of a link."""
        return cast("History", self._ask("GET", _path("links", id_or_name, "history")))

    def handoffs(self) -> HandoffList:
        """The last 100 hand-offs."""
        return cast("HandoffList", self._ask("GET", "/handoffs"))

    def handoff(self, handoff_id: str) -> Handoff:
        """One hand-off, as it stands now."""
        return cast("Handoff", self._ask("GET", _path("handoffs", handoff_id)))

    def start_handoff(
        self, wanted: Mapping[str, object], *, wait_s: int | None = None, idempotency_key: str | None = None
    ) -> Handoff:
        """Begin a hand-off; with `wait_s` return at its end, or as it stands after so long.

        Args:
            wanted: the body of POST /handoffs, from `handoff_request`.
            wait_s: how long its end is waited for, in whole seconds.
            idempotency_key: with the same one, asking again begins no second hand-off.
        """
        headers = {} if wait_s is None else {"Prefer": f"wait={wait_s}"}
        if idempotency_key is not None:
            headers["Idempotency-Key"] = idempotency_key
        timeout_s = self._timeout_s + (wait_s or 0)
        return cast("Handoff", self._ask("POST", "/handoffs", body=wanted, headers=headers, timeout_s=timeout_s))

    def plan_handoff(self, wanted: Mapping[str, object]) -> HandoffPlan:
        """What `start_handoff` would do; nothing is done."""
        return cast("HandoffPlan", self._ask("POST", "/handoffs", query={"plan": "true"}, body=wanted))

    def abort_handoff(self, handoff_id: str) -> Handoff:
        """Stop a hand-off and roll it back; returns it as it was at the end."""
        return cast("Handoff", self._ask("DELETE", _path("handoffs", handoff_id)))

    def _ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> dict[str, Any]:
        try:
            response = self._http.request(
                method,
                path,
                params=query,
                json=body,
                headers=headers,
                timeout=self._timeout_s if timeout_s is None else timeout_s,
            )
        except httpx.ConnectError as error:
            raise cannot_connect(self.location, error) from error
        except httpx.TimeoutException as error:
            raise ClientError(f"the service at {self.location} has not answered in time: try again") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ClientError(f"the service at {self.location} cannot be asked: {error}") from error
        return read_answer(self.location, response)


def _path(collection: str, name: str, *more: str) -> str:
    return "/".join((f"/{collection}/{quote(name, safe='')}", *more))


def open_http(location: ServiceLocation, timeout: float | httpx.Timeout) -> httpx.Client:
    """An HTTP client for one service, with its token; to be closed."""
    address = location.address
    unix_path = address.path if isinstance(address, UnixAddress) else None
    headers = {"Accept": "application/json"}
    if location.token is not None:
        headers["Authorization"] = f"Bearer {location.token}"
    return httpx.Client(
        base_url="http://localhost" if unix_path is not None else str(location),
        transport=httpx.HTTPTransport(uds=unix_path, trust_env=False) if unix_path is not None else None,
        headers=headers,
        timeout=timeout,
        trust_env=False,  # a proxy in the environment is not meant for this machine's own service
    )


def cannot_connect(location: ServiceLocation, error: httpx.ConnectError) -> ClientError:
    """What to tell somebody who could not be connected."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, PermissionError) or (isinstance(cause, OSError) and cause.errno == errno.EACCES):
            return ClientError(
                f"you may not use the service at {location}: be the user who started it, or root,"
                " or use its TCP address with its token"
            )
        cause = cause.__cause__ or cause.__context__
    return NotRunningError(f"no service answers at {location}: {START_HINT}, or say with --api where it is")


def read_answer(location: ServiceLocation, response: httpx.Response) -> dict[str, Any]:
    """The JSON of an answer that went well.

    Raises:
        ClientError: it did not.
    """
    try:
        answer = response.json()
    except ValueError:
        answer = None
    if response.is_success and isinstance(answer, dict):
        return answer
    if isinstance(answer, dict) and isinstance(answer.get("detail"), str):
        detail = str(answer["detail"])
        if response.status_code == httpx.codes.UNAUTHORIZED:
            detail += " (commands read it from --token-file, VDE_MULTILINK_TOKEN or the runtime directory)"
        code = answer.get("code")
        raise RefusedError(detail, status=response.status_code, problem_code=code if isinstance(code, str) else None)
    raise ClientError(
        f"what answers at {location} is not this service (HTTP status {response.status_code}): see to --api",
        status=response.status_code,
    )
