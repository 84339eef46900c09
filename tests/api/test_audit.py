"""Who asked for which change, and what came of it: one line each."""

from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

from app.fabric.peer_socket import PeerCredentials
from app.fabric.vnl import MultiVnl
from tests.api.fakes import FakeFabric
from tests.api.support import TOKEN, Api

UNIX = {"state": {"transport": "unix", "peer": PeerCredentials(pid=4321, uid=1000, gid=1000)}}


@pytest.fixture
async def fabric() -> FakeFabric:
    fabric = FakeFabric()
    await fabric.add_multilink(MultiVnl("/srv/vm1"))
    return fabric


async def lines(api: Api, method: str, path: str, **options: Any) -> list[Any]:
    with capture_logs() as logged:
        await api.request(method, path, **options)
    return [line for line in logged if line["event"] == "change asked"]


async def test_a_change_is_one_line_with_its_link_and_who_it_was(api: Api) -> None:
    (line,) = await lines(api, "POST", "/links", json_body={"url": "/net/a", "name": "a"}, scope=UNIX)
    assert line["by"] == "uid 1000, pid 4321"
    assert (line["method"], line["path"], line["status"]) == ("POST", "/links", 201)
    assert line["link"].startswith("l")
    assert line["log_level"] == "info"
    assert '"/net/a"' in line["body"]
    (line,) = await lines(api, "DELETE", "/links/a?drain_s=0")
    assert line["by"].startswith("token from ")
    assert (line["path"], line["status"]) == ("/links/a?drain_s=0", 200)


async def test_what_was_refused_is_told_with_its_code_and_words(api: Api) -> None:
    (line,) = await lines(api, "POST", "/links", json_body={"url": "cmd://rm -rf /"})
    assert (line["status"], line["code"], line["log_level"]) == (403, "scheme_not_allowed", "warning")
    assert "--allow cmd" in line["detail"]
    (line,) = await lines(api, "DELETE", "/links/nobody")
    assert (line["status"], line["code"], line["log_level"]) == (404, "not_found", "info")


async def test_those_without_the_token_are_nobody_and_no_token_is_told(api: Api) -> None:
    (line,) = await lines(api, "DELETE", "/links/a", token="guess")
    assert line["by"].startswith("nobody known from ")
    assert line["status"] == 401
    (other,) = await lines(api, "DELETE", "/links/a")
    assert TOKEN not in str(line) + str(other)
    assert "guess" not in str(line)


async def test_a_hand_off_is_told_by_its_id(api: Api, fabric: FakeFabric) -> None:
    (line,) = await lines(api, "POST", "/handoffs", json_body={"to": {"url": "/net/b"}})
    assert line["handoff"] == fabric.handoffs.all()[0].id
    (line,) = await lines(api, "DELETE", f"/handoffs/{fabric.handoffs.all()[0].id}")
    assert line["handoff"] == fabric.handoffs.all()[0].id


async def test_long_bodies_are_cut_and_reading_is_no_change(api: Api) -> None:
    (line,) = await lines(api, "POST", "/links", data="x" * 5000)
    assert len(line["body"]) == 500
    assert await lines(api, "GET", "/links") == []
