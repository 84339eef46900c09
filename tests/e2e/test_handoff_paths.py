"""Hand-offs between real peers: what a kernel answers, paths that connect and do not carry, and two ssh connections."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.harness import require
from tests.e2e.harness.lab import Lab
from tests.e2e.harness.netns import Namespace, run
from tests.e2e.harness.pings import stop_ping
from tests.e2e.harness.service import Service
from tests.e2e.harness.waiting import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

NEAR, FAR = "10.9.8.1", "10.9.8.2"
NEAR6, FAR6 = "fd00::1", "fd00::2"


class TwoNetworks:
    """Two namespaces, each the host of a multilink of ours; vm1 is joined to vm2 by the link `path1`."""

    def __init__(self, lab: Lab, first_url: str | None = None) -> None:
        self.lab = lab
        self.vm1, self.vm2 = lab.root / "vm1", lab.root / "vm2"
        self.service: Service = lab.service(f"multi://{self.vm1}", "--allow", "cmd")
        self.far_service: Service = lab.service(f"multi://{self.vm2}")
        self.near, _ = lab.tapped_namespace(NEAR, f"vde://{self.vm1}[host]")
        self.far, _ = lab.tapped_namespace(FAR, f"vde://{self.vm2}[host]")
        self.service.wait_host("vm1")
        self.far_service.wait_host("vm2")
        self.first = self.service.dial(first_url or self.vm2, "vm1", name="path1")
        wait_until(lambda: self.near.answers(FAR), "the first answer")

    def hand_off(self, url: object, **body: Any) -> dict[str, Any]:
        """POST /handoffs and wait for its end."""
        wanted = {"multilink": "vm1", "to": {"url": str(url), "name": "path2"}, **body}
        answer = self.service.api.post("/handoffs", json=wanted, headers={"Prefer": "wait=60"})
        assert answer.status_code == 200, answer.text
        ended: dict[str, Any] = answer.json()
        return ended

    def filtered(self, *options: str) -> str:
        """The locator of another way to vm2, through a wirefilter: its left side is ours, its right side vm2's."""
        return f"cmd://{require.program('wirefilter')} {' '.join(options)} -v -:{self.vm2}"


def neighbours(namespace: Namespace) -> str:
    """What the kernel there knows of others."""
    return run(namespace.inside("ip", "neigh")).stdout


@pytest.mark.parametrize("address", [FAR, FAR6])
def test_a_kernel_answers_our_questions_and_nobody_else_hears_of_them(lab: Lab, address: str) -> None:
    networks = TwoNetworks(lab)
    networks.far.ip("-6", "addr", "add", f"{FAR6}/64", "dev", "t0", "nodad")
    before = networks.service.multilink("vm1")["host"]["tx"]["frames"]
    ended = networks.hand_off(networks.vm2, verify={"address": address}, overlap_s=0.2)
    assert ended["state"] == "completed", ended
    assert ended["verified_by"].startswith(f"{address} answered within ")
    swallowed = networks.service.link("path2")["rx"]["dropped"].get("probe", 0)
    assert swallowed >= 1
    sent = networks.service.multilink("vm1")["host"]["tx"]["frames"] - before
    assert sent < 20, "the answers are not among what the host was sent"
    if address == FAR:
        # RFC 5227: a sender's address of 0.0.0.0 teaches nobody anything.
        known = [line for line in neighbours(networks.far).splitlines() if not line.startswith((NEAR, "fe80"))]
        assert known == []


@pytest.mark.parametrize(
    ("options", "verify"),
    [
        (("-l", "100"), {"address": FAR}),
        (("-l", "LR100"), {"address": FAR}),
        (("-l", "RL100"), {"address": FAR}),
        (("-l", "100"), "auto"),
    ],
    ids=["both-ways", "to-the-far-end", "from-the-far-end", "auto"],
)
def test_a_path_that_connects_and_swallows_is_rolled_back_and_nothing_is_lost(
    lab: Lab, options: tuple[str, str], verify: object
) -> None:
    networks = TwoNetworks(lab)
    url = networks.filtered(*options)
    ping = lab.ping(networks.near, FAR, 0.01)
    ended = networks.hand_off(url, verify=verify, verify_timeout_s=1.5)
    assert ended["state"] == "rolled_back", ended
    assert "path2 is connected but has not proved within 1.5 s that it carries" in ended["reason"]
    assert [phase["state"] for phase in ended["phases"]] == ["making", "verifying"]
    assert [(link["name"], link["state"], link["role"]) for link in networks.service.links()] == [
        ("path1", "up", "active")
    ]
    report = stop_ping(ping)
    assert (report.missing, report.duplicates) == ((), 0)
    assert networks.service.link("path1")["tx"]["dropped"] == {}


def test_a_path_through_the_same_filter_without_loss_is_gone_over_to(lab: Lab) -> None:
    """So that the tests above cannot pass for want of a path."""
    networks = TwoNetworks(lab)
    url = networks.filtered("-d", "25")
    ping = lab.ping(networks.near, FAR, 0.01)
    ended = networks.hand_off(url, verify={"address": FAR}, overlap_s=1)
    assert ended["state"] == "completed", ended
    report = stop_ping(ping)
    assert (report.missing, report.duplicates) == ((), 0)
    told = ended["report"]["to_host"]
    assert told["duplicates"] > 20
    assert told["skew_median_s"] > 0.01, "the filter takes 25 ms"


def test_ping_through_hand_offs_over_two_ssh_paths_loses_nothing_and_doubles_nothing(lab: Lab) -> None:
    ssh = lab.ssh_server()
    urls = ["cmd://" + ssh.command(alias, f"vde_plug {lab.root}/vm2") for alias in ("ip1", "ip2")]
    networks = TwoNetworks(lab, urls[0])
    ping = lab.ping(networks.near, FAR, 0.01)
    for turn in range(1, 5):
        ended = networks.hand_off(
            urls[turn % 2],
            to={"url": urls[turn % 2], "name": f"path{turn + 1}"},
            verify={"address": FAR},
            overlap_s=0.5,
            drain_s=0.3,
        )
        assert ended["state"] == "completed", ended
        assert ended["report"]["to_host"]["duplicates"] > 10, "both paths have carried"
    report = stop_ping(ping)
    print(report)
    assert report.sent > 200
    assert (report.missing, report.duplicates) == ((), 0)
    assert [link["name"] for link in networks.service.links()] == ["path5"]
    wait_until(lambda: len(networks.service.program.children()) == 1, "the ssh of the paths that were left to end")
