"""The commands against a live service: what people and their scripts see, and how they exit."""

from __future__ import annotations

import json

import pytest

from tests.e2e.harness.lab import Lab
from tests.e2e.harness.service import COMMAND
from tests.e2e.harness.waiting import wait_until

pytestmark = pytest.mark.e2e


def test_a_link_is_added_seen_and_retired(lab: Lab) -> None:
    service = lab.service(f"multi://{lab.root}/vm1", f"multi://{lab.root}/vm2")
    empty = lab.command(service, "links")
    assert (empty.returncode, empty.stdout) == (0, "")

    added = lab.command(service, "add", f"{lab.root}/vm2", "--multilink", "vm1", "--name", "path1", "--json")
    assert added.returncode == 0, added
    link = json.loads(added.stdout)
    assert (link["name"], link["state"], link["multilink"]) == ("path1", "up", "vm1")
    assert service.link("path1")["id"] == link["id"]

    table = lab.command(service, "links")
    assert table.returncode == 0
    (line,) = [line for line in table.stdout.splitlines() if "path1" in line]
    assert {"vm1", "up", f"vde://{lab.root}/vm2"} <= set(line.split())
    as_json = json.loads(lab.command(service, "links", "--json").stdout)
    assert {each["name"] for each in as_json["links"]} == {each["name"] for each in service.links()}
    assert len(as_json["links"]) == 2, "dialled at one end, attached at the other"
    filtered = json.loads(lab.command(service, "links", "--multilink", "vm2", "--state", "up", "--json").stdout)
    assert [each["kind"] for each in filtered["links"]] == ["attached"]

    status = lab.command(service, "status")
    assert status.returncode == 0
    assert "vm1" in status.stdout
    assert "vm2" in status.stdout
    assert len(json.loads(lab.command(service, "status", "--json").stdout)["multilinks"]) == 2

    retired = lab.command(service, "retire", "path1", "--drain", "0", "--json")
    assert (retired.returncode, json.loads(retired.stdout)["state"]) == (0, "retired")
    wait_until(lambda: service.links() == [], "both ends to be gone")
    again = lab.command(service, "retire", "path1")
    assert again.returncode == 1
    assert again.stdout == ""
    assert "path1" in again.stderr


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("add", "{root}/nobody"), 1),
        (("add", "nosuchscheme://x"), 1),
        (("add", "cmd://sleep 600"), 1),
        (("add", "multi://{root}/x"), 1),
        (("links", "no-such-link"), 1),
        (("links", "--multilink", "no-such-multilink"), 1),
        (("links", "--state", "asleep"), 2),
        (("retire",), 2),
        (("retire", "x", "--drain", "-1"), 2),
        (("add",), 2),
        (("status", "--colour"), 2),
        (("no-such-command",), 2),
    ],
)
def test_what_is_refused_is_said_on_stderr_with_the_exit_code(lab: Lab, words: tuple[str, ...], status: int) -> None:
    service = lab.service(f"multi://{lab.root}/vm1")
    first, *rest = (word.format(root=lab.root) for word in words)
    done = lab.command(service, first, *rest)
    assert done.returncode == status, done
    assert done.stdout == ""
    assert done.stderr.strip()
    assert "Traceback" not in done.stderr
    assert service.links() == []


def test_without_a_service_it_is_said_what_to_do(lab: Lab) -> None:
    for words in (("status",), ("links",), ("add", "/tmp/vm2"), ("retire", "path1")):
        done = lab.run(*COMMAND, *words, "--runtime-dir", f"{lab.root}/nowhere")
        assert done.returncode == 1
        assert done.stdout == ""
        assert "serve" in done.stderr, done.stderr


def test_the_commands_reach_it_over_tcp_with_the_token_they_find(lab: Lab) -> None:
    service = lab.service(f"multi://{lab.root}/vm1")
    url = next(line for line in service.program.output().splitlines() if line.startswith("API: http")).split()[1]
    address = url.removeprefix("http://").rstrip("/")
    done = lab.command(service, "status", "--api", address, "--json")
    assert done.returncode == 0, done
    assert json.loads(done.stdout)["multilinks"][0]["name"] == "vm1"
    without = lab.run(*COMMAND, "status", "--api", address, "--runtime-dir", f"{lab.root}/nowhere")
    assert without.returncode == 1
    assert "token" in without.stderr


def test_names_that_a_client_claims_cannot_write_to_the_terminal(lab: Lab) -> None:
    service = lab.service(f"multi://{lab.root}/vm1")
    lab.client(lab.root / "vm1", description="\x1b]0;owned\x07\x1b[2J[red]x[/red]")
    link = service.wait_link(lambda each: each["state"] == "up")
    for words in (("links",), ("links", link["id"]), ("links", "--json")):
        shown = lab.command(service, *words)
        assert shown.returncode == 0
        assert "\x1b" not in shown.stdout
        assert "\x07" not in shown.stdout
        assert "[red]x[/red]" in shown.stdout
