"""Draws the results as one SVG picture, without any library: frames per CPU second above, what users notice below.

It follows the reader's light or dark scheme and has a background of its own: it can be read wherever it is shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from math import floor, log10

from bench.peers import PEERS
from bench.results import Outcome, Results
from bench.rows import LINKS, METRICS, SIZES, Metric

WIDTH, HEIGHT = 940, 532
LEFT, GAP, PANEL_TOP, PANEL_HEIGHT = 58, 26, 92, 210
BARS = ("service", "multi", "switch")
BAR_PEERS = (*BARS, "limit")
BELOW = (("tcp-2", "mbit_per_s"), ("hiccup-16", "lost_share"), ("latency-idle-1", "latency_p50_us"))
BELOW_TOP, BAR_STEP = 416, 26

COLOURS = {  # class: (light, dark)
    "surface": ("#ffffff", "#0d1117"),
    "ink": ("#1f2328", "#e6edf3"),
    "soft": ("#59636e", "#9198a1"),
    "line": ("#d1d9e0", "#3d444d"),
    "service": ("#0969da", "#4493f8"),
    "multi": ("#d9730d", "#f0953f"),
    "switch": ("#8c959f", "#7d8590"),
    "limit": ("#1f2328", "#e6edf3"),
}


def draw(results: Results) -> str:
    """The picture, as the text of an SVG file."""
    body = [*_heading(results)]
    top = _top_value(results)
    width = (WIDTH - LEFT - 20 - GAP * (len(SIZES) - 1)) / len(SIZES)
    for number, size in enumerate(SIZES):
        body += _panel(results, size, LEFT + number * (width + GAP), width, top, scale_labels=number == 0)
    width = (WIDTH - 40 - 2 * GAP) / len(BELOW)
    for number, (name, key) in enumerate(BELOW):
        outcome = results.outcome(name)
        if outcome:
            metric = next(metric for metric in METRICS[outcome.row.kind] if metric.key == key)
            body += _strip(outcome, metric, 20 + number * (width + GAP), width)
    return "\n".join([*_opening(), *body, "</svg>", ""])


def _opening() -> Iterator[str]:
    def rules(scheme: int) -> str:
        return " ".join(f".{name}{{fill:{pair[scheme]}}}" for name, pair in COLOURS.items())

    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'role="img" aria-label="Frames per second of CPU, and what users notice: this service and the C peers">'
    )
    yield "<style>text{font-family:system-ui,sans-serif;font-size:12px} .big{font-size:16px;font-weight:600}"
    yield ".mid{font-size:13px;font-weight:600} .small{font-size:11px} " + rules(0)
    yield f"@media (prefers-color-scheme:dark){{{rules(1)}}}</style>"
    yield _rect(0, 0, WIDTH, HEIGHT, "surface", radius=8)


def _heading(results: Results) -> Iterator[str]:
    machine = results.machine
    yield _text(20, 30, "Frames delivered per second of the forwarder's own CPU time, host → N links", "ink big")
    told = f"{machine['processor']}, {machine['processors']} cores, Linux {machine['kernel']}"
    yield _text(20, 50, f"medians of {results.settings['rounds']} interleaved rounds; {told}", "soft")
    x = WIDTH - 20.0
    for name in reversed(BAR_PEERS):
        title = PEERS[name].title
        x -= 7.0 * len(title)
        yield _text(x, 50, title, "ink")
        yield _rect(x - 17, 45 if name == "limit" else 40, 12, 2.5 if name == "limit" else 11, name)
        x -= 34


def _top_value(results: Results) -> float:
    values = [
        outcome.median(peer, "frames_per_cpu_s") or 0.0
        for outcome in results.outcomes
        if outcome.row.name.startswith("down-")
        for peer in outcome.rounds
    ]
    return max([*values, 1.0])


def _tick(top: float) -> float:
    """A round step that divides an axis of that height into at most six."""
    unit = 10.0 ** floor(log10(top / 6))
    return next(factor * unit for factor in (1, 2, 2.5, 5, 10) if factor * unit * 6 >= top)


def _panel(results: Results, size: int, left: float, width: float, top: float, *, scale_labels: bool) -> Iterator[str]:
    bottom = PANEL_TOP + PANEL_HEIGHT
    yield _text(left, PANEL_TOP - 10, f"{size} bytes", "ink mid")
    for step in range(int(top / _tick(top)) + 1):
        value = step * _tick(top)
        y = bottom - PANEL_HEIGHT * value / top
        yield _rect(left, y, width, 1, "line")
        if scale_labels:
            yield _text(left - 8, y + 4, f"{value / 1000:,.0f} k", "soft small", anchor="end")
    group = width / len(LINKS)
    for number, links in enumerate(LINKS):
        centre = left + group * (number + 0.5)
        yield _text(centre, bottom + 17, f"N = {links}" if number == 0 else str(links), "ink", anchor="middle")
        outcome = results.outcome(f"down-{links}-{size}")
        if outcome:
            yield from _group(outcome, centre, group, bottom, top)
    if scale_labels:
        yield _text(left - 8, bottom + 34, "÷ C", "soft small", anchor="end")


def _group(outcome: Outcome, centre: float, width: float, bottom: float, top: float) -> Iterator[str]:
    bar = width * 0.8 / len(BARS)
    for number, peer in enumerate(BARS):
        height = PANEL_HEIGHT * (outcome.median(peer, "frames_per_cpu_s") or 0.0) / top
        yield _rect(centre + (number - len(BARS) / 2) * bar, bottom - height, bar - 1.5, height, peer, radius=1.5)
    limit = outcome.median("limit", "frames_per_cpu_s")
    if limit:
        yield _rect(centre - width * 0.42, bottom - PANEL_HEIGHT * limit / top - 1, width * 0.82, 2, "limit")
    ratio = outcome.ratio("frames_per_cpu_s", "multi")
    if ratio:
        yield _text(centre, bottom + 34, f"{ratio:.2f}", "service small", anchor="middle")


def _strip(outcome: Outcome, metric: Metric, left: float, width: float) -> Iterator[str]:
    """Horizontal bars of one metric, a peer each."""
    peers = [name for name in BAR_PEERS if name in outcome.rounds]
    values = {name: outcome.median(name, metric.key) or 0.0 for name in peers}
    again = {name: outcome.median(name, "retransmissions") for name in peers if metric.key == "mbit_per_s"}
    label, longest = 92.0, max([*values.values(), 1e-9])
    room = width - label - (150 if again else 66)
    yield _text(left, BELOW_TOP - 30, outcome.row.title, "ink mid")
    yield _text(left, BELOW_TOP - 13, f"{metric.title}, {'more' if metric.higher else 'less'} is better", "soft")
    for number, name in enumerate(peers):
        y = BELOW_TOP + number * BAR_STEP
        length = max(room * values[name] / longest, 1.5)
        said = f"{values[name] * metric.scale:,.{metric.digits}f}{metric.unit}"
        said += f", {again[name]:,.0f} resent" if again else ""
        yield _text(left + label - 6, y + 13, PEERS[name].title, "soft", anchor="end")
        yield _rect(left + label, y + 2, length, 15, name, radius=1.5)
        yield _text(left + label + length + 6, y + 14, said, "ink")


def _rect(x: float, y: float, width: float, height: float, name: str, *, radius: float = 0) -> str:
    corner = f' rx="{radius}"' if radius else ""
    return f'<rect class="{name}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"{corner}/>'


def _text(x: float, y: float, words: str, name: str, *, anchor: str = "start") -> str:
    return f'<text class="{name}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'
