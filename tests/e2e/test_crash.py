"""A service that was killed, and one that finds its place taken: the dead make way."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

import pytest

from tests.e2e.harness import proc
from tests.e2e.harness.lab import Lab
from tests.e2e.harness.programs import Program
from tests.e2e.harness.raw import bind_data, frame
from tests.e2e.harness.service import COMMAND
from tests.e2e.harness.waiting import wait_until

pytestmark = pytest.mark.e2e


def test_a_killed_service_takes_its_directory_back(lab: Lab) -> None:
    vm1 = lab.root / "vm1"
    first = lab.service(f"multi://{vm1}[mode=0660]")
    plugs = [lab.start(["vde_plug", str(vm1)]) for _ in range(3)]
    host = lab.start(["vde_plug", f"vde://{vm1}[host]"])
    first.wait_host("vm1")
    wait_until(lambda: len(first.links(state="up")) == 3, "three links")
    first.kill()
    left = sorted(os.listdir(vm1))
    assert {"ctl", "host"} < set(left)
    assert sum(name.startswith("fd") for name in left) == 4, left
    for plug in (*plugs, host):
        assert plug.wait() == 0, "clients see the end of their control connections"
    assert os.path.lexists(first.socket)
    # What clients that were killed in the handshake leave; and one that lives.
    dead, dead_name = bind_data(vm1)
    dead.close()
    living, living_name = bind_data(vm1)

    second = lab.service(f"multi://{vm1}[mode=0660]", home=first.home)
    assert sorted(os.listdir(vm1)) == sorted(["ctl", "host", living_name.name])
    assert not dead_name.exists()
    assert vm1.stat().st_mode & 0o7777 == 0o2770
    living.close()
    new_link, new_host = lab.client(vm1), lab.client(vm1, "host")
    second.wait_host("vm1")
    new_host.send(frame(1))
    assert new_link.receive() == frame(1)
    assert second.stop() < 10
    assert not vm1.exists()


def test_dialled_links_come_back_after_a_crash(lab: Lab) -> None:
    vm1, vm2 = lab.root / "vm1", lab.root / "vm2"
    lab.c_multi(f"multi://{vm2}")
    first = lab.service(f"multi://{vm1}")
    before = first.dial(vm2, name="path1")
    wait_until(lambda: any(b"path1" in file.read_bytes() for file in first.home.glob("state*")), "the state file")
    first.kill()
    second = lab.service(f"multi://{vm1}", home=first.home)
    after = second.wait_link(lambda link: link["name"] == "path1" and link["state"] == "up")
    assert after["id"] != before["id"], "an id is never used again"
    assert after["url"] == before["url"]


def test_a_directory_that_is_not_a_multilinks_is_left_alone(lab: Lab) -> None:
    vm1 = lab.root / "vm1"
    vm1.mkdir()
    (vm1 / "ctl").write_text("mine", encoding="ascii")
    (vm1 / "notes").write_text("mine too", encoding="ascii")
    refused = _serve(lab, vm1, "other")
    _is_refused_in_one_line(refused, str(vm1))
    assert {path.name: path.read_text(encoding="ascii") for path in vm1.iterdir()} == {
        "ctl": "mine",
        "notes": "mine too",
    }


def test_a_second_service_is_refused_and_disturbs_nobody(lab: Lab) -> None:
    vm1 = lab.root / "vm1"
    service = lab.service(f"multi://{vm1}")
    flow = lab.flow(vm1, links=2)
    flow.run_on()
    before = (sorted(os.listdir(vm1)), [link["id"] for link in service.links()], service.descriptors())
    for number in range(3):
        _is_refused_in_one_line(_serve(lab, vm1, f"second{number}"), str(vm1))
    # Nor by the API of another one, nor on the runtime directory.
    other = lab.service(f"multi://{lab.root}/vm2")
    answer = other.api.post("/multilinks", json={"url": f"multi://{vm1}"})
    assert (answer.status_code, answer.json()["code"]) == (409, "directory_in_use")
    same_runtime = lab.start(
        [
            *(*COMMAND, "serve", f"multi://{lab.root}/vm3", "--runtime-dir", str(service.runtime_dir)),
            *("--state", str(lab.root / "state3"), "--listen", "127.0.0.1:0"),
        ]
    )
    _is_refused_in_one_line(same_runtime, str(service.runtime_dir))
    assert not os.path.lexists(lab.root / "vm3")

    flow.run_on()
    print(f"delivered {flow.stop()} frames while five others were refused")
    assert (sorted(os.listdir(vm1)), [link["id"] for link in service.links()]) == before[:2]
    wait_until(lambda: service.descriptors() <= before[2], "no more descriptors than before")
    assert service.multilink("vm1")["refused"] == {}, "the owner is not even asked"


def test_a_live_c_multi_is_recognised_and_does_not_start_to_spin(lab: Lab) -> None:
    path = lab.root / "c"
    plug = lab.c_multi(f"multi://{path}")
    _is_refused_in_one_line(_serve(lab, path, "s"), str(path))
    before = proc.cpu_seconds(plug.pid)
    service = lab.service(f"multi://{lab.root}/vm1")
    answer = service.api.post("/multilinks", json={"url": f"multi://{path}"})
    assert answer.status_code == 409, answer.text
    service.cpu_share(over_s=1.0)
    used_s = proc.cpu_seconds(plug.pid) - before
    print(f"the C multi:// has used {used_s:.2f} s")
    assert used_s < 0.3, "spinning, it uses 96 % of a core"
    with lab.client(path):
        pass


def test_a_directory_left_by_a_killed_c_multi_is_taken_over(lab: Lab) -> None:
    path = lab.root / "vm1"
    plug = lab.c_multi(f"multi://{path}")
    with lab.client(path):
        plug.kill()
    assert (path / "ctl").exists()
    service = lab.service(f"multi://{path}")
    assert sorted(os.listdir(path)) == ["ctl", "host"]
    lab.start(["vde_plug", str(path)])
    service.wait_link(lambda link: link["state"] == "up")


def test_a_directory_that_is_taken_away_under_the_service_is_not_fought_for(lab: Lab) -> None:
    vm1 = lab.root / "vm1"
    service = lab.service(f"multi://{vm1}")
    link, host = lab.client(vm1), lab.client(vm1, "host")
    service.wait_host("vm1")
    shutil.rmtree(vm1)
    vm1.mkdir()
    foreign = vm1 / "ctl"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(foreign))
        host.send(frame(1))
        assert link.receive() == frame(1), "the links that were there go on"
        service.program.terminate()
        assert service.program.wait() == 0
        assert foreign.exists(), "what others made at that path is theirs"
    shutil.rmtree(vm1)
    service.forget()


def _serve(lab: Lab, path: Path, home: str) -> Program:
    """A service that is expected not to start."""
    return lab.start(
        [
            *(*COMMAND, "serve", f"multi://{path}", "--runtime-dir", str(lab.root / home)),
            *("--state", str(lab.root / f"{home}.db"), "--listen", "127.0.0.1:0"),
        ]
    )


def _is_refused_in_one_line(program: Program, naming: str) -> None:
    assert program.wait() == 1, program.output()
    lines = program.output().strip().splitlines()
    assert len(lines) == 1, lines
    assert naming in lines[0]
    assert "Traceback" not in lines[0]
    print(lines[0])
