"""The commands: their help, their exit codes, what they print, and what they complete."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from app.cli import cli
from app.client import Client, ServiceLocation
from app.listen_address import UnixAddress
from tests.running import ServiceProcess, clean_environment, run_command, started

COMMANDS = sorted(cli.commands)


@pytest.fixture(scope="module")
def service() -> Iterator[ServiceProcess]:
    """One service with two multilinks for every test here; each test ends the links that it made."""
    with tempfile.TemporaryDirectory(prefix="vm-") as name:
        place = Path(name)
        with started(place, f"multi://{place}/vm1", f"multi://{place}/vm2") as service:
            yield service
            assert service.stop() == 0


@pytest.fixture
def link(service: ServiceProcess) -> Iterator[str]:
    """The name of a link from vm1 to vm2."""
    with Client(ServiceLocation(UnixAddress(str(service.runtime_dir / "api.sock")))) as client:
        made = client.add_link(f"{service.directory}/vm2", multilink="vm1", name="path1")
        yield made["name"]
        for each in client.links()["links"]:
            if each["kind"] == "dialled":
                client.retire_link(each["id"], drain_s=0)


def test_the_commands_are_those_of_the_contract() -> None:
    contract = "add capture completion handoff links plug retire serve set status watch"
    assert contract.split() == COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_teaches_by_example(name: str) -> None:
    result = CliRunner().invoke(cli, [name, "--help"], terminal_width=80)
    assert result.exit_code == 0
    _, _, examples = result.output.partition("\nExamples:\n")
    lines = [line for line in examples.splitlines() if line.startswith("  ")]
    assert lines
    assert any(f"vde-multilink {name}" in line for line in lines)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_explains_itself(name: str) -> None:
    for parameter in cli.commands[name].params:
        if isinstance(parameter, click.Option):
            assert parameter.help


def test_help_and_version() -> None:
    result = CliRunner().invoke(cli, ["--help"])
    assert result.exit_code == 0
    assert all(name in result.output for name in COMMANDS)
    assert CliRunner().invoke(cli, ["--version"]).output.startswith("vde-multilink, version ")


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["add"],
        ["retire"],
        ["plug"],
        ["links", "--state", "nonsense"],
        ["links", "x", "--state", "up"],
        ["retire", "x", "--drain", "-1"],
        ["completion", "tcsh"],
        ["serve", "--nonsense"],
        ["serve", "--listen", "nonsense"],
        ["serve", "--config", "/nonexistent.toml"],
        ["serve", "--state", "/"],
        ["serve", "gopher://x"],
    ],
)
def test_usage_errors_are_two(arguments: list[str], tmp_path: Path) -> None:
    result = run_command(*arguments, VDE_MULTILINK_RUNTIME_DIR=str(tmp_path))
    assert result.returncode == 2
    assert result.stdout == ""
    assert "Usage: vde-multilink" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("arguments", [["status"], ["links"], ["add", "/tmp/x"], ["retire", "x"]])
def test_no_service_is_one_and_says_what_to_do(arguments: list[str]) -> None:
    with tempfile.TemporaryDirectory(prefix="vm-") as place:
        result = run_command(*arguments, VDE_MULTILINK_RUNTIME_DIR=place)
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith("Error: no service answers at unix:")
    assert "vde-multilink serve" in result.stderr


def test_status(service: ServiceProcess) -> None:
    result = service.run("status")
    assert result.returncode == 0
    assert result.stderr == ""
    header, *rows = result.stdout.splitlines()[2:]
    assert header.split()[:3] == ["MULTILINK", "PATH", "HOST"]
    assert f"{service.directory}/vm1" in rows[0]
    assert json.loads(service.run("status", "--json").stdout)["multilinks"][1]["name"] == "vm2"


def test_a_link_is_added_listed_and_retired(service: ServiceProcess) -> None:
    target = f"{service.directory}/vm2"
    added = service.run("add", target, "--multilink", "vm1", "--name", "path2")
    assert added.returncode == 0
    assert f"vde://{target}" in added.stdout
    try:
        listed = service.run("links", "--multilink", "vm1", "--state", "up")
        assert [line.split()[:4] for line in listed.stdout.splitlines()[1:]] == [
            ["path2", "vm1", "up", f"vde://{target}"]
        ]
        shown = json.loads(service.run("links", "path2", "--json").stdout)
        assert service.run("links", shown["id"]).stdout.splitlines()[0].split() == ["link", "path2"]
    finally:
        retired = service.run("retire", "path2", "--drain", "0")
    assert retired.returncode == 0
    assert "retired" in retired.stdout
    assert service.run("links", "path2").returncode == 1
    assert "path2" in service.run("links", "--state", "retired").stdout


def test_json_is_what_the_api_answers(service: ServiceProcess) -> None:
    target = f"{service.directory}/vm2"
    added = json.loads(service.run("add", target, "-m", "vm1", "--no-reconnect", "--json").stdout)
    with Client(ServiceLocation(UnixAddress(str(service.runtime_dir / "api.sock")))) as client:
        assert added == client.link(added["id"])
        assert json.loads(service.run("links", "--json").stdout) == client.links()
        assert json.loads(service.run("status", "--json").stdout) == client.multilinks()
    ended = json.loads(service.run("retire", added["id"], "--json").stdout)
    assert (ended["id"], ended["state"]) == (added["id"], "retired")


@pytest.mark.parametrize("vnl", ["vm2", "./vm2", "vde://vm2", "name-of-a-file"])
def test_a_relative_path_is_meant_from_where_the_command_is(service: ServiceProcess, vnl: str) -> None:
    (service.directory / "name-of-a-file").write_text(f"vde://{service.directory}/vm2\n")
    added = service.run("add", vnl, "-m", "vm1", "--json", cwd=service.directory)
    assert json.loads(added.stdout)["url"] == f"vde://{service.directory}/vm2"
    assert service.run("retire", json.loads(added.stdout)["id"]).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["add", "/nonexistent", "-m", "vm1"], "/nonexistent"),
        (["add", "/tmp", "-m", "nobody"], "no multilink 'nobody'"),
        (["add", "/nonexistent"], "which multilink"),
        (["add", "cmd://cat", "-m", "vm1"], "--allow cmd"),
        (["add", "gopher://x", "-m", "vm1"], "unknown scheme"),
        (["add", "x[", "-m", "vm1"], "["),
        (["add", "/nonexistent", "-m", "vm1", "-n", "a b"], "name"),
        (["retire", "nobody"], "nobody"),
        (["links", "nobody"], "nobody"),
        (["links", "--multilink", "nobody"], "nobody"),
        (["status", "--api", "nonsense"], "no address"),
        (["status", "--api", "127.0.0.1:1", "--token-file", "/nonexistent"], "token file"),
    ],
)
def test_a_refusal_is_one_and_in_words(service: ServiceProcess, arguments: list[str], words: str) -> None:
    result = service.run(*arguments)
    assert result.returncode == 1
    assert result.stdout == ""
    assert words in result.stderr
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1


def test_nothing_to_list_is_told_on_stderr(service: ServiceProcess) -> None:
    result = service.run("links", "--state", "draining")
    assert (result.returncode, result.stdout) == (0, "")
    assert result.stderr == "no such links\n"


def test_a_narrow_terminal_is_not_exceeded(service: ServiceProcess, link: str) -> None:
    for arguments in (["status"], ["links"], ["links", link]):
        shown = service.run(*arguments, COLUMNS="80").stdout
        assert shown
        assert max(map(len, shown.splitlines())) <= 80


def complete(service: ServiceProcess, words: str) -> list[str]:
    """What bash is offered at the end of `words`."""
    result = subprocess.run(
        [sys.executable, "-m", "app"],
        capture_output=True,
        text=True,
        env=clean_environment(
            VDE_MULTILINK_RUNTIME_DIR=str(service.runtime_dir),
            _VDE_MULTILINK_COMPLETE="bash_complete",
            COMP_WORDS=words,
            COMP_CWORD=str(len(words.split(" ")) - 1),
        ),
    )
    assert result.stderr == ""
    return [line.partition(",")[2] for line in result.stdout.splitlines() if line]


def test_names_and_ids_are_completed(service: ServiceProcess, link: str) -> None:
    link_id = json.loads(service.run("links", link, "--json").stdout)["id"]
    assert complete(service, "vde-multilink retire pa") == [link]
    assert complete(service, f"vde-multilink retire {link_id[:-1]}") == [link_id]
    assert link in complete(service, "vde-multilink links ")
    assert complete(service, "vde-multilink add --multilink ") == ["vm1", "vm2"]
    assert complete(service, "vde-multilink links -m vm2") == ["vm2"]
    assert complete(service, "vde-multilink serve --allow c") == ["cmd"]
    assert complete(service, f"vde-multilink retire --api unix:{service.runtime_dir}/api.sock pa") == [link]


def test_completion_without_a_service_is_quiet(service: ServiceProcess) -> None:
    assert complete(service, f"vde-multilink retire --api unix:{service.directory}/none pa") == []
    assert complete(service, "vde-multilink links --api nonsense pa") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str) -> None:
    result = run_command("completion", shell)
    assert result.returncode == 0
    assert f"_VDE_MULTILINK_COMPLETE={shell}_complete" in result.stdout


def test_the_bash_script_is_valid() -> None:
    script = run_command("completion", "bash").stdout
    checked = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_a_reader_that_leaves_is_no_error(service: ServiceProcess) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    result = subprocess.run(
        [sys.executable, "-m", "app", "status"],
        stdout=write_end,
        stderr=subprocess.PIPE,
        text=True,
        env=clean_environment(VDE_MULTILINK_RUNTIME_DIR=str(service.runtime_dir)),
    )
    os.close(write_end)
    assert "Traceback" not in result.stderr


def test_the_clients_start_without_the_service() -> None:
    """Quart, Trio and pydantic take longer to import than a command to run."""
    code = (
        "import sys, app.cli, app.client, app.tables; print(*sorted({'quart', 'trio', 'pydantic'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=clean_environment())
    assert (result.returncode, result.stdout.strip()) == (0, "")
