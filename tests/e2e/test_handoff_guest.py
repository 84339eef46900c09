"""The manual's hand-off with a virtual machine as the host: one request, while TCP runs through it."""

from __future__ import annotations

import json
import sys

import pytest

from tests.e2e.harness.guest import ECHO_PORT, start_guest
from tests.e2e.harness.lab import Lab
from tests.e2e.harness.waiting import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(240)]

GUEST = "10.9.8.1"
FAR = "10.9.8.2"
SECONDS = 8
_TRANSFER = """
import hashlib, json, os, socket, sys, threading, time

address, port, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
line = socket.create_connection((address, port), timeout=20)
sent, got = hashlib.sha256(), hashlib.sha256()
arrivals, octets = [], 0

def listen():
    global octets
    while data := line.recv(65536):
        got.update(data)
        octets += len(data)
        arrivals.append(time.monotonic())

listener = threading.Thread(target=listen)
listener.start()
print("flowing", flush=True)
began = time.monotonic()
while time.monotonic() - began < seconds:
    block = os.urandom(16384)
    line.sendall(block)
    sent.update(block)
line.shutdown(socket.SHUT_WR)
listener.join()
gaps = [later - earlier for earlier, later in zip(arrivals, arrivals[1:])]
print(json.dumps({"right": sent.digest() == got.digest(), "octets": octets, "longest_stall_s": max(gaps)}))
"""


def test_tcp_through_a_guest_stays_whole_and_does_not_stall(lab: Lab) -> None:
    vm1, vm2 = lab.root / "vm1", lab.root / "vm2"
    service = lab.service(f"multi://{vm1}", f"multi://{vm2}")
    far, _plug = lab.tapped_namespace(FAR, f"vde://{vm2}[host]")
    start_guest(lab.start, lab.root, f"vde://{vm1}[host]", f"{GUEST}/24")
    service.dial(vm2, "vm1", name="path1")
    wait_until(lambda: far.answers(GUEST), "the guest to answer")

    def dropped() -> list[dict[str, int]]:
        return [service.multilink(name)["host"][way]["dropped"] for name in ("vm1", "vm2") for way in ("rx", "tx")]

    before = dropped()  # What the two had to say when there was no link yet.
    transfer = lab.start(far.inside(sys.executable, "-c", _TRANSFER, GUEST, str(ECHO_PORT), str(SECONDS)))
    wait_until(lambda: "flowing" in transfer.output() or not transfer.running, "the transfer")
    for number in (2, 3):
        answer = service.api.post(
            "/handoffs",
            json={
                "multilink": "vm1",
                "to": {"url": str(vm2), "name": f"path{number}"},
                "verify": {"address": FAR},
                "overlap_s": 0.5,
            },
            headers={"Prefer": "wait=30"},
        )
        assert answer.status_code == 200, answer.text
        assert answer.json()["state"] == "completed", answer.text
        assert answer.json()["verified_by"].startswith(f"{FAR} answered")
        assert transfer.running, "the transfer has to outlast the hand-offs"
    assert transfer.wait() == 0, transfer.output()
    report = json.loads(transfer.output().splitlines()[-1])
    print(report)
    assert report["right"]
    assert report["octets"] > 1_000_000
    # An emulated guest on a busy machine pauses by itself; TCP's first retransmission time-outs are 0.2, 0.4, 0.8 s.
    assert report["longest_stall_s"] < 1.0
    assert [link["name"] for link in service.links(multilink="vm1")] == ["path3"]
    assert dropped() == before
