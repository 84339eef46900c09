"""Hand-offs over HTTP: on the real fabric, with clients and a host that are raw sockets; refusals on the fake one."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio

from app.api import DialPolicy
from app.fabric.fabric import Fabric, open_fabric
from app.fabric.states import LinkState
from app.fabric.vnl import CmdVnl, MultiVnl, TapVnl
from tests.api.fakes import FakeFabric
from tests.api.support import HURRY, Api, make_api
from tests.fakes import RawClient, RawPeer, RawServer

FRAME = bytes.fromhex("ffffffffffff02000000000188b5") + b"payload".ljust(46, b".")
QUICK: dict[str, Any] = {"verify": "none", "overlap_s": 0, "drain_s": 0}


@dataclass
class Site:
    """vm1 with its host and one attached link, `wifi`; and a server that can be dialled."""

    api: Api
    fabric: Fabric
    host: RawClient
    wifi: RawClient
    server: RawServer
    peers: list[RawPeer]
    """Whom the server has let in: our links to it."""

    async def hand_off(self, **members: Any) -> Any:
        """POST /handoffs to the server, waiting for the end."""
        body = {"to": {"url": self.server.path, "name": "lte"}, **QUICK, **_named(members)}
        answer = await self.api.request("POST", "/handoffs", json_body=body, headers={"Prefer": "wait=20"})
        assert answer.status == 200, answer.body
        assert answer.headers["preference-applied"] == "wait=20"
        return answer.json

    async def begin(self, **members: Any) -> Any:
        """POST /handoffs that stays in `verifying`: nothing ever comes from the server."""
        body = {"to": {"url": self.server.path, "name": "lte"}, "verify": {"frames": 1}, **members}
        answer = await self.api.request("POST", "/handoffs", json_body=body)
        assert answer.status == 202, answer.body
        await self.wait_state(answer.json["id"], "verifying")
        return answer.json

    async def wait_state(self, handoff_id: str, state: str) -> Any:
        with trio.fail_after(HURRY):
            while True:
                handoff = (await self.api.request("GET", f"/handoffs/{handoff_id}")).json
                if handoff["state"] == state:
                    return handoff
                await trio.sleep(0.01)

    async def links(self) -> dict[str, Any]:
        return {link["name"]: link for link in (await self.api.request("GET", "/links")).json["links"]}


def _named(members: dict[str, Any]) -> dict[str, Any]:
    """`from` cannot be the name of an argument."""
    return {name.rstrip("_"): value for name, value in members.items()}


@pytest.fixture
async def site(short_dir: Path) -> AsyncIterator[Site]:
    (short_dir / "far").mkdir()
    async with open_fabric() as fabric, trio.open_nursery() as nursery:
        await fabric.add_multilink(MultiVnl(f"{short_dir}/vm1"))
        api = make_api(fabric)
        with (
            RawServer(f"{short_dir}/far") as server,
            await RawClient.attach(f"{short_dir}/vm1", "host") as host,
            await RawClient.attach(f"{short_dir}/vm1") as wifi,
        ):
            peers: list[RawPeer] = []
            nursery.start_soon(accept_all, server, peers)
            site = Site(api, fabric, host, wifi, server, peers)
            with trio.fail_after(HURRY):
                while not (links := await site.links()):  # noqa: ASYNC110 -- the API tells nobody by itself
                    await trio.sleep(0.01)
            changed = await api.request("PATCH", f"/links/{next(iter(links))}", json_body={"name": "wifi"})
            assert changed.status == 200
            yield site
            nursery.cancel_scope.cancel()


async def accept_all(server: RawServer, peers: list[RawPeer]) -> None:
    while True:
        try:
            peers.append(await server.accept())
        except trio.TooSlowError:
            continue


async def test_a_host_moves_to_a_new_link(site: Site) -> None:
    done = await site.hand_off(multilink="vm1", from_=["wifi"])
    assert done["state"] == "completed"
    assert done["multilink"] == "vm1"
    assert done["to"] == {"link": (await site.links())["lte"]["id"], "name": "lte", "url": f"vde://{site.server.path}"}
    assert done["from"] == ["wifi"]
    assert (done["old"], done["verify"]) == ("retire", "none")
    assert [phase["state"] for phase in done["phases"]] == ["making", "verifying", "overlapping", "draining"]
    assert all(phase["duration_s"] >= 0 for phase in done["phases"])
    assert sorted(phase["started"] for phase in done["phases"]) == [phase["started"] for phase in done["phases"]]
    assert done["verified_by"] == "nothing: not asked for"
    assert done["reason"] == ""
    assert list(await site.links()) == ["lte"]
    assert (await site.api.request("GET", "/handoffs")).json == {"handoffs": [done]}
    assert (await site.api.request("GET", f"/handoffs/{done['id']}")).json == done


async def test_what_came_over_both_paths_is_in_the_report(site: Site) -> None:
    begun = await site.begin(overlap_s=1)
    frames = [FRAME + bytes([number]) for number in range(10)]
    await site.wifi.send(*frames)
    assert await site.host.receive(10) == frames
    await site.peers[0].send(*frames)  # Each a second copy: the proof that the new path carries, and dropped.
    await site.wait_state(begun["id"], "overlapping")
    await site.host.send(FRAME)
    assert await site.wifi.receive(1) == await site.peers[0].receive(1) == [FRAME]
    report = (await site.wait_state(begun["id"], "completed"))["report"]
    assert site.host.receive_now() == []
    assert (report["to_host"]["frames"], report["to_host"]["duplicates"]) == (10, 10)
    assert {name: (path["first"], path["later"]) for name, path in report["to_host"]["paths"].items()} == {
        "wifi": (10, 0),
        "lte": (0, 10),
    }
    assert 0 <= report["to_host"]["skew_median_s"] <= report["to_host"]["skew_p99_s"]
    assert report["from_host"]["frames"] == 1
    assert {name: path["frames"] for name, path in report["from_host"]["paths"].items()} == {"wifi": 1, "lte": 1}
    assert report["from_host"]["skew_median_s"] is None


async def test_without_waiting_it_is_accepted_and_found_where_location_says(site: Site) -> None:
    body = {"to": {"url": site.server.path}, **QUICK}
    answer = await site.api.request("POST", "/handoffs", json_body=body)
    assert answer.status == 202
    assert "preference-applied" not in answer.headers
    assert answer.headers["location"] == f"/handoffs/{answer.json['id']}"
    done = await site.wait_state(answer.json["id"], "completed")
    assert done["to"]["name"] == "dialled-1"


@pytest.mark.parametrize("prefer", ["wait=0", "respond-async, wait=0", 'WAIT = "0"; x=y', "wait=0, wait=30"])
async def test_a_wait_that_is_too_short_is_202(site: Site, prefer: str) -> None:
    body = {"to": {"url": site.server.path}, "verify": {"frames": 1}}
    answer = await site.api.request("POST", "/handoffs", json_body=body, headers={"Prefer": prefer})
    assert (answer.status, answer.headers["preference-applied"]) == (202, "wait=0")
    assert answer.json["state"] not in {"completed", "rolled_back", "aborted"}


@pytest.mark.parametrize("prefer", ["", "wait", "wait=soon", "wait=-1", "waiting=1", "wait=1.5"])
async def test_a_preference_that_is_not_understood_is_none(site: Site, prefer: str) -> None:
    body = {"to": {"url": site.server.path}, **QUICK}
    answer = await site.api.request("POST", "/handoffs", json_body=body, headers={"Prefer": prefer})
    assert answer.status == 202
    assert "preference-applied" not in answer.headers


async def test_a_path_that_cannot_be_connected_is_rolled_back_and_says_why(site: Site) -> None:
    done = await site.hand_off(to={"url": f"{site.server.path}/nowhere"})
    assert done["state"] == "rolled_back"
    assert "nowhere" in done["reason"]
    assert done["to"] == {"link": None, "name": None, "url": f"vde://{site.server.path}/nowhere"}
    assert [phase["state"] for phase in done["phases"]] == ["making"]
    assert list(await site.links()) == ["wifi"]


async def test_a_path_that_swallows_everything_is_rolled_back(site: Site) -> None:
    done = await site.hand_off(verify={"address": "10.0.0.2"}, verify_timeout_s=0.3)
    assert done["state"] == "rolled_back"
    assert "10.0.0.2 has not answered" in done["reason"]
    assert done["verify"] == {"address": "10.0.0.2"}
    assert list(await site.links()) == ["wifi"]
    assert site.wifi.receive_now() == []


async def test_delete_aborts_and_rolls_back(site: Site) -> None:
    begun = await site.begin()
    assert (await site.api.request("GET", "/multilinks/vm1")).json["handoff"] == begun["id"]
    aborted = await site.api.request("DELETE", f"/handoffs/{begun['id']}")
    assert (aborted.status, aborted.json["state"], aborted.json["reason"]) == (200, "aborted", "aborted on request")
    assert list(await site.links()) == ["wifi"]
    assert (await site.api.request("GET", "/multilinks/vm1")).json["handoff"] is None
    (await site.api.request("DELETE", f"/handoffs/{begun['id']}")).check_problem(409, "wrong_state")
    assert (await site.hand_off())["state"] == "completed"


async def test_one_at_a_time(site: Site) -> None:
    begun = await site.begin()
    body = {"to": {"url": site.server.path}}
    problem = (await site.api.request("POST", "/handoffs", json_body=body)).check_problem(409, "handoff_running")
    assert begun["id"] in problem["detail"]
    assert len(site.fabric.handoffs.all()) == 1


async def test_to_a_standby_link_and_back(site: Site) -> None:
    made = await site.api.request(
        "POST", "/links", json_body={"url": site.server.path, "name": "lte", "role": "standby"}
    )
    assert (made.status, made.json["role"]) == (201, "standby")
    done = await site.hand_off(to={"link": "lte"}, old="standby")
    assert done["state"] == "completed"
    assert done["to"]["link"] == made.json["id"]
    assert {name: link["role"] for name, link in (await site.links()).items()} == {"wifi": "standby", "lte": "active"}
    done = await site.hand_off(to={"link": "wifi"}, old="standby")
    assert (done["state"], done["from"]) == ("completed", ["lte"])
    await site.host.send(FRAME)
    assert await site.wifi.receive(1) == [FRAME]
    assert site.peers[0].receive_now() == []


async def test_a_standby_link_is_kept_from_its_first_moment(site: Site) -> None:
    told: list[tuple[str, str]] = []
    site.fabric.on_change.append(lambda change, link: told.append((change, str(link.role))))
    await site.api.request("POST", "/links", json_body={"url": site.server.path, "role": "standby"})
    assert told
    assert {role for _, role in told} == {"standby"}


async def test_a_plan_shows_what_would_be_done_and_does_nothing(site: Site) -> None:
    body = {"to": {"url": site.server.path, "name": "lte"}, "verify": {"frames": 3}, "overlap_s": 2}
    plan = await site.api.request("POST", "/handoffs?plan=true", json_body=body)
    assert (plan.status, plan.json) == (
        200,
        {
            "multilink": "vm1",
            "to": {"link": None, "name": "lte", "url": f"vde://{site.server.path}"},
            "from": ["wifi"],
            "old": "retire",
            "verify": {"frames": 3},
            "verify_timeout_s": 10,
            "overlap_s": 2,
            "drain_s": 0.5,
        },
    )
    assert "location" not in plan.headers
    assert (await site.api.request("GET", "/handoffs")).json == {"handoffs": []}
    assert site.peers == []
    link = await site.api.request("POST", "/handoffs?plan=true", json_body={"to": {"link": "wifi"}, "from": []})
    assert (link.json["to"]["name"], link.json["to"]["url"], link.json["from"]) == ("wifi", None, [])


async def test_the_same_key_and_body_is_the_same_handoff(site: Site) -> None:
    body = {"to": {"url": site.server.path, "name": "lte"}, **QUICK}
    headers = {"Idempotency-Key": "k1", "Prefer": "wait=20"}
    first = await site.api.request("POST", "/handoffs", json_body=body, headers=headers)
    again = await site.api.request("POST", "/handoffs", json_body=dict(reversed(body.items())), headers=headers)
    assert first.status == again.status == 200
    assert first.json == again.json
    assert first.headers["location"] == again.headers["location"]
    other = await site.api.request("POST", "/handoffs", json_body=body | {"overlap_s": 1}, headers=headers)
    other.check_problem(422, "idempotency_key_reused")
    assert len(site.fabric.handoffs.all()) == 1
    assert list(await site.links()) == ["lte"]


async def test_the_same_key_at_the_same_time_begins_one(site: Site) -> None:
    body = {"to": {"url": site.server.path, "name": "lte"}, "verify": {"frames": 1}}
    answers = []

    async def ask() -> None:
        headers = {"Idempotency-Key": "k1"}
        answers.append(await site.api.request("POST", "/handoffs", json_body=body, headers=headers))

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(ask)
    assert [answer.status for answer in answers] == [202] * 5
    assert len({answer.json["id"] for answer in answers}) == 1
    assert len(site.fabric.handoffs.all()) == 1


async def test_a_request_that_was_refused_does_not_use_its_key_up(site: Site) -> None:
    headers = {"Idempotency-Key": "k1"}
    refused = await site.api.request("POST", "/handoffs", json_body={"to": {"link": "none"}}, headers=headers)
    refused.check_problem(404, "not_found")
    body = {"to": {"url": site.server.path}, **QUICK}
    assert (await site.api.request("POST", "/handoffs", json_body=body, headers=headers)).status == 202


ARP = struct.Struct("!HHBBH6s4s6s4s")
ADDRESS = "10.0.0.2"
STATION = bytes.fromhex("020000000002")


async def answer_arp(peer: RawPeer) -> None:
    """Be the station that has ADDRESS, at the other end of a link."""
    while True:
        [frame] = await peer.receive(1)
        if frame[12:14] == b"\x08\x06":
            asker = frame[6:12]
            packed = ipaddress.ip_address(ADDRESS).packed
            reply = ARP.pack(1, 0x0800, 6, 4, 2, STATION, packed, asker, bytes(4))
            await peer.send((asker + STATION + b"\x08\x06" + reply).ljust(60, b"\0"))


async def test_an_answer_over_the_new_link_alone_is_the_proof(site: Site) -> None:
    async with trio.open_nursery() as nursery:
        begun = await site.begin(verify={"address": ADDRESS}, overlap_s=0, drain_s=0)
        nursery.start_soon(answer_arp, site.peers[0])
        done = await site.wait_state(begun["id"], "completed")
        nursery.cancel_scope.cancel()
    assert done["verified_by"].startswith(f"{ADDRESS} answered within ")
    assert site.host.receive_now() == []
    assert all(frame[12:14] != b"\x08\x06" for frame in site.wifi.receive_now())
    assert (await site.links())["lte"]["rx"]["dropped"]["probe"] >= 1


async def test_a_watched_link_degrades_and_the_standby_takes_over(site: Site) -> None:
    async def wait_health(name: str, health: str) -> Any:
        with trio.fail_after(HURRY):
            while (link := (await site.links())[name])["health"] != health:  # noqa: ASYNC110 -- as above
                await trio.sleep(0.02)
        return link

    made = {"url": site.server.path, "name": "lte", "role": "standby"}
    watch = {"address": ADDRESS, "interval_s": 0.1}
    assert (await site.api.request("POST", "/links", json_body=made | {"monitor": watch})).status == 201
    changed = await site.api.request("PATCH", "/multilinks/vm1", json_body={"failover": True})
    assert changed.json["failover"] is True
    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer_arp, site.peers[0])
        good = await wait_health("lte", "good")
        assert good["monitor"]["rtt_s"] > 0
        assert good["monitor"]["lost"] < 1
        assert good["monitor"]["last_heard"].endswith("Z")
        await site.api.request("PATCH", "/links/wifi", json_body={"monitor": watch})
        degraded = await wait_health("wifi", "degraded")
        assert (degraded["state"], degraded["monitor"]["lost"]) == ("up", 1)
        assert f"{ADDRESS} does not answer" in degraded["detail"]
        links = await site.links()
        assert {name: link["role"] for name, link in links.items()} == {"wifi": "standby", "lte": "active"}
        ended = await site.api.request("PATCH", "/links/wifi", json_body={"monitor": None})
        assert ended.json["monitor"] is None
        nursery.cancel_scope.cancel()


# Refusals, on the fake fabric.


@pytest.fixture
async def fake_site(api: Api, fabric: FakeFabric) -> Api:
    await fabric.add_multilink(MultiVnl("/srv/vm1"))
    fabric.attach("vm1", name="wifi")
    return api


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"multilink": "nobody"}, 404, "not_found"),
        ({"to": {"link": "nobody"}}, 404, "not_found"),
        ({"from": ["nobody"]}, 404, "not_found"),
        ({"to": {"link": "wifi"}, "from": ["wifi"]}, 422, "bad_handoff"),
        ({"to": {"link": "gone"}}, 422, "bad_handoff"),
        ({"to": {"link": "of-vm2"}, "multilink": "vm1"}, 422, "bad_handoff"),
        ({"to": {"url": "/net/a", "name": "wifi"}}, 409, "name_taken"),
        ({"to": {"url": "/net/a", "name": "a b"}}, 422, "bad_name"),
        ({"to": {"url": "gopher://x"}}, 422, "bad_vnl"),
        ({"to": {"url": "cmd://sh -c id"}}, 403, "scheme_not_allowed"),
        ({"multilink": ""}, 422, "invalid_request"),
        ({"to": {}}, 422, "invalid_request"),
        ({"to": {"url": "/net/a", "link": "wifi"}}, 422, "invalid_request"),
        ({"to": "/net/a"}, 422, "invalid_request"),
        ({"to": {"url": 5}}, 422, "invalid_request"),
        ({"from": "wifi"}, 422, "invalid_request"),
        ({"from": [""]}, 422, "invalid_request"),
        ({"from_": ["wifi"]}, 422, "invalid_request"),
        ({"verify": "perhaps"}, 422, "invalid_request"),
        ({"verify": None}, 422, "invalid_request"),
        ({"verify": {}}, 422, "invalid_request"),
        ({"verify": {"frames": 0}}, 422, "invalid_request"),
        ({"verify": {"frames": "1"}}, 422, "invalid_request"),
        ({"verify": {"frames": 1, "address": "10.0.0.2"}}, 422, "invalid_request"),
        ({"verify": {"address": "10.0.0"}}, 422, "invalid_request"),
        ({"verify": {"address": "fe80::1%eth0"}}, 422, "invalid_request"),
        ({"verify_timeout_s": 0}, 422, "invalid_request"),
        ({"verify_timeout_s": "1"}, 422, "invalid_request"),
        ({"overlap_s": -1}, 422, "invalid_request"),
        ({"drain_s": 61}, 422, "invalid_request"),
        ({"old": "forget"}, 422, "invalid_request"),
        ({"colour": "red"}, 422, "invalid_request"),
    ],
)
@pytest.mark.parametrize("query", ["", "?plan=true"])
async def test_refusals_have_their_statuses_and_begin_nothing(
    fake_site: Api, fabric: FakeFabric, changes: dict[str, Any], status: int, code: str, query: str
) -> None:
    await fabric.add_multilink(MultiVnl("/srv/vm2"))
    fabric.attach("vm2", name="of-vm2")
    fabric.attach("vm1", name="gone").state = LinkState.DOWN
    body = {"multilink": "vm1", "to": {"url": "/net/a"}, **changes}
    (await fake_site.request("POST", f"/handoffs{query}", json_body=body)).check_problem(status, code)
    assert fabric.handoffs.all() == []


async def test_what_is_wrong_is_said_in_words(fake_site: Api) -> None:
    answer = await fake_site.request("POST", "/handoffs", json_body={"to": {}, "verify": "perhaps"})
    problem = answer.check_problem(422, "invalid_request")
    assert [item["where"] for item in problem["errors"]] == ["body.to", "body.verify"]
    assert '{"link": "lte"}' in problem["detail"]
    assert '{"frames": 1}' in problem["detail"]


@pytest.mark.parametrize("address", ["10.0.0.2", "fd00::2", "FD00:0::2"])
async def test_addresses_of_both_kinds(fake_site: Api, address: str) -> None:
    body = {"to": {"url": "/net/a"}, "verify": {"address": address}}
    begun = await fake_site.request("POST", "/handoffs", json_body=body)
    assert begun.status == 202
    assert begun.json["verify"] == {"address": address.lower().replace(":0::", "::")}


@pytest.mark.parametrize("query", ["plan=yes", "plan=1", "plan=", "plan=true&plan=true", "plans=true"])
async def test_bad_queries_are_422(fake_site: Api, fabric: FakeFabric, query: str) -> None:
    answer = await fake_site.request("POST", f"/handoffs?{query}", json_body={"to": {"url": "/net/a"}})
    answer.check_problem(422, "invalid_request")
    assert fabric.handoffs.all() == []


@pytest.mark.parametrize("key", ["", "x" * 256])
async def test_keys_that_cannot_be_kept_are_422(fake_site: Api, fabric: FakeFabric, key: str) -> None:
    answer = await fake_site.request(
        "POST", "/handoffs", json_body={"to": {"url": "/net/a"}}, headers={"Idempotency-Key": key}
    )
    assert answer.check_problem(422, "invalid_request")["errors"][0]["where"] == "header.Idempotency-Key"
    assert fabric.handoffs.all() == []


async def test_keys_are_kept_as_long_as_their_handoffs(fake_site: Api, fabric: FakeFabric) -> None:
    async def begin(key: str, name: str) -> Any:
        body = {"to": {"url": "/net/a", "name": name}}
        return await fake_site.request("POST", "/handoffs", json_body=body, headers={"Idempotency-Key": key})

    first = (await begin("k", "a")).json
    (await begin("k", "b")).check_problem(422, "idempotency_key_reused")
    for number in range(100):
        await fake_site.request("DELETE", f"/handoffs/{fabric.handoffs.all()[-1].id}")
        assert (await begin(f"k{number}", "a")).status == 202
    await fake_site.request("DELETE", f"/handoffs/{fabric.handoffs.all()[-1].id}")
    (await fake_site.request("GET", f"/handoffs/{first['id']}")).check_problem(404, "not_found")
    assert (await begin("k", "b")).json["id"] != first["id"]


async def test_chosen_commands_are_handed_off_to(fabric: FakeFabric) -> None:
    await fabric.add_multilink(MultiVnl("/srv/vm1"))
    command = ("ssh", "ip2", "vde_plug", "/tmp/vm2")
    api = make_api(fabric.as_fabric(), policy=DialPolicy(commands=frozenset({command})))
    begun = await api.request("POST", "/handoffs", json_body={"to": {"url": "cmd://ssh ip2 vde_plug /tmp/vm2"}})
    assert (begun.status, begun.json["to"]["url"]) == (202, str(CmdVnl(command)))
    other = await api.request("POST", "/handoffs", json_body={"to": {"url": "cmd://ssh ip3 vde_plug /tmp/vm2"}})
    other.check_problem(403, "scheme_not_allowed")


async def test_a_file_cannot_smuggle_a_command_in(fake_site: Api, fabric: FakeFabric, tmp_path: Path) -> None:
    smuggled = tmp_path / "vnl"
    smuggled.write_text("cmd://sh -c id\n")
    answer = await fake_site.request("POST", "/handoffs", json_body={"to": {"url": str(smuggled)}})
    answer.check_problem(403, "scheme_not_allowed")
    smuggled.write_text(f"{TapVnl('t0')}\n")
    assert (await fake_site.request("POST", "/handoffs", json_body={"to": {"url": str(smuggled)}})).status == 202
    assert len(fabric.handoffs.all()) == 1


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_unknown_handoffs_are_404(fake_site: Api, method: str) -> None:
    (await fake_site.request(method, "/handoffs/h1")).check_problem(404, "not_found")
