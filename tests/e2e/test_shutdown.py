"""SIGTERM: exit 0, nothing left in the file system, no child left, whatever clients and children do.

That nothing is left is what `Service.stop` asserts; how long it takes is printed, since no test may depend on the
machine's speed (the contract says two seconds).
"""

from __future__ import annotations

import os
import shlex
import signal
import socket
import sys

import pytest

from tests.e2e.harness import proc
from tests.e2e.harness.lab import Lab
from tests.e2e.harness.raw import connect_control
from tests.e2e.harness.service import Service
from tests.e2e.harness.waiting import wait_until

pytestmark = pytest.mark.e2e


def _stop(service: Service, number: signal.Signals = signal.SIGTERM) -> None:
    print(f"stopped by {number.name} in {service.stop(number):.2f} s")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_with_links_of_every_kind(lab: Lab, number: signal.Signals) -> None:
    vm1 = lab.root / "vm1"
    service = lab.service(f"multi://{vm1}", f"multi://{lab.root}/vm2", "--allow", "cmd")
    plugs = [lab.start(["vde_plug", str(vm1)]) for _ in range(2)]
    plugs.append(lab.start(["vde_plug", f"vde://{vm1}[host]"]))
    lab.start(["vde_switch", "-s", f"{lab.root}/sw"])
    wait_until((lab.root / "sw" / "ctl").exists, "the switch")
    service.wait_host("vm1")
    for url in (f"{lab.root}/sw", f"{lab.root}/vm2", f"cmd://vde_plug {lab.root}/vm2"):
        service.dial(url, "vm1")
    wait_until(lambda: len(service.links(state="up")) == 7, "all links")
    half_open = connect_control(vm1 / "ctl")
    _stop(service, number)
    half_open.close()
    assert [plug.wait() for plug in plugs] == [0, 0, 0]
    assert sorted(path.name for path in (lab.root / "sw").iterdir()) == ["ctl"], "nothing is left in the switch either"


def test_with_children_and_grandchildren_that_ignore_sigterm(lab: Lab) -> None:
    service = lab.service(f"multi://{lab.root}/vm1", "--allow", "cmd")
    other_session = "trap '' TERM HUP; sleep 600 & wait"
    stubborn = (
        f"trap '' TERM HUP INT PIPE; sleep 600 & setsid sh -c {shlex.quote(other_session)} & "
        "while :; do wait; sleep 1; done"
    )
    for _ in range(3):
        service.dial(f"cmd://sh -c {shlex.quote(stubborn)}")
    code = (
        "import os, signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "if os.fork() == 0:\n    os.setsid()\n"
        "os.fork()\n"
        "time.sleep(600)"
    )
    service.dial(f"cmd://{sys.executable} -c {shlex.quote(code)}")
    wait_until(lambda: len(service.program.children()) >= 3 * 4 + 4, "children of children")
    children = service.program.children()
    print(f"{len(children)} processes")
    _stop(service)
    assert not [pid for pid in children if proc.is_alive(pid)]


def test_retiring_a_link_ends_its_children_alone(lab: Lab) -> None:
    service = lab.service(f"multi://{lab.root}/vm1", "--allow", "cmd")
    stubborn = "trap '' TERM; sleep 600 & while :; do wait; sleep 1; done"
    first = service.dial(f"cmd://sh -c {shlex.quote(stubborn)}", name="first")
    wait_until(lambda: len(service.program.children()) >= 2, "its children")
    of_first = set(service.program.children())
    service.dial("cmd://sleep 601", name="second")
    of_second = set(service.program.children()) - of_first
    assert service.retire(first["id"], drain_s="0")["state"] == "retired"
    wait_until(lambda: not any(proc.is_alive(pid) for pid in of_first), "the children of the first")
    assert len(of_second) == 1
    assert all(proc.is_alive(pid) for pid in of_second)
    assert service.link("second")["state"] == "up"


def test_with_a_client_that_has_sent_half_a_request(lab: Lab) -> None:
    service = lab.service(f"multi://{lab.root}/vm1")
    halves = (
        b"GET /links HTT",
        b"GET /links HTTP/1.1\r\nHost: localhost\r\n",
        b"POST /links HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
        b"GET /links HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"",
    )
    clients = []
    for half in halves:
        client = _connect(service)
        client.sendall(half)
        clients.append(client)
    assert service.links() == []
    _stop(service)
    for client in clients:
        client.close()


def test_with_a_client_that_does_not_read(lab: Lab) -> None:
    service = lab.service(f"multi://{lab.root}/vm1")
    client = _connect(service)
    client.settimeout(1)
    request = b"GET /openapi.yaml HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with pytest.raises(TimeoutError):
        client.sendall(request * 200_000)  # until its answers, and then these requests, fill every buffer there is
    assert service.links() == [], "the others are served meanwhile"
    _stop(service)
    client.close()


def test_with_a_request_that_is_still_dialling(lab: Lab) -> None:
    """A switch that takes the request and never answers."""
    service = lab.service(f"multi://{lab.root}/vm1")
    (lab.root / "mute").mkdir()
    with socket.socket(socket.AF_UNIX) as mute, _connect(service) as client:
        mute.bind(str(lab.root / "mute" / "ctl"))
        mute.listen()
        body = b'{"url": "%s"}' % os.fsencode(lab.root / "mute")
        client.sendall(
            b"POST /links HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
        )
        mute.settimeout(30)
        connection, _ = mute.accept()
        assert connection.recv(300)
        _stop(service)
        connection.close()
    assert os.listdir(lab.root / "mute") == ["ctl"], "its data socket's name is gone"


def test_with_frames_in_flight_and_a_link_that_has_stopped_reading(lab: Lab) -> None:
    vm1 = lab.root / "vm1"
    service = lab.service(f"multi://{vm1}")
    stuck = lab.client(vm1, description="stuck")
    flow = lab.flow(vm1, links=1)
    stuck_id = service.wait_link(lambda link: link["description"] == "stuck")["id"]
    wait_until(lambda: service.link(stuck_id)["tx"]["frames"] > 200, "a full socket")
    flow.run_on(600)
    flow.stop()
    _stop(service)
    assert stuck.pending()


def test_a_second_signal_changes_nothing(lab: Lab) -> None:
    service = lab.service(f"multi://{lab.root}/vm1", "--allow", "cmd")
    service.dial(f"cmd://sh -c {shlex.quote('trap : TERM; sleep 600')}")
    service.program.terminate()
    _stop_again(service)
    assert not (lab.root / "vm1").exists()
    assert not service.runtime_dir.exists()


def _stop_again(service: Service) -> None:
    if service.program.running:
        service.program.terminate()
    assert service.program.wait() == 0, service.program.output()
    assert not service.program.family()
    service.forget()


def test_a_start_that_fails_half_way_leaves_nothing(lab: Lab) -> None:
    """The second multilink cannot be made: the first one is undone."""
    home = lab.root / "h"
    done = lab.run(
        *(sys.executable, "-m", "app", "serve", f"multi://{lab.root}/vm1", f"multi://{lab.root}/no/parent/vm2"),
        *("--runtime-dir", str(home), "--state", str(lab.root / "db"), "--listen", "127.0.0.1:0"),
    )
    assert done.returncode == 1
    assert "does not exist" in done.stderr
    assert not (lab.root / "vm1").exists()
    assert not home.exists()


def test_a_taken_port_is_said_in_one_line(lab: Lab) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = lab.run(
            *(sys.executable, "-m", "app", "serve", f"multi://{lab.root}/vm1", "--runtime-dir", f"{lab.root}/h"),
            *("--state", str(lab.root / "db"), "--listen", f"127.0.0.1:{port}"),
        )
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert str(port) in done.stderr
    assert not (lab.root / "vm1").exists()
    assert not (lab.root / "h").exists()


def _connect(service: Service) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(30)
    client.connect(str(service.socket))
    return client
