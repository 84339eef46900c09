"""Who hears whom, frame by frame, with clients that do nothing else."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.e2e.harness.lab import Lab
from tests.e2e.harness.raw import frame, number_of
from tests.e2e.harness.waiting import wait_until

pytestmark = pytest.mark.e2e

SIZES = (14, 60, 1514, 4096, 9014, 9234)


@pytest.mark.parametrize("links", [1, 2, 16])
def test_host_frames_reach_every_link_once_and_link_frames_the_host_alone(lab: Lab, links: int) -> None:
    vm1 = lab.root / "vm1"
    service = lab.service(f"multi://{vm1}")
    host = lab.client(vm1, "host")
    peers = [lab.client(vm1, description=f"peer {at}") for at in range(links)]
    wait_until(lambda: len(service.links(state="up")) == links, "all links")

    sent = [frame(number, 0, size=SIZES[number % len(SIZES)]) for number in range(60)]
    for each in sent:
        host.send(each)
        for peer in peers:
            assert peer.receive() == each
    for peer in peers:
        assert peer.pending() == []
    assert host.pending() == [], "the host hears itself"

    for at, peer in enumerate(peers, 1):
        for number in range(20):
            peer.send(frame(number, at, size=SIZES[number % len(SIZES)]))
            assert host.receive() == frame(number, at, size=SIZES[number % len(SIZES)])
    assert host.pending() == []
    assert [peer.pending() for peer in peers] == [[]] * links, "links hear each other"

    octets = sum(len(each) for each in sent)
    for link in service.links():
        assert link["tx"] == {"frames": len(sent), "bytes": octets, "dropped": {}}
        assert link["rx"]["frames"] == 20
    seen = service.multilink("vm1")["host"]
    assert seen["rx"] == {"frames": len(sent), "bytes": octets, "dropped": {}}
    assert seen["tx"]["frames"] == 20 * links
    assert seen["tx"]["dropped"] == {}


def test_a_burst_comes_whole_and_in_order(lab: Lab) -> None:
    vm1 = lab.root / "vm1"
    service = lab.service(f"multi://{vm1}")
    host, link = lab.client(vm1, "host"), lab.client(vm1)
    for first in range(0, 1000, 100):
        for number in range(first, first + 100):
            host.send(frame(number))
        got = [number_of(link.receive()) for _ in range(100)]
        assert got == list(range(first, first + 100))
    assert service.links()[0]["tx"]["frames"] == 1000


def test_frames_without_anyone_to_hear_them_are_counted_as_such(lab: Lab) -> None:
    vm1 = lab.root / "vm1"
    service = lab.service(f"multi://{vm1}")
    link = lab.client(vm1)
    found = service.wait_link(lambda each: each["state"] == "up")
    for number in range(5):
        link.send(frame(number))
    wait_until(lambda: service.link(found["id"])["rx"]["dropped"] == {"no_host": 5}, "5 frames for no host")
    assert service.link(found["id"])["rx"]["frames"] == 0

    host = lab.client(vm1, "host")
    service.wait_host("vm1")
    link.send(frame(9))
    assert host.receive() == frame(9)
    assert service.link(found["id"])["rx"]["frames"] == 1
    service.retire(found["id"], drain_s="0")
    for number in range(3):
        host.send(frame(number))
    wait_until(lambda: service.multilink("vm1")["host"]["rx"]["dropped"] == {"no_link": 3}, "3 frames for no link")


def test_runts_and_giants_are_dropped_and_counted(lab: Lab) -> None:
    vm1 = lab.root / "vm1"
    service = lab.service(f"multi://{vm1}")
    host, link = lab.client(vm1, "host"), lab.client(vm1)
    for size in (1, 13, 9235, 9800):
        link.send(bytes(size))
    link.send(frame(1, size=14)[:14])
    assert len(host.receive()) == 14
    assert host.pending() == []
    found = service.links()[0]["rx"]
    assert found == {"frames": 1, "bytes": 14, "dropped": {"runt": 2, "giant": 2}}


def test_standby_is_heard_but_not_sent_to(lab: Lab) -> None:
    vm1 = lab.root / "vm1"
    service = lab.service(f"multi://{vm1}")
    host, quiet, other = lab.client(vm1, "host"), lab.client(vm1), lab.client(vm1)
    wait_until(lambda: len(service.links(state="up")) == 2, "both links")
    first = service.links()[0]["id"]
    assert service.api.patch(f"/links/{first}", json={"role": "standby"}).json()["role"] == "standby"
    host.send(frame(1))
    assert other.receive() == frame(1)
    assert quiet.pending() == []
    quiet.send(frame(2))
    assert host.receive() == frame(2)
    service.api.patch(f"/links/{first}", json={"role": "active"})
    host.send(frame(3))
    assert quiet.receive() == frame(3)


def test_ids_are_never_used_again(lab: Lab) -> None:
    vm1 = lab.root / "vm1"
    service = lab.service(f"multi://{vm1}")
    seen: list[str] = []
    for _ in range(20):
        with lab.client(vm1):
            seen.append(service.wait_link(lambda each: each["state"] == "up")["id"])
        wait_until(lambda: not service.links(), "the link to leave the list")
    assert len(set(seen)) == 20
    ended = service.links(state="retired")
    assert [link["id"] for link in ended] == seen
    assert all(earlier["since"] <= later["since"] for earlier, later in pairwise(ended))
