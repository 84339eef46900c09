"""The resource /metrics: everything that is counted, for Prometheus.

The families are those of `_link_families` and `_service_families`, read from the fabric when asked; and the hand-offs'
and the loop's own, which are counted as things happen. With a thousand links that is ten thousand lines: they are
written LINKS_A_STEP links at a time, and frames pass in between. (`generate_latest` over a collector would be one step
of a tenth of a second.)

Invariant: names end in their unit, and counters in `_total`; what is counted anywhere in the fabric is here under one
name, and never falls while a link lives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

import trio
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    Metric,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector
from quart import Blueprint, Response

from app import __version__
from app.api.parsing import read_query
from app.api.schemas import NoQuery
from app.fabric.counters import DirectionCounters, DropReason
from app.fabric.handoff import Handoff
from app.fabric.handoff_states import FINAL_STATES, PHASES
from app.fabric.host import Host, HostState
from app.fabric.link import Link
from app.fabric.states import LinkState, Role

if TYPE_CHECKING:
    from app.fabric.fabric import Fabric

METRICS_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
LINKS_A_STEP: Final = 20
_PREFIX: Final = "vde_multilink_"
_LINK: Final = ("multilink", "link", "name")
_PHASE_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_LAG_BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
_NOT_LOST: Final = frozenset({DropReason.DUPLICATE})
"""Counted under a name of their own: a second copy is not a frame lost."""

_HOST_COUNTERS: Final[Sequence[tuple[str, str, Callable[[Host], int]]]] = (
    ("host_received_frames", "Frames from the host that were handed on.", lambda host: host.rx.frames),
    ("host_received_bytes", "Bytes from the host that were handed on.", lambda host: host.rx.bytes),
    ("host_sent_frames", "Frames sent to the host.", lambda host: host.tx.frames),
    ("host_sent_bytes", "Bytes sent to the host.", lambda host: host.tx.bytes),
)


class MetricsHandlers:
    """The operation that tells every number.

    Args:
        fabric: what is counted; owned by the caller.
    """

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric
        # It would be a series more for each, that nobody asks for.
        disable_created_metrics()  # type: ignore[no-untyped-call] # the one function they have not annotated
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        self._handoffs = Counter(
            f"{_PREFIX}handoffs", "Hand-offs that are over, by their outcome.", ["outcome"], registry=self._registry
        )
        self._phases = Histogram(
            f"{_PREFIX}handoff_phase_duration_seconds",
            "How long the phases of hand-offs took.",
            ["phase"],
            buckets=_PHASE_BUCKETS,
            registry=self._registry,
        )
        self._lag = Histogram(
            f"{_PREFIX}loop_lag_seconds",
            "How late the event loop was for an appointment, one a second.",
            buckets=_LAG_BUCKETS,
            registry=self._registry,
        )
        for state in FINAL_STATES:
            self._handoffs.labels(state.value)
        for phase in PHASES:
            self._phases.labels(phase.value)
        fabric.handoffs.on_progress.append(self._count_handoff)
        fabric.statistics.on_tick.append(self._lag.observe)

    def blueprint(self) -> Blueprint:
        """The routes of this resource."""
        routes = Blueprint("metrics", __name__)
        routes.add_url_rule("/metrics", view_func=self.get_metrics, methods=["GET"])
        return routes

    async def get_metrics(self) -> Response:
        """GET /metrics: in Prometheus' text format."""
        read_query(NoQuery)
        parts = [_written(_service_families(self._fabric))]
        links = self._fabric.links()
        chunks = [links[at : at + LINKS_A_STEP] for at in range(0, len(links), LINKS_A_STEP)] or [[]]
        for family in _link_families(self._fabric):
            for number, chunk in enumerate(chunks):
                text = _written([family(chunk)])
                # One family is one block of lines, under one heading.
                parts.append(text if number == 0 else _without_heading(text))
                await trio.lowlevel.checkpoint()
        parts.append(generate_latest(self._registry))
        return Response(b"".join(parts), content_type=METRICS_TYPE)

    def _count_handoff(self, handoff: Handoff) -> None:
        if handoff.is_over:
            self._handoffs.labels(handoff.state.value).inc()
            for phase in handoff.phases:
                if phase.duration_s is not None:
                    self._phases.labels(phase.state.value).observe(phase.duration_s)


class _Families(Collector):
    """Families that are there already, as something that can be written."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _written(families: Iterable[Metric]) -> bytes:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(families))
    return generate_latest(registry)


def _without_heading(text: bytes) -> bytes:
    return b"".join(line for line in text.splitlines(keepends=True) if not line.startswith(b"# "))


LinkFamily = Callable[[Sequence[Link]], Metric]


def _link_families(fabric: Fabric) -> Iterator[LinkFamily]:
    """What there is of each link, as functions of some of the links."""
    yield _counter("link_received_frames", "Frames from the peer that were handed on.", lambda link: link.rx.frames)
    yield _counter("link_received_bytes", "Bytes from the peer that were handed on.", lambda link: link.rx.bytes)
    yield _counter("link_sent_frames", "Frames sent to the peer.", lambda link: link.tx.frames)
    yield _counter("link_sent_bytes", "Bytes sent to the peer.", lambda link: link.tx.bytes)
    yield _drops("link_received_dropped_frames", "Frames from the peer not handed on.", lambda link: link.rx)
    yield _drops("link_sent_dropped_frames", "Frames for the peer not sent.", lambda link: link.tx)
    yield _counter(
        "link_duplicate_frames",
        "Frames left out because another link had brought them.",
        lambda link: link.rx.dropped.get(DropReason.DUPLICATE, 0),
    )
    yield _counter(
        "link_reflected_frames", "Frames of the host's own that came back, as far as was looked.",
        lambda link: link.reflections,
    )  # fmt: skip
    yield _gauge("link_queue_frames", "Frames that wait for the peer to take them.", lambda link: link.queued[0])
    yield _gauge("link_queue_bytes", "Bytes that wait for the peer to take them.", lambda link: link.queued[1])
    yield _states
    yield _gauge(
        "link_active", "Whether the host's frames are sent to the link (1), or it is on standby (0).",
        lambda link: link.role is Role.ACTIVE,
    )  # fmt: skip
    yield _gauge(
        "link_degraded", "Whether the watched address answers no more; only while the link is watched.",
        lambda link: link.health.degraded,
    )  # fmt: skip

    def watched(value: str) -> Callable[[Link], float | None]:
        def of(link: Link) -> float | None:
            multilink = fabric.multilinks.get(link.multilink)
            monitor = None if multilink is None else multilink.monitors.get(link)
            number: float | None = getattr(monitor, value, None)
            return number

        return of

    yield _gauge("link_round_trip_seconds", "Of the last answer of the watched address.", watched("rtt_s"))
    yield _gauge("link_loss_ratio", "Share of the last questions to the watched address unanswered.", watched("lost"))


def _service_families(fabric: Fabric) -> Iterator[Metric]:
    """What there is of the multilinks, their hosts, and the service."""
    info = GaugeMetricFamily(f"{_PREFIX}build_info", "The program; always 1.", labels=["version"])
    info.add_metric([__version__], 1)
    yield info
    multilinks = list(fabric.multilinks.values())
    for name, text, value in _HOST_COUNTERS:
        counter = CounterMetricFamily(_PREFIX + name, text, labels=["multilink"])
        for multilink in multilinks:
            counter.add_metric([multilink.name], value(multilink.host))
        yield counter
    received = CounterMetricFamily(
        f"{_PREFIX}host_received_dropped_frames", "Frames from the host not handed on.", labels=["multilink", "reason"]
    )
    sent = CounterMetricFamily(
        f"{_PREFIX}host_sent_dropped_frames", "Frames for the host not sent.", labels=["multilink", "reason"]
    )
    refused = CounterMetricFamily(
        f"{_PREFIX}refused_handshakes", "Clients that were turned away.", labels=["multilink", "reason"]
    )
    attached = GaugeMetricFamily(f"{_PREFIX}host_attached", "Whether there is a host (1).", labels=["multilink"])
    links = GaugeMetricFamily(f"{_PREFIX}links", "Links of the multilink.", labels=["multilink"])
    running = GaugeMetricFamily(f"{_PREFIX}handoff_running", "Whether a hand-off is under way.", labels=["multilink"])
    for multilink in multilinks:
        name = multilink.name
        for reason, frames in multilink.host.rx.dropped.items():
            received.add_metric([name, str(reason)], frames)
        for reason, frames in multilink.host.tx.dropped.items():
            sent.add_metric([name, str(reason)], frames)
        for words, count in multilink.refused.items():
            refused.add_metric([name, str(words)], count)
        attached.add_metric([name], multilink.host.state is HostState.ATTACHED)
        links.add_metric([name], len(multilink.links))
        running.add_metric([name], fabric.handoffs.running(name) is not None)
    yield from (received, sent, refused, attached, links, running)
    tasks = trio.lowlevel.current_statistics().tasks_living
    yield _single(GaugeMetricFamily, "tasks", "Trio tasks that are alive; a few a link.", tasks)
    yield _single(GaugeMetricFamily, "event_readers", "Streams of events that are read.", fabric.events.readers)
    yield _single(
        CounterMetricFamily, "event_readers_cut_off", "Streams of events that fell behind.", fabric.events.cut_off
    )
    yield _single(GaugeMetricFamily, "captures", "Captures that are under way.", len(fabric.captures))
    yield _single(
        CounterMetricFamily, "capture_lost_frames", "Copies lost to slow readers of captures.",
        fabric.captures.lost_frames,
    )  # fmt: skip


def _single(family: type[GaugeMetricFamily | CounterMetricFamily], name: str, text: str, value: float) -> Metric:
    return family(_PREFIX + name, text, value=value)


def _counter(name: str, text: str, value: Callable[[Link], float]) -> LinkFamily:
    def family(links: Sequence[Link]) -> Metric:
        metric = CounterMetricFamily(_PREFIX + name, text, labels=_LINK)
        for link in links:
            metric.add_metric(_labels(link), value(link))
        return metric

    return family


def _gauge(name: str, text: str, value: Callable[[Link], float | None]) -> LinkFamily:
    """A gauge that those links do not have for which `value` is None."""

    def family(links: Sequence[Link]) -> Metric:
        metric = GaugeMetricFamily(_PREFIX + name, text, labels=_LINK)
        for link in links:
            number = value(link)
            if number is not None:
                metric.add_metric(_labels(link), number)
        return metric

    return family


def _drops(name: str, text: str, direction: Callable[[Link], DirectionCounters]) -> LinkFamily:
    def family(links: Sequence[Link]) -> Metric:
        metric = CounterMetricFamily(_PREFIX + name, text, labels=(*_LINK, "reason"))
        for link in links:
            for reason, frames in direction(link).dropped.items():
                if reason not in _NOT_LOST:
                    metric.add_metric([*_labels(link), str(reason)], frames)
        return metric

    return family


def _states(links: Sequence[Link]) -> Metric:
    metric = GaugeMetricFamily(
        f"{_PREFIX}link_state", "1 for the state that the link is in, 0 for the others.", labels=(*_LINK, "state")
    )
    for link in links:
        for state in LinkState:
            if state is not LinkState.RETIRED:  # Such a link is not here any more.
                metric.add_metric([*_labels(link), str(state)], link.state is state)
    return metric


def _labels(link: Link) -> list[str]:
    return [link.multilink, link.id, link.name]
