"""What goes in and out as JSON; the OpenAPI document is generated from these models.

Requests are strict: unknown members, other types and nulls are refused. Answers have exactly the members
that the contract names. The models are named as in the contract; the fabric's own classes are meant where a
module's name stands before them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field

from app.api.schema_types import (
    AnswerModel,
    Count,
    IpText,
    QueryModel,
    RequestModel,
    Text,
    Timestamp,
    plain_text,
    rfc3339,
    without_default,
)
from app.fabric.counters import DirectionCounters
from app.fabric.dedup import WINDOW_S
from app.fabric.peer_socket import PeerCredentials
from app.fabric.vnl import MAX_WINDOW_S, MIN_WINDOW_S

if TYPE_CHECKING:
    from app.fabric import handoff as fabric_handoff
    from app.fabric import host as fabric_host
    from app.fabric import link as fabric_link
    from app.fabric import monitor as fabric_monitor
    from app.fabric import multilink as fabric_multilink

MAX_DRAIN_S: Final = 60.0
DEFAULT_DRAIN_S: Final = 0.5
MIN_INTERVAL_S: Final = 0.1
MAX_INTERVAL_S: Final = 3600.0

_HEALTH: Final = {None: None, False: "good", True: "degraded"}

LinkKindName = Literal["attached", "dialled"]
LinkStateName = Literal["connecting", "up", "draining", "down", "retired"]
HostStateName = Literal["attached", "detached"]
RoleName = Literal["active", "standby"]
HealthName = Literal["good", "degraded"]
PassOrDropName = Literal["drop", "pass"]


class MonitorCreate(RequestModel):
    """How a link is watched: an address behind it is asked, over this link, once an interval."""

    address: IpText = Field(description="the IPv4 or IPv6 address that is asked", examples=["10.0.0.2"])
    interval_s: float = Field(default=1.0, ge=MIN_INTERVAL_S, le=MAX_INTERVAL_S, allow_inf_nan=False)


class LinkCreate(RequestModel):
    """A link to be dialled."""

    url: str = Field(
        description="the peer's locator (VNL): `vde:///tmp/vm2[5]`, a bare path, `cmd://ssh ip2 vde_plug /tmp/vm2`",
        examples=["vde:///srv/vm2", "vde:///srv/vm2[5]"],
    )
    multilink: str = Field(
        default="",
        min_length=1,
        description="the multilink's name; may be left out where there is exactly one",
        json_schema_extra=without_default,
    )
    name: str = Field(
        default="",
        min_length=1,
        description="a name for the link; left out, it gets one",
        json_schema_extra=without_default,
    )
    reconnect: bool = Field(default=True, description="whether the link is dialled again when it goes down")
    role: RoleName = Field(default="active", description="`standby`: it is heard, but not sent to")
    monitor: MonitorCreate | None = Field(default=None, description="watch the link; null: do not")


class LinkPatch(RequestModel):
    """What can be changed of a link; what is left out stays as it is."""

    name: str = Field(default="", min_length=1, description="the link's new name", json_schema_extra=without_default)
    role: RoleName = Field(
        default="active",
        description="`active`, or `standby`: it is heard, but the host's frames are not sent to it",
        json_schema_extra=without_default,
    )
    monitor: MonitorCreate | None = Field(
        default=None, description="watch the link from now on; null ends the watch", json_schema_extra=without_default
    )


class MultilinkCreate(RequestModel):
    """A multilink to be made."""

    url: str = Field(
        description="a `multi://` locator; its host may be a nested plug: `multi:///tmp/vm1[mode=0660]{tap://tap0}`",
        examples=["multi:///srv/vm1"],
    )


class MultilinkPatch(RequestModel):
    """What can be changed of a multilink; what is left out stays as it is."""

    duplicates: PassOrDropName = Field(
        default="drop",
        description="what is done with a frame that comes again over another link",
        json_schema_extra=without_default,
    )
    reflections: PassOrDropName = Field(
        default="pass",
        description="what is done with the host's own frames when a link brings them back",
        json_schema_extra=without_default,
    )
    window_s: float = Field(
        default=WINDOW_S,
        ge=MIN_WINDOW_S,
        le=MAX_WINDOW_S,
        allow_inf_nan=False,
        description="for how long a frame is known as one that came before",
        json_schema_extra=without_default,
    )
    failover: bool = Field(
        default=False,
        description="whether the best standby link becomes active when the active ones degrade or go down",
        json_schema_extra=without_default,
    )


class LinkListQuery(QueryModel):
    """Filters of the list of links."""

    multilink: str | None = Field(default=None, min_length=1, description="only the links of this multilink")
    state: LinkStateName | None = Field(
        default=None, description="only links in this state; `retired` lists the last 100 that were"
    )


class LinkDeleteQuery(QueryModel):
    """How a link is retired."""

    drain_s: float = Field(
        default=DEFAULT_DRAIN_S,
        ge=0,
        le=MAX_DRAIN_S,
        allow_inf_nan=False,
        description="seconds for what is queued to go out and what is under way to come in, before the link closes",
    )


class NoQuery(QueryModel):
    """An operation that takes no query parameters."""


class Peer(AnswerModel):
    """The process at the other end of a unix socket, as the kernel names it."""

    pid: int
    uid: int
    gid: int

    @classmethod
    def of(cls, peer: PeerCredentials | None) -> Peer | None:
        """The JSON view of the fabric's credentials."""
        return None if peer is None else cls(pid=peer.pid, uid=peer.uid, gid=peer.gid)


class Direction(AnswerModel):
    """Frames in one direction, since the link (or host) has been there."""

    frames: Count
    bytes: Count
    dropped: dict[str, Count] = Field(description="frames lost, by reason")

    @classmethod
    def of(cls, counters: DirectionCounters) -> Direction:
        """The JSON view of a set of counters, as they stand now."""
        dropped = {str(reason): frames for reason, frames in counters.dropped.items()}
        return cls(frames=counters.frames, bytes=counters.bytes, dropped=dropped)


class Monitor(AnswerModel):
    """The watch over a link, and what it has found out."""

    address: str
    interval_s: float
    rtt_s: float | None = Field(description="the round-trip time of the last answer")
    lost: float | None = Field(ge=0, le=1, description="the share of the last 20 questions without an answer")
    last_heard: Timestamp | None = Field(description="when the last answer came")

    @classmethod
    def of(cls, monitor: fabric_monitor.Monitor | None) -> Monitor | None:
        """The JSON view of a monitor, as it stands now."""
        if monitor is None:
            return None
        return cls(
            address=str(monitor.spec.address),
            interval_s=monitor.spec.interval_s,
            rtt_s=monitor.rtt_s,
            lost=monitor.lost,
            last_heard=None if monitor.last_heard is None else rfc3339(monitor.last_heard),
        )


class Link(AnswerModel):
    """One channel between a multilink and a peer. `rx` is from the peer, `tx` to it."""

    id: Text = Field(description="opaque, and never used again")
    name: Text
    multilink: Text = Field(description="the name of the multilink it belongs to")
    kind: Annotated[LinkKindName, BeforeValidator(plain_text)] = Field(
        description="`attached`: a client came to the multilink; `dialled`: the service opened it"
    )
    url: Text | None = Field(description="the locator it was dialled with; null for an attached link")
    description: Text = Field(description="what the client says of itself: a claim, not proven")
    peer: Peer | None
    role: Annotated[RoleName, BeforeValidator(plain_text)]
    state: Annotated[LinkStateName, BeforeValidator(plain_text)]
    detail: Text = Field(description="why it is in that state, in words")
    since: Timestamp = Field(description="when it came into that state")
    reconnect: bool = Field(description="whether it is dialled again when it goes down")
    monitor: Monitor | None = Field(description="the watch over it; null where it is not watched")
    health: HealthName | None = Field(description="what the watch has found out; null while it has not")
    reflections: Count = Field(description="frames of the host's own that came back, as far as was looked")
    rx: Direction
    tx: Direction

    @staticmethod
    def members_of(link: fabric_link.Link, monitor: fabric_monitor.Monitor | None = None) -> dict[str, Any]:
        """All but the counters, as the fabric has them: what is the same twice is the same JSON (see `link_json`)."""
        return {
            "id": link.id,
            "name": link.name,
            "multilink": link.multilink,
            "kind": link.kind,
            "url": link.url,
            "description": link.description,
            "peer": link.peer,
            "role": link.role,
            "state": link.state,
            "detail": link.detail,
            "since": link.since,
            "reconnect": link.reconnect,
            "monitor": Monitor.of(monitor),
            "health": _HEALTH[link.health.degraded],
            "reflections": link.reflections,
        }

    @classmethod
    def of(cls, link: fabric_link.Link, monitor: fabric_monitor.Monitor | None = None) -> Link:
        """The JSON view of a link and of the watch over it, as they stand now."""
        members = cls.members_of(link, monitor) | {
            "peer": Peer.of(link.peer),
            "since": rfc3339(link.since),
            "rx": Direction.of(link.rx),
            "tx": Direction.of(link.tx),
        }
        return cls.model_validate(members)


class Host(AnswerModel):
    """The side of a multilink that hears every link and is heard by every link."""

    url: Text | None = Field(description="the nested plug's locator; null for the socket PATH/host")
    state: Annotated[HostStateName, BeforeValidator(plain_text)]
    detail: Text = Field(description="why it is in that state, in words")
    peer: Peer | None
    rx: Direction
    tx: Direction

    @classmethod
    def of(cls, host: fabric_host.Host) -> Host:
        """The JSON view of a host, as it stands now."""
        return cls.model_validate(
            {
                "url": host.url,
                "state": host.state,
                "detail": host.detail,
                "peer": Peer.of(host.peer),
                "rx": Direction.of(host.rx),
                "tx": Direction.of(host.tx),
            }
        )


class Multilink(AnswerModel):
    """One control directory, one host, any number of links."""

    name: Text
    url: Text
    path: Text
    host: Host
    duplicates: Annotated[PassOrDropName, BeforeValidator(plain_text)] = Field(
        description="what is done with a frame that comes again over another link"
    )
    reflections: Annotated[PassOrDropName, BeforeValidator(plain_text)] = Field(
        description="what is done with the host's own frames when a link brings them back"
    )
    window_s: float = Field(description="for how long a frame is known as one that came before")
    failover: bool = Field(description="whether a standby link takes over when the active ones degrade or go down")
    handoff: str | None = Field(description="the id of the hand-off that is under way")
    links: Count = Field(description="how many links it has")
    refused: dict[str, Count] = Field(description="handshakes refused, by reason")

    @classmethod
    def of(cls, multilink: fabric_multilink.Multilink, running: fabric_handoff.Handoff | None) -> Multilink:
        """The JSON view of a multilink and of its running hand-off, as they stand now."""
        return cls(
            name=multilink.name,
            url=multilink.url,
            path=multilink.path,
            host=Host.of(multilink.host),
            duplicates=multilink.duplicates.value,
            reflections=multilink.reflections.value,
            window_s=multilink.inspection.window_s,
            failover=multilink.failover,
            handoff=None if running is None else running.id,
            links=len(multilink.links),
            refused={str(reason): count for reason, count in multilink.refused.items()},
        )


class LinkList(AnswerModel):
    """Links, in the order in which they came."""

    links: list[Link]


class MultilinkList(AnswerModel):
    """Every multilink of the service."""

    multilinks: list[Multilink]


class Health(AnswerModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Ready(AnswerModel):
    """The service takes requests."""

    status: Literal["ready"] = "ready"


class ProblemItem(AnswerModel):
    """One thing that is wrong in a request."""

    where: Text = Field(description="the member of the body, or the query parameter", examples=["body.url"])
    message: Text


class Problem(AnswerModel):
    """Why a request failed (RFC 9457)."""

    type: str
    title: Text
    status: int = Field(ge=400, le=599)
    detail: Text = Field(description="what is wrong and what to do next")
    code: str = Field(description="stable, for programs")
    errors: list[ProblemItem] | None = Field(default=None, description="where in the request, if that can be said")
