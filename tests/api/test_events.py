"""GET /events: in order, as the OpenAPI document says, and back again after a break without missing anything."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio

from app.api import events as api_events
from app.api.event_json import EventEncoder, read_position_untrusted
from app.api.event_schemas import Event as EventModel
from app.fabric.events import Event, EventKind, EventPosition
from app.fabric.fabric import Fabric, open_fabric
from app.fabric.handoff_states import VerifyNothing
from app.fabric.handoffs import HandoffRequest
from app.fabric.statistics import Sample
from app.fabric.vnl import MultiVnl, parse_vnl
from tests.api.fakes import FakeFabric
from tests.api.streams import Block, Stream, get_stream
from tests.api.support import HURRY, PATIENT, QUICK, Api, live_server, make_api, wait_stopped
from tests.fakes import RawClient, frame_of, until


@pytest.fixture
async def real(short_dir: Path) -> AsyncIterator[Fabric]:
    async with open_fabric() as fabric:
        await fabric.add_multilink(MultiVnl(f"{short_dir}/vm1"))
        await fabric.add_multilink(MultiVnl(f"{short_dir}/vm2"))
        yield fabric


def publish(fabric: FakeFabric | Fabric, count: int, start: int = 0) -> None:
    for number in range(start, start + count):
        fabric.events.publish(EventKind.LINK_UP, {"name": f"link-{number}"})


async def names(stream: Stream, count: int) -> list[str]:
    return [(await stream.event()).data["name"] for _ in range(count)]


def check(block: Block) -> str:
    """It is as the OpenAPI document has it; its kind."""
    EventModel.model_validate(block.data)
    assert block.data["event"] == block.kind
    return block.kind


async def test_a_stream_begins_at_once_with_where_it_is(api: Api, fabric: FakeFabric) -> None:
    publish(fabric, 3)
    async with live_server(api) as server, get_stream(server, "/events") as stream:
        assert stream.status == 200
        assert stream.headers["content-type"] == "text/event-stream"
        assert stream.headers["cache-control"] == "no-store"
        first = await stream.block()
        assert first.comment
        assert first.fields == {"retry": "1000", "id": f"{fabric.events.run}-3"}
        publish(fabric, 1)
        event = await stream.event()
        assert (event.kind, event.id) == ("link_up", f"{fabric.events.run}-4")


async def test_everything_that_happens_is_told_as_the_document_says(real: Fabric, short_dir: Path) -> None:
    seen: set[str] = set()
    async with live_server(make_api(real)) as server, get_stream(server, "/events") as stream:
        with await RawClient.attach(f"{short_dir}/vm1", "host"):
            await _see(stream, seen, "host_attached")
            link = await real.dial(parse_vnl(f"{short_dir}/vm2"), multilink="vm1", name="a")
            await _see(stream, seen, "link_up")
            request = HandoffRequest(
                to=parse_vnl(f"{short_dir}/vm2"), to_name="b", verify=VerifyNothing(), overlap_s=0, drain_s=0
            )
            real.handoffs.start(real.multilink("vm1"), request)
            states = [(await _see(stream, seen, "handoff")).data["state"] for _ in range(5)]
            assert states == ["making", "verifying", "overlapping", "draining", "completed"]
            assert link.ended.is_set()
        await _see(stream, seen, "host_detached")
        await _see(stream, seen, "stats")
        await real.remove_multilink("vm2")
        await _see(stream, seen, "multilink_removed")
    assert {"link_added", "link_draining", "link_retired"} <= seen


async def _see(stream: Stream, seen: set[str], kind: str) -> Block:
    while True:
        block = await stream.event()
        seen.add(check(block))
        if block.kind == kind:
            return block


async def test_rates_are_those_of_the_frames_that_went(real: Fabric, short_dir: Path) -> None:
    async with live_server(make_api(real)) as server, get_stream(server, "/events?kinds=stats") as stream:
        with (
            await RawClient.attach(f"{short_dir}/vm1", "host") as host,
            await RawClient.attach(f"{short_dir}/vm1") as peer,
        ):
            await until(lambda: any(link.state == "up" for link in real.links()), "the link")
            link_id = real.links()[0].id
            await peer.send(*(frame_of(number, 100) for number in range(7)))
            await host.receive(7)
            total = {"rx_frames": 0, "rx_bytes": 0, "tx_frames": 0, "tx_bytes": 0, "dropped": 0, "duplicates": 0}
            while total["rx_frames"] < 7:
                block = await stream.event()
                assert check(block) == "stats", "nothing but what was asked for"
                for name, value in block.data["links"].get(link_id, {}).items():
                    total[name] += value
            assert total == total | {"rx_frames": 7, "rx_bytes": 700, "dropped": 0}


@pytest.mark.parametrize("how", ["header", "query"])
async def test_who_comes_back_has_missed_nothing(api: Api, fabric: FakeFabric, how: str) -> None:
    async with live_server(api) as server:
        async with get_stream(server, "/events") as stream:
            publish(fabric, 2)
            assert await names(stream, 1) == ["link-0"]
            last = (await stream.event()).id
        publish(fabric, 40, start=2)
        path = "/events" if how == "header" else f"/events?last_event_id={last}"
        headers = {"Last-Event-ID": last} if how == "header" else {}
        async with get_stream(server, path, headers=headers) as stream:
            assert await names(stream, 40) == [f"link-{number}" for number in range(2, 42)]


async def test_who_loses_the_stream_before_the_first_event_can_come_back_too(api: Api, fabric: FakeFabric) -> None:
    async with live_server(api) as server:
        async with get_stream(server, "/events") as stream:
            last = (await stream.block()).id
        publish(fabric, 2)
        async with get_stream(server, "/events", headers={"Last-Event-ID": last}) as stream:
            assert await names(stream, 2) == ["link-0", "link-1"]


@pytest.mark.parametrize("last", ["00000000-7", "nonsense", "-", "x-99999999999999999999999999", "a-٣"])
async def test_what_cannot_be_told_any_more_is_said_to_be_missing(api: Api, fabric: FakeFabric, last: str) -> None:
    publish(fabric, 2)
    async with live_server(api) as server:
        headers = {"Last-Event-ID": last.encode().decode("latin1")}
        async with get_stream(server, "/events", headers=headers) as stream:
            assert check(await stream.event()) == "missed"
            assert await names(stream, 2) == ["link-0", "link-1"]


async def test_only_the_kinds_that_are_asked_for_and_what_was_missed(api: Api, fabric: FakeFabric) -> None:
    fabric.events.publish(EventKind.LINK_DOWN, {"name": "down-0"})
    publish(fabric, 1)
    async with (
        live_server(api) as server,
        get_stream(server, "/events?kinds=link_down,host_attached&last_event_id=x-1") as stream,
    ):
        assert (await stream.event()).kind == "missed"
        publish(fabric, 1)
        fabric.events.publish(EventKind.LINK_DOWN, {"name": "down-1"})
        assert await names(stream, 2) == ["down-0", "down-1"]


async def test_kinds_that_there_are_not_are_refused(api: Api) -> None:
    for kinds in ("link_sideways", "", "UP", "link_up,,link_down"):
        answer = await api.request("GET", f"/events?kinds={kinds}")
        answer.check_problem(422, "invalid_request")


async def test_without_the_token_there_is_nothing(api: Api) -> None:
    (await api.request("GET", "/events", token=None)).check_problem(401, "unauthorized")


async def test_head_has_an_end(api: Api) -> None:
    answer = await api.request("HEAD", "/events")
    assert (answer.status, answer.body) == (200, b"")


async def test_somebody_is_always_there(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_events, "KEEP_ALIVE_S", 0.05)
    async with live_server(api) as server, get_stream(server, "/events") as stream:
        await stream.block()
        for _ in range(3):
            block = await stream.block()
            assert block.comment
            assert not block.fields


async def test_streams_end_first_when_the_service_stops(api: Api, fabric: FakeFabric) -> None:
    async with live_server(api, limits=PATIENT, grace_s=1000) as server, get_stream(server, "/events") as stream:
        await stream.block()
        server.shutdown.set()
        assert await stream.read_rest() == b"", "a proper end"
        await wait_stopped(server)
        assert fabric.events.readers == 0


async def test_a_reader_that_stalls_is_cut_off_and_counted(api: Api, fabric: FakeFabric) -> None:
    async with live_server(api, limits=QUICK) as server, get_stream(server, "/events") as stalled:
        stalled.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await stalled.block()
        await _fill(fabric)
        assert fabric.events.cut_off == 1


async def _fill(fabric: FakeFabric) -> None:
    """Publish until nobody reads any more."""
    with trio.fail_after(HURRY):
        while fabric.events.readers:
            fabric.events.publish(EventKind.LINK_UP, {"name": "x" * 50_000})
            await trio.sleep(0.01)


async def test_readers_that_leave_are_forgotten_and_not_counted_as_slow(api: Api, fabric: FakeFabric) -> None:
    async with live_server(api) as server:
        async with get_stream(server, "/events") as stream:
            await stream.block()
            assert fabric.events.readers == 1
        await until(lambda: fabric.events.readers == 0, "nobody to read")
        assert fabric.events.cut_off == 0


async def test_many_streams_get_everything_while_others_take_nothing(short_dir: Path) -> None:
    fabric = FakeFabric()
    async with live_server(make_api(fabric.as_fabric()), unix_path=short_dir / "s", limits=PATIENT) as server:
        async with AsyncExitStack() as stack:
            readers, stalled = [
                [await stack.enter_async_context(get_stream(server, "/events", unix=True)) for _ in range(100)]
                for _ in range(2)
            ]
            await until(lambda: fabric.events.readers == 200, "everybody to read")
            got: dict[int, list[str]] = {}

            async def read(number: int, stream: Stream) -> None:
                got[number] = await names(stream, 3000)

            async with trio.open_nursery() as nursery:
                for number, stream in enumerate(readers):
                    nursery.start_soon(read, number, stream)
                for start in range(0, 3000, 20):
                    publish(fabric, 20, start)
                    await until(lambda: _all_have_taken(fabric), "the readers to take what there is")
            expected = [f"link-{number}" for number in range(3000)]
            assert all(each == expected for each in got.values())
            assert fabric.events.cut_off == len(stalled)
            assert fabric.events.readers == len(readers)
        await until(lambda: fabric.events.readers == 0, "nobody to read")
        await wait_stopped(server)


def _all_have_taken(fabric: FakeFabric) -> bool:
    waiting = [reader.statistics().current_buffer_used for reader in fabric.events._readers]
    # Those that are stalled are not waited for: they are the ones that have more than came at once.
    return sum(used == 0 for used in waiting) >= 100


# How events are written.


async def test_an_event_is_encoded_once_for_all() -> None:
    encoder = EventEncoder("run")
    event = Event(5, EventKind.LINK_UP, 0.0, {"name": "a"})
    assert await encoder.encode(event) is await encoder.encode(event)


async def test_rates_of_many_links_are_encoded_once_with_others_in_between() -> None:
    encoder = EventEncoder("run")
    links = {f"l{number}": Sample(0.0, number, 2, 3, 4, 5, 6) for number in range(1000)}
    event = Event(5, EventKind.STATS, 0.0, {"at": 0.0, "interval_s": 1.0, "links": links})
    results: list[bytes] = []

    async def encode() -> None:
        results.append(await encoder.encode(event))

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(encode)
    assert len({id(each) for each in results}) == 1
    block = results[0].decode()
    data = Block(dict(line.split(": ", 1) for line in block.strip().split("\n"))).data
    model = EventModel.model_validate(data).root
    assert model.model_dump()["links"]["l999"]["rx_frames"] == 999


async def test_one_that_is_cancelled_while_it_encodes_leaves_it_to_the_next() -> None:
    encoder = EventEncoder("run")
    links = {f"l{number}": Sample(0.0, 1, 2, 3, 4, 5, 6) for number in range(1000)}
    event = Event(5, EventKind.STATS, 0.0, {"at": 0.0, "interval_s": 1.0, "links": links})
    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            scope.cancel()
            await encoder.encode(event)
        nursery.start_soon(encoder.encode, event)
    assert (await encoder.encode(event)).startswith(b"event: stats\n")


async def test_texts_with_line_ends_and_bytes_that_are_no_utf_8_stay_one_line() -> None:
    block = await EventEncoder("run").encode(Event(1, EventKind.LINK_DOWN, 0.0, {"detail": "a\r\nb\udcff \u2028 \x00"}))
    lines = block.split(b"\n")
    assert len(lines) == 5
    assert block.decode().count("\r") == 0


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("abc-12", EventPosition("abc", 12)),
        ("abc-0", EventPosition("abc", 0)),
        ("", EventPosition("", 0)),
        ("abc", EventPosition("", 0)),
        ("abc--1", EventPosition("", 0)),
        ("abc-1e3", EventPosition("", 0)),
        ("abc-" + "9" * 5000, EventPosition("", 0)),
    ],
)
def test_positions_are_read_with_care(text: str, position: EventPosition) -> None:
    assert read_position_untrusted(text) == position
