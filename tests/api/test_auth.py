"""Who gets in: tokens, and web pages that are kept out."""

from __future__ import annotations

import pytest

from app.api import Auth
from app.api.auth import HostPort, parse_host
from tests.api.fakes import FakeFabric
from tests.api.support import TOKEN, Api, make_api

PUBLIC = [
    "/",
    "/healthz",
    "/openapi.yaml",
    "/dashboard/main.js",
    "/dashboard/theme.css",
    "/dashboard/icon.svg",
]
GUARDED = [
    ("GET", "/links"),
    ("POST", "/links"),
    ("GET", "/links/x"),
    ("PATCH", "/links/x"),
    ("DELETE", "/links/x"),
    ("GET", "/multilinks"),
    ("POST", "/multilinks"),
    ("GET", "/multilinks/x"),
    ("DELETE", "/multilinks/x"),
    ("GET", "/nowhere"),
    ("TRACE", "/links"),
]


@pytest.mark.parametrize(("method", "path"), GUARDED)
@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer ", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Bearer ü"],
)
async def test_without_the_token_nothing_is_said(api: Api, method: str, path: str, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    answer = await api.request(method, path, token=None, headers=headers, data="{}")
    answer.check_problem(401, "unauthorized")
    assert answer.headers["www-authenticate"].startswith("Bearer ")


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_with_the_token_it_is_answered(api: Api, scheme: str) -> None:
    answer = await api.request("GET", "/links", token=None, headers={"Authorization": f"{scheme} {TOKEN}"})
    assert answer.status == 200


@pytest.mark.parametrize("path", PUBLIC)
async def test_what_tells_nothing_needs_no_token(api: Api, path: str) -> None:
    assert (await api.request("GET", path, token=None)).status == 200


@pytest.mark.parametrize("path", ["/links", "/", "/healthz", "/readyz", "/openapi.yaml", "/dashboard/main.js"])
@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8480",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "evil-localhost",
        "",
        "a..b",
        "localhost:x",
        "localhost:1:2",
        "user@localhost",
        "[::1",
        "2130706433",
        "localhost/",
    ],
)
async def test_a_foreign_host_is_refused_even_with_the_token(api: Api, path: str, host: str) -> None:
    answer = await api.request("GET", path, headers={"Host": host})
    answer.check_problem(403, "host_not_allowed")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8480", "127.0.0.1", "192.0.2.7:80", "[::1]:8480", "[::1]"])
async def test_localhost_and_addresses_are_its_own(api: Api, host: str) -> None:
    assert (await api.request("GET", "/links", headers={"Host": host})).status == 200


async def test_a_configured_name_is_its_own(fabric: FakeFabric) -> None:
    api = make_api(fabric.as_fabric(), host_names=frozenset({"VM-Host.lan"}))
    assert (await api.request("GET", "/links", headers={"Host": "vm-host.LAN:8480"})).status == 200
    (await api.request("GET", "/links", headers={"Host": "lan"})).check_problem(403, "host_not_allowed")


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "null",
        "",
        "https://127.0.0.1:8480",
        "http://127.0.0.1:9999",
        "http://127.0.0.1",
        "http://localhost:8480",
        "file://",
        "http://127.0.0.1:8480.evil.example",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_page_of_another_origin_is_refused(api: Api, fabric: FakeFabric, method: str, origin: str) -> None:
    answer = await api.request(method, "/multilinks", headers={"Origin": origin}, json_body={"url": "multi:///srv/vm1"})
    answer.check_problem(403, "origin_not_allowed")
    assert not fabric.multilinks


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("127.0.0.1:8480", "http://127.0.0.1:8480"),
        ("localhost", "http://localhost:80"),
        ("[::1]:8480", "http://[::1]:8480"),
    ],
)
async def test_its_own_page_is_let_in(api: Api, host: str, origin: str) -> None:
    assert (await api.request("GET", "/links", headers={"Host": host, "Origin": origin})).status == 200


async def test_there_are_no_cors_headers_even_for_a_preflight(api: Api) -> None:
    preflight = {"Origin": "http://127.0.0.1:8480", "Access-Control-Request-Method": "POST"}
    for method, path in (("OPTIONS", "/links"), ("GET", "/links"), ("POST", "/links"), ("GET", "/")):
        answer = await api.request(method, path, headers=preflight)
        assert not [name for name in answer.headers if name.startswith("access-control")]
        if method == "OPTIONS":
            answer.check_problem(405, "method_not_allowed")


async def test_the_unix_socket_needs_neither_token_nor_host(api: Api) -> None:
    headers = {"Host": "whatever it says", "Origin": "http://evil.example"}
    answer = await api.request("GET", "/links", token=None, headers=headers, scope={"state": {"transport": "unix"}})
    assert answer.status == 200


def test_an_empty_token_is_refused_at_the_start() -> None:
    with pytest.raises(ValueError, match="empty"):
        Auth("")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("localhost", HostPort("localhost", 80)),
        ("A.b:8480", HostPort("a.b", 8480)),
        ("[::1]:1", HostPort("::1", 1)),
        ("[::1]", HostPort("::1", 80)),
        ("::1", None),
        ("a b", None),
        ("a:", None),
        ("a:123456", None),
        ("", None),
        (":80", None),
    ],
)
def test_hosts_are_taken_apart(text: str, expected: HostPort | None) -> None:
    assert parse_host(text) == expected
