"""GET /links/{id}/capture: a pcapng file that grows, as another program reads it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from app.api import capture as api_capture
from app.fabric import capture as fabric_capture
from app.fabric.fabric import Fabric, open_fabric
from app.fabric.link import Link
from app.fabric.vnl import MultiVnl
from tests.api.fakes import FakeFabric
from tests.api.streams import get_stream
from tests.api.support import HURRY, PATIENT, Api, live_server, make_api, wait_stopped
from tests.fabric.test_pcapng import blocks, options
from tests.fakes import RawClient, frame_of, until

FRAME_BLOCK, STATISTICS_BLOCK = 6, 5


class Lan:
    """A multilink with a host and one link."""

    def __init__(self, fabric: Fabric, link: Link, host: RawClient, peer: RawClient) -> None:
        self.fabric = fabric
        self.link = link
        self.host = host
        self.peer = peer

    async def exchange(self, *numbers: int) -> None:
        """A frame each way for each number."""
        for number in numbers:
            await self.host.send(frame_of(number, 100))
            assert await self.peer.receive(1) == [frame_of(number, 100)]
            await self.peer.send(frame_of(number, 200))
            assert await self.host.receive(1) == [frame_of(number, 200)]


@pytest.fixture
async def lan(short_dir: Path) -> AsyncIterator[Lan]:
    async with open_fabric() as fabric:
        multilink = await fabric.add_multilink(MultiVnl(f"{short_dir}/vm1"))
        with await RawClient.attach(multilink.path, "host") as host, await RawClient.attach(multilink.path) as peer:
            await until(lambda: any(link.state == "up" for link in fabric.links()), "the link")
            yield Lan(fabric, fabric.links()[0], host, peer)


def frames_of(octets: bytes) -> list[tuple[bytes, bool]]:
    """The frames of a whole file, and whether they were inbound."""
    found = []
    for kind, body in blocks(octets):
        if kind == FRAME_BLOCK:
            kept = int.from_bytes(body[12:16], "little")
            flags = options(body[20 + kept + -kept % 4 :])[2]
            found.append((body[20 : 20 + kept], flags[0] == 1))
    return found


async def test_a_capture_has_every_frame_both_ways_and_ends_after_so_many(lan: Lan) -> None:
    async with (
        live_server(make_api(lan.fabric)) as server,
        get_stream(server, f"/links/{lan.link.name}/capture?frames=6") as stream,
    ):
        assert (stream.status, stream.headers["content-type"]) == (200, "application/x-pcapng")
        head = await stream.read_some()
        await lan.exchange(1, 2, 3, 4)
        whole = head + await stream.read_rest()
        assert frames_of(whole) == [
            (frame_of(number, size), size == 200) for number in (1, 2, 3) for size in (100, 200)
        ]
        *_, (kind, body) = blocks(whole)
        found = options(body[12:])
        assert kind == STATISTICS_BLOCK
        assert [int.from_bytes(found[code], "little") for code in (4, 5, 8)] == [6, 0, 6]
        assert lan.link.capture is None, "it costs nothing any more"


async def test_it_is_live(lan: Lan) -> None:
    async with (
        live_server(make_api(lan.fabric)) as server,
        get_stream(server, f"/links/{lan.link.id}/capture") as stream,
    ):
        await stream.read_some()
        for number in range(3):
            await lan.exchange(number)
            text = await stream.read_some()
            while len(frames_of(text)) < 2:
                text += await stream.read_some()
            assert [octets for octets, _ in frames_of(text)] == [frame_of(number, 100), frame_of(number, 200)]


async def test_it_ends_after_so_many_seconds(lan: Lan) -> None:
    async with (
        live_server(make_api(lan.fabric)) as server,
        get_stream(server, f"/links/{lan.link.id}/capture?seconds=0.2&snaplen=20") as stream,
    ):
        head = await stream.read_some()
        await lan.exchange(1)
        frames = frames_of(head + await stream.read_rest())
        assert [octets for octets, _ in frames] == [frame_of(1, 100)[:20], frame_of(1, 200)[:20]]
        assert lan.link.capture is None


async def test_it_ends_with_the_link(lan: Lan) -> None:
    async with (
        live_server(make_api(lan.fabric)) as server,
        get_stream(server, f"/links/{lan.link.id}/capture") as stream,
    ):
        head = await stream.read_some()
        await lan.exchange(1)
        lan.peer.leave()
        assert len(frames_of(head + await stream.read_rest())) == 2


async def test_it_ends_properly_and_at_once_when_the_service_stops(lan: Lan) -> None:
    async with (
        live_server(make_api(lan.fabric), limits=PATIENT, grace_s=1000) as server,
        get_stream(server, f"/links/{lan.link.id}/capture") as stream,
    ):
        head = await stream.read_some()
        server.shutdown.set()
        *_, (kind, _) = blocks(head + await stream.read_rest())
        assert kind == STATISTICS_BLOCK
        await wait_stopped(server)


async def test_a_reader_that_leaves_ends_it(lan: Lan) -> None:
    async with live_server(make_api(lan.fabric)) as server:
        async with get_stream(server, f"/links/{lan.link.id}/capture") as stream:
            await stream.read_some()
            assert len(lan.fabric.captures) == 1
        await until(lambda: lan.link.capture is None, "nobody to look")
        assert len(lan.fabric.captures) == 0


async def test_a_slow_reader_loses_copies_and_the_network_no_frame(lan: Lan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fabric_capture, "BUFFER_BYTES", 100_000)
    sent = 20_000
    async with (
        live_server(make_api(lan.fabric), limits=PATIENT) as server,
        get_stream(server, f"/links/{lan.link.id}/capture") as stream,
    ):
        head = await stream.read_some()
        for start in range(0, sent, 50):
            await lan.host.send(*(frame_of(number, 1514) for number in range(start, start + 50)))
            frames = await lan.peer.receive(50)
            assert frames == [frame_of(number, 1514) for number in range(start, start + 50)]
        assert lan.link.tx.dropped_frames == 0
        lan.peer.leave()
        whole = head + await stream.read_rest()
    frames_kept = len(frames_of(whole))
    lost = 0
    for kind, body in blocks(whole):
        if kind == FRAME_BLOCK:
            kept = int.from_bytes(body[12:16], "little")
            lost += int.from_bytes(options(body[20 + kept + -kept % 4 :]).get(4, b""), "little")
        if kind == STATISTICS_BLOCK:
            found = options(body[12:])
            seen, dropped = (int.from_bytes(found[code], "little") for code in (4, 5))
            assert (seen, seen - dropped) == (sent, frames_kept)
            assert lost <= dropped, "those after the last frame that was kept are in the end's number alone"
            assert dropped > 0
    assert lan.fabric.captures.lost_frames == sent - frames_kept


async def test_there_are_only_so_many_at_a_time(lan: Lan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_capture, "MAX_CAPTURES", 1)
    api = make_api(lan.fabric)
    async with live_server(api) as server, get_stream(server, f"/links/{lan.link.id}/capture") as stream:
        await stream.read_some()
        answer = await api.request("GET", f"/links/{lan.link.id}/capture")
        answer.check_problem(503, "too_many_captures")


async def test_what_cannot_be_captured_is_refused(api: Api, fabric: FakeFabric) -> None:
    link = fabric.attach("vm1")
    (await api.request("GET", "/links/nobody/capture")).check_problem(404, "not_found")
    for query in ("frames=0", "seconds=-1", "seconds=nan", "snaplen=2", "snaplen=65536", "frames=1&frames=2", "x=1"):
        (await api.request("GET", f"/links/{link.id}/capture?{query}")).check_problem(422, "invalid_request")
    answer = await api.request("HEAD", f"/links/{link.id}/capture")
    assert (answer.status, answer.body) == (200, b"")
    assert len(fabric.captures) == 0


@pytest.mark.skipif(shutil.which("tshark") is None, reason="needs tshark")
async def test_another_program_reads_it_to_the_end(lan: Lan, short_dir: Path) -> None:
    async with (
        live_server(make_api(lan.fabric)) as server,
        get_stream(server, f"/links/{lan.link.id}/capture?frames=4") as stream,
    ):
        head = await stream.read_some()
        await lan.exchange(1, 2)
        whole = head + await stream.read_rest()
    file = short_dir / "x.pcapng"
    file.write_bytes(whole)
    fields = ["frame.len", "frame.cap_len", "frame.interface_name", "frame.packet_flags_direction"]
    with trio.fail_after(HURRY):
        done = await trio.run_process(
            ["tshark", "-r", str(file), "-T", "fields", *(word for name in fields for word in ("-e", name))],
            capture_stdout=True,
            stderr=subprocess.DEVNULL,
        )
    lines = [line.split("\t") for line in done.stdout.decode().splitlines()]
    assert [line[:3] for line in lines] == [[size, size, lan.link.name] for _ in range(2) for size in ("100", "200")]
    assert [int(line[3], 0) for line in lines] == [2, 1, 2, 1]
