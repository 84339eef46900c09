"""The end of the live server: it waits for requests under way, a little, and for nobody else."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import trio

from app.fabric.vnl import MultiVnl
from tests.api.fakes import FakeFabric
from tests.api.support import (
    HEAD,
    HURRY,
    PATIENT,
    QUICK,
    Api,
    live_server,
    make_api,
    wait_stopped,
)


@pytest.fixture
def big_api() -> Api:
    """Its list of links is too large for the buffers of a socket."""
    fabric = FakeFabric()
    for number in range(20_000):
        fabric.attach("vm1", name=f"link-{number}")
    return make_api(fabric.as_fabric())


async def test_a_client_that_does_not_read_is_cut_off(big_api: Api) -> None:
    async with live_server(big_api, limits=QUICK) as server, server.connect() as client:
        client.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await client.send(f"GET /links HTTP/1.1\r\n{HEAD}\r\n")
        await trio.sleep(1)
        taken = await client.read_end()
        assert taken.startswith(b"HTTP/1.1 200")
        length = int(taken.partition(b"content-length: ")[2].split(b"\r\n")[0])
        assert len(taken) < length


async def test_a_client_that_does_not_read_does_not_hold_up_the_shutdown(big_api: Api) -> None:
    """Hypercorn alone: for ever."""
    async with (
        live_server(big_api, limits=PATIENT, grace_s=0.1) as server,
        server.connect() as client,
        server.connect() as idle,
    ):
        await idle.request("GET", "/healthz")
        await client.send(f"GET /links HTTP/1.1\r\n{HEAD}\r\n")
        await trio.sleep(0.3)
        await wait_stopped(server)


async def test_a_client_that_does_not_read_does_not_hold_up_cancellation(big_api: Api) -> None:
    with trio.fail_after(HURRY):
        async with live_server(big_api, limits=PATIENT) as server, server.connect() as client:
            await client.send(f"GET /links HTTP/1.1\r\n{HEAD}\r\n")
            await trio.sleep(0.3)
            server.nursery.cancel_scope.cancel()
            await trio.lowlevel.checkpoint()


@pytest.mark.parametrize(
    "half_sent",
    ["", "GET /li", f"POST /links HTTP/1.1\r\n{HEAD}Content-Length: 5\r\n\r\n"],
    ids=["idle", "head", "body"],
)
async def test_clients_in_the_middle_of_something_do_not_hold_up_the_shutdown(api: Api, half_sent: str) -> None:
    async with live_server(api, limits=PATIENT, grace_s=0.1) as server, server.connect() as client:
        await client.request("GET", "/links")
        if half_sent:
            await client.send(half_sent)
        await trio.sleep(0.05)
        await wait_stopped(server)
        await client.read_end()


async def test_idle_clients_do_not_use_up_the_grace(api: Api) -> None:
    async with live_server(api, limits=PATIENT, grace_s=1000) as server, server.connect() as client:
        await client.request("GET", "/links")
        await wait_stopped(server)


async def test_requests_under_way_are_finished_within_the_grace(fabric: FakeFabric) -> None:
    await fabric.add_multilink(MultiVnl("/srv/vm1"))
    fabric.dial_s = 0.3
    async with (
        live_server(make_api(fabric.as_fabric()), limits=PATIENT, grace_s=HURRY) as server,
        server.connect() as client,
    ):
        body = '{"url": "/net/a"}'
        await client.send(f"POST /links HTTP/1.1\r\n{HEAD}Content-Length: {len(body)}\r\n\r\n{body}")
        await trio.sleep(0.1)
        server.shutdown.set()
        assert (await client.read_answer()).status == 201
        assert await client.read_end() == b""
        await wait_stopped(server)


async def test_requests_that_take_longer_than_the_grace_are_cancelled(fabric: FakeFabric) -> None:
    await fabric.add_multilink(MultiVnl("/srv/vm1"))
    fabric.dial_s = 1000
    async with (
        live_server(make_api(fabric.as_fabric()), limits=PATIENT, grace_s=0.1) as server,
        server.connect() as client,
    ):
        body = '{"url": "/net/a"}'
        await client.send(f"POST /links HTTP/1.1\r\n{HEAD}Content-Length: {len(body)}\r\n\r\n{body}")
        await trio.sleep(0.1)
        await wait_stopped(server)
    assert fabric.dial_cancelled.is_set()
    assert not fabric.live


async def test_nothing_listens_after_the_shutdown_and_the_socket_file_is_left_to_its_maker(
    api: Api, short_dir: Path
) -> None:
    async with live_server(api, unix_path=short_dir / "s") as server:
        await wait_stopped(server)
        assert server.unix_path is not None
        assert server.unix_path.exists()
        with pytest.raises(OSError, match="refused"):
            async with server.connect(unix=True):
                pass
        with pytest.raises(OSError, match=r"refused|attempts"):
            async with server.connect():
                pass
