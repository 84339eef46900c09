"""The host as a nested plug: `multi:///tmp/vm1{vde:///tmp/sw}`, `{cmd://...}`, `{tap://NAME}`."""

from __future__ import annotations

import os
import signal

import pytest

from tests.e2e.harness import require
from tests.e2e.harness.lab import Lab
from tests.e2e.harness.raw import RawClient, frame
from tests.e2e.harness.service import Service
from tests.e2e.harness.waiting import wait_until

pytestmark = pytest.mark.e2e


def _switch(lab: Lab) -> None:
    lab.start(["vde_switch", "-s", f"{lab.root}/sw"])
    wait_until((lab.root / "sw" / "ctl").exists, "the switch")


def test_a_switch_is_the_host(lab: Lab) -> None:
    _switch(lab)
    service = lab.service(f"multi://{lab.root}/vm1{{vde://{lab.root}/sw}}")
    host = service.wait_host("vm1")
    assert host["url"] == f"vde://{lab.root}/sw"
    assert not os.path.lexists(lab.root / "vm1" / "host"), "there is no door for another one"
    near, _ = lab.tapped_namespace("10.9.6.1", f"vde://{lab.root}/sw")
    far, _ = lab.tapped_namespace("10.9.6.2", f"vde://{lab.root}/vm1")
    wait_until(lambda: near.answers("10.9.6.2"), "an answer")
    assert far.answers("10.9.6.1")
    assert service.multilink("vm1")["host"]["rx"]["frames"] > 0


def test_a_host_that_goes_away_is_dialled_again(lab: Lab) -> None:
    path = lab.root / "far"
    plug = lab.c_multi(f"multi://{path}")
    service = lab.service(f"multi://{lab.root}/vm1{{vde://{path}}}")
    link = lab.client(lab.root / "vm1")
    service.wait_host("vm1")
    plug.terminate()
    plug.wait()
    assert service.wait_host("vm1", "detached")["detail"]
    other = lab.service(f"multi://{path}")
    service.wait_host("vm1")
    with RawClient(path, "host") as far_host:
        other.wait_host("far")
        far_host.send(frame(1))
        assert link.receive() == frame(1)
    assert len(service.links(state="up")) == 1, "the link was there all the time"


@pytest.mark.parametrize("far", ["service", "c"])
def test_a_command_is_the_host(lab: Lab, far: str) -> None:
    path = lab.root / "far"
    if far == "service":
        lab.service(f"multi://{path}")
        own = f"vde://{path}[host]"
    else:
        own = f"multi://{path}"
    near, _ = lab.tapped_namespace("10.9.6.1", own)
    wait_until((path / "ctl").exists, "the far end")
    service = lab.service(f"multi://{lab.root}/vm1{{cmd://vde_plug {path}}}")
    service.wait_host("vm1")
    (child,) = service.program.children()
    lab.tapped_namespace("10.9.6.2", f"vde://{lab.root}/vm1")
    wait_until(lambda: near.answers("10.9.6.2"), "an answer")
    os.kill(child, signal.SIGKILL)
    wait_until(lambda: service.program.children() not in ([child], []), "another child")
    service.wait_host("vm1")
    wait_until(lambda: near.answers("10.9.6.2"), "an answer through the new child")


def test_a_tap_is_the_host(lab: Lab) -> None:
    """The service runs in the namespace of the tap, and the tap was made before."""
    near = lab.namespace()
    near.add_tap("t0", "10.9.6.1/24")
    service = _service_in(lab, near.inside(), f"multi://{lab.root}/vm1{{tap://t0}}")
    assert service.wait_host("vm1")["url"] == "tap://t0"
    far, _ = lab.tapped_namespace("10.9.6.2", f"vde://{lab.root}/vm1")
    wait_until(lambda: near.answers("10.9.6.2"), "an answer")
    assert far.answers("10.9.6.1")
    near.ip("link", "set", "t0", "down")
    assert not far.answers("10.9.6.1")
    wait_until(lambda: "t0 is down" in service.multilink("vm1")["host"]["detail"], "words about it")
    share = service.cpu_share(1.0)
    assert share < 0.3, f"an interface that is down costs {share:.2f} of a core"
    near.ip("link", "set", "t0", "up")
    wait_until(lambda: near.answers("10.9.6.2"), "an answer again")


def test_a_tap_that_is_made_goes_with_the_service(lab: Lab) -> None:
    near = lab.namespace()
    service = _service_in(lab, near.inside(), f"multi://{lab.root}/vm1{{tap://made0}}")
    near.configure("made0", "10.9.6.1/24")
    lab.tapped_namespace("10.9.6.2", f"vde://{lab.root}/vm1")
    wait_until(lambda: near.answers("10.9.6.2"), "an answer")
    service.stop()
    gone = lab.run("ip", "-n", near.name, "link", "show", "made0")
    assert gone.returncode != 0, gone.stdout


@pytest.mark.parametrize("host", ["vde://{root}/nobody", "cmd://no-such-program-here", "tap://ml/no"])
def test_a_host_that_cannot_be_opened_stops_the_start(lab: Lab, host: str) -> None:
    text = host.format(root=lab.root)
    service = lab.service(f"multi://{lab.root}/first", "--allow", "cmd", "--allow", "tap")
    answer = service.api.post("/multilinks", json={"url": f"multi://{lab.root}/vm1{{{text}}}"})
    assert answer.status_code in {422, 502}, answer.text
    assert not os.path.lexists(lab.root / "vm1")
    assert [each["name"] for each in service.multilinks()] == ["first"]


def _service_in(lab: Lab, prefix: list[str], *arguments: str) -> Service:
    """The service in a network namespace."""
    require.root_and_taps()
    return lab.service(*arguments, prefix=prefix)
