"""The client against a small HTTP server that notes what it is asked, and answers as it is told."""

from __future__ import annotations

import gc
import json
import socket
import socketserver
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from app.client import (
    Client,
    ClientError,
    NotRunningError,
    RefusedError,
    ServiceLocation,
    find_service,
    handoff_request,
)
from app.listen_address import AddressError, TcpAddress, UnixAddress
from app.tokens import TokenError

# httpcore leaves the closing of a unix socket that it could not connect to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """What httpcore leaves is collected here, where it is expected, and not in whichever test comes next."""
    yield
    gc.collect()


class Fake(socketserver.UnixStreamServer):
    def __init__(self, path: str) -> None:
        super().__init__(path, Handler)
        self.asked: list[tuple[str, str, Any, dict[str, str]]] = []
        self.status = 200
        self.answer = b"{}"


class Handler(BaseHTTPRequestHandler):
    server: Fake
    protocol_version = "HTTP/1.1"

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append((self.command, self.path, json.loads(body or b"null"), dict(self.headers)))
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(self.server.answer)))
        self.send_header("Connection", "close")  # or the client would use it once more
        self.end_headers()
        self.wfile.write(self.server.answer)
        self.close_connection = True

    do_GET = do_POST = do_PATCH = do_DELETE = handle_any  # noqa: N815 -- as http.server calls them

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_: object) -> None:
        """Tests are quiet."""


@pytest.fixture
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="vm-") as name:
        yield Path(name)


@pytest.fixture
def fake(place: Path) -> Iterator[Fake]:
    with Fake(str(place / "api.sock")) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def client(place: Path) -> Iterator[Client]:
    with Client(ServiceLocation(UnixAddress(str(place / "api.sock")))) as client:
        yield client


def test_every_operation_is_asked_as_the_api_has_it(fake: Fake, client: Client) -> None:
    client.links()
    client.links(multilink="a b", state="up")
    client.link("a/b?c")
    client.add_link("/tmp/vm2")
    client.add_link("/tmp/vm2", multilink="vm1", name="n", reconnect=False)
    client.change_link("n", role="standby")
    client.change_link("n", name="m")
    client.retire_link("n")
    client.retire_link("n", drain_s=0)
    client.multilinks()
    client.multilink("vm1")
    client.add_multilink("multi:///tmp/vm3")
    client.remove_multilink("vm3")
    client.add_link("/tmp/vm2", role="standby", monitor={"address": "10.0.0.2"})
    client.change_link("n", monitor={"address": "10.0.0.2", "interval_s": 2})
    client.change_link("n", monitor="off")
    client.change_multilink("vm1", duplicates="pass", failover=False)
    client.change_multilink("vm1", reflections="drop", window_s=1)
    client.handoffs()
    client.handoff("h1")
    client.start_handoff(handoff_request(url="/tmp/vm2"))
    client.start_handoff(
        handoff_request(
            link="lte",
            multilink="vm1",
            old_links=["wifi"],
            verify={"address": "10.0.0.2"},
            verify_timeout_s=1,
            overlap_s=0,
            drain_s=2,
            old="standby",
        ),
        wait_s=5,
        idempotency_key="k",
    )
    client.plan_handoff(handoff_request(url="/tmp/vm2", name="lte", old_links=[]))
    client.abort_handoff("h1")
    assert [(method, path, body) for method, path, body, _ in fake.asked] == [
        ("GET", "/links", None),
        ("GET", "/links?multilink=a+b&state=up", None),
        ("GET", "/links/a%2Fb%3Fc", None),
        ("POST", "/links", {"url": "/tmp/vm2", "reconnect": True}),
        ("POST", "/links", {"url": "/tmp/vm2", "reconnect": False, "multilink": "vm1", "name": "n"}),
        ("PATCH", "/links/n", {"role": "standby"}),
        ("PATCH", "/links/n", {"name": "m"}),
        ("DELETE", "/links/n", None),
        ("DELETE", "/links/n?drain_s=0", None),
        ("GET", "/multilinks", None),
        ("GET", "/multilinks/vm1", None),
        ("POST", "/multilinks", {"url": "multi:///tmp/vm3"}),
        ("DELETE", "/multilinks/vm3", None),
        (
            "POST",
            "/links",
            {"url": "/tmp/vm2", "reconnect": True, "role": "standby", "monitor": {"address": "10.0.0.2"}},
        ),
        ("PATCH", "/links/n", {"monitor": {"address": "10.0.0.2", "interval_s": 2}}),
        ("PATCH", "/links/n", {"monitor": None}),
        ("PATCH", "/multilinks/vm1", {"duplicates": "pass", "failover": False}),
        ("PATCH", "/multilinks/vm1", {"reflections": "drop", "window_s": 1}),
        ("GET", "/handoffs", None),
        ("GET", "/handoffs/h1", None),
        ("POST", "/handoffs", {"to": {"url": "/tmp/vm2"}}),
        (
            "POST",
            "/handoffs",
            {
                "to": {"link": "lte"},
                "multilink": "vm1",
                "verify": {"address": "10.0.0.2"},
                "verify_timeout_s": 1,
                "overlap_s": 0,
                "drain_s": 2,
                "old": "standby",
                "from": ["wifi"],
            },
        ),
        ("POST", "/handoffs?plan=true", {"to": {"url": "/tmp/vm2", "name": "lte"}, "from": []}),
        ("DELETE", "/handoffs/h1", None),
    ]
    headers = [headers for method, path, _, headers in fake.asked if (method, path) == ("POST", "/handoffs")]
    assert [(each.get("Prefer"), each.get("Idempotency-Key")) for each in headers] == [(None, None), ("wait=5", "k")]


def test_the_answer_comes_back_unchanged(fake: Fake, client: Client) -> None:
    fake.answer = b'{"links": [{"id": "x", "new": 1}]}'
    assert client.links() == {"links": [{"id": "x", "new": 1}]}


def test_the_token_is_sent_and_never_shown(fake: Fake, place: Path) -> None:
    location = ServiceLocation(UnixAddress(str(place / "api.sock")), "very-secret")
    with Client(location) as client:
        client.links()
    assert fake.asked[0][3]["Authorization"] == "Bearer very-secret"
    assert "very-secret" not in repr(location) + str(location)


def test_a_problem_document_is_an_error_with_its_words(fake: Fake, client: Client) -> None:
    fake.status = 409
    fake.answer = b'{"code": "name_taken", "detail": "choose another", "status": 409}'
    with pytest.raises(RefusedError) as caught:
        client.add_link("/tmp/vm2")
    assert caught.value.detail == "choose another"
    assert caught.value.problem_code == "name_taken"
    assert caught.value.status == 409


def test_a_wrong_token_says_where_commands_look(fake: Fake, client: Client) -> None:
    fake.status = 401
    fake.answer = b'{"code": "unauthorized", "detail": "no."}'
    with pytest.raises(RefusedError, match="VDE_MULTILINK_TOKEN"):
        client.links()


@pytest.mark.parametrize(
    ("status", "answer"), [(200, b"<html>"), (200, b"[1]"), (502, b"<html>"), (404, b'{"error": 1}'), (200, b"\xff")]
)
def test_another_server_is_told(fake: Fake, client: Client, status: int, answer: bytes) -> None:
    fake.status, fake.answer = status, answer
    with pytest.raises(ClientError, match="is not this service"):
        client.links()


def test_no_service(client: Client) -> None:
    with pytest.raises(NotRunningError, match="start it with: vde-multilink serve"):
        client.links()


def test_a_socket_that_nobody_serves(fake: Fake, place: Path) -> None:
    fake.socket.listen(0)
    with Client(ServiceLocation(UnixAddress(str(place / "api.sock"))), timeout_s=5) as client:
        fake.shutdown()
        fake.server_close()
        with pytest.raises(NotRunningError):
            client.links()


def test_a_service_that_does_not_answer(place: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(place / "api.sock"))
        silent.listen()
        location = ServiceLocation(UnixAddress(str(place / "api.sock")))
        with Client(location, timeout_s=0.05) as client, pytest.raises(ClientError, match="in time"):
            client.links()


def test_a_proxy_in_the_environment_is_not_asked(
    fake: Fake, client: Client, monkeypatch: pytest.MonkeyPatch, place: Path
) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    with Client(ServiceLocation(UnixAddress(str(place / "api.sock")))) as other:
        other.links()
    client.links()
    assert len(fake.asked) == 2


class TestFindService:
    def test_the_runtime_directory_by_default(self, place: Path) -> None:
        found = find_service(environ={"VDE_MULTILINK_RUNTIME_DIR": str(place)})
        assert found == ServiceLocation(UnixAddress(f"{place}/api.sock"))
        found = find_service(runtime_dir=place, environ={"VDE_MULTILINK_RUNTIME_DIR": "/elsewhere"})
        assert found == ServiceLocation(UnixAddress(f"{place}/api.sock"))

    def test_the_address_that_is_named(self, place: Path) -> None:
        environ = {"VDE_MULTILINK_API": "unix:/tmp/a", "VDE_MULTILINK_RUNTIME_DIR": str(place)}
        assert find_service(environ=environ).address == UnixAddress("/tmp/a")
        assert find_service("[::1]:1", environ=environ).address == TcpAddress("::1", 1)
        assert find_service("https://vm.example.org/", environ=environ).address == "https://vm.example.org"
        with pytest.raises(AddressError):
            find_service("nonsense", environ=environ)

    def test_the_token_by_whom_it_is_named(self, place: Path) -> None:
        for name in ("token", "flag", "variable"):
            (place / name).write_text(f"from-{name}\n")
        environ = {"VDE_MULTILINK_RUNTIME_DIR": str(place)}
        api = "127.0.0.1:1"
        assert find_service(api, environ=environ).token == "from-token"
        environ["VDE_MULTILINK_TOKEN_FILE"] = str(place / "variable")
        assert find_service(api, environ=environ).token == "from-variable"
        environ["VDE_MULTILINK_TOKEN"] = "itself"
        assert find_service(api, environ=environ).token == "itself"
        assert find_service(api, token_file=place / "flag", environ=environ).token == "from-flag"
        assert find_service("unix:/tmp/a", environ=environ).token is None

    def test_without_a_token_it_is_the_service_that_says_so(self, place: Path) -> None:
        assert find_service("127.0.0.1:1", runtime_dir=place, environ={}).token is None
        with pytest.raises(TokenError):
            find_service("127.0.0.1:1", token_file=place / "none", environ={})
