"""What is wrong with a request, before or instead of reaching the fabric; and what holds for every answer."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from app.api.app import MAX_BODY_BYTES
from app.api.problems import STATUS_OF_CODE
from app.fabric import errors
from app.fabric.vnl import MultiVnl
from tests.api.fakes import FakeFabric
from tests.api.support import Api, make_api

MALFORMED: list[bytes] = [
    b"",
    b"   \n",
    b"{",
    b"{]",
    b'{"url": }',
    b"{'url': '/net/a'}",
    b'{"url": "/net/a",}',
    b'{"url": "/net/a"} x',
    b'{"url": "/net/\xff\xfe"}',
    b'{"url": "\\ud800"}',
    b"\xff\xfe{\x00}\x00",
    b"url=/net/a",
    b"<url>/net/a</url>",
    b"nul",
    b"[" * 50_000,
    b'{"url": "a\nb"}',
]
MISSHAPEN: list[tuple[Any, str]] = [
    ({}, "body.url"),
    ([], "body"),
    ("/net/a", "body"),
    (5, "body"),
    (True, "body"),
    ({"url": 5}, "body.url"),
    ({"url": None}, "body.url"),
    ({"url": ["/net/a"]}, "body.url"),
    ({"url": {"vde": "/net/a"}}, "body.url"),
    ({"url": True}, "body.url"),
    ({"url": "/net/a", "colour": "red"}, "body.colour"),
    ({"url": "/net/a", "reconnect": "yes"}, "body.reconnect"),
    ({"url": "/net/a", "reconnect": 1}, "body.reconnect"),
    ({"url": "/net/a", "reconnect": None}, "body.reconnect"),
    ({"url": "/net/a", "name": 5}, "body.name"),
    ({"url": "/net/a", "name": ""}, "body.name"),
    ({"url": "/net/a", "multilink": []}, "body.multilink"),
    ({"url": "/net/a", "multilink": ""}, "body.multilink"),
    ({"URL": "/net/a"}, "body.url"),
]
BAD_VNLS = [
    "",
    "gopher://x",
    "vde://",
    "[5]",
    "/net/a[",
    "/net/a]",
    "/net/a[5]x",
    "/net/a[16777216]",
    "/net/a[ctl]",
    "/net/a[..]",
    "/net/a\0b",
    "/net/%zz",
    "/net/%00",
    "/net/%ff",
    "/net/a\\",
    "'/net/a",
    '"/net/a',
    "cmd://",
    "cmd://ssh 'ip2",
    "tap://",
    "tap://a-name-that-is-too-long",
    "tap://a/b",
    "multi:///srv/vm1[mode=0660",
    "multi:///srv/vm1[mod=0660]",
    "multi:///srv/vm1[mode=8]",
    "multi:///srv/vm1[grp=]",
    "multi:///srv/vm1{tap://}",
    "multi:///srv/vm1{multi:///srv/vm2}",
    "multi:///srv/vm1{vde:///net/a",
    "x" * 4097,
]


@pytest.fixture
async def vm1(fabric: FakeFabric) -> None:
    await fabric.add_multilink(MultiVnl("/srv/vm1"))


@pytest.mark.parametrize("path", ["/links", "/multilinks"])
@pytest.mark.parametrize("body", MALFORMED)
async def test_malformed_json_is_400(api: Api, fabric: FakeFabric, vm1: None, path: str, body: bytes) -> None:
    (await api.request("POST", path, data=body)).check_problem(400, "malformed_json")
    assert (len(fabric.multilinks), fabric.live) == (1, [])


@pytest.mark.parametrize(("body", "where"), MISSHAPEN)
async def test_json_of_another_shape_is_422_and_says_where(
    api: Api, fabric: FakeFabric, vm1: None, body: Any, where: str
) -> None:
    problem = (await api.request("POST", "/links", data=json.dumps(body))).check_problem(422, "invalid_request")
    assert where in [item["where"] for item in problem["errors"]]
    assert where in problem["detail"]
    assert not fabric.live


@pytest.mark.parametrize("path", ["/links", "/multilinks"])
@pytest.mark.parametrize("url", BAD_VNLS)
async def test_bad_vnls_are_422(api: Api, fabric: FakeFabric, vm1: None, path: str, url: str) -> None:
    (await api.request("POST", path, json_body={"url": url})).check_problem(422, "bad_vnl")
    assert (len(fabric.multilinks), fabric.live) == (1, [])


async def test_a_multilink_cannot_be_dialled(api: Api, vm1: None) -> None:
    (await api.request("POST", "/links", json_body={"url": "multi:///srv/vm2"})).check_problem(422, "bad_vnl")


async def test_many_unknown_members_make_a_readable_problem(api: Api, vm1: None) -> None:
    body = {"url": "/net/a"} | {f"x{number}": 1 for number in range(2000)}
    answer = await api.request("POST", "/links", json_body=body)
    problem = answer.check_problem(422, "invalid_request")
    assert len(problem["errors"]) == 20
    assert len(answer.body) < 4000


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/links", {"GET", "HEAD", "POST"}),
        ("DELETE", "/links", {"GET", "HEAD", "POST"}),
        ("POST", "/links/x", {"GET", "HEAD", "PATCH", "DELETE"}),
        ("PUT", "/multilinks/x", {"GET", "HEAD", "PATCH", "DELETE"}),
        ("PATCH", "/handoffs/x", {"GET", "HEAD", "DELETE"}),
        ("DELETE", "/handoffs", {"GET", "HEAD", "POST"}),
        ("POST", "/healthz", {"GET", "HEAD"}),
        ("DELETE", "/", {"GET", "HEAD"}),
        ("TRACE", "/links", {"GET", "HEAD", "POST"}),
        ("OPTIONS", "/links", {"GET", "HEAD", "POST"}),
    ],
)
async def test_other_methods_are_405_with_allow(api: Api, method: str, path: str, allowed: set[str]) -> None:
    answer = await api.request(method, path)
    answer.check_problem(405, "method_not_allowed")
    assert {name.strip() for name in answer.headers["allow"].split(",")} == allowed


@pytest.mark.parametrize("path", ["/nowhere", "/links/", "/links/a/b", "/Links", "/dashboard/../app.py"])
async def test_other_paths_are_404(api: Api, path: str) -> None:
    (await api.request("GET", path)).check_problem(404, "not_found")


async def test_a_large_body_is_413_and_ends_the_connection(api: Api, vm1: None) -> None:
    largest = b'{"url": "/net/a"}'.ljust(MAX_BODY_BYTES)
    assert (await api.request("POST", "/links", data=largest)).status == 201
    answer = await api.request("POST", "/links", data=largest + b" ")
    problem = answer.check_problem(413, "body_too_large")
    assert str(MAX_BODY_BYTES) in problem["detail"]
    assert answer.headers["connection"] == "close"


async def test_health_and_readiness(api: Api) -> None:
    health = await api.request("GET", "/healthz")
    assert (health.status, health.json) == (200, {"status": "ok"})
    (await api.request("GET", "/readyz")).check_problem(503, "not_ready")
    api.readiness.set_ready()
    ready = await api.request("GET", "/readyz", token=None)
    assert (ready.status, ready.json) == (200, {"status": "ready"})
    api.readiness.set_stopping()
    api.readiness.set_ready()
    (await api.request("GET", "/readyz")).check_problem(503, "not_ready")


async def test_a_service_that_is_stopping_changes_nothing(api: Api, fabric: FakeFabric, vm1: None) -> None:
    api.readiness.set_stopping()
    (await api.request("POST", "/links", json_body={"url": "/net/a"})).check_problem(503, "stopping")
    assert (await api.request("GET", "/links")).json == {"links": []}


def test_every_error_of_the_fabric_has_a_status() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    codes = {
        kind.code for kind in kinds if issubclass(kind, errors.MultilinkError) and kind is not errors.MultilinkError
    }
    assert codes == set(STATUS_OF_CODE)


async def test_an_error_of_our_own_is_500_without_its_traceback(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fabric = FakeFabric()

    def fail() -> None:
        raise RuntimeError("the secret inside")

    monkeypatch.setattr(fabric, "links", fail)
    with caplog.at_level(logging.ERROR):
        answer = await make_api(fabric.as_fabric()).request("GET", "/links")
    answer.check_problem(500, "internal_error")
    assert b"secret" not in answer.body
    assert "the secret inside" in caplog.text


async def test_an_error_of_the_fabric_that_comes_in_a_group_keeps_its_status(monkeypatch: pytest.MonkeyPatch) -> None:
    fabric = FakeFabric()

    def fail() -> None:
        raise ExceptionGroup("from a nursery", [errors.NotFoundError("there is none")])

    monkeypatch.setattr(fabric, "links", fail)
    (await make_api(fabric.as_fabric()).request("GET", "/links")).check_problem(404, "not_found")


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/links"), ("GET", "/"), ("GET", "/nowhere"), ("POST", "/links"), ("PUT", "/links")]
)
async def test_every_answer_has_the_headers_that_browsers_need(api: Api, method: str, path: str) -> None:
    headers = (await api.request(method, path)).headers
    assert headers["x-content-type-options"] == "nosniff"
    # The page may be kept, and is asked after each time; answers of the API are not to be kept at all.
    assert headers["cache-control"] == ("no-cache" if path == "/" else "no-store")
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy


async def test_head_is_get_without_a_body(api: Api) -> None:
    assert (await api.request("HEAD", "/links")).status == 200
