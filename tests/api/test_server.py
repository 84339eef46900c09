"""The live server: connections that are used again, clients that delay or send what is no HTTP, limits."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trio.lowlevel

from app.api import Readiness, ServerLimits
from app.api.app import MAX_BODY_BYTES
from app.fabric.vnl import MultiVnl
from tests.api.fakes import FakeFabric
from tests.api.support import (
    HEAD,
    HURRY,
    PATIENT,
    PROBLEM,
    QUICK,
    Api,
    LiveServer,
    RawClient,
    live_server,
    make_api,
    wait_stopped,
)


async def test_one_connection_carries_many_requests(api: Api) -> None:
    async with live_server(api) as server, server.connect() as client:
        for _ in range(20):
            assert (await client.request("GET", "/links")).status == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("POST", "/nowhere", 404), ("PUT", "/links", 405), ("POST", "/healthz", 405), ("POST", "/multilinks", 201)],
)
async def test_after_an_early_answer_the_connection_goes_on(api: Api, method: str, path: str, status: int) -> None:
    """Hypercorn with quart-trio alone: the answer comes before the body, and the next request hangs."""
    async with live_server(api, limits=PATIENT) as server, server.connect() as client:
        body = '{"url": "multi:///srv/vm1"}'
        await client.send(f"{method} {path} HTTP/1.1\r\n{HEAD}Content-Length: {len(body)}\r\n\r\n")
        await trio.sleep(0.05)
        await client.send(body)
        assert (await client.read_answer()).status == status
        for _ in range(3):
            assert (await client.request("GET", "/links")).status == 200


async def test_pipelined_requests_are_answered_in_order(api: Api) -> None:
    async with live_server(api) as server, server.connect() as client:
        await client.send(
            "".join(f"GET {path} HTTP/1.1\r\n{HEAD}\r\n" for path in ("/links", "/nowhere", "/multilinks"))
        )
        assert [(await client.read_answer()).status for _ in range(3)] == [200, 404, 200]


@pytest.mark.parametrize("paths", [[], ["/links"], ["/nowhere"], ["/links", "/nowhere", "/links"]])
async def test_an_idle_connection_is_closed_in_time(api: Api, paths: list[str]) -> None:
    """Hypercorn with quart-trio alone: not once there has been a request."""
    async with live_server(api, limits=QUICK) as server, server.connect() as client:
        for path in paths:
            await client.request("GET", path)
        assert await client.read_end() == b""


async def test_many_kept_connections_are_all_closed_in_time(api: Api) -> None:
    limits = ServerLimits(keep_alive_s=3)
    closed = 0

    async def use_and_wait(server: LiveServer) -> None:
        nonlocal closed
        async with server.connect() as client:
            for method in ("GET", "PUT", "POST"):
                await client.request(method, "/links", body="x" * 100 if method != "GET" else "")
            await client.read_end()
            closed += 1

    async with live_server(api, limits=limits) as server, trio.open_nursery() as nursery:
        for _ in range(40):
            nursery.start_soon(use_and_wait, server)
    assert closed == 40


async def test_headers_that_trickle_in_are_not_waited_for(api: Api) -> None:
    async with live_server(api, limits=QUICK) as server, server.connect() as client:
        await client.send("GET /links HTTP/1.1\r\n")

        async def trickle() -> None:
            for number in range(10_000):
                await client.send(f"X-{number}: slow\r\n")
                await trio.sleep(0.05)

        with trio.fail_after(HURRY), pytest.raises(trio.BrokenResourceError):
            await trickle()


async def test_a_body_that_does_not_come_is_408(api: Api) -> None:
    api.app.config["BODY_TIMEOUT"] = 0.1
    async with live_server(api) as server, server.connect() as client:
        answer = await client.request("POST", "/links", headers={"Content-Length": "100"})
        answer.check_problem(408, "body_timeout")
        assert await client.read_end() == b""


@pytest.mark.parametrize("framing", ["Content-Length: 100000000", "Transfer-Encoding: chunked"])
async def test_a_body_that_is_too_large_is_refused_and_the_answer_arrives(api: Api, framing: str) -> None:
    async with live_server(api) as server, server.connect() as client:
        await client.send(f"POST /links HTTP/1.1\r\n{HEAD}{framing}\r\n\r\n")
        chunk = b"x" * (MAX_BODY_BYTES + 1)
        await client.send(b"%x\r\n%s\r\n" % (len(chunk), chunk) if "chunked" in framing else chunk)
        (await client.read_answer()).check_problem(413, "body_too_large")
        assert await client.read_end() == b""


async def test_a_body_without_an_end_is_not_taken_in(api: Api) -> None:
    api.app.config["BODY_TIMEOUT"] = 1000
    async with live_server(api, limits=QUICK) as server, server.connect() as client:
        await client.send(f"POST /links HTTP/1.1\r\n{HEAD}Transfer-Encoding: chunked\r\n\r\n")

        async def send_on() -> None:
            while True:
                await client.send(b"1000\r\n%s\r\n" % (b"x" * 0x1000))

        with trio.fail_after(HURRY), pytest.raises(trio.BrokenResourceError):
            await send_on()


async def test_a_chunked_body_is_read(api: Api) -> None:
    async with live_server(api) as server, server.connect() as client:
        await client.send(f"POST /multilinks HTTP/1.1\r\n{HEAD}Transfer-Encoding: chunked\r\n\r\n")
        for part in (b'{"url": ', b'"multi:///srv/vm1"}'):
            await client.send(b"%x\r\n%s\r\n" % (len(part), part))
        await client.send(b"0\r\n\r\n")
        assert (await client.read_answer()).status == 201


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        ("nonsense\r\n\r\n", 400),
        ("GET /links HTTP/1.1\r\n\r\n", 400),
        (f"GET /links HTTP/1.1\r\n{HEAD}Host: two\r\n\r\n", 400),
        ("GET /lin\xc3\xa4ks HTTP/1.1\r\n\r\n", 400),
        (f"POST /links HTTP/1.1\r\n{HEAD}Content-Length: many\r\n\r\n", 400),
        (f"GET /links HTTP/1.1\r\n{HEAD}X: {'x' * 20_000}", 431),
        ("PRI * HTTP/2.0\r\n\r\n", 505),
    ],
)
async def test_what_is_no_http_is_answered_with_a_problem_too(api: Api, request_text: str, status: int) -> None:
    async with live_server(api) as server, server.connect() as client:
        await client.send(request_text)
        answer = await client.read_answer()
        assert (answer.status, answer.headers["content-type"]) == (status, PROBLEM)
        assert answer.json["status"] == status
        assert await client.read_end() == b""


@pytest.mark.parametrize("upgrade", ["h2c", "websocket"])
async def test_upgrades_are_left_alone(api: Api, upgrade: str) -> None:
    headers = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": upgrade, "HTTP2-Settings": "AAMAAABkAAQ"}
    websocket = {"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
    async with live_server(api) as server, server.connect() as client:
        assert (await client.request("GET", "/links", headers=headers | websocket)).status == 200


@pytest.mark.parametrize("host", ["evil.example", "a..b", "[::1", "xn--", "\u00fc"])
async def test_a_rebound_name_is_refused_on_tcp_and_any_is_fine_on_the_unix_socket(
    api: Api, short_dir: Path, host: str
) -> None:
    async with live_server(api, unix_path=short_dir / "s") as server:
        async with server.connect() as client:
            (await client.request("GET", "/", headers={"Host": host})).check_problem(403, "host_not_allowed")
        async with server.connect(unix=True) as client:
            assert (await client.request("GET", "/links", headers={"Host": host})).status == 200


@pytest.mark.parametrize("path", ["/links/%2e%2e/%00", "/%ff", "http://evil.example/nowhere", "*"])
async def test_odd_paths_are_404(api: Api, path: str) -> None:
    async with live_server(api) as server, server.connect() as client:
        (await client.request("GET", path)).check_problem(404, "not_found")


async def test_the_unix_socket_asks_for_no_token_and_knows_its_peer(api: Api, short_dir: Path) -> None:
    seen: list[object] = []

    async def note() -> None:
        from quart import request

        state = request.scope["state"]
        seen.append((state["transport"], getattr(state.get("peer"), "pid", None)))

    api.app.before_request(note)
    async with live_server(api, unix_path=short_dir / "s") as server:
        async with server.connect(unix=True) as client:
            assert (await client.request("GET", "/links", headers={"Authorization": ""})).status == 200
        async with server.connect() as client:
            (await client.request("GET", "/links", headers={"Authorization": ""})).check_problem(401, "unauthorized")
            assert (await client.request("GET", "/links")).status == 200
    assert seen == [("unix", os.getpid()), ("tcp", None)]


async def test_connections_over_the_limit_are_told_so_and_the_others_go_on(api: Api, short_dir: Path) -> None:
    limits = ServerLimits(connections=2, keep_alive_s=60)
    async with live_server(api, unix_path=short_dir / "s", limits=limits) as server:
        async with server.connect() as first, server.connect() as second:
            for client in (first, second):
                assert (await client.request("GET", "/links")).status == 200
            async with server.connect() as third:
                (await third.request("GET", "/links")).check_problem(503, "too_many_connections")
                assert await third.read_end() == b""
            async with server.connect(unix=True) as client:
                assert (await client.request("GET", "/links")).status == 200
            assert (await first.request("GET", "/links")).status == 200
        await wait_until_free(server)


async def wait_until_free(server: LiveServer) -> None:
    """The places of the clients that left can be taken again."""
    with trio.fail_after(HURRY):
        while True:
            async with server.connect() as client:
                if (await client.request("GET", "/links")).status == 200:
                    return


async def test_a_flood_of_connections_is_closed_at_once(api: Api) -> None:
    async with (
        live_server(api, limits=ServerLimits(connections=1, keep_alive_s=60)) as server,
        server.connect() as first,
    ):
        await first.request("GET", "/links")
        streams = [await trio.open_tcp_stream("127.0.0.1", server.port) for _ in range(100)]
        for stream in streams:
            await RawClient(stream).read_end()
            await stream.aclose()
        assert (await first.request("GET", "/links")).status == 200


async def test_a_client_that_leaves_takes_its_request_with_it(fabric: FakeFabric) -> None:
    await fabric.add_multilink(MultiVnl("/srv/vm1"))
    fabric.dial_s = 1000
    async with live_server(make_api(fabric.as_fabric())) as server:
        async with server.connect() as client:
            body = '{"url": "/net/a"}'
            await client.send(f"POST /links HTTP/1.1\r\n{HEAD}Content-Length: {len(body)}\r\n\r\n{body}")
            await trio.sleep(0.05)
        with trio.fail_after(HURRY):
            await fabric.dial_cancelled.wait()
    assert not fabric.live


async def test_running_out_of_descriptors_is_waited_out(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    accept = trio.SocketListener.accept
    failures = [errno.EMFILE, errno.ENFILE, errno.ENOBUFS]

    async def accept_later(listener: trio.SocketListener) -> trio.SocketStream:
        if failures:
            code = failures.pop()
            raise OSError(code, os.strerror(code))
        return await accept(listener)

    monkeypatch.setattr(trio.SocketListener, "accept", accept_later)
    async with live_server(api) as server, server.connect() as client:
        assert (await client.request("GET", "/links")).status == 200
    assert not failures
    assert "EMFILE" in caplog.text


async def test_an_error_in_one_connection_leaves_the_others_alone(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from app.api.connection import _Http11Protocol

    handle: Callable[..., object] = _Http11Protocol.handle

    async def fail_on_request(self: _Http11Protocol, event: object) -> None:
        if b"please-fail" in getattr(event, "data", b""):
            raise RuntimeError("a bug")
        await handle(self, event)  # type: ignore[misc]  # patched in, hence without its type

    monkeypatch.setattr(_Http11Protocol, "handle", fail_on_request)
    async with live_server(api) as server, server.connect() as other, server.connect() as client:
        assert (await other.request("GET", "/links")).status == 200
        await client.send("GET /please-fail HTTP/1.1\r\n")
        assert await client.read_end() == b""
        assert (await other.request("GET", "/links")).status == 200
    assert "a bug" in caplog.text


async def test_no_descriptor_is_left_over(api: Api, short_dir: Path) -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = descriptors()
    async with live_server(api, unix_path=short_dir / "s", limits=QUICK) as server:
        for unix in (False, True):
            for text in ("", "GET", f"GET /links HTTP/1.1\r\n{HEAD}\r\n", "nonsense\r\n\r\n"):
                for _ in range(5):
                    async with server.connect(unix=unix) as client:
                        await client.send(text or " ")
        await wait_stopped(server)
    assert descriptors() <= before


def test_readiness_only_goes_forward() -> None:
    readiness = Readiness()
    readiness.set_stopping()
    readiness.set_ready()
    assert readiness.state == "stopping"
