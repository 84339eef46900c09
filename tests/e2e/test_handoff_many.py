"""Fifty hand-offs in a row, under UDP both ways and ping: nothing lost, nothing twice, nothing left over."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import pytest

from tests.e2e.harness.lab import Lab
from tests.e2e.harness.netns import Namespace
from tests.e2e.harness.pings import stop_ping
from tests.e2e.harness.programs import Program
from tests.e2e.harness.service import Service
from tests.e2e.harness.waiting import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(240)]

NEAR, FAR = "10.9.8.1", "10.9.8.2"
HANDOFFS = 50
_UDP = """
import json, select, socket, sys, time

line = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 21)
line.bind((sys.argv[1], 7000))
peer = (sys.argv[2], 7000)
sent, got, due, quiet_from = 0, [], time.monotonic(), None
while quiet_from is None or time.monotonic() < quiet_from + 1:
    while select.select([line], [], [], 0)[0]:
        got.append(int(line.recv(2048)[:12]))
    if quiet_from is None:
        line.sendto(b"%012d" % sent + bytes(500), peer)
        sent += 1
        if select.select([sys.stdin], [], [], 0)[0]:
            quiet_from = time.monotonic()
    due += 0.002
    time.sleep(max(0, due - time.monotonic()))
print(json.dumps({"sent": sent, "got": len(got), "distinct": len(set(got)), "first": min(got), "last": max(got)}))
"""


def start_udp(lab: Lab, namespace: Namespace, own: str, peer: str) -> Program:
    """Numbered datagrams to the peer and from it, until its stdin is closed."""
    return lab.start(namespace.inside(sys.executable, "-c", _UDP, own, peer))


def tasks_of(service: Service) -> int:
    """Trio tasks that live in the service."""
    text = service.api.get("/metrics").text
    return next(int(float(line.split()[1])) for line in text.splitlines() if line.startswith("vde_multilink_tasks "))


def test_fifty_in_a_row(lab: Lab) -> None:
    vm1, vm2 = lab.root / "vm1", lab.root / "vm2"
    service = lab.service(f"multi://{vm1}", f"multi://{vm2}")
    near, _ = lab.tapped_namespace(NEAR, f"vde://{vm1}[host]")
    far, _ = lab.tapped_namespace(FAR, f"vde://{vm2}[host]")
    service.dial(vm2, "vm1", name="path0")
    wait_until(lambda: near.answers(FAR), "the first answer")

    def left_over() -> dict[str, int]:
        return {
            "descriptors": service.descriptors(),
            "tasks": tasks_of(service),
            "files": len(os.listdir(vm1)) + len(os.listdir(vm2)),
            "children": len(service.program.children()),
        }

    def hand_off(number: int) -> None:
        body: dict[str, Any] = {
            "multilink": "vm1",
            "to": {"url": str(vm2), "name": f"path{number}"},
            "verify": {"address": FAR},
            "overlap_s": 0.05,
            "drain_s": 0.05,
        }
        answer = service.api.post("/handoffs", json=body, headers={"Prefer": "wait=30"})
        assert answer.status_code == 200, answer.text
        assert answer.json()["state"] == "completed", answer.text

    hand_off(1)
    before = left_over()
    ping = lab.ping(near, FAR, 0.01)
    flows = [start_udp(lab, near, NEAR, FAR), start_udp(lab, far, FAR, NEAR)]
    wait_until(lambda: service.multilink("vm1")["host"]["tx"]["frames"] > 200, "the flow")
    for number in range(2, HANDOFFS + 2):
        hand_off(number)
    for flow in flows:
        flow.close_stdin()
    said = []
    for flow in flows:
        assert flow.wait() == 0, flow.output()
        said.append(json.loads(flow.output().splitlines()[-1]))
    report = stop_ping(ping)
    print(report, said)
    assert (report.missing, report.duplicates) == ((), 0)
    for one, other in zip(said, reversed(said), strict=True):
        assert one["got"] == one["distinct"], "none came twice"
        # The two do not begin in the same moment: the first datagrams may have found nobody.
        assert one["first"] < 1000 < one["last"]
        assert one["distinct"] == one["last"] - one["first"] + 1, "none was lost"
        assert one["last"] == other["sent"] - 1
    wait_until(lambda: left_over() == before, "what fifty hand-offs took to be given back")
    print(before)
    assert [link["name"] for link in service.links(multilink="vm1")] == [f"path{HANDOFFS + 1}"]
