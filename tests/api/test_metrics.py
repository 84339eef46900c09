"""GET /metrics: every number, exactly, under names that Prometheus' own rules accept."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import trio
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from app.api.metrics import LINKS_A_STEP
from app.fabric.counters import DropReason
from app.fabric.fabric import Fabric, open_fabric
from app.fabric.handoff_states import VerifyFrames, VerifyNothing
from app.fabric.handoffs import HandoffRequest
from app.fabric.vnl import MultiVnl, parse_vnl
from tests.api.fakes import FakeFabric
from tests.api.support import Api, make_api
from tests.fakes import RawClient, frame_of, until

PREFIX = "vde_multilink_"
KNOWN_UNITS = ("seconds", "bytes", "ratio", "celsius", "meters", "volts", "amperes", "joules", "grams")
OTHER_UNITS = ("milliseconds", "ms", "minutes", "hours", "kilobytes", "megabytes", "bits", "percent", "kb", "mb")


async def families(api: Api) -> dict[str, Metric]:
    answer = await api.request("GET", "/metrics")
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {family.name: family for family in text_string_to_metric_families(answer.body.decode())}


def values(family: Metric, *labels: str) -> dict[tuple[str, ...], float]:
    """The samples of a family by the labels that are asked for."""
    return {tuple(sample.labels[name] for name in labels): sample.value for sample in family.samples}


def lint(text: str) -> list[str]:
    """What `promtool check metrics` would complain of: the rules that are about names, types and help."""
    explained = set(re.findall(r"^# HELP (\S+) \S", text, re.MULTILINE))
    complaints = []
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE):
        words = name.split("_")
        rules = {
            "has no help text": name not in explained,
            "is a counter, and has to end in _total": kind == "counter" and words[-1] != "total",
            "is no counter, and must not end in _total": kind != "counter" and words[-1] == "total",
            "has an ending for histograms": words[-1] in {"count", "sum", "bucket"},
            "is in camel case, or has a colon": re.search("[A-Z:]", name),
            "has its type in its name": set(words) & {"counter", "gauge", "histogram", "summary", "metric"},
            "is in another unit than the base unit": set(words) & set(OTHER_UNITS),
            "has its unit not at the end": set([word for word in words if word != "total"][:-1]) & set(KNOWN_UNITS),
        }
        complaints += [f"{name} {rule}" for rule, is_broken in rules.items() if is_broken]
    labels = {
        label for line in re.findall(r"^\w+\{(.*)\} ", text, re.MULTILINE) for label in re.findall(r"(\w+)=", line)
    }
    complaints += [f"the label {label} is in camel case" for label in labels if re.search("[A-Z]", label)]
    return complaints


async def test_what_raw_clients_have_counted_is_what_is_told(short_dir: Path) -> None:
    async with open_fabric() as fabric:
        api = make_api(fabric)
        multilink = await fabric.add_multilink(MultiVnl(f"{short_dir}/vm1"))
        with (
            await RawClient.attach(multilink.path, "host") as host,
            await RawClient.attach(multilink.path) as one,
            await RawClient.attach(multilink.path) as other,
        ):
            await until(lambda: [str(link.state) for link in fabric.links()] == ["up", "up"], "the links")
            for start in range(0, 300, 30):
                await host.send(*(frame_of(number, 100) for number in range(start, start + 30)))
                assert len(await one.receive(30)) == len(await other.receive(30)) == 30
                await one.send(*(frame_of(1000 + number, 200) for number in range(start, start + 30)))
                await other.send(*(frame_of(2000 + number, 300) for number in range(start, start + 30)))
                assert len(await host.receive(60)) == 60
            await one.send(b"runt", b"x" * 9999)
            await other.send(*(frame_of(1000 + number, 200) for number in range(30)))
            first, second = fabric.links()
            await until(lambda: first.rx.dropped_frames == 2 and second.rx.dropped_frames == 30, "the drops")
            found = await families(api)
    ids = [(first.id,), (second.id,)]
    for name, expected in (
        ("link_received_frames", [300, 300]),
        ("link_received_bytes", [300 * 200, 300 * 300]),
        ("link_sent_frames", [300, 300]),
        ("link_sent_bytes", [300 * 100, 300 * 100]),
        ("link_duplicate_frames", [0, 30]),
        ("link_queue_frames", [0, 0]),
        ("link_active", [1, 1]),
    ):
        assert values(found[PREFIX + name], "link") == dict(zip(ids, expected, strict=True)), name
    assert values(found[f"{PREFIX}link_received_dropped_frames"], "link", "reason") == {
        (first.id, "runt"): 1,
        (first.id, "giant"): 1,
    }
    assert values(found[f"{PREFIX}host_received_frames"], "multilink") == {("vm1",): 300}
    assert values(found[f"{PREFIX}host_sent_frames"], "multilink") == {("vm1",): 600}
    assert values(found[f"{PREFIX}host_sent_bytes"], "multilink") == {("vm1",): 300 * 500}
    assert values(found[f"{PREFIX}host_attached"], "multilink") == {("vm1",): 1}
    states = values(found[f"{PREFIX}link_state"], "link", "state")
    assert {key for key, value in states.items() if value} == {(first.id, "up"), (second.id, "up")}
    assert {sample.labels["name"] for sample in found[f"{PREFIX}link_sent_frames"].samples} == {first.name, second.name}


async def test_hand_offs_are_counted_by_outcome_and_their_phases_are_timed(short_dir: Path) -> None:
    async with open_fabric() as fabric:
        api = make_api(fabric)
        for name in ("vm1", "vm2"):
            await fabric.add_multilink(MultiVnl(f"{short_dir}/{name}"))
        await hand_off(fabric, HandoffRequest(to=parse_vnl(f"{short_dir}/vm2"), verify=VerifyNothing(), overlap_s=0))
        await hand_off(
            fabric, HandoffRequest(to=parse_vnl(f"{short_dir}/vm2"), verify=VerifyFrames(1), verify_timeout_s=0.05)
        )
        found = await families(api)
    assert values(found[f"{PREFIX}handoffs"], "outcome") == {("completed",): 1, ("rolled_back",): 1, ("aborted",): 0}
    durations = found[f"{PREFIX}handoff_phase_duration_seconds"]
    assert durations.type == "histogram"
    counts = {s.labels["phase"]: s.value for s in durations.samples if s.name.endswith("_count")}
    sums = {s.labels["phase"]: s.value for s in durations.samples if s.name.endswith("_sum")}
    assert counts == {"making": 2, "verifying": 2, "overlapping": 1, "draining": 1}
    assert sums["verifying"] >= 0.05


async def hand_off(fabric: Fabric, request: HandoffRequest) -> None:
    handoff = fabric.handoffs.start(fabric.multilink("vm1"), request)
    await handoff.ended.wait()


async def test_the_rest_of_the_service_is_told_too(fabric: FakeFabric, api: Api) -> None:
    link = fabric.attach("vm1")
    fabric.events.cut_off = 3
    fabric.statistics.on_tick[0](0.004)
    async with fabric.events.read():
        found = await families(api)
    assert found[f"{PREFIX}event_readers"].samples[0].value == 1
    assert found[f"{PREFIX}event_readers_cut_off"].samples[0].value == 3
    assert found[f"{PREFIX}captures"].samples[0].value == 0
    assert found[f"{PREFIX}tasks"].samples[0].value > 3
    lag = {s.labels["le"]: s.value for s in found[f"{PREFIX}loop_lag_seconds"].samples if "le" in s.labels}
    assert (lag["0.0025"], lag["0.005"]) == (0, 1)
    assert found["process_resident_memory_bytes"].samples[0].value > 0
    assert values(found[f"{PREFIX}link_sent_dropped_frames"], "link", "reason") == {(link.id, "full"): 2}


async def test_names_that_peers_choose_cannot_break_the_format(fabric: FakeFabric, api: Api) -> None:
    evil = 'a"} 1\n# TYPE x counter\\'
    fabric.attach("vm1", name=evil)
    found = await families(api)
    assert {sample.labels["name"] for sample in found[f"{PREFIX}link_sent_frames"].samples} == {evil}
    assert "x" not in found


async def test_a_thousand_links_are_one_block_a_family_and_hold_nobody_up(fabric: FakeFabric, api: Api) -> None:
    count = 10 * LINKS_A_STEP + 7
    for number in range(count):
        fabric.attach("vm1", name=f"link-{number}").rx.drop(DropReason.DUPLICATE, number)
    steps = 0

    async def others() -> None:
        nonlocal steps
        while True:
            steps += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(others)
        answer = await api.request("GET", "/metrics")
        nursery.cancel_scope.cancel()
    headings = re.findall(r"^# TYPE (\S+)", answer.body.decode(), re.MULTILINE)
    assert len(headings) == len(set(headings))
    duplicates = (await families(api))[f"{PREFIX}link_duplicate_frames"]
    assert sorted(sample.value for sample in duplicates.samples) == list(range(count))
    assert steps > 100


async def test_names_types_and_help_are_by_prometheus_conventions(fabric: FakeFabric, api: Api) -> None:
    fabric.attach("vm1")
    text = (await api.request("GET", "/metrics")).body.decode()
    ours = "".join(line for line in text.splitlines(keepends=True) if PREFIX in line)
    assert lint(ours) == []


async def test_promtool_has_no_complaints(fabric: FakeFabric, api: Api) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("needs promtool, of Debian's package prometheus")
    fabric.attach("vm1")
    text = (await api.request("GET", "/metrics")).body
    done = await trio.run_process(
        [promtool, "check", "metrics"], stdin=text, capture_stdout=True, stderr=subprocess.STDOUT, check=False
    )
    assert (done.returncode, done.stdout) == (0, b"")


@pytest.mark.parametrize(
    "text",
    [
        "# HELP x_frames f\n# TYPE x_frames counter\nx_frames 1\n",
        "# HELP x_total f\n# TYPE x_total gauge\nx_total 1\n",
        "# TYPE x_frames gauge\nx_frames 1\n",
        "# HELP x_delay_ms f\n# TYPE x_delay_ms gauge\nx_delay_ms 1\n",
        "# HELP x_seconds_lag f\n# TYPE x_seconds_lag gauge\nx_seconds_lag 1\n",
        "# HELP xFrames f\n# TYPE xFrames gauge\nxFrames 1\n",
    ],
)
def test_the_rules_find_what_is_wrong(text: str) -> None:
    assert lint(text)


async def test_without_the_token_there_is_nothing(api: Api) -> None:
    (await api.request("GET", "/metrics", token=None)).check_problem(401, "unauthorized")
