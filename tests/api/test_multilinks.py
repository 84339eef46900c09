from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from app.api import Auth, DialPolicy, Readiness, create_app
from app.fabric.fabric import Fabric
from app.fabric.vnl import PassOrDrop
from tests.api.fakes import FakeFabric
from tests.api.support import TOKEN, Api, make_api


async def test_a_multilink_is_made_shown_and_removed(api: Api, fabric: FakeFabric) -> None:
    made = await api.request("POST", "/multilinks", json_body={"url": "multi:///srv/vm1[mode=0660]"})
    assert made.status == 201
    assert made.headers["location"] == "/multilinks/vm1"
    nothing = {"frames": 0, "bytes": 0, "dropped": {}}
    assert made.json == {
        "name": "vm1",
        "url": "multi:///srv/vm1[mode=0660]",
        "path": "/srv/vm1",
        "host": {
            "url": None,
            "state": "detached",
            "detail": "no host has come yet",
            "peer": None,
            "rx": nothing,
            "tx": nothing,
        },
        "duplicates": "drop",
        "reflections": "pass",
        "window_s": 0.5,
        "failover": False,
        "handoff": None,
        "links": 0,
        "refused": {},
    }
    fabric.attach("vm1")
    shown = (await api.request("GET", made.headers["location"])).json
    assert shown == made.json | {"links": 1}
    assert (await api.request("GET", "/multilinks")).json == {"multilinks": [shown]}
    gone = await api.request("DELETE", "/multilinks/vm1")
    assert (gone.status, gone.json["name"]) == (200, "vm1")
    assert (await api.request("GET", "/multilinks")).json == {"multilinks": []}
    (await api.request("GET", "/multilinks/vm1")).check_problem(404, "not_found")


async def test_location_leads_to_names_of_every_kind(api: Api) -> None:
    for directory in ("a b", "50%25", "häuser", "q?x", "h%23"):
        made = await api.request("POST", "/multilinks", json_body={"url": f"multi:///srv/{directory}"})
        assert made.status == 201
        found = await api.request("GET", made.headers["location"])
        assert found.json["name"] == made.json["name"]


async def test_a_nested_host_plug_is_shown(api: Api) -> None:
    made = await api.request("POST", "/multilinks", json_body={"url": "multi:///srv/vm1{tap://tap0}"})
    assert made.json["host"]["url"] == "tap://tap0"


@pytest.mark.parametrize(
    ("url", "status", "code"),
    [
        ("multi:///srv/vm0", 409, "name_taken"),
        ("multi:///busy/vm", 409, "directory_in_use"),
        ("multi://relative", 422, "bad_path"),
        ("multi:///srv/" + "x" * 100, 422, "bad_path"),
        ("vde:///srv/vm1", 422, "bad_vnl"),
        ("/srv/vm1", 422, "bad_vnl"),
        ("tap://tap0", 422, "bad_vnl"),
        ("multi:///srv/vm1{cmd://sh -c id}", 403, "scheme_not_allowed"),
    ],
)
async def test_refusals_have_their_statuses(api: Api, fabric: FakeFabric, url: str, status: int, code: str) -> None:
    assert (await api.request("POST", "/multilinks", json_body={"url": "multi:///srv/vm0"})).status == 201
    (await api.request("POST", "/multilinks", json_body={"url": url})).check_problem(status, code)
    assert list(fabric.multilinks) == ["vm0"]


async def test_a_file_cannot_smuggle_a_command_in(api: Api, fabric: FakeFabric, tmp_path: Path) -> None:
    smuggled = tmp_path / "vnl"
    smuggled.write_text("multi:///srv/vm1{cmd://sh -c id}\n")
    answer = await api.request("POST", "/multilinks", json_body={"url": str(smuggled)})
    answer.check_problem(403, "scheme_not_allowed")
    assert not fabric.multilinks


async def test_schemes_can_be_taken_away(fabric: FakeFabric) -> None:
    api = make_api(fabric.as_fabric(), policy=DialPolicy(schemes=frozenset({"vde"})))
    answer = await api.request("POST", "/multilinks", json_body={"url": "multi:///srv/vm1"})
    answer.check_problem(403, "scheme_not_allowed")


@pytest.mark.parametrize("path", ["/multilinks?x=1", "/multilinks/vm1?x=1"])
async def test_unknown_query_parameters_are_422(api: Api, path: str) -> None:
    (await api.request("GET", path)).check_problem(422, "invalid_request")


async def test_what_is_done_with_frames_is_changed(any_fabric: Fabric, short_dir: Path) -> None:
    api = make_api(any_fabric)
    made = await api.request("POST", "/multilinks", json_body={"url": f"multi://{short_dir}/vm1[reflections=drop]"})
    before = made.json
    changes: list[dict[str, Any]] = [
        {"duplicates": "pass"},
        {"reflections": "pass"},
        {"window_s": 2},
        {"failover": True},
        {"duplicates": "drop", "reflections": "drop", "window_s": 0.01, "failover": False},
        {},
    ]
    for change in changes:
        before |= change
        changed = await api.request("PATCH", "/multilinks/vm1", json_body=change)
        assert changed.status == 200
        assert {name: changed.json[name] for name in changes[4]} == {name: before[name] for name in changes[4]}
        assert (await api.request("GET", "/multilinks/vm1")).json == changed.json


@pytest.mark.parametrize(
    "change",
    [
        {"duplicates": "keep"},
        {"duplicates": None},
        {"reflections": True},
        {"window_s": 0},
        {"window_s": 10.1},
        {"window_s": "1"},
        {"failover": "yes"},
        {"name": "vm2"},
    ],
)
async def test_a_change_that_is_refused_changes_nothing(api: Api, fabric: FakeFabric, change: dict[str, Any]) -> None:
    made = await api.request("POST", "/multilinks", json_body={"url": "multi:///srv/vm1"})
    answer = await api.request("PATCH", "/multilinks/vm1", json_body={"failover": True, **change})
    answer.check_problem(422, "invalid_request")
    assert (await api.request("GET", "/multilinks/vm1")).json == made.json


async def test_changes_of_unknown_multilinks_are_404(api: Api) -> None:
    (await api.request("PATCH", "/multilinks/vm1", json_body={})).check_problem(404, "not_found")


async def test_the_default_for_duplicates_is_for_locators_that_do_not_say(fabric: FakeFabric) -> None:
    app = create_app(
        fabric.as_fabric(), policy=DialPolicy(), auth=Auth(TOKEN), readiness=Readiness(), duplicates=PassOrDrop.PASS
    )
    api = Api(app)
    for url, duplicates in (("multi:///srv/a", "pass"), ("multi:///srv/b[duplicates=drop]", "drop")):
        made = await api.request("POST", "/multilinks", json_body={"url": url})
        assert made.json["duplicates"] == duplicates
