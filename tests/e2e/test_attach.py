"""Debian's own clients join a multilink by its path, as links and as the host."""

from __future__ import annotations

import json
import os
import pwd
from pathlib import Path

import pytest

from tests.e2e.harness import proc, require
from tests.e2e.harness.lab import Lab
from tests.e2e.harness.raw import frame
from tests.e2e.harness.waiting import wait_until

pytestmark = pytest.mark.e2e


def test_vde_plug_is_a_link_on_the_path_and_the_host_on_path_host(lab: Lab) -> None:
    vm1 = lab.root / "vm1"
    service = lab.service(f"multi://{vm1}")
    link_plug = lab.start(["vde_plug", str(vm1)])
    link = service.wait_link(lambda each: each["state"] == "up")
    assert link["kind"] == "attached"
    assert link["url"] is None
    assert link["role"] == "active"
    assert link["peer"] == {"pid": link_plug.pid, "uid": os.getuid(), "gid": os.getgid()}
    assert f"pid={link_plug.pid}" in link["description"]
    assert service.multilink("vm1")["host"]["state"] == "detached"

    host_plug = lab.start(["vde_plug", f"vde://{vm1}[host]"])
    host = service.wait_host("vm1")
    assert host["peer"]["pid"] == host_plug.pid
    assert len(service.links()) == 1, "the host is no link"

    # What the link's program reads on its stdin comes out of the host's program.
    sent = frame(7)
    link_plug.stdin.write(len(sent).to_bytes(2, "big") + sent)
    link_plug.stdin.flush()
    wait_until(lambda: sent in host_plug.log.read_bytes(), "the frame on the host's stdout")
    wait_until(lambda: service.multilink("vm1")["host"]["tx"]["frames"] == 1, "the frame in the counters")
    assert service.link(link["id"])["rx"] == {"frames": 1, "bytes": len(sent), "dropped": {}}


def test_a_second_host_is_refused_while_the_first_lives_and_welcome_after_it(lab: Lab) -> None:
    vm1 = lab.root / "vm1"
    service = lab.service(f"multi://{vm1}")
    first = lab.start(["vde_plug", f"vde://{vm1}[host]"])
    service.wait_host("vm1")
    second = lab.start(["vde_plug", f"vde://{vm1}[host]"])
    assert second.wait() != 0, "it has to be told, not left hanging"
    assert service.multilink("vm1")["host"]["peer"]["pid"] == first.pid
    first.kill()
    service.wait_host("vm1", "detached")
    third = lab.start(["vde_plug", f"vde://{vm1}[host]"])
    assert service.wait_host("vm1")["peer"]["pid"] == third.pid


def test_vde_plug_leaves_with_0_when_the_service_retires_its_link(lab: Lab) -> None:
    service = lab.service(f"multi://{lab.root}/vm1")
    plug = lab.start(["vde_plug", f"{lab.root}/vm1"])
    link = service.wait_link(lambda each: each["state"] == "up")
    ended = service.retire(link["id"], drain_s="0")
    assert ended["state"] == "retired"
    assert plug.wait() == 0
    assert service.links() == []
    assert service.retired(link["id"])


@pytest.mark.parametrize("port", ["5", "0", "somewhere"])
def test_vde_plug_joins_whatever_port_it_names(lab: Lab, port: str) -> None:
    service = lab.service(f"multi://{lab.root}/vm1")
    lab.start(["vde_plug", f"vde://{lab.root}/vm1[{port}]"])
    service.wait_link(lambda each: each["state"] == "up")


def test_vdens_pings_from_link_to_host_without_taps(lab: Lab) -> None:
    vm1 = lab.root / "vm1"
    ip, ping = require.program("ip"), require.program("ping")
    service = lab.service(f"multi://{vm1}")
    setup = f"{ip} addr add 10.9.0.%d/24 dev vde0; {ip} link set vde0 up; {ip} link set lo up; "
    lab.start(["vdens", f"vde://{vm1}[host]", "sh", "-c", setup % 1 + "exec sleep 600"])
    service.wait_host("vm1")
    script = setup % 2 + f"exec {ping} -n -c 5 -i 0.2 10.9.0.1"
    guest = lab.start(["vdens", str(vm1), "sh", "-c", script])
    wait_until(lambda: "5 packets transmitted" in guest.output() or not guest.running, "the pings")
    assert "5 received, 0% packet loss" in guest.output()
    # Once in ten times vdens does not hear of its child's end, and stays: then it sits in ppoll(2), the child a zombie.
    guest.kill()
    link = wait_until(lambda: next(iter(service.links(state="retired")), {}), "the link of vdens to end")
    assert link["rx"]["frames"] >= 5
    assert link["tx"]["frames"] >= 5


def test_dpipe_joins_two_multilinks(lab: Lab) -> None:
    service = lab.service(f"multi://{lab.root}/a", f"multi://{lab.root}/b")
    lab.start(["dpipe", "vde_plug", f"{lab.root}/a", "=", "vde_plug", f"{lab.root}/b"])
    wait_until(lambda: len(service.links(state="up")) == 2, "both ends of dpipe")
    a_host, b_host = lab.client(lab.root / "a", "host"), lab.client(lab.root / "b", "host")
    for number in range(20):
        a_host.send(frame(number))
        assert b_host.receive() == frame(number)
        b_host.send(frame(number, 2))
        assert a_host.receive() == frame(number, 2)


def test_the_manuals_vde_plug_with_a_command_joins_two_multilinks(lab: Lab) -> None:
    service = lab.service(f"multi://{lab.root}/a", f"multi://{lab.root}/b")
    lab.start(["vde_plug", "--", f"{lab.root}/a", "=", "vde_plug", f"{lab.root}/b"])
    wait_until(lambda: len(service.links(state="up")) == 2, "both ends")
    a_host, b_host = lab.client(lab.root / "a", "host"), lab.client(lab.root / "b", "host")
    a_host.send(frame(1))
    assert b_host.receive() == frame(1)


def test_serve_without_a_locator_is_reached_at_the_default_path_with_curl(lab: Lab) -> None:
    """`multi://`, by the effective user's name: HOME and USER do not matter."""
    default = Path(f"/tmp/vdenode_{pwd.getpwuid(os.geteuid()).pw_name}")
    if os.path.lexists(default):
        require.lacking(f"{default} is in use: stop what serves it, or remove it")
    service = lab.service()
    assert [each["path"] for each in service.multilinks()] == [str(default)]
    name = default.name
    lab.start(["vde_plug", str(default)])
    service.wait_link(lambda each: each["state"] == "up")
    lab.start(["vde_plug", f"vde://{default}[host]"])
    service.wait_host(name)

    # curl on the unix socket, and with the token over TCP.
    here = ("--silent", "--show-error", "--fail", "--unix-socket", str(service.socket))
    listed = lab.run("curl", *here, "http://localhost/links")
    assert [link["kind"] for link in json.loads(listed.stdout)["links"]] == ["attached"]
    lab.start(["vde_switch", "-s", f"{lab.root}/sw", "-M", f"{lab.root}/mgmt"])
    wait_until((lab.root / "sw" / "ctl").exists, "the switch")
    body = json.dumps({"url": f"{lab.root}/sw", "name": "path1"})
    added = lab.run("curl", *here, "-H", "Content-Type: application/json", "-d", body, "http://localhost/links")
    assert json.loads(added.stdout)["state"] == "up", added
    url = next(line for line in service.program.output().splitlines() if line.startswith("API: http")).split()[1]
    token = (service.runtime_dir / "token").read_text(encoding="ascii").strip()
    seen = lab.run("curl", "-sSf", "-H", f"Authorization: Bearer {token}", f"{url}/links/path1")
    assert json.loads(seen.stdout)["name"] == "path1", seen
    assert lab.run("curl", "-sSf", f"{url}/links").returncode == 22, "no token, no answer"
    gone = lab.run("curl", *here, "-X", "DELETE", "http://localhost/links/path1")
    assert json.loads(gone.stdout)["state"] == "retired", gone
    assert proc.is_alive(service.pid)
