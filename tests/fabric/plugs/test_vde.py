from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from app.fabric.errors import ConnectError, PlugClosedError
from app.fabric.mmsg import Batch
from app.fabric.plugs.base import Plug, open_plug
from app.fabric.vnl import VdeVnl
from tests.fakes import PATIENCE_S, REPLY, RawServer, ServedPeer, frame_of

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
def server(short_dir: Path) -> Iterator[RawServer]:
    with RawServer(str(short_dir)) as listening:
        yield listening


async def joined(server: RawServer, port: str | None = None) -> tuple[Plug, ServedPeer]:
    """A plug that has joined `server`, and the server's end of it."""
    plugs: list[Plug] = []

    async def dial() -> None:
        plugs.append(await open_plug(VdeVnl(server.path, port)))

    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(dial)
            peer = await server.accept()
    return plugs[0], peer


async def refusal(path: Path | str) -> str:
    """Why a dial has failed."""
    with trio.fail_after(PATIENCE_S), pytest.raises(ConnectError) as caught:
        await open_plug(VdeVnl(str(path)))
    return caught.value.detail


def leftovers(path: Path) -> list[str]:
    """Names of client sockets, in the directory and where they fall back to."""
    here = f"{os.getpid():05d}-"
    found = [name for name in os.listdir(path) if name.startswith(".")]
    for directory in ("/var/run", "/var/tmp", "/tmp"):
        found += [name for name in os.listdir(directory) if name.startswith(f"vde.{here}")]
    return found


async def test_frames_go_both_ways(server: RawServer) -> None:
    plug, peer = await joined(server)
    batch = Batch()
    batch.load_frames([frame_of(1), frame_of(2, 9234)])
    assert plug.send(batch, 0, 2) == 2
    assert await peer.receive(2) == [frame_of(1), frame_of(2, 9234)]
    await peer.send(frame_of(3), frame_of(4, 1514))
    with trio.fail_after(PATIENCE_S):
        await plug.wait_readable()
    plug.receive(batch)
    assert [bytes(batch.frame(at)) for at in range(batch.frames)] == [frame_of(3), frame_of(4, 1514)]
    await plug.aclose()


async def test_the_request_is_one_that_every_server_takes(server: RawServer, short_dir: Path) -> None:
    plug, peer = await joined(server)
    request = peer.request
    assert request.kind == 0
    assert Path(request.data_address).parent == short_dir
    assert Path(request.data_address).name.startswith(f".{os.getpid():05d}-")
    assert request.description.startswith("vde-multilink: user=")
    assert request.description.endswith(f"pid={os.getpid()}")
    assert leftovers(short_dir) == [], "the name is removed once it has served"
    await plug.aclose()


@pytest.mark.parametrize(("port", "kind"), [("5", 0x500), ("0", 1), ("65535", 0xFFFF00), ("wifi", 0)])
async def test_a_port_travels_in_the_type(server: RawServer, port: str, kind: int) -> None:
    plug, peer = await joined(server, port)
    assert peer.request.kind == kind
    await plug.aclose()


async def test_a_portgroup_is_joined_by_its_own_socket(server: RawServer, short_dir: Path) -> None:
    with RawServer(str(short_dir), "wifi") as group:
        plugs: list[Plug] = []

        async def dial() -> None:
            plugs.append(await open_plug(VdeVnl(str(short_dir), "wifi")))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(dial)
            await group.accept()
        await plugs[0].aclose()


async def test_the_server_is_known_by_its_credentials(server: RawServer) -> None:
    plug, _peer = await joined(server)
    assert plug.peer is not None
    assert (plug.peer.pid, plug.peer.uid, plug.peer.gid) == (os.getpid(), os.geteuid(), os.getegid())
    await plug.aclose()


async def test_the_servers_end_is_the_plugs_end(server: RawServer) -> None:
    plug, peer = await joined(server)
    peer.leave()
    with trio.fail_after(PATIENCE_S):
        assert "left" in await plug.wait_ended()
    batch = Batch()
    batch.load_frames([frame_of(1)])
    with pytest.raises(PlugClosedError):
        plug.send(batch, 0, 1)
    await plug.aclose()


async def test_closing_the_plug_tells_the_server(server: RawServer) -> None:
    plug, peer = await joined(server)
    await plug.aclose()
    await peer.wait_left()


async def test_where_nothing_is_the_reason_says_so(short_dir: Path) -> None:
    assert "/no/ctl does not exist: is a switch or a multilink running" in await refusal(short_dir / "no")
    assert "/ctl does not exist" in await refusal(short_dir)


async def test_where_nobody_answers_the_reason_says_so(server: RawServer, short_dir: Path) -> None:
    server.close()
    assert "nobody answers" in await refusal(short_dir)


async def test_where_we_are_refused_the_reason_says_so(server: RawServer, short_dir: Path) -> None:
    async with trio.open_nursery() as nursery:

        async def refuse() -> None:
            control, _request = await server.accept_request()
            control.close()

        nursery.start_soon(refuse)
        assert "refuses this link" in await refusal(short_dir)
    assert leftovers(short_dir) == []


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (bytes(110), "not as a VDE switch does"),
        (b"x" * 110, "not as a VDE switch does"),
        (REPLY.pack(socket.AF_UNIX, b"/dev/null"), "not as a VDE switch does: .*not a socket"),
        (REPLY.pack(socket.AF_UNIX, b"/nowhere/at/all"), "not as a VDE switch does"),
        (REPLY.pack(socket.AF_UNIX, bytes(108)), "not as a VDE switch does: .*empty"),
        (REPLY.pack(socket.AF_UNIX, b"\0nobody has this name".ljust(108, b"\0")), "cannot be joined: .*refused"),
        (b"too short", "refuses this link"),
    ],
)
async def test_an_answer_that_is_none_is_refused_and_nothing_is_left(
    server: RawServer, short_dir: Path, reply: bytes, reason: str
) -> None:
    before = len(os.listdir("/proc/self/fd"))
    async with trio.open_nursery() as nursery:

        async def answer() -> None:
            control, _request = await server.accept_request()
            control.send(reply)
            control.close()

        nursery.start_soon(answer)
        with trio.fail_after(PATIENCE_S), pytest.raises(ConnectError, match=reason):
            await open_plug(VdeVnl(str(short_dir)))
    assert leftovers(short_dir) == []
    assert len(os.listdir("/proc/self/fd")) == before


async def test_an_answer_in_pieces_is_an_answer(server: RawServer, short_dir: Path) -> None:
    async with trio.open_nursery() as nursery:

        async def answer() -> None:
            control, request = await server.accept_request()
            with control, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as data:
                data.bind(f"{short_dir}/fd0")
                data.connect(request.data_address)
                reply = REPLY.pack(socket.AF_UNIX, f"{short_dir}/fd0".encode())
                for start in range(0, len(reply), 40):
                    control.send(reply[start : start + 40])
                    await trio.sleep(0.005)
                await until_closed(control)

        nursery.start_soon(answer)
        with trio.fail_after(PATIENCE_S):
            plug = await open_plug(VdeVnl(str(short_dir)))
        await plug.aclose()


async def until_closed(control: socket.socket) -> None:
    with trio.fail_after(PATIENCE_S):
        await trio.lowlevel.wait_readable(control)
    assert control.recv(1) == b""


@needs_root
async def test_a_data_socket_that_is_not_the_servers_is_not_connected_to(server: RawServer, short_dir: Path) -> None:
    async with trio.open_nursery() as nursery:

        async def answer() -> None:
            control, _request = await server.accept_request()
            with control, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as data:
                data.bind(f"{short_dir}/fd0")
                os.chown(f"{short_dir}/fd0", 12345, 0)
                control.send(REPLY.pack(socket.AF_UNIX, f"{short_dir}/fd0".encode()))

        nursery.start_soon(answer)
        assert "belongs to uid 12345" in await refusal(short_dir)


async def test_who_does_not_answer_is_given_up_and_nothing_is_left(
    server: RawServer, short_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.fabric.plugs.base.CONNECT_TIMEOUT_S", 0.05)
    before = len(os.listdir("/proc/self/fd"))
    assert "has not answered within 0.05 s" in await refusal(short_dir)
    assert leftovers(short_dir) == []
    assert len(os.listdir("/proc/self/fd")) == before


async def test_cancelled_it_leaves_nothing(server: RawServer, short_dir: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(open_plug, VdeVnl(str(short_dir)))
        control, _request = await server.accept_request()
        control.close()
        nursery.cancel_scope.cancel()
    assert leftovers(short_dir) == []
    assert len(os.listdir("/proc/self/fd")) == before


async def test_a_full_backlog_is_waited_for(short_dir: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as ctl, trio.CancelScope() as scope:
        ctl.bind(f"{short_dir}/ctl")
        ctl.listen(0)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as first:
            first.connect(f"{short_dir}/ctl")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(open_plug, VdeVnl(str(short_dir)))
                await trio.sleep(0.05)
                ctl.accept()[0].close()
                ctl.settimeout(PATIENCE_S)
                second, _address = await trio.to_thread.run_sync(ctl.accept)
                second.close()
                scope.cancel()


async def test_where_our_name_does_not_fit_it_is_bound_where_everybody_may_write(short_dir: Path) -> None:
    deep = Path(f"{short_dir}/".ljust(100, "x"))
    deep.mkdir()
    with RawServer(str(deep)) as server:
        async with trio.open_nursery() as nursery:

            async def answer() -> None:
                control, request = await server.accept_request()
                assert request.data_address.startswith("/var/run/vde.")
                control.close()

            nursery.start_soon(answer)
            await refusal(deep)
    assert leftovers(deep) == []
