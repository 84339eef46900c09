"""`vde-multilink handoff` and `set`: what they print, on a terminal and elsewhere, and their exit codes."""

from __future__ import annotations

import io
import json
import os
import pty
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from app.client import Client, ClientError, Handoff, ServiceLocation
from app.handoff_display import HandoffDisplay
from app.listen_address import UnixAddress
from tests.running import START_LIMIT_S, ServiceProcess, clean_environment, started, wait_until

QUICK = ("--verify", "none", "--overlap", "0", "--drain", "0")
SLOW = ("--verify", "frames=1000", "--verify-timeout", "60")


@pytest.fixture(scope="module")
def service() -> Iterator[ServiceProcess]:
    with tempfile.TemporaryDirectory(prefix="vm-") as name:
        place = Path(name)
        with started(place, f"multi://{place}/vm1", f"multi://{place}/vm2") as service:
            yield service
            assert service.stop() == 0


@pytest.fixture
def client(service: ServiceProcess) -> Iterator[Client]:
    """The service with one link, `wifi`, from vm1 to vm2; afterwards no hand-off runs, and no link is left."""
    with Client(ServiceLocation(UnixAddress(str(service.runtime_dir / "api.sock")))) as client:
        client.add_link(f"{service.directory}/vm2", multilink="vm1", name="wifi")
        yield client
        for each in client.multilinks()["multilinks"]:
            if each["handoff"] is not None:
                client.abort_handoff(each["handoff"])
        for link in client.links()["links"]:
            if link["kind"] == "dialled":
                client.retire_link(link["id"], drain_s=0)


def names(client: Client) -> list[str]:
    return [link["name"] for link in client.links(multilink="vm1")["links"]]


def to_vm2(service: ServiceProcess, *arguments: str) -> list[str]:
    return ["handoff", "--to", f"{service.directory}/vm2", "--name", "lte", "-m", "vm1", *arguments]


def test_a_completed_handoff_is_zero_and_tells_its_phases(service: ServiceProcess, client: Client) -> None:
    done = service.run(*to_vm2(service, *QUICK))
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line.split()[1] for line in lines[:4]] == ["making", "verifying", "overlapping", "draining"]
    assert "nothing: not asked for" in lines[1]
    assert lines[4] == "completed: vm1 is on lte, wifi is retired"
    assert "to the host" in done.stdout
    assert "\x1b" not in done.stdout
    assert names(client) == ["lte"]


def test_json_is_the_resource_and_nothing_else(service: ServiceProcess, client: Client) -> None:
    done = service.run(*to_vm2(service, *QUICK, "--old", "standby", "--from", "wifi", "--json"))
    assert (done.returncode, done.stderr) == (0, "")
    shown = json.loads(done.stdout)
    assert shown == client.handoff(shown["id"])
    assert (shown["state"], shown["from"], shown["old"]) == ("completed", ["wifi"], "standby")
    back = service.run("handoff", "--to-link", "wifi", "-m", "vm1", *QUICK, "--old", "standby")
    assert (back.returncode, back.stderr) == (0, "")
    assert "completed: vm1 is on wifi, lte is on standby" in back.stdout


def test_rolled_back_is_one_and_says_why(service: ServiceProcess, client: Client) -> None:
    done = service.run(*to_vm2(service, "--verify", "10.0.0.2", "--verify-timeout", "0.2"))
    assert done.returncode == 1
    assert done.stderr.startswith("Error: rolled back: lte is connected but has not proved within 0.2 s")
    assert "rolled back: " in done.stdout
    assert names(client) == ["wifi"]


def test_a_path_that_does_not_connect_is_one(service: ServiceProcess, client: Client) -> None:
    done = service.run("handoff", "--to", "/nonexistent", "-m", "vm1", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["state"] == "rolled_back"
    assert "/nonexistent" in done.stderr
    assert names(client) == ["wifi"]


def test_a_plan_does_nothing(service: ServiceProcess, client: Client) -> None:
    before = client.handoffs()
    arguments = to_vm2(service, "--verify", "frames=3", "--overlap", "2", "--plan")
    planned = service.run(*arguments)
    assert (planned.returncode, planned.stderr) == (0, "")
    assert f"vde://{service.directory}/vm2" in planned.stdout
    assert "3 frames from the new link" in planned.stdout
    as_json = json.loads(service.run(*arguments, "--json").stdout)
    assert (as_json["from"], as_json["verify"], as_json["overlap_s"]) == (["wifi"], {"frames": 3}, 2)
    assert client.handoffs() == before
    assert names(client) == ["wifi"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["handoff"],
        ["handoff", "--to", "/tmp/x", "--to-link", "wifi"],
        ["handoff", "--to-link", "wifi", "--name", "lte"],
        ["handoff", "--to", "/tmp/x", "--verify", "perhaps"],
        ["handoff", "--to", "/tmp/x", "--verify", "frames=0"],
        ["handoff", "--to", "/tmp/x", "--verify", "frames="],
        ["handoff", "--to", "/tmp/x", "--verify-timeout", "0"],
        ["handoff", "--to", "/tmp/x", "--overlap", "-1"],
        ["handoff", "--to", "/tmp/x", "--drain", "61"],
        ["handoff", "--to", "/tmp/x", "--old", "forget"],
        ["set", "wifi"],
        ["set", "wifi", "--role", "spare"],
        ["set", "wifi", "--monitor", "somebody"],
        ["set", "wifi", "--monitor", "10.0.0.2,soon"],
    ],
)
def test_usage_errors_are_two(service: ServiceProcess, arguments: list[str]) -> None:
    result = service.run(*arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert "Usage: vde-multilink" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["handoff", "--to-link", "nobody", "-m", "vm1"], "nobody"),
        (["handoff", "--to", "/tmp/x"], "which multilink"),
        (["handoff", "--to", "/tmp/x", "-m", "vm1", "--from", "nobody"], "nobody"),
        (["handoff", "--to", "cmd://cat", "-m", "vm1"], "--allow cmd"),
        (["handoff", "--to-link", "wifi", "-m", "vm2"], "belongs to vm1"),
        (["set", "nobody", "--role", "standby"], "nobody"),
        (["set", "wifi", "--monitor", "10.0.0.2,0"], "interval_s"),
    ],
)
def test_refusals_are_one(service: ServiceProcess, client: Client, arguments: list[str], words: str) -> None:
    result = service.run(*arguments)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: ")
    assert words in result.stderr
    assert names(client) == ["wifi"]


def begin(service: ServiceProcess, client: Client, *arguments: str, **streams: Any) -> subprocess.Popen[str]:
    """The command, while its hand-off waits for frames that never come."""
    environment = clean_environment(VDE_MULTILINK_RUNTIME_DIR=str(service.runtime_dir), TERM="xterm", COLUMNS="80")
    process = subprocess.Popen(
        [sys.executable, "-m", "app", *to_vm2(service, *SLOW, *arguments)], env=environment, text=True, **streams
    )

    def is_verifying() -> bool:
        running = client.multilink("vm1")["handoff"]
        return running is not None and client.handoff(running)["state"] == "verifying"

    try:
        wait_until(is_verifying)
    except BaseException:
        process.kill()
        process.wait()
        raise
    return process


def test_ctrl_c_aborts_and_rolls_back(service: ServiceProcess, client: Client) -> None:
    process = begin(service, client, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=START_LIMIT_S)
    assert process.returncode == 1
    assert "aborted: aborted on request" in output
    assert errors == "Error: aborted: aborted on request\n"
    assert names(client) == ["wifi"]


def test_an_abort_by_somebody_else_is_one(service: ServiceProcess, client: Client) -> None:
    process = begin(service, client, "--json", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    running = client.multilink("vm1")["handoff"]
    assert running is not None
    with pytest.raises(ClientError, match=running):
        client.start_handoff({"to": {"link": "wifi"}, "multilink": "vm1"})
    client.abort_handoff(running)
    output, _ = process.communicate(timeout=START_LIMIT_S)
    assert (process.returncode, json.loads(output)["state"]) == (1, "aborted")


def test_on_a_terminal_the_phases_are_drawn(service: ServiceProcess, client: Client) -> None:
    ours, terminal = pty.openpty()
    shown = bytearray()

    def read() -> None:
        try:
            while data := os.read(ours, 65536):
                shown.extend(data)
        except OSError:
            return  # The other end is closed.

    process = begin(service, client, stdin=terminal, stdout=terminal, stderr=terminal)
    os.close(terminal)
    reader = threading.Thread(target=read)
    reader.start()
    wait_until(lambda: b"verifying" in shown and b"draining" in shown)
    running = client.multilink("vm1")["handoff"]
    assert running is not None
    client.abort_handoff(running)
    assert process.wait(START_LIMIT_S) == 1
    reader.join(START_LIMIT_S)
    os.close(ours)
    text = shown.decode()
    assert "\x1b[" in text
    assert "aborted" in text
    assert "Traceback" not in text


def test_set(service: ServiceProcess, client: Client) -> None:
    changed = service.run("set", "wifi", "--role", "standby", "--monitor", "10.0.0.2,0.5", "--name", "spare", "--json")
    assert (changed.returncode, changed.stderr) == (0, "")
    link = json.loads(changed.stdout)
    assert (link["name"], link["role"]) == ("spare", "standby")
    assert (link["monitor"]["address"], link["monitor"]["interval_s"]) == ("10.0.0.2", 0.5)
    shown = service.run("set", "spare", "--monitor", "10.0.0.3")
    assert "asks 10.0.0.3 every 1 s" in shown.stdout
    assert json.loads(service.run("set", "spare", "--monitor", "off", "--json").stdout)["monitor"] is None


# The display alone.

NOTHING: Any = {
    "frames": 0,
    "duplicates": 0,
    "longest_gap_s": None,
    "skew_median_s": None,
    "skew_p99_s": None,
    "paths": {},
}


def make_handoff(**changes: object) -> Handoff:
    handoff: dict[str, object] = {
        "id": "h1",
        "multilink": "vm1",
        "state": "completed",
        "to": {"link": "l1", "name": "lte", "url": "vde:///tmp/vm2"},
        "from": ["wifi"],
        "old": "retire",
        "verify": "auto",
        "verify_timeout_s": 10.0,
        "overlap_s": 1.0,
        "drain_s": 0.5,
        "phases": [{"state": "making", "started": "2026-11-22T11:59:00.000Z", "duration_s": 0.25}],
        "verified_by": "",
        "reason": "",
        "report": {"to_host": NOTHING, "from_host": NOTHING},
    }
    handoff.update(changes)
    return handoff  # type: ignore[return-value]  # built up by name


def shown_end(handoff: Handoff, *, width: int = 80) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    display = HandoffDisplay(console)
    with display:
        display.show(handoff)
    display.show_end(handoff)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_report_is_shown() -> None:
    path = {"first": 0, "later": 0, "missed": 0, "frames": 0, "dropped": 0}
    to_host = NOTHING | {
        "frames": 12_345,
        "duplicates": 678,
        "longest_gap_s": 0.0123,
        "skew_median_s": 0.0198,
        "skew_p99_s": 1.5,
        "paths": {"wifi": path | {"first": 12_000}, "lte": path | {"first": 345, "later": 678, "missed": 9}},
    }
    from_host = NOTHING | {"frames": 99, "paths": {"wifi": path | {"frames": 99, "dropped": 1}}}
    text = shown_end(make_handoff(report={"to_host": to_host, "from_host": from_host}))
    rows = [line.split() for line in text.splitlines()]
    assert ["to", "the", "host", "12,345", "678", "12.3", "ms"] in rows
    assert ["from", "the", "host", "99", "-"] in rows
    assert ["wifi", "12,000", "0", "0", "99", "1"] in rows
    assert ["lte", "345", "678", "9"] in rows
    assert "came 19.8 ms later (median; 99 % within 1.50 s)" in text


def test_each_phase_is_a_line_once_and_when_it_is_over() -> None:
    console = Console(width=80, file=io.StringIO(), color_system=None)
    display = HandoffDisplay(console)
    phases: list[dict[str, object]] = []
    for name in ("making", "verifying"):
        phases.append({"state": name, "started": "2026-11-22T11:59:00.000Z", "duration_s": None})
        display.show(make_handoff(state=name, phases=phases))
        phases[-1]["duration_s"] = 0.5
        for _ in range(2):
            display.show(make_handoff(state="overlapping", phases=phases))
    assert isinstance(console.file, io.StringIO)
    assert [line.split()[1] for line in console.file.getvalue().splitlines()] == ["making", "verifying"]


@pytest.mark.parametrize("state", ["rolled_back", "aborted"])
def test_what_a_peer_says_is_no_control_character(state: str) -> None:
    to = {"link": None, "name": "l\x1b[2Jte", "url": "cmd://x \x07"}
    text = shown_end(make_handoff(state=state, to=to, reason="said: \x1b[31m", verified_by="\x1b"))
    assert not {"\x1b", "\x07"} & set(text)
    assert state.replace("_", " ") in text


def test_the_default_for_duplicates_holds_for_every_multilink() -> None:
    with tempfile.TemporaryDirectory(prefix="vm-") as name:
        place = Path(name)
        with (
            started(place, f"multi://{place}/vm1", VDE_MULTILINK_DUPLICATES="pass") as service,
            Client(ServiceLocation(UnixAddress(str(service.runtime_dir / "api.sock")))) as client,
        ):
            client.add_multilink(f"multi://{place}/vm2")
            client.add_multilink(f"multi://{place}/vm3[duplicates=drop]")
            shown = client.multilinks()["multilinks"]
            assert [multilink["duplicates"] for multilink in shown] == ["pass", "pass", "drop"]
