"""What the API answers, as types: its JSON, unchanged."""

from __future__ import annotations

from typing import Literal, NotRequired, TypeAlias, TypedDict

PassOrDrop: TypeAlias = Literal["pass", "drop"]
HandoffState: TypeAlias = Literal[
    "making", "verifying", "overlapping", "draining", "completed", "rolled_back", "aborted"
]


class Peer(TypedDict):
    """The process at the other end, as the kernel names it."""

    pid: int
    uid: int
    gid: int


class Direction(TypedDict):
    """Frames and bytes in one direction, and frames lost by reason."""

    frames: int
    bytes: int
    dropped: dict[str, int]


class Monitor(TypedDict):
    """The watch over a link, and what it has found out."""

    address: str
    interval_s: float
    rtt_s: float | None
    lost: float | None
    last_heard: str | None


class MonitorSpec(TypedDict):
    """How a link is watched."""

    address: str
    interval_s: NotRequired[float]


class Link(TypedDict):
    """One channel between a multilink and a peer."""

    id: str
    name: str
    multilink: str
    kind: Literal["attached", "dialled"]
    url: str | None
    description: str
    peer: Peer | None
    role: Literal["active", "standby"]
    state: Literal["connecting", "up", "draining", "down", "retired"]
    detail: str
    since: str
    reconnect: bool
    monitor: Monitor | None
    health: Literal["good", "degraded"] | None
    reflections: int
    rx: Direction
    tx: Direction


class Host(TypedDict):
    """The side of a multilink that hears every link."""

    url: str | None
    state: Literal["attached", "detached"]
    detail: str
    peer: Peer | None
    rx: Direction
    tx: Direction


class Multilink(TypedDict):
    """One control directory, one host, any number of links."""

    name: str
    url: str
    path: str
    host: Host
    duplicates: PassOrDrop
    reflections: PassOrDrop
    window_s: float
    failover: bool
    handoff: str | None
    links: int
    refused: dict[str, int]


class LinkList(TypedDict):
    """The answer of GET /links."""

    links: list[Link]


class MultilinkList(TypedDict):
    """The answer of GET /multilinks."""

    multilinks: list[Multilink]


class HandoffTo(TypedDict):
    """The new link of a hand-off."""

    link: str | None
    name: str | None
    url: str | None


class VerifyFrames(TypedDict):
    """So many frames from the new link."""

    frames: int


class VerifyAddress(TypedDict):
    """An answer over the new link from this address."""

    address: str


Verify: TypeAlias = Literal["auto", "none"] | VerifyFrames | VerifyAddress

# `from` is no name for a member of a class.
_From = TypedDict("_From", {"from": list[str]})


class HandoffPlan(_From):
    """What would be done."""

    multilink: str
    to: HandoffTo
    old: Literal["retire", "standby"]
    verify: Verify
    verify_timeout_s: float
    overlap_s: float
    drain_s: float


class HandoffPhase(TypedDict):
    """One phase; without a duration while it is under way."""

    state: HandoffState
    started: str
    duration_s: float | None


class HandoffPath(TypedDict):
    """What one link did in one direction."""

    first: int
    later: int
    missed: int
    frames: int
    dropped: int


class HandoffDirection(TypedDict):
    """What a hand-off saw in one direction."""

    frames: int
    duplicates: int
    longest_gap_s: float | None
    skew_median_s: float | None
    skew_p99_s: float | None
    paths: dict[str, HandoffPath]


class HandoffReport(TypedDict):
    """What a hand-off saw."""

    to_host: HandoffDirection
    from_host: HandoffDirection


class Handoff(HandoffPlan):
    """One hand-off."""

    id: str
    state: HandoffState
    phases: list[HandoffPhase]
    verified_by: str
    reason: str
    report: HandoffReport


class HandoffList(TypedDict):
    """The answer of GET /handoffs."""

    handoffs: list[Handoff]


class Rates(TypedDict):
    """What a link did within a second: frames and bytes, not bits."""

    rx_frames: int
    rx_bytes: int
    tx_frames: int
    tx_bytes: int
    dropped: int
    duplicates: int


class Sample(Rates):
    """A second of a link's history; `at` is its end."""

    at: str


class History(TypedDict):
    """A link's last five minutes; seconds in which it was idle are left out."""

    link: str
    at: str
    interval_s: float
    kept_s: float
    samples: list[Sample]
