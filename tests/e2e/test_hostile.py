"""A thousand hostile connections while frames flow: they cost the service nothing and the others not one frame."""

from __future__ import annotations

import os
import shutil
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.e2e.harness import proc
from tests.e2e.harness.hostility import KINDS, Kind, silence
from tests.e2e.harness.lab import Lab
from tests.e2e.harness.raw import RawClient, frame
from tests.e2e.harness.service import Service
from tests.e2e.harness.waiting import wait_until

pytestmark = pytest.mark.e2e

CONNECTIONS = 1000
IDLE_SHARE = 0.05
"""Of a core: what an idle service may use more than before. One that spins uses all of it."""

JOINING = {"in_two_pieces_and_gone", "joins_and_speaks", "abstract_and_gone"}
"""Kinds that are served before they misbehave."""
ASK_FOR_AN_ANSWER = {*JOINING, "dead_data_socket", "another_ones_socket"}
"""Kinds that wait for the service, which without descriptors would hold up the test."""


@pytest.fixture(scope="module")
def hostile_service() -> Iterator[tuple[Lab, Service]]:
    """One service for the kinds that are tried one by one."""
    with Lab() as lab:
        yield lab, lab.service(f"multi://{lab.root}/vm1", "--log-level", "warning")


@pytest.mark.timeout(180)
def test_a_thousand_hostile_connections_of_every_kind_while_frames_flow(lab: Lab) -> None:
    vm1 = lab.root / "vm1"
    service = lab.service(f"multi://{vm1}", "--log-level", "warning")
    service.links()
    idle_before, before = service.cpu_share(), proc.open_descriptors(service.pid)
    flow = lab.flow(vm1, links=3)
    flow.run_on()
    with_flow = service.descriptors()

    held: list[socket.socket] = []
    with ExitStack() as stack:
        for number in range(CONNECTIONS):
            found = KINDS[number % len(KINDS)](vm1, number // len(KINDS))
            held += [stack.enter_context(each) for each in found]
        print(f"{len(held)} sockets are still held by the hostile clients")
        flow.run_on()
        # All but those that are silent in good time are out at once; the silent ones after the time limit.
        wait_until(lambda: service.descriptors() <= with_flow, "the descriptors to come back while they still hold on")
        while_held = service.cpu_share()
    flow.run_on()
    delivered = flow.stop()
    links = service.links()
    assert [link["description"] for link in links] == ["witness-0", "witness-1", "witness-2"]
    assert all(link["tx"]["dropped"] == link["rx"]["dropped"] == {} for link in links)
    refused = service.multilink("vm1")["refused"]
    print(f"{delivered} frames delivered, none lost; refused: {refused}; CPU share with flow {while_held:.3f}")
    joined = sum(KINDS[number % len(KINDS)].__name__ in JOINING for number in range(CONNECTIONS))
    assert sum(refused.values()) == CONNECTIONS - joined, refused
    assert service.multilink("vm1")["host"]["state"] == "attached"

    for client in (*lab.witnesses, lab.hosts[-1]):
        client.close()
    wait_until(lambda: not service.links(), "the witnesses to leave")
    wait_until(lambda: service.descriptors() <= len(before), "the descriptors to be those of the start")
    assert Counter(map(_kind_of, proc.open_descriptors(service.pid).values())) == Counter(
        map(_kind_of, before.values())
    )
    assert sorted(os.listdir(vm1)) == ["ctl", "host"]
    idle_after = service.cpu_share()
    print(f"CPU share idle: {idle_before:.3f} before, {idle_after:.3f} after")
    assert idle_after <= idle_before + IDLE_SHARE
    shutil.rmtree(lab.root / "elsewhere")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.__name__))
def test_each_kind_alone_leaves_nothing(hostile_service: tuple[Lab, Service], kind: Kind) -> None:
    lab, service = hostile_service
    vm1 = lab.root / "vm1"
    service.links()
    before = service.descriptors()
    with ExitStack() as stack:
        for number in range(20):
            for each in kind(vm1, number):
                stack.enter_context(each)
        with RawClient(vm1, description="honest"):
            service.wait_link(lambda link: link["description"] == "honest")
        wait_until(lambda: service.descriptors() <= before, "the descriptors to come back while they are held")
        assert service.links() == []
        share = service.cpu_share(0.4)
        assert share < 0.5, f"{share:.2f} of a core for 20 of them"
    assert sorted(os.listdir(vm1)) == ["ctl", "host"]


@pytest.mark.timeout(180)
def test_without_descriptors_it_waits_and_then_goes_on(lab: Lab) -> None:
    vm1 = lab.root / "vm1"
    service = lab.service(f"multi://{vm1}", "--log-level", "warning")
    flow = lab.flow(vm1, links=2)
    flow.run_on()
    service.links()
    before = service.descriptors()
    free = 6
    highest = max(proc.open_descriptors(service.pid))
    service.limit_descriptors(highest + 1 + free)
    with ExitStack() as stack:
        for number in range(60):
            kind = KINDS[number % len(KINDS)]
            for each in kind(vm1, number) if kind.__name__ not in ASK_FOR_AN_ANSWER else silence(vm1, number):
                stack.enter_context(each)
        wait_until(lambda: "out of descriptors" in service.program.output(), "the limit to be reached")
        flow.run_on()
        starved = service.cpu_share()
        print(f"CPU share with flow and without descriptors: {starved:.3f}")
        assert starved < 0.7, "it may not spin on EMFILE"
        # An honest client has to wait for its turn, and gets it: the silent ones before it are put out in time.
        patient = stack.enter_context(RawClient(vm1, description="patient"))
        flow.run_on()
        assert patient.control.fileno() > 0
    service.limit_descriptors(4096)
    patient.close()
    flow.run_on()
    print(f"{flow.stop()} frames delivered, none lost")
    wait_until(lambda: service.descriptors() <= before, "the descriptors to come back")
    lab.hosts[-1].send(frame(1, 0))
    assert all(witness.receive() == frame(1, 0) for witness in lab.witnesses)
    with RawClient(vm1, description="later"):
        service.wait_link(lambda link: link["description"] == "later")


def _kind_of(descriptor: str) -> str:
    """`socket:[123]` and `socket:[456]` are alike."""
    return descriptor.partition("[")[0]
