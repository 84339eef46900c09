"""GET /links/{id}/history: a sample a second, as the OpenAPI document says."""

from __future__ import annotations

from pathlib import Path

import trio

from app.api.event_schemas import History
from app.fabric.fabric import open_fabric
from app.fabric.vnl import MultiVnl
from tests.api.fakes import FakeFabric
from tests.api.support import Api, make_api
from tests.fakes import RawClient, frame_of, until


async def test_a_link_s_seconds_are_told_and_sum_up_to_its_counters(short_dir: Path) -> None:
    async with open_fabric() as fabric:
        api = make_api(fabric)
        multilink = await fabric.add_multilink(MultiVnl(f"{short_dir}/vm1"))
        with await RawClient.attach(multilink.path, "host") as host, await RawClient.attach(multilink.path) as peer:
            await until(lambda: any(link.state == "up" for link in fabric.links()), "the link")
            (link,) = fabric.links()
            for burst in range(3):
                await peer.send(*(frame_of(number, 100) for number in range(5)))
                await host.send(frame_of(burst, 200))
                await host.receive(5)
                await peer.receive(1)
                await fabric.statistics.sample_once()
                await fabric.statistics.sample_once()
            answer = await api.request("GET", f"/links/{link.name}/history")
    history = History.model_validate_json(answer.body)
    assert answer.status == 200
    assert history.link == link.id
    assert (history.interval_s, history.kept_s) == (1.0, 300.0)
    samples = history.samples
    assert sum(sample.rx_frames for sample in samples) == link.rx.frames == 15
    assert sum(sample.rx_bytes for sample in samples) == link.rx.bytes == 1500
    assert sum(sample.tx_bytes for sample in samples) == link.tx.bytes == 600
    assert len(samples) >= 3, "each burst in a sample of its own"
    assert all(sample.rx_frames or sample.tx_frames for sample in samples), "idle ones are left out"
    assert [sample.at for sample in samples] == sorted(sample.at for sample in samples)
    assert samples[-1].at <= history.at


async def test_a_link_that_is_idle_has_an_empty_history(api: Api, fabric: FakeFabric) -> None:
    link = fabric.attach("vm1")
    answer = await api.request("GET", f"/links/{link.id}/history")
    assert History.model_validate_json(answer.body).samples == []


async def test_a_link_that_is_not_there_has_none(api: Api) -> None:
    (await api.request("GET", "/links/nobody/history")).check_problem(404, "not_found")


async def test_five_minutes_are_written_with_others_in_between(short_dir: Path) -> None:
    async with open_fabric() as fabric:
        api = make_api(fabric)
        multilink = await fabric.add_multilink(MultiVnl(f"{short_dir}/vm1"))
        with await RawClient.attach(multilink.path):
            await until(lambda: any(link.state == "up" for link in fabric.links()), "the link")
            (link,) = fabric.links()
            for _ in range(300):
                link.rx.add(1, 60)
                await fabric.statistics.sample_once()
            steps = 0

            async def others() -> None:
                nonlocal steps
                while True:
                    steps += 1
                    await trio.lowlevel.checkpoint()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(others)
                answer = await api.request("GET", f"/links/{link.id}/history")
                nursery.cancel_scope.cancel()
    assert len(answer.json["samples"]) == 300
    assert steps > 5
