"""What is measured: the table of rows, as data, and the metrics of each kind of row."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatch

from bench.load import Direction

LINKS = (1, 4, 16, 64, 256)
SIZES = (64, 1514, 9014)
ALL = ("service", "multi", "switch", "limit")
# A switch is a hub here (-x): its links hear each other, so only the host can be the source where there are
# several; and it cuts frames short that are longer than 1,521 bytes.
# "floor", a forwarder that is Trio and nothing else, knows one direction: for what a wake-up takes.
MULTILINKS = ("service", "multi", "limit")
TAPS = ("service", "multi", "switch")
SERVICE_ONLY = ("service",)


class Kind(StrEnum):
    """How a row is measured."""

    FLOW = "flow"
    HICCUP = "hiccup"
    FAIR = "fair"
    LATENCY = "latency"
    TCP = "tcp"
    IDLE = "idle"
    STALL = "stall"
    API = "api"
    CORES = "cores"
    SHARED = "shared"


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure of a row. `higher` says whether more is better; `unit` scales and ends it in the table."""

    key: str
    title: str
    unit: str = ""
    scale: float = 1.0
    digits: int = 0
    higher: bool = True
    compared: bool = True


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table.

    `load` is the share of the reference's full rate (C multi://, where it takes part) at which the host sends; 0 is as
    fast as it goes, and a negative one 1,000 frames a second: an idle forwarder that has to wake up for each frame.
    """

    name: str
    title: str
    kind: Kind
    links: int = 1
    size: int = 1514
    direction: Direction = "down"
    peers: tuple[str, ...] = ALL
    load: float = 0.0
    ms: int = 200
    most_rounds: int = 99
    idle_links: int = 0
    connections: int = 0
    hops: int = 1
    quick: bool = False


_PER_CPU = Metric("frames_per_cpu_s", "per CPU second", " k", 1e-3)
_WALL = Metric("frames_per_s", "per second", " k", 1e-3)
_LOST = Metric("lost_share", "lost", " %", 100, 2, higher=False, compared=False)
_P50 = Metric("latency_p50_us", "latency p50", " µs", 1, 0, higher=False)
_P99 = Metric("latency_p99_us", "latency p99", " µs", 1, 0, higher=False)

METRICS: dict[Kind, tuple[Metric, ...]] = {
    Kind.FLOW: (_PER_CPU, _WALL, _LOST),
    Kind.HICCUP: (_LOST, _WALL, _PER_CPU),
    Kind.FAIR: (Metric("least_share", "the slowest link's part of a fair share", " %", 100), _LOST),
    Kind.LATENCY: (_P50, _P99, _LOST),
    Kind.TCP: (
        Metric("mbit_per_s", "throughput", " Mbit/s"),
        Metric("retransmissions", "retransmissions", higher=False, compared=False),
    ),
    Kind.IDLE: (
        Metric("attach_s", "attach all", " s", 1, 3, higher=False),
        Metric("retire_s", "retire all", " s", 1, 3, higher=False),
        Metric("kib_per_link", "memory a link", " KiB", 1, 1, higher=False, compared=False),
        Metric("resident_mib", "memory, all links", " MiB", 1, 1, higher=False, compared=False),
        Metric("idle_cpu_share", "CPU while idle", " %", 100, 2, higher=False, compared=False),
    ),
    Kind.STALL: (
        Metric("first_rate_ratio", "others' rate, at once", " ×", 1, 2, compared=False),
        Metric("first_lost_share", "others' loss, at once", " %", 100, 2, higher=False, compared=False),
        Metric("then_rate_ratio", "others' rate, then", " ×", 1, 2, compared=False),
        Metric("then_lost_share", "others' loss, then", " %", 100, 2, higher=False, compared=False),
    ),
    Kind.API: (
        Metric("rate_ratio", "frames per second, of the quiet rate", " ×", 1, 2, compared=False),
        Metric("lost_share", "lost at full speed", " %", 100, 2, higher=False, compared=False),
        Metric("quiet_p99_us", "latency p99, quiet", " µs", 1, 0, higher=False, compared=False),
        Metric("latency_p99_us", "latency p99, hammered", " µs", 1, 0, higher=False, compared=False),
        Metric("latency_max_us", "longest latency, hammered", " µs", 1, 0, higher=False, compared=False),
        Metric("paced_lost_share", "lost at that rate", " %", 100, 2, higher=False, compared=False),
        Metric("answers_per_s", "answers a second", "", 1, 0, compared=False),
        Metric("answer_p50_ms", "time to an answer, p50", " ms", 1, 1, higher=False, compared=False),
        Metric("answers_failed", "answers that failed", "", 1, 0, higher=False, compared=False),
    ),
    Kind.CORES: (
        Metric("one_per_s", "one, on one core", " k/s", 1e-3),
        Metric("two_per_s", "two, a core each", " k/s", 1e-3),
        Metric("rate_ratio", "two / one", " ×", 1, 2, compared=False),
    ),
    Kind.SHARED: (
        Metric("one_per_cpu_s", "one multilink, frames per CPU second", " k", 1e-3, compared=False),
        Metric("two_per_cpu_s", "two busy multilinks, frames per CPU second", " k", 1e-3, compared=False),
        Metric("rate_ratio", "two / one", " ×", 1, 2, compared=False),
    ),
}


def _down(links: int, size: int) -> Row:
    return Row(
        f"down-{links}-{size}",
        f"host → {links}, {size} bytes",
        Kind.FLOW,
        links,
        size,
        "down",
        ALL if size <= 1514 else MULTILINKS,
        quick=size == 1514 and links in {1, 4, 16},
    )


def _up(links: int, size: int) -> Row:
    title, peers = f"{links} → host, {size} bytes", ALL if links == 1 and size <= 1514 else MULTILINKS
    return Row(f"up-{links}-{size}", title, Kind.FLOW, links, size, "up", peers, quick=(links, size) == (4, 1514))


def _both(links: int, size: int) -> Row:
    title, peers = f"host ↔ {links}, {size} bytes", ALL if links == 1 else MULTILINKS
    return Row(f"both-{links}-{size}", title, Kind.FLOW, links, size, "both", peers, quick=(links, size) == (4, 1514))


def _latency(links: int, load: float, *, quick: bool = False) -> Row:
    name, title = ("idle", "idle") if load < 0 else ("half", "half load")
    title = f"host → {links}, {title}"
    peers = (*ALL, "floor") if load < 0 else ALL
    return Row(f"latency-{name}-{links}", title, Kind.LATENCY, links, peers=peers, load=load, ms=400, quick=quick)


ROWS: tuple[Row, ...] = (
    *(_down(links, size) for size in SIZES for links in LINKS),
    *(_up(links, size) for size in SIZES for links in (1, 16)),
    *(_up(links, 1514) for links in (4, 64, 256)),
    *(_both(links, 1514) for links in (1, 4, 16, 64)),
    *(_both(16, size) for size in (64, 9014)),
    Row("hiccup-1", "host → 1, sinks pause 5 ms of 25", Kind.HICCUP, 1, peers=ALL, most_rounds=3),
    Row("hiccup-16", "host → 16, sinks pause 5 ms of 25", Kind.HICCUP, 16, peers=ALL, most_rounds=3, quick=True),
    Row("fair-64", "64 busy links → host", Kind.FAIR, 64, direction="up", peers=MULTILINKS, ms=400, most_rounds=3),
    _latency(1, -1, quick=True),
    _latency(16, -1),
    _latency(1, 0.5, quick=True),
    _latency(16, 0.5),
    Row("tcp-1", "TCP, taps, one multilink", Kind.TCP, peers=TAPS, ms=2000, most_rounds=3),
    Row("tcp-2", "TCP, taps, two multilinks", Kind.TCP, peers=TAPS, ms=2000, most_rounds=3, hops=2),
    Row("idle-1000", "1,000 idle links", Kind.IDLE, 1000, ms=2000, most_rounds=3, quick=True),
    Row("stall-16", "one link of 16 stalls", Kind.STALL, 16, peers=MULTILINKS, ms=400, most_rounds=3, quick=True),
    Row(
        "api-500",
        "GET /links of 500, 8 connections, flat out",
        Kind.API,
        16,
        peers=SERVICE_ONLY,
        load=0.25,
        ms=1000,
        most_rounds=3,
        idle_links=484,
        connections=8,
        quick=True,
    ),
    Row(
        "api-1000",
        "GET /links of 1,000, 1 connection",
        Kind.API,
        1,
        peers=SERVICE_ONLY,
        load=0.25,
        ms=1000,
        most_rounds=3,
        idle_links=999,
        connections=1,
    ),
    Row("cores-4", "host → 4 twice, on two cores", Kind.CORES, 4, peers=MULTILINKS, ms=400, most_rounds=3, quick=True),
    Row("shared-4", "two multilinks in one service", Kind.SHARED, 4, peers=SERVICE_ONLY, ms=300, most_rounds=3),
)


def choose_rows(pattern: str | None, *, quick: bool, peers: tuple[str, ...]) -> list[Row]:
    """The rows whose name matches the pattern (as of a shell: `down-*-1514`), that one of the peers takes part in."""
    rows = [row for row in ROWS if set(row.peers) & set(peers)]
    if pattern:
        return [row for row in rows if any(fnmatch(row.name, part) for part in pattern.split(","))]
    return [row for row in rows if row.quick or not quick]
