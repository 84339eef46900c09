"""What `watch` knows of a service: put together from answers and events. No I/O, no terminal.

Invariant: whatever is missed between two events is made good by the next `take_answers`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NamedTuple

from app.client import Handoff, History, Link, Multilink
from app.streams import ServerEvent

SECONDS_KEPT: Final = 60
LINES_KEPT: Final = 200
HANDOFF_SHOWN_S: Final = 30.0
"""How long a hand-off that is over is still shown."""
OVER: Final = frozenset({"completed", "rolled_back", "aborted"})


class Rate(NamedTuple):
    """Bytes from the peer and to it, frames lost, and second copies, within a second."""

    rx: int = 0
    tx: int = 0
    dropped: int = 0
    duplicates: int = 0


@dataclass(frozen=True, slots=True)
class LogLine:
    """Something that has happened, in words."""

    at: str
    text: str
    tone: str
    """`good`, `bad`, `busy`, or empty."""


@dataclass
class Picture:
    """The service as it was last heard of.

    Attributes:
        service: where it is, as text.
        lost: why nothing is heard of it now; empty while it is.
    """

    service: str
    lost: str = ""
    multilinks: list[Multilink] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    handoffs: dict[str, Handoff] = field(default_factory=dict)
    """By multilink: the one that runs, or the last one."""
    rates: dict[str, deque[Rate]] = field(default_factory=dict)
    """By a link's id: a rate a second, the last second last."""
    log: deque[LogLine] = field(default_factory=lambda: deque(maxlen=LINES_KEPT))
    now: float = 0.0
    """Unix time, as the service last told it."""

    def take_answers(self, multilinks: Iterable[Multilink], links: Iterable[Link], handoffs: Iterable[Handoff]) -> None:
        """The state of things, as it was just asked for."""
        self.multilinks, self.links = list(multilinks), list(links)
        self.handoffs = {handoff["multilink"]: handoff for handoff in handoffs}
        known = {link["id"] for link in self.links}
        self.rates = {link_id: rates for link_id, rates in self.rates.items() if link_id in known}

    def take_history(self, history: History) -> None:
        """The last seconds of one link."""
        end = unix_time(history["at"])
        self.now = max(self.now, end)
        rates = [Rate()] * SECONDS_KEPT
        samples = [(unix_time(sample["at"]), _rate(sample)) for sample in history["samples"]]
        if samples:
            # Samples are a second apart, give or take: counted from the newest none falls into its neighbour's place.
            newest = samples[-1][0]
            newest_age_s = max(0, int(end - newest))
            for at, rate in samples:
                age_s = newest_age_s + round(newest - at)
                if age_s < SECONDS_KEPT:
                    rates[SECONDS_KEPT - 1 - age_s] = rate
        self.rates[history["link"]] = deque(rates, maxlen=SECONDS_KEPT)

    def take_event(self, event: ServerEvent) -> bool:
        """Something has happened; whether the answers have to be asked for again."""
        if not event.kind:
            return False
        self.now = max(self.now, unix_time(event.data["at"]))
        if event.kind == "stats":
            self._take_rates(event.data["links"])
            return False
        line = describe(event)
        if line is not None:
            self.log.append(line)
        return True

    def note(self, text: str, tone: str = "") -> None:
        """Add a line of our own to the log."""
        self.log.append(LogLine("", text, tone))

    def rate_of(self, link_id: str) -> Rate:
        """What a link did in the last second."""
        rates = self.rates.get(link_id)
        return rates[-1] if rates else Rate()

    def handoff_shown(self, multilink: str) -> Handoff | None:
        """The hand-off that runs on a multilink, or was over just now."""
        handoff = self.handoffs.get(multilink)
        if handoff is None or handoff["state"] not in OVER:
            return handoff
        phase = handoff["phases"][-1]
        ended = unix_time(phase["started"]) + (phase["duration_s"] or 0)
        return handoff if self.now - ended < HANDOFF_SHOWN_S else None

    def _take_rates(self, samples: Mapping[str, Mapping[str, Any]]) -> None:
        for link in self.links:
            rates = self.rates.setdefault(link["id"], deque([Rate()] * SECONDS_KEPT, maxlen=SECONDS_KEPT))
            sample = samples.get(link["id"])
            rates.append(Rate() if sample is None else _rate(sample))


def unix_time(text: str) -> float:
    """An RFC 3339 time in seconds."""
    return datetime.fromisoformat(text).timestamp()


def describe(event: ServerEvent) -> LogLine | None:  # noqa: C901 -- a table, a line or two for each kind
    """An event in words; None for one that says nothing to people."""
    data = event.data
    detail = str(data.get("detail") or "")
    match event.kind:
        case "link_added" | "link_changed":
            return None
        case "link_up":
            text, tone = f"{data['name']} is up", "good"
        case "link_recovered":
            text, tone = f"{data['name']} answers again", "good"
        case "link_draining":
            text, tone, detail = f"{data['name']} drains", "busy", ""
        case "link_down" | "link_degraded":
            text, tone = f"{data['name']} is {event.kind.removeprefix('link_')}", "bad"
        case "link_retired":
            text, tone = f"{data['name']} is retired", ""
        case "host_attached":
            text, tone = f"the host of {data['multilink']} has come", "good"
        case "host_detached":
            text, tone = f"the host of {data['multilink']} has left", "bad"
        case "multilink_added" | "multilink_removed":
            text, tone = f"multilink {data['multilink']} {event.kind.removeprefix('multilink_')}", ""
        case "handoff":
            text, tone, detail = _handoff_words(data)
        case "missed" if data["since"] == 0:  # we have asked for all that is still known
            return None
        case "missed":
            text, tone = "some events were missed", "busy"
        case _:
            text, tone = event.kind, ""
    return LogLine(str(data["at"]), f"{text}: {detail}" if detail else text, tone)


def _handoff_words(data: Mapping[str, Any]) -> tuple[str, str, str]:
    state = str(data["state"])
    tone = {"completed": "good", "rolled_back": "bad", "aborted": "bad"}.get(state, "busy")
    to = data["to"] or "a new link"
    detail = str(data["reason"] or "")
    if state == "overlapping":
        detail = f"verified by {data['verified_by']}"
    return f"hand-off of {data['multilink']} to {to}: {state.replace('_', ' ')}", tone, detail


def _rate(sample: Mapping[str, Any]) -> Rate:
    return Rate(sample["rx_bytes"], sample["tx_bytes"], sample["dropped"], sample["duplicates"])
