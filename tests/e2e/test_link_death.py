"""A link that dies, however it dies, is down or gone with a reason in words; the others lose not one frame by it."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from tests.e2e.harness import proc
from tests.e2e.harness.lab import Lab
from tests.e2e.harness.raw import RawClient
from tests.e2e.harness.service import Service
from tests.e2e.harness.waiting import wait_until

pytestmark = pytest.mark.e2e

Killer: TypeAlias = Callable[[], object]
Death: TypeAlias = Callable[[Lab, Service, Path], tuple[dict[str, Any], Killer]]
"""Sets up a link; the link, and what brings about its death."""


# Attached links: they leave the list, and are found among the retired.


def vde_plug_killed(lab: Lab, service: Service, vm1: Path) -> tuple[dict[str, Any], Killer]:
    plug = lab.start(["vde_plug", str(vm1)])
    return service.wait_peer(plug.pid), plug.kill


def vde_plug_terminated(lab: Lab, service: Service, vm1: Path) -> tuple[dict[str, Any], Killer]:
    plug = lab.start(["vde_plug", str(vm1)])
    return service.wait_peer(plug.pid), plug.terminate


def vde_plug_reads_the_end_of_its_input(lab: Lab, service: Service, vm1: Path) -> tuple[dict[str, Any], Killer]:
    plug = lab.start(["vde_plug", str(vm1)])
    return service.wait_peer(plug.pid), plug.close_stdin


def data_socket_alone_closed(lab: Lab, service: Service, vm1: Path) -> tuple[dict[str, Any], Killer]:
    client = lab.client(vm1, description="half dead")
    return service.wait_link(lambda link: link["description"] == "half dead"), client.data.close


def vdens_killed(lab: Lab, service: Service, vm1: Path) -> tuple[dict[str, Any], Killer]:
    guest = lab.start(["vdens", str(vm1), "sleep", "600"])
    link = service.wait_link(lambda link: link["state"] == "up" and "witness" not in link["description"])
    return link, guest.close


ATTACHED: tuple[tuple[Death, str], ...] = (
    (vde_plug_killed, "left|gone"),
    (vde_plug_terminated, "left|gone"),
    (vde_plug_reads_the_end_of_its_input, "left|gone"),
    (data_socket_alone_closed, "gone"),
    (vdens_killed, "left|gone"),
)


@pytest.mark.parametrize(("death", "words"), ATTACHED, ids=[death.__name__ for death, _ in ATTACHED])
def test_an_attached_link_that_dies_leaves_the_list_with_a_reason(lab: Lab, death: Death, words: str) -> None:
    vm1 = lab.root / "vm1"
    service = lab.service(f"multi://{vm1}")
    flow = lab.flow(vm1, links=2)
    link, kill = death(lab, service, vm1)
    flow.run_on()
    kill()
    ended = _wait_for(lambda: service.retired(link["id"]), death.__name__)
    assert ended["state"] == "retired"
    assert any(word in ended["detail"] for word in words.split("|")), ended["detail"]
    assert service.api.get(f"/links/{link['id']}").status_code == 404
    # Two witnesses and their host: one data socket each, and none of the dead link's.
    assert len(list(vm1.glob("fd*"))) == 3
    _others_never_noticed(service, flow_frames=flow.run_on, stop=flow.stop, names=2)


# Dialled links: they stay, down, until they are retired.


def child_exits_1(lab: Lab, service: Service, vm1: Path) -> tuple[dict[str, Any], Killer]:
    fuse = lab.root / "fuse"
    fuse.touch()
    script = f"while test -e {fuse}; do sleep 0.1; done; echo out of luck >&2; exit 1"
    return _cmd(service, f"sh -c {shlex.quote(script)}"), fuse.unlink


def child_killed(lab: Lab, service: Service, vm1: Path) -> tuple[dict[str, Any], Killer]:
    link = _cmd(service, "sleep 600")
    (child,) = service.program.children()
    return link, lambda: os.kill(child, signal.SIGKILL)


def child_closes_its_stdout(lab: Lab, service: Service, vm1: Path) -> tuple[dict[str, Any], Killer]:
    fuse = lab.root / "fuse"
    fuse.touch()
    script = f"while test -e {fuse}; do sleep 0.1; done; exec sleep 600 >&-"
    return _cmd(service, f"sh -c {shlex.quote(script)}"), fuse.unlink


def child_talks_nonsense_and_leaves(lab: Lab, service: Service, vm1: Path) -> tuple[dict[str, Any], Killer]:
    fuse = lab.root / "fuse"
    fuse.touch()
    code = f"import os,sys,time\nwhile os.path.exists({str(fuse)!r}): time.sleep(.1)\nos.write(1, os.urandom(99999))"
    return _cmd(service, f"{sys.executable} -c {shlex.quote(code)}"), fuse.unlink


def ssh_refused(lab: Lab, service: Service, vm1: Path) -> tuple[dict[str, Any], Killer]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    options = "-F none -o BatchMode=yes -o ConnectTimeout=5"
    return _cmd(service, f"ssh {options} -p {port} 127.0.0.1 vde_plug {vm1}"), lambda: None


def ssh_server_killed(lab: Lab, service: Service, vm1: Path) -> tuple[dict[str, Any], Killer]:
    ssh = lab.ssh_server()
    lab.c_multi(f"multi://{lab.root}/far")
    link = _cmd(service, ssh.command("ip1", f"vde_plug {lab.root}/far"))
    wait_until(ssh.sessions, "the session")
    return link, ssh.stop


def ssh_key_refused(lab: Lab, service: Service, vm1: Path) -> tuple[dict[str, Any], Killer]:
    ssh = lab.ssh_server()
    (lab.root / "ssh" / "authorized_keys").write_text("", encoding="ascii")
    return _cmd(service, ssh.command("ip2", "true")), lambda: None


def remote_program_missing(lab: Lab, service: Service, vm1: Path) -> tuple[dict[str, Any], Killer]:
    ssh = lab.ssh_server()
    return _cmd(service, ssh.command("ip1", "no-such-program-here")), lambda: None


def vde_switch_killed(lab: Lab, service: Service, vm1: Path) -> tuple[dict[str, Any], Killer]:
    switch = lab.start(["vde_switch", "-s", f"{lab.root}/sw"])
    wait_until((lab.root / "sw" / "ctl").exists, "the switch")
    return service.dial(lab.root / "sw", name="victim", reconnect=False), switch.kill


def vde_switch_terminated(lab: Lab, service: Service, vm1: Path) -> tuple[dict[str, Any], Killer]:
    switch = lab.start(["vde_switch", "-s", f"{lab.root}/sw"])
    wait_until((lab.root / "sw" / "ctl").exists, "the switch")
    return service.dial(lab.root / "sw", name="victim", reconnect=False), switch.terminate


def c_multi_killed(lab: Lab, service: Service, vm1: Path) -> tuple[dict[str, Any], Killer]:
    plug = lab.c_multi(f"multi://{lab.root}/far")
    return service.dial(lab.root / "far", name="victim", reconnect=False), plug.kill


DIALLED: tuple[tuple[Death, str], ...] = (
    (child_exits_1, "status 1: out of luck"),
    (child_killed, "SIGKILL"),
    (child_closes_its_stdout, "closed its end"),
    (child_talks_nonsense_and_leaves, "status 0"),
    (ssh_refused, "Connection refused"),
    (ssh_server_killed, "status 255"),
    (ssh_key_refused, "Permission denied"),
    (remote_program_missing, "status 127"),
    (vde_switch_killed, "left|gone"),
    (vde_switch_terminated, "left|gone"),
    (c_multi_killed, "left|gone"),
)


@pytest.mark.parametrize(("death", "words"), DIALLED, ids=[death.__name__ for death, _ in DIALLED])
def test_a_dialled_link_that_dies_is_down_with_a_reason(lab: Lab, death: Death, words: str) -> None:
    vm1 = lab.root / "vm1"
    service = lab.service(f"multi://{vm1}", "--allow", "cmd")
    flow = lab.flow(vm1, links=2)
    link, kill = death(lab, service, vm1)
    flow.run_on()
    kill()
    down = _wait_for(lambda: found if (found := service.link(link["id"]))["state"] == "down" else None, death.__name__)
    assert any(word in down["detail"] for word in words.split("|")), down["detail"]
    assert down["since"] >= link["since"]
    wait_until(lambda: not service.program.children(), "its child and grandchildren to end")
    _others_never_noticed(service, flow_frames=flow.run_on, stop=flow.stop, names=2)
    assert service.retire("victim")["state"] == "retired"
    assert service.api.get("/links/victim").status_code == 404


def test_the_end_of_a_control_connection_is_noticed_where_no_frame_flows(lab: Lab) -> None:
    """A data socket says nothing of its peer's death until something is sent to it."""
    vm1 = lab.root / "vm1"
    service = lab.service(f"multi://{vm1}")
    switch = lab.start(["vde_switch", "-s", f"{lab.root}/sw"])
    wait_until((lab.root / "sw" / "ctl").exists, "the switch")
    dialled = service.dial(lab.root / "sw", reconnect=False)
    plug = lab.start(["vde_plug", str(vm1)])
    attached = service.wait_peer(plug.pid)
    half_dead = lab.client(vm1, description="half dead")
    link = service.wait_link(lambda each: each["description"] == "half dead")
    half_dead.control.close()
    plug.kill()
    switch.kill()
    for gone in (attached, link):
        ended = _wait_for(partial(service.retired, gone["id"]), gone["description"])
        assert "control connection" in ended["detail"]
    down = service.wait_link(lambda each: each["id"] == dialled["id"] and each["state"] == "down")
    assert "control connection" in down["detail"]
    assert [each["id"] for each in service.links()] == [dialled["id"]]


def test_a_link_that_may_reconnect_comes_back_with_its_peer(lab: Lab) -> None:
    service = lab.service(f"multi://{lab.root}/vm1")
    switch = lab.start(["vde_switch", "-s", f"{lab.root}/sw"])
    wait_until((lab.root / "sw" / "ctl").exists, "the switch")
    link = service.dial(lab.root / "sw", name="path1")
    switch.terminate()
    switch.wait()
    down = service.wait_link(lambda each: each["state"] == "down")
    assert "dialled again" in down["detail"]
    lab.start(["vde_switch", "-s", f"{lab.root}/sw"])
    again = service.wait_link(lambda each: each["state"] == "up")
    assert again["id"] == link["id"]
    assert again["detail"] == ""


def test_the_death_of_the_host_leaves_the_links_alone(lab: Lab) -> None:
    vm1 = lab.root / "vm1"
    service = lab.service(f"multi://{vm1}")
    link = lab.client(vm1)
    plug = lab.start(["vde_plug", f"vde://{vm1}[host]"])
    service.wait_host("vm1")
    plug.kill()
    assert service.wait_host("vm1", "detached")["detail"]
    with RawClient(vm1, "host") as host:
        host.send(b"x" * 60)
        assert link.receive() == b"x" * 60


def test_what_cannot_be_connected_is_not_kept(lab: Lab) -> None:
    service = lab.service(f"multi://{lab.root}/vm1", "--allow", "cmd")
    (lab.root / "dead").mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(lab.root / "dead" / "ctl"))
    for url in (f"{lab.root}/nobody", f"{lab.root}/dead", "cmd://no-such-program-here", "cmd:///etc/passwd"):
        answer = service.api.post("/links", json={"url": url})
        assert (answer.status_code, answer.json()["code"]) == (502, "cannot_connect"), answer.text
        print(answer.json()["detail"])
    assert service.links() == []
    assert service.links(state="retired") == []
    assert os.listdir(lab.root / "dead") == ["ctl"]


def _cmd(service: Service, command: str) -> dict[str, Any]:
    return service.dial(f"cmd://{command}", name="victim", reconnect=False)


def _wait_for(ask: Callable[[], dict[str, Any] | None], what: str) -> dict[str, Any]:
    """The answer, and how long after the death it came: the aim is a second, a test allows for slow machines."""
    started = time.monotonic()
    answer = wait_until(ask, what)
    assert answer is not None
    print(f"{what}: {answer['detail']!r} after {time.monotonic() - started:.2f} s")
    return answer


def _others_never_noticed(
    service: Service, *, flow_frames: Callable[[], None], stop: Callable[[], int], names: int
) -> None:
    flow_frames()
    stop()
    witnesses = [link for link in service.links() if "witness" in link["description"]]
    assert len(witnesses) == names
    assert all(link["state"] == "up" for link in witnesses)
    assert all(link["tx"]["dropped"] == link["rx"]["dropped"] == {} for link in witnesses)
    assert proc.is_alive(service.pid)
