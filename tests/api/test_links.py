from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from app.api import DialPolicy
from app.fabric.link import Health
from app.fabric.states import LinkState, Role
from app.fabric.vnl import MultiVnl, parse_vnl
from tests.api.fakes import SINCE, FakeFabric
from tests.api.support import Api, make_api

LINK_MEMBERS = [
    *("id", "name", "multilink", "kind", "url", "description", "peer", "role", "state", "detail", "since"),
    *("reconnect", "monitor", "health", "reflections", "rx", "tx"),
]


@pytest.fixture
async def vm1(fabric: FakeFabric) -> None:
    await fabric.add_multilink(MultiVnl("/srv/vm1"))


@pytest.fixture
async def vm2(fabric: FakeFabric, vm1: None) -> None:
    await fabric.add_multilink(MultiVnl("/srv/vm2"))


async def test_no_links_is_an_empty_list(api: Api) -> None:
    answer = await api.request("GET", "/links")
    assert (answer.status, answer.json) == (200, {"links": []})
    assert answer.headers["content-type"] == "application/json"


async def test_an_attached_link_is_shown_with_all_that_the_contract_names(
    api: Api, fabric: FakeFabric, vm1: None
) -> None:
    link = fabric.attach("vm1")
    [shown] = (await api.request("GET", "/links")).json["links"]
    assert list(shown) == LINK_MEMBERS
    assert shown == {
        "id": link.id,
        "name": "attached-1",
        "multilink": "vm1",
        "kind": "attached",
        "url": None,
        "description": "vdeplug: user=root pid=12214",
        "peer": {"pid": 12214, "uid": 0, "gid": 0},
        "role": "active",
        "state": "up",
        "detail": "",
        "since": "2026-10-20T12:40:00.250Z",
        "reconnect": True,
        "monitor": None,
        "health": None,
        "reflections": 0,
        "rx": {"frames": 3, "bytes": 300, "dropped": {}},
        "tx": {"frames": 0, "bytes": 0, "dropped": {"full": 2}},
    }


async def test_a_link_is_dialled_and_found_where_location_says(api: Api, fabric: FakeFabric, vm1: None) -> None:
    made = await api.request("POST", "/links", json_body={"url": "/net/vm2[5]"})
    assert made.status == 201
    assert made.json["url"] == "vde:///net/vm2[5]"
    assert (made.json["kind"], made.json["peer"], made.json["multilink"]) == ("dialled", None, "vm1")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", made.json["since"])
    found = await api.request("GET", made.headers["location"])
    assert found.json == made.json
    by_name = await api.request("GET", f"/links/{made.json['name']}")
    assert by_name.json == made.json
    assert fabric.live[0].reconnect is True


async def test_all_members_of_the_request_are_used(api: Api, fabric: FakeFabric, vm2: None) -> None:
    body = {"url": "/srv/vm2", "multilink": "vm2", "name": "path-b", "reconnect": False}
    made = await api.request("POST", "/links", json_body=body)
    assert (made.json["name"], made.json["multilink"]) == ("path-b", "vm2")
    assert fabric.live[0].reconnect is False


@pytest.mark.parametrize(
    "content_type", ["application/x-www-form-urlencoded", "text/plain", None, "multipart/form-data"]
)
async def test_json_is_taken_whatever_its_content_type(api: Api, vm1: None, content_type: str | None) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    assert (await api.request("POST", "/links", data='{"url": "/net/a"}', headers=headers)).status == 201


async def test_without_exactly_one_multilink_it_has_to_be_said(api: Api, fabric: FakeFabric) -> None:
    body = {"url": "/net/a"}
    (await api.request("POST", "/links", json_body=body)).check_problem(422, "multilink_required")
    await fabric.add_multilink(MultiVnl("/srv/vm1"))
    await fabric.add_multilink(MultiVnl("/srv/vm2"))
    (await api.request("POST", "/links", json_body=body)).check_problem(422, "multilink_required")
    (await api.request("POST", "/links", json_body=body | {"multilink": "vm9"})).check_problem(404, "not_found")
    assert not fabric.live


async def test_a_link_that_cannot_be_connected_is_502_and_nothing_is_kept(
    api: Api, fabric: FakeFabric, vm1: None
) -> None:
    answer = await api.request("POST", "/links", json_body={"url": "/no/where"})
    answer.check_problem(502, "cannot_connect")
    assert not fabric.live
    assert not fabric.retired


async def test_a_taken_name_is_409_and_a_bad_one_422(api: Api, fabric: FakeFabric, vm1: None) -> None:
    body = {"url": "/net/a", "name": "one"}
    assert (await api.request("POST", "/links", json_body=body)).status == 201
    (await api.request("POST", "/links", json_body=body)).check_problem(409, "name_taken")
    (await api.request("POST", "/links", json_body=body | {"name": "a/b"})).check_problem(422, "bad_name")
    assert len(fabric.live) == 1


async def test_commands_are_refused_unless_allowed(api: Api, fabric: FakeFabric, vm1: None, tmp_path: Path) -> None:
    smuggled = tmp_path / "vnl"
    smuggled.write_text("cmd://sh -c 'touch /tmp/owned'\n")
    for url in ("cmd://sh -c id", str(smuggled)):
        (await api.request("POST", "/links", json_body={"url": url})).check_problem(403, "scheme_not_allowed")
    assert not fabric.dialled

    trusting = make_api(fabric.as_fabric(), policy=DialPolicy(schemes=frozenset({"cmd", "vde"})))
    assert (await trusting.request("POST", "/links", json_body={"url": "cmd://sh -c id"})).status == 201


async def test_chosen_commands_are_dialled(fabric: FakeFabric, vm1: None) -> None:
    api = make_api(fabric.as_fabric(), policy=DialPolicy(commands=frozenset({("ssh", "ip1")})))
    assert (await api.request("POST", "/links", json_body={"url": "cmd://ssh ip1"})).status == 201
    (await api.request("POST", "/links", json_body={"url": "cmd://ssh ip2"})).check_problem(403, "scheme_not_allowed")
    assert fabric.dialled == [parse_vnl("cmd://ssh ip1")]


async def test_filters(api: Api, fabric: FakeFabric, vm2: None) -> None:
    first, second = fabric.attach("vm1", name="a"), fabric.attach("vm2", name="b")
    second.state = LinkState.DOWN

    async def names(query: str) -> list[str]:
        return [link["name"] for link in (await api.request("GET", f"/links?{query}")).json["links"]]

    assert await names("multilink=vm1") == ["a"]
    assert await names("state=down") == ["b"]
    assert await names("state=down&multilink=vm1") == []
    assert await names("state=retired") == []
    await fabric.retire(first)
    assert await names("") == ["b"]
    assert await names("state=retired") == ["a"]
    assert await names("state=retired&multilink=vm2") == []


@pytest.mark.parametrize(
    ("query", "where"),
    [
        ("state=gone", "query.state"),
        ("state=", "query.state"),
        ("state=up&state=down", "query.state"),
        ("multilink=", "query.multilink"),
        ("colour=red", "query.colour"),
    ],
)
async def test_bad_filters_are_422_and_say_where(api: Api, query: str, where: str) -> None:
    problem = (await api.request("GET", f"/links?{query}")).check_problem(422, "invalid_request")
    assert [item["where"] for item in problem["errors"]] == [where]


async def test_the_filter_of_an_unknown_multilink_is_404(api: Api) -> None:
    (await api.request("GET", "/links?multilink=vm9")).check_problem(404, "not_found")


async def test_a_link_is_renamed_and_put_on_standby(api: Api, fabric: FakeFabric, vm1: None) -> None:
    link = fabric.attach("vm1")
    changed = await api.request("PATCH", f"/links/{link.id}", json_body={"name": "spare", "role": "standby"})
    assert (changed.status, changed.json["name"], changed.json["role"]) == (200, "spare", "standby")
    back = await api.request("PATCH", "/links/spare", json_body={"role": "active"})
    assert (back.json["name"], back.json["role"]) == ("spare", "active")
    same = await api.request("PATCH", "/links/spare", json_body={})
    assert same.json == back.json


async def test_a_change_that_is_refused_changes_nothing(api: Api, fabric: FakeFabric, vm1: None) -> None:
    fabric.attach("vm1", name="taken")
    link = fabric.attach("vm1", name="mine")
    body = {"name": "taken", "role": "standby"}
    (await api.request("PATCH", "/links/mine", json_body=body)).check_problem(409, "name_taken")
    assert (link.name, link.role) == ("mine", Role.ACTIVE)
    misshapen: list[Any] = [{"role": "boss"}, {"role": None}, {"name": 5}, {"state": "up"}, {"name": ""}, []]
    for bad in misshapen:
        (await api.request("PATCH", "/links/mine", json_body=bad)).check_problem(422, "invalid_request")
    assert (link.name, link.role) == ("mine", Role.ACTIVE)


async def test_a_retired_link_is_shown_once_more(api: Api, fabric: FakeFabric, vm1: None) -> None:
    link = fabric.attach("vm1")
    gone = await api.request("DELETE", f"/links/{link.id}?drain_s=1.5")
    assert (gone.status, gone.json["state"], gone.json["id"]) == (200, "retired", link.id)
    fabric.attach("vm1", name="other")
    await api.request("DELETE", "/links/other")
    assert fabric.drains == [1.5, 0.5]
    (await api.request("DELETE", f"/links/{link.id}")).check_problem(404, "not_found")


@pytest.mark.parametrize("drain_s", ["-1", "60.1", "nan", "inf", "-inf", "", "soon", "1e99", "null", "0.5&drain_s=1"])
async def test_bad_drain_times_are_422_and_nothing_is_retired(
    api: Api, fabric: FakeFabric, vm1: None, drain_s: str
) -> None:
    fabric.attach("vm1", name="a")
    (await api.request("DELETE", f"/links/a?drain_s={drain_s}")).check_problem(422, "invalid_request")
    assert len(fabric.live) == 1


@pytest.mark.parametrize("drain_s", ["0", "60", "0.25"])
async def test_good_drain_times(api: Api, fabric: FakeFabric, vm1: None, drain_s: str) -> None:
    fabric.attach("vm1", name="a")
    assert (await api.request("DELETE", f"/links/a?drain_s={drain_s}")).status == 200
    assert fabric.drains == [float(drain_s)]


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
@pytest.mark.parametrize("link_id", ["nobody", "%00", "%F0%9F%90%A7", "..", "a b", "l'or"])
async def test_unknown_links_are_404(api: Api, method: str, link_id: str) -> None:
    (await api.request(method, f"/links/{link_id}", data="{}")).check_problem(404, "not_found")


async def test_paths_that_are_no_utf8_do_not_break_the_list(api: Api, fabric: FakeFabric, vm1: None) -> None:
    fabric.attach("vm1").description = "odd \udcff bytes"
    [shown] = (await api.request("GET", "/links")).json["links"]
    assert shown["description"] == "odd ? bytes"


MONITOR = {"address": "10.0.0.2", "interval_s": 0.5}


async def test_a_watch_is_begun_changed_and_ended(api: Api, fabric: FakeFabric, vm1: None) -> None:
    made = await api.request("POST", "/links", json_body={"url": "/net/a", "monitor": {"address": "FD00:0::2"}})
    nothing_yet = {"rtt_s": None, "lost": None, "last_heard": None}
    assert made.json["monitor"] == {"address": "fd00::2", "interval_s": 1, **nothing_yet}
    path = made.headers["location"]
    changed = await api.request("PATCH", path, json_body={"monitor": MONITOR})
    assert changed.json["monitor"] == MONITOR | nothing_yet
    assert (await api.request("PATCH", path, json_body={"name": "a"})).json["monitor"] == MONITOR | nothing_yet
    [monitor] = fabric.multilinks["vm1"].monitors.values()
    monitor.rtt_s, monitor.lost, monitor.last_heard = 0.025, 0.1, SINCE
    for shown in ((await api.request("GET", path)).json, (await api.request("GET", "/links")).json["links"][0]):
        assert shown["monitor"] == MONITOR | {
            "rtt_s": 0.025,
            "lost": 0.1,
            "last_heard": "2026-10-20T12:40:00.250Z",
        }
    assert (await api.request("PATCH", path, json_body={"monitor": None})).json["monitor"] is None
    assert fabric.multilinks["vm1"].monitors == {}


@pytest.mark.parametrize(("degraded", "shown"), [(None, None), (False, "good"), (True, "degraded")])
async def test_health_is_shown(
    api: Api, fabric: FakeFabric, vm1: None, degraded: bool | None, shown: str | None
) -> None:
    link = fabric.attach("vm1")
    link.health, link.reflections = Health(degraded, ""), 3
    [listed] = (await api.request("GET", "/links")).json["links"]
    assert (listed["health"], listed["reflections"]) == (shown, 3)


@pytest.mark.parametrize(
    "monitor",
    [
        {},
        {"address": "vm2.example.org"},
        {"address": "fe80::1%t0"},
        {"address": 5},
        {"address": "10.0.0.2", "interval_s": 0},
        {"address": "10.0.0.2", "interval_s": 3601},
        {"address": "10.0.0.2", "interval_s": "1"},
        {"address": "10.0.0.2", "colour": "red"},
        "10.0.0.2",
    ],
)
async def test_a_watch_that_cannot_be_is_422_and_changes_nothing(
    api: Api, fabric: FakeFabric, vm1: None, monitor: Any
) -> None:
    link = fabric.attach("vm1", name="a")
    answer = await api.request("PATCH", "/links/a", json_body={"name": "b", "role": "standby", "monitor": monitor})
    answer.check_problem(422, "invalid_request")
    assert (link.name, link.role) == ("a", Role.ACTIVE)
    answer = await api.request("POST", "/links", json_body={"url": "/net/a", "monitor": monitor})
    answer.check_problem(422, "invalid_request")
    assert fabric.dialled == []


async def test_a_taken_name_leaves_role_and_watch_as_they_are(api: Api, fabric: FakeFabric, vm1: None) -> None:
    link = fabric.attach("vm1", name="a")
    fabric.attach("vm1", name="b")
    answer = await api.request("PATCH", "/links/a", json_body={"monitor": MONITOR, "role": "standby", "name": "b"})
    answer.check_problem(409, "name_taken")
    assert (link.role, fabric.multilinks["vm1"].monitors) == (Role.ACTIVE, {})
