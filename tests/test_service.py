"""The service as a process: what it says, what it leaves, how it starts and stops."""

from __future__ import annotations

import json
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from app.client import Client, ServiceLocation
from app.fabric.states import Role
from app.listen_address import UnixAddress
from app.store import Store
from tests.running import ServiceProcess, run_command, started, wait_until


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory whose name is short enough for unix sockets; it must be empty but for the state in the end."""
    with tempfile.TemporaryDirectory(prefix="vm-") as name:
        yield Path(name)


def client_of(service: ServiceProcess) -> Client:
    return Client(ServiceLocation(UnixAddress(str(service.runtime_dir / "api.sock"))))


def test_it_announces_itself_answers_and_leaves_nothing(place: Path) -> None:
    with started(place, f"multi://{place}/vm1", f"multi://{place}/vm2") as service:
        # Between them come log lines.
        assert service.announced("multilink vm1") == [f"{place}/vm1"]
        assert service.announced("multilink vm2") == [f"{place}/vm2"]
        unix, tcp = service.announced("API")
        assert unix == f"unix:{place}/rt/api.sock"
        assert not tcp.endswith(":0")
        (dashboard,) = service.announced("dashboard")
        assert service.lines[-1] == f"dashboard: {dashboard}"
        url, _, token = dashboard.partition("/#token=")
        assert url == tcp
        assert (place / "rt" / "token").read_text().strip() == token
        assert (place / "rt" / "api.sock").stat().st_mode & 0o777 == 0o600
        assert httpx.get(f"{tcp}/readyz", trust_env=False).status_code == 200
        assert httpx.get(f"{tcp}/links", trust_env=False).status_code == 401
        answer = httpx.get(f"{tcp}/links", headers={"Authorization": f"Bearer {token}"}, trust_env=False)
        assert answer.json() == {"links": []}
        assert service.stop() == 0
        assert service.process.stdout is not None
        assert service.process.stdout.read() == b""
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_other_signals_stop_it_too(place: Path, number: signal.Signals) -> None:
    with started(place, f"multi://{place}/vm1") as service:
        assert service.stop(number) == 0
    assert list(place.iterdir()) == []


def test_stalled_clients_do_not_hold_it_up(place: Path) -> None:
    with started(place, f"multi://{place}/vm1") as service, client_of(service) as client:
        client.multilinks()
        stalled = []
        for request in (
            b"",
            b"GET /lin",
            b"GET /openapi.yaml HTTP/1.1\r\nHost: x\r\n\r\n" * 50,
            b"POST /links HTTP/1.1\r\n",
        ):
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(str(service.runtime_dir / "api.sock"))
            sock.sendall(request)
            stalled.append(sock)
        wait_until(lambda: bool(stalled[2].recv(1, socket.MSG_PEEK)))
        asked = time.monotonic()
        assert service.stop() == 0
        # The contract's own limit: a bound on waiting, not a measurement of this machine.
        assert time.monotonic() - asked < 2 + 1
        for sock in stalled:
            sock.close()
    assert list(place.iterdir()) == []


def test_a_token_of_the_operators(place: Path) -> None:
    token_file = place / "secret"
    token_file.write_text("operators-own\n")
    token_file.chmod(0o600)
    with started(place, f"multi://{place}/vm1", f"--token-file={token_file}") as service:
        assert service.announced("dashboard")[0].endswith("/#token=operators-own")
        assert not (place / "rt" / "token").exists()
        api = service.announced("API")[1]
        assert run_command("status", f"--api={api}", f"--token-file={token_file}").returncode == 0
        assert run_command("status", f"--api={api}", VDE_MULTILINK_TOKEN="operators-own").returncode == 0
        refused = run_command("status", f"--api={api}", VDE_MULTILINK_TOKEN="wrong")
        assert refused.returncode == 1
        assert "token" in refused.stderr
        assert service.stop() == 0
    assert list(place.iterdir()) == [token_file]


def test_more_listeners_and_no_tcp(place: Path) -> None:
    last = rf"^API: unix:{place}/b\.sock$"
    with ServiceProcess(
        place, f"multi://{place}/vm1", f"--listen=unix:{place}/a.sock", f"--listen=unix:{place}/b.sock", ready=last
    ) as service:
        for name in ("a.sock", "b.sock", "rt/api.sock"):
            assert run_command("status", f"--api=unix:{place}/{name}").returncode == 0
        assert not service.announced("dashboard")
        assert not (place / "rt" / "token").exists()
        assert service.stop() == 0
    assert list(place.iterdir()) == []


def test_a_second_service_is_refused_and_disturbs_nobody(place: Path) -> None:
    with started(place, f"multi://{place}/vm1") as service, client_of(service) as client:
        port = service.announced("API")[1].rpartition(":")[2]
        for arguments, words in (
            ((f"--runtime-dir={place}/rt",), "uses the runtime directory"),
            ((f"--runtime-dir={place}/rt2", "--listen=127.0.0.1:0"), f"{place}/vm1"),
            ((f"--runtime-dir={place}/rt2", f"--listen=127.0.0.1:{port}"), "is in use"),
            ((f"--runtime-dir={place}/rt2", f"--listen=unix:{place}/rt/api.sock"), "another process listens"),
        ):
            second = run_command("serve", f"multi://{place}/vm1", *arguments)
            assert second.returncode == 1
            assert words in second.stderr
            assert "Traceback" not in second.stderr
            assert second.stderr.count("\n") == 1
            assert not (place / "rt2").exists()
            assert client.multilinks()["multilinks"][0]["name"] == "vm1"
        assert service.stop() == 0
    assert list(place.iterdir()) == []


@pytest.mark.parametrize(
    ("vnl", "words", "status"),
    [
        ("multi://{place}/no/vm1", "make it first", 1),
        ("multi://{place}/vm1[grp=no-such-group-here]", "no-such-group-here", 1),
        ("multi://{place}/vm1{{vde://{place}/nobody}}", "nobody", 1),
        ("multi://{place}/vm1[mod=0600]", "unknown option", 2),
        ("vde://{place}/vm1", "does not make a multilink", 2),
    ],
)
def test_a_start_that_fails_undoes_everything(place: Path, vnl: str, words: str, status: int) -> None:
    failed = run_command(
        "serve",
        f"multi://{place}/vm0",
        vnl.format(place=place),
        f"--runtime-dir={place}/rt",
        "--listen=127.0.0.1:0",
        f"--state={place}/state",
    )
    assert failed.returncode == status
    assert words in failed.stderr
    assert "Traceback" not in failed.stderr
    assert list(place.iterdir()) == []


def kept_in(state: Path) -> dict[str, Role]:
    with closing(Store(state)) as store:
        return {link.name: link.role for link in store.dialled_links()}


def test_after_sigkill_it_takes_over_and_the_links_come_back(place: Path) -> None:
    arguments = (f"multi://{place}/vm1", f"multi://{place}/vm2", f"multi://{place}/vm3")
    with started(place, *arguments) as service, client_of(service) as client:
        client.add_link(f"{place}/vm2", multilink="vm1", name="old")
        client.change_link("old", name="kept", role="standby")
        client.add_link(f"{place}/vm3", multilink="vm1", name="also", reconnect=False)
        client.add_link(f"{place}/vm3", multilink="vm2", name="gone")
        client.retire_link("gone", drain_s=0)
        token = (place / "rt" / "token").read_text()
        before = {link["id"] for link in client.links()["links"]}
        wait_until(lambda: kept_in(place / "state") == {"kept": Role.STANDBY, "also": Role.ACTIVE})
        service.stop(signal.SIGKILL)
        assert (place / "rt" / "api.sock").exists()
    with started(place, *arguments[:2]) as service, client_of(service) as client:
        assert (place / "rt" / "token").read_text() == token

        def dialled() -> dict[str, str]:
            links = client.links()["links"]
            assert before.isdisjoint(link["id"] for link in links)
            return {link["name"]: link["state"] for link in links if link["kind"] == "dialled"}

        wait_until(lambda: dialled() == {"kept": "up", "also": "down"})
        assert client.link("kept")["role"] == "standby"
        client.retire_link("also")
        assert service.stop() == 0
    with started(place, *arguments[:1]) as service, client_of(service) as client:
        assert client.links()["links"] == []
        assert service.stop() == 0
    # vm3 was the killed service's, and no later one has been asked to take it over.
    assert {path.name for path in place.iterdir()} == {"vm3"}


def test_a_command_that_is_no_longer_allowed_is_not_run(place: Path) -> None:
    proof = place / "proof"
    with started(place, f"multi://{place}/vm1", "--allow=cmd") as service, client_of(service) as client:
        client.add_link(f"cmd://sh -c 'touch {proof}; exec cat'", name="program")
        wait_until(proof.exists)
        wait_until(lambda: "program" in kept_in(place / "state"))
        service.stop(signal.SIGKILL)
    proof.unlink()
    with started(place, f"multi://{place}/vm1") as service, client_of(service) as client:
        assert client.links()["links"] == []
        assert any("not dialled again" in line and "--allow cmd" in line for line in service.lines)
        assert service.stop() == 0
    assert not proof.exists()


def test_a_state_file_that_cannot_be_read_stops_the_start(place: Path) -> None:
    (place / "state").write_text("this is not a database" * 100)
    failed = run_command(
        "serve",
        f"multi://{place}/vm1",
        "--listen=127.0.0.1:0",
        f"--runtime-dir={place}/rt",
        f"--state={place}/state",
    )
    assert failed.returncode == 1
    assert "damaged" in failed.stderr
    assert [path.name for path in place.iterdir()] == ["state"]


def test_a_link_that_cannot_be_kept_is_up_all_the_same_and_told(place: Path) -> None:
    (place / "file").write_text("not a directory")
    with started(place, f"multi://{place}/vm1", f"multi://{place}/vm2", f"--state={place}/file/state") as service:
        assert service.run("add", f"{place}/vm2", "--multilink", "vm1").returncode == 0
        wait_until(lambda: any("is not kept" in line and f"{place}/file/state" in line for line in service.lines))
        assert service.stop() == 0
    assert [path.name for path in place.iterdir()] == ["file"]


def test_chosen_commands_only(place: Path) -> None:
    config = place / "config.toml"
    config.write_text('allow_commands = ["cat -u"]\n')
    with started(place, f"multi://{place}/vm1", f"--config={config}") as service:
        assert service.run("add", "cmd://cat '-u'").returncode == 0
        refused = service.run("add", "cmd://cat")
        assert refused.returncode == 1
        assert "--allow cmd" in refused.stderr
        assert service.stop() == 0


def test_logs_are_json_where_nobody_watches(place: Path) -> None:
    with started(place, f"multi://{place}/vm1") as service:
        assert service.stop() == 0
    last = json.loads(service.lines[-1])
    assert last["event"] == "stopping"
    assert last["signal"] == "SIGTERM"
    assert last["level"] == "info"


class TestPlug:
    def test_it_ends_with_its_stdin_and_leaves_nothing(self, place: Path) -> None:
        with ServiceProcess(place, f"multi://{place}/vm1", command="plug", ready="^multilink vm1: ") as plug:
            assert (place / "vm1" / "ctl").is_socket()
            assert not (place / "rt").exists()
            assert plug.process.stdin is not None
            plug.process.stdin.close()
            assert plug.wait() == 0
            assert plug.process.stdout is not None
            assert plug.process.stdout.read() == b""
        assert list(place.iterdir()) == []

    def test_it_ends_on_sigterm(self, place: Path) -> None:
        with ServiceProcess(place, f"multi://{place}/vm1", command="plug", ready="^multilink vm1: ") as plug:
            assert plug.stop() == 0
        assert list(place.iterdir()) == []

    def test_http_where_it_is_asked_for(self, place: Path) -> None:
        with ServiceProcess(
            place, f"multi://{place}/vm1", f"--listen=unix:{place}/api", command="plug", ready="^API: "
        ) as plug:
            shown = json.loads(run_command("status", "--json", f"--api=unix:{place}/api").stdout)
            assert shown["multilinks"][0]["host"]["state"] == "attached"
            assert plug.stop() == 0
        assert list(place.iterdir()) == []

    def test_frames_pass_between_two_plugs(self, place: Path) -> None:
        frame = bytes(range(14)) + b"payload of a frame"
        stream = len(frame).to_bytes(2, "big") + frame
        with (
            ServiceProcess(place, f"multi://{place}/vm1", command="plug", ready="^multilink vm1: ") as one,
            ServiceProcess(
                place, f"multi://{place}/vm2", f"--listen=unix:{place}/api", command="plug", ready="^API: "
            ) as two,
        ):
            assert run_command("add", f"{place}/vm1", f"--api=unix:{place}/api").returncode == 0
            for sender, receiver in ((one, two), (two, one)):
                assert sender.process.stdin is not None
                assert receiver.process.stdout is not None
                sender.process.stdin.write(stream)
                sender.process.stdin.flush()
                assert receiver.process.stdout.read(len(stream)) == stream

    def test_a_nested_host_is_a_usage_error(self, place: Path) -> None:
        refused = run_command("plug", f"multi://{place}/vm1{{tap://t0}}")
        assert refused.returncode == 2
        assert "stdin and stdout" in refused.stderr

    def test_a_stdin_that_is_no_pipe_is_refused(self, place: Path) -> None:
        refused = run_command("plug", f"multi://{place}/vm1")
        assert refused.returncode == 1
        assert "stdin is no pipe" in refused.stderr
        assert list(place.iterdir()) == []
