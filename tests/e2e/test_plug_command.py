"""`plug`: any VDE program becomes the host of a multilink, its frames on our stdin and stdout."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.harness import require
from tests.e2e.harness.lab import Lab
from tests.e2e.harness.programs import Program
from tests.e2e.harness.raw import RawClient, frame
from tests.e2e.harness.waiting import wait_until

pytestmark = pytest.mark.e2e

PLUG = f"{sys.executable} -m app plug"


def test_vde_plug_with_our_plug_and_a_tap_is_a_vm_with_a_multilink(lab: Lab) -> None:
    """`vde_plug 'cmd://vde-multilink plug multi:///tmp/vm1' tap://t0`, and a link that carries ping."""
    vm1 = lab.root / "vm1"
    near = lab.namespace()
    near.add_tap("t0", "10.9.7.1/24")
    host = lab.start(near.inside(require.program("vde_plug"), f"cmd://{PLUG} multi://{vm1}", "tap://t0"))
    _wait_for_plug(vm1, host)
    far, link = lab.tapped_namespace("10.9.7.2", str(vm1))
    wait_until(lambda: near.answers("10.9.7.2"), "an answer")
    assert far.answers("10.9.7.1")
    link.kill()
    assert not near.answers("10.9.7.2")
    host.close_stdin()
    host.terminate()
    host.wait()
    wait_until(lambda: not host.family(), "our plug to end with the program that had started it")
    assert not os.path.lexists(vm1)


def test_vde_plug_with_our_plug_joins_a_switch(lab: Lab) -> None:
    """`vde_plug 'cmd://vde-multilink plug ...' vde:///switch`: the switch is the host."""
    vm1, switch = lab.root / "vm1", lab.root / "sw"
    lab.start(["vde_switch", "-s", str(switch)])
    wait_until((switch / "ctl").exists, "the switch")
    host = lab.start(["vde_plug", f"cmd://{PLUG} multi://{vm1}", f"vde://{switch}"])
    _wait_for_plug(vm1, host)
    on_switch, _ = lab.tapped_namespace("10.9.7.1", f"vde://{switch}")
    on_link, _ = lab.tapped_namespace("10.9.7.2", f"vde://{vm1}")
    wait_until(lambda: on_switch.answers("10.9.7.2"), "an answer through switch, plug and link")
    assert on_link.answers("10.9.7.1")


def test_dpipe_with_our_plug(lab: Lab) -> None:
    vm1 = lab.root / "vm1"
    lab.c_multi(f"multi://{lab.root}/c")
    pipe = lab.start(["dpipe", *PLUG.split(), f"multi://{vm1}", "=", "vde_plug", f"{lab.root}/c"])
    _wait_for_plug(vm1, pipe)
    with RawClient(vm1) as link:
        link.send(frame(1))


def test_frames_pass_between_stdin_and_stdout_and_every_link(lab: Lab) -> None:
    vm1 = lab.root / "vm1"
    plug = lab.start([sys.executable, "-m", "app", "plug", f"multi://{vm1}"], stdout=subprocess.PIPE)
    _wait_for_plug(vm1, plug)
    links = [lab.client(vm1) for _ in range(3)]
    stdout = plug.process.stdout
    assert stdout is not None
    for at, link in enumerate(links):
        link.send(frame(at, size=1514))
        assert stdout.read(2 + 1514) == (1514).to_bytes(2, "big") + frame(at, size=1514)
    for number in range(10):
        for piece in (b"\0\0\0", b"\x3c" + frame(number)[:1], frame(number)[1:]):
            plug.stdin.write(piece)  # a zero length, and a frame whose header comes in two pieces
            plug.stdin.flush()
        assert [link.receive() for link in links] == [frame(number)] * 3
    plug.close_stdin()
    assert plug.wait() == 0, "the end of its input is the end of its host"
    assert stdout.read() == b""
    stdout.close()
    assert not os.path.lexists(vm1)
    assert [link.control.recv(1) for link in links] == [b""] * 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_like_the_end_of_its_input(lab: Lab, number: signal.Signals) -> None:
    vm1 = lab.root / "vm1"
    plug = lab.start([sys.executable, "-m", "app", "plug", f"multi://{vm1}"])
    _wait_for_plug(vm1, plug)
    plug.send(number)
    assert plug.wait() == 0, plug.output()
    assert not os.path.lexists(vm1)


def test_it_has_http_where_it_is_asked_to(lab: Lab) -> None:
    vm1, api = lab.root / "vm1", lab.root / "api"
    plug = lab.start(
        [
            *(sys.executable, "-m", "app", "plug", f"multi://{vm1}"),
            *("--listen", f"unix:{api}", "--state", str(lab.root / "state")),
        ]
    )
    wait_until(lambda: api.exists() or not plug.running, "the socket")
    lab.c_multi(f"multi://{lab.root}/c")
    added = lab.run(*PLUG.split()[:-1], "add", f"{lab.root}/c", "--api", f"unix:{api}")
    assert added.returncode == 0, added
    seen = lab.run("curl", "-sSf", "--unix-socket", str(api), "http://localhost/multilinks/vm1")
    assert '"attached"' in seen.stdout, seen
    plug.close_stdin()
    assert plug.wait() == 0
    assert not api.exists()
    assert not vm1.exists()


def test_a_plug_on_a_live_directory_is_refused(lab: Lab) -> None:
    service = lab.service(f"multi://{lab.root}/vm1")
    plug = lab.start([sys.executable, "-m", "app", "plug", f"multi://{lab.root}/vm1"])
    assert plug.wait() == 1
    assert len(plug.output().strip().splitlines()) == 1, plug.output()
    assert service.multilink("vm1")["refused"] == {}


def _wait_for_plug(path: Path, plug: Program) -> None:
    wait_until(lambda: (path / "ctl").exists() or not plug.running, "the multilink of our plug")
    assert plug.running, plug.output()
