"""The manual's hand-off: two networks joined by one link, then by two, then by the second alone; ping never misses.

Whatever is at the far end: another multilink of the same service, one of another service, or the C module's.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.harness.lab import Lab
from tests.e2e.harness.netns import Namespace
from tests.e2e.harness.pings import stop_ping
from tests.e2e.harness.service import Service
from tests.e2e.harness.sshd import ADDRESSES
from tests.e2e.harness.waiting import wait_until

pytestmark = pytest.mark.e2e

NEAR = "10.9.8.1"
FAR = "10.9.8.2"
PHASE_FRAMES = 40
"""Frames that each phase has to carry before the next one begins: a second or so at one ping in 0.02 s."""


class FarEnd:
    """The network at the other side, and how its links are seen from there.

    Args:
        lab: owns what is started.
        kind: `same` service, `other` service, or the `c` module.
        near: the service at this side.
    """

    def __init__(self, lab: Lab, kind: str, near: Service) -> None:
        self.path: Path = lab.root / "vm2"
        self._service: Service | None = None
        if kind == "same":
            answer = near.api.post("/multilinks", json={"url": f"multi://{self.path}"})
            assert answer.status_code == 201, answer.text
            self._service = near
        elif kind == "other":
            self._service = lab.service(f"multi://{self.path}")
        own = f"vde://{self.path}[host]" if self._service is not None else f"multi://{self.path}"
        self.namespace, _ = lab.tapped_namespace(FAR, own)
        if self._service is None:
            wait_until((self.path / "ctl").exists, "the C multi://")
        else:
            self._service.wait_host("vm2")

    def descriptions(self) -> list[str]:
        """What the links at the far end say of themselves; nothing is known of the C module's."""
        if self._service is None:
            return []
        return [link["description"] for link in self._service.links(multilink="vm2", state="up")]


@pytest.mark.timeout(180)
@pytest.mark.parametrize("far_kind", ["same", "other", "c"])
def test_a_link_is_replaced_by_another_and_ping_never_misses(lab: Lab, far_kind: str) -> None:
    service, near = _near_end(lab)
    far = FarEnd(lab, far_kind, service)
    _hand_over(lab, service, near, str(far.path), str(far.path))


@pytest.mark.timeout(180)
@pytest.mark.parametrize("far_kind", ["same", "other", "c"])
def test_the_same_over_ssh_on_two_addresses(lab: Lab, far_kind: str) -> None:
    ssh = lab.ssh_server()
    service, near = _near_end(lab)
    far = FarEnd(lab, far_kind, service)
    remote = f"vde_plug {far.path}"

    def both_say_where_from() -> None:
        said = far.descriptions()
        if far_kind != "c":
            # A claim of the peer's, but a useful one: each path shows the address it came by.
            for address in ADDRESSES.values():
                assert any(f"SSH={address}" in each for each in said), said

    _hand_over(
        lab,
        service,
        near,
        "cmd://" + ssh.command("ip1", remote),
        "cmd://" + ssh.command("ip2", remote),
        while_both=both_say_where_from,
    )
    # The retired path's ssh is gone: what is left is the session of the second one.
    commands = [Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0] for pid in service.program.children()]
    assert len(commands) == 1, commands


@pytest.mark.timeout(180)
def test_an_attached_path_is_replaced_by_a_dialled_one(lab: Lab) -> None:
    """The manual's own first line, `vde_plug /tmp/vm1 /tmp/vm2`, and the service takes over from it."""
    service, near = _near_end(lab)
    far = FarEnd(lab, "c", service)
    plug = lab.start(["vde_plug", str(lab.root / "vm1"), str(far.path)])
    first = service.wait_link(lambda link: link["state"] == "up")
    assert first["kind"] == "attached"
    wait_until(lambda: near.answers(FAR), "the first answer")
    ping = lab.ping(near, FAR)
    _carries(service, first["id"])
    second = service.dial(far.path, "vm1", name="path2")
    _carries(service, first["id"], second["id"])
    assert service.retire(first["id"])["state"] == "retired"
    assert plug.wait() == 0
    _carries(service, second["id"])
    report = stop_ping(ping)
    print(report)
    assert report.missing == ()


def _near_end(lab: Lab) -> tuple[Service, Namespace]:
    """A service with the multilink vm1, and a namespace whose tap is its host."""
    service = lab.service(f"multi://{lab.root}/vm1", "--allow", "cmd")
    namespace, _ = lab.tapped_namespace(NEAR, f"vde://{lab.root}/vm1[host]")
    service.wait_host("vm1")
    return service, namespace


def _hand_over(
    lab: Lab,
    service: Service,
    near: Namespace,
    first_url: str,
    second_url: str,
    *,
    while_both: Callable[[], None] | None = None,
) -> None:
    """Replace a path by another under a ping; the whole of the scenario, with every check that both ends allow."""
    assert not near.answers(FAR), "the networks are not joined yet"
    first = service.dial(first_url, "vm1", name="path1")
    url = first_url if "://" in first_url else f"vde://{first_url}"
    assert (first["state"], first["kind"], first["url"]) == ("up", "dialled", url)
    wait_until(lambda: near.answers(FAR), "the first answer")

    ping = lab.ping(near, FAR)
    _carries(service, "path1")
    service.dial(second_url, "vm1", name="path2")
    _carries(service, "path1", "path2")
    if while_both is not None:
        while_both()
    ended = service.retire("path1")
    assert ended["id"] == first["id"]
    assert ended["state"] == "retired"
    assert ended["tx"]["dropped"] == {}
    assert service.api.get("/links/path1").status_code == 404
    _carries(service, "path2")
    report = stop_ping(ping)
    print(report)
    assert report.missing == (), f"{len(report.missing)} of {report.sent} pings were never answered"
    assert service.link("path2")["tx"]["dropped"] == {}


def _carries(service: Service, *links: str) -> None:
    """Wait until every one of `links` has carried PHASE_FRAMES more frames each way."""
    before = {link: service.link(link) for link in links}

    def have_carried() -> bool:
        for link, then in before.items():
            now = service.link(link)
            if any(now[way]["frames"] < then[way]["frames"] + PHASE_FRAMES for way in ("rx", "tx")):
                return False
        return True

    wait_until(have_carried, f"frames over {' and '.join(links)}")
