"""The examples, run as they are: a host moves from one ssh path to another under a ping, and nothing is lost."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.e2e.harness import require
from tests.e2e.harness.lab import Lab
from tests.e2e.harness.pings import stop_ping
from tests.e2e.harness.service import command_environment
from tests.e2e.harness.waiting import wait_until

EXAMPLES = Path(__file__).parents[2] / "examples"
NEAR, FAR = "10.9.7.1", "10.9.7.2"
PAUSE_S = "1"
"""Between the first path and the hand-off: ping is answered by then."""


@pytest.mark.timeout(180)
@pytest.mark.parametrize("example", ["remote_handoff.sh", "remote_handoff.py"])
def test_a_remote_handoff_over_ssh(lab: Lab, example: str) -> None:
    require.program("curl")
    ssh = lab.ssh_server()
    service = lab.service(f"multi://{lab.root}/vm1", "--allow", "cmd")
    near, _ = lab.tapped_namespace(NEAR, f"vde://{lab.root}/vm1[host]")
    service.wait_host("vm1")
    far_path = lab.root / "vm2"
    far = lab.service(f"multi://{far_path}")
    lab.tapped_namespace(FAR, f"vde://{far_path}[host]")
    far.wait_host("vm2")
    ping = lab.ping(near, FAR)
    paths = [ssh.command(alias, f"vde_plug {far_path}") for alias in ("ip1", "ip2")]
    if example.endswith(".sh"):
        done = lab.run(
            *("sh", str(EXAMPLES / example), *paths, FAR),
            env=command_environment(SOCKET=str(service.socket), PAUSE=PAUSE_S),
        )
    else:
        options = ("--verify", FAR, "--pause", PAUSE_S, "--api", f"unix:{service.socket}")
        done = lab.run(sys.executable, str(EXAMPLES / example), *paths, *options)
    print(done.stdout)
    assert done.returncode == 0, done.stderr
    [handoff] = service.api.get("/handoffs").json()["handoffs"]
    assert handoff["state"] == "completed"
    assert FAR in handoff["verified_by"] or "frame" in handoff["verified_by"]
    before = service.link("lte")["rx"]["frames"]
    wait_until(lambda: service.link("lte")["rx"]["frames"] > before + 20, "frames over the new path")
    report = stop_ping(ping)
    print(report)
    assert report.missing == ()
    assert report.duplicates == 0
    if example.endswith(".sh"):
        assert json.loads(done.stdout) == handoff
        assert [link["name"] for link in service.links()] == ["lte"]
    else:
        assert done.stdout.startswith("completed: ")
        links = {link["name"]: link for link in service.links()}
        assert {name: link["role"] for name, link in links.items()} == {"wifi": "standby", "lte": "active"}
        assert {link["monitor"]["address"] for link in links.values()} == {FAR}
        assert service.multilink("vm1")["failover"] is True
        # The new path dies: the old one takes over.
        wait_until(lambda: service.link("wifi")["health"] == "good", "the watch over the old path")
        service.retire("lte", drain_s="0")
        wait_until(lambda: service.link("wifi")["role"] == "active", "the old path to take over")
        assert near.answers(FAR)
