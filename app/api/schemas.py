"""What goes in and out as JSON; the OpenAPI document is generated from these models.

Requests are strict: unknown members, other types and nulls are refused. Answers have exactly the members
that the contract names. The models are named as in the contract; the fabric's own classes are meant where a
module's name stands before them.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from app.fabric.counters import DirectionCounters
from app.fabric.peer_socket import PeerCredentials

if TYPE_CHECKING:
    from app.fabric import host as fabric_host
    from app.fabric import link as fabric_link
    from app.fabric import multilink as fabric_multilink

MAX_DRAIN_S: Final = 60.0
DEFAULT_DRAIN_S: Final = 0.5

LinkKindName = Literal["attached", "dialled"]
LinkStateName = Literal["connecting", "up", "draining", "down", "retired"]
HostStateName = Literal["attached", "detached"]
RoleName = Literal["active", "standby"]


def rfc3339(timestamp: float) -> str:
    """A Unix time as RFC 3339 in UTC."""
    return datetime.fromtimestamp(timestamp, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _encodable(value: Any) -> Any:
    """Paths may hold bytes that are no UTF-8; Python has them as surrogates, which JSON cannot carry."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def _without_default(schema: dict[str, Any]) -> None:
    """A member that may be left out, but has no value that says so: the default is no part of its schema."""
    schema.pop("default", None)


def _plain_text(value: Any) -> Any:
    """As the plain string that a member of a StrEnum is."""
    return str(value) if isinstance(value, str) else value


Text = Annotated[str, BeforeValidator(_encodable)]
Count = Annotated[int, Field(ge=0)]
Timestamp = Annotated[str, Field(json_schema_extra={"format": "date-time"}, examples=["2026-11-22T15:04:05.678Z"])]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Query(BaseModel):
    """Query parameters: all of them arrive as text, so they are not strict about types."""

    model_config = ConfigDict(extra="forbid")


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class LinkCreate(_Request):
    """A link to be dialled."""

    url: str = Field(
        description="the peer's locator (VNL): `vde:///tmp/vm2[5]`, a bare path, `cmd://ssh ip2 vde_plug /tmp/vm2`",
        examples=["vde:///srv/vm2", "vde:///srv/vm2[5]"],
    )
    multilink: str = Field(
        default="",
        min_length=1,
        description="the multilink's name; may be left out where there is exactly one",
        json_schema_extra=_without_default,
    )
    name: str = Field(
        default="",
        min_length=1,
        description="a name for the link; left out, it gets one",
        json_schema_extra=_without_default,
    )
    reconnect: bool = Field(default=True, description="whether the link is dialled again when it goes down")


class LinkPatch(_Request):
    """What can be changed of a link; what is left out stays as it is."""

    name: str = Field(default="", min_length=1, description="the link's new name", json_schema_extra=_without_default)
    role: RoleName = Field(
        default="active",
        description="`active`, or `standby`: it is heard, but the host's frames are not sent to it",
        json_schema_extra=_without_default,
    )


class MultilinkCreate(_Request):
    """A multilink to be made."""

    url: str = Field(
        description="a `multi://` locator; its host may be a nested plug: `multi:///tmp/vm1[mode=0660]{tap://tap0}`",
        examples=["multi:///srv/vm1"],
    )


class LinkListQuery(_Query):
    """Filters of the list of links."""

    multilink: str | None = Field(default=None, min_length=1, description="only the links of this multilink")
    state: LinkStateName | None = Field(
        default=None, description="only links in this state; `retired` lists the last 100 that were"
    )


class LinkDeleteQuery(_Query):
    """How a link is retired."""

    drain_s: float = Field(
        default=DEFAULT_DRAIN_S,
        ge=0,
        le=MAX_DRAIN_S,
        allow_inf_nan=False,
        description="seconds for what is queued to go out and what is under way to come in, before the link closes",
    )


class NoQuery(_Query):
    """An operation that takes no query parameters."""


class Peer(_Answer):
    """The process at the other end of a unix socket, as the kernel names it."""

    pid: int
    uid: int
    gid: int

    @classmethod
    def of(cls, peer: PeerCredentials | None) -> Peer | None:
        """The JSON view of the fabric's credentials."""
        return None if peer is None else cls(pid=peer.pid, uid=peer.uid, gid=peer.gid)


class Direction(_Answer):
    """Frames in one direction, since the link (or host) has been there."""

    frames: Count
    bytes: Count
    dropped: dict[str, Count] = Field(description="frames lost, by reason")

    @classmethod
    def of(cls, counters: DirectionCounters) -> Direction:
        """The JSON view of a set of counters, as they stand now."""
        dropped = {str(reason): frames for reason, frames in counters.dropped.items()}
        return cls(frames=counters.frames, bytes=counters.bytes, dropped=dropped)


class Link(_Answer):
    """One channel between a multilink and a peer. `rx` is from the peer, `tx` to it."""

    id: Text = Field(description="opaque, and never used again")
    name: Text
    multilink: Text = Field(description="the name of the multilink it belongs to")
    kind: Annotated[LinkKindName, BeforeValidator(_plain_text)] = Field(
        description="`attached`: a client came to the multilink; `dialled`: the service opened it"
    )
    url: Text | None = Field(description="the locator it was dialled with; null for an attached link")
    description: Text = Field(description="what the client says of itself: a claim, not proven")
    peer: Peer | None
    role: Annotated[RoleName, BeforeValidator(_plain_text)]
    state: Annotated[LinkStateName, BeforeValidator(_plain_text)]
    detail: Text = Field(description="why it is in that state, in words")
    since: Timestamp = Field(description="when it came into that state")
    rx: Direction
    tx: Direction

    @classmethod
    def of(cls, link: fabric_link.Link) -> Link:
        """The JSON view of a link, as it stands now."""
        return cls.model_validate(
            {
                "id": link.id,
                "name": link.name,
                "multilink": link.multilink,
                "kind": link.kind,
                "url": link.url,
                "description": link.description,
                "peer": Peer.of(link.peer),
                "role": link.role,
                "state": link.state,
                "detail": link.detail,
                "since": rfc3339(link.since),
                "rx": Direction.of(link.rx),
                "tx": Direction.of(link.tx),
            }
        )


class Host(_Answer):
    """The side of a multilink that hears every link and is heard by every link."""

    url: Text | None = Field(description="the nested plug's locator; null for the socket PATH/host")
    state: Annotated[HostStateName, BeforeValidator(_plain_text)]
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


class Multilink(_Answer):
    """One control directory, one host, any number of links."""

    name: Text
    url: Text
    path: Text
    host: Host
    duplicates: Text = Field(description="what is done with frames that arrive twice: `pass`, they are handed on")
    links: Count = Field(description="how many links it has")
    refused: dict[str, Count] = Field(description="handshakes refused, by reason")

    @classmethod
    def of(cls, multilink: fabric_multilink.Multilink) -> Multilink:
        """The JSON view of a multilink, as it stands now."""
        return cls(
            name=multilink.name,
            url=multilink.url,
            path=multilink.path,
            host=Host.of(multilink.host),
            duplicates=multilink.duplicates,
            links=len(multilink.links),
            refused={str(reason): count for reason, count in multilink.refused.items()},
        )


class LinkList(_Answer):
    """Links, in the order in which they came."""

    links: list[Link]


class MultilinkList(_Answer):
    """Every multilink of the service."""

    multilinks: list[Multilink]


class Health(_Answer):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Ready(_Answer):
    """The service takes requests."""

    status: Literal["ready"] = "ready"


class ProblemItem(_Answer):
    """One thing that is wrong in a request."""

    where: Text = Field(description="the member of the body, or the query parameter", examples=["body.url"])
    message: Text


class Problem(_Answer):
    """Why a request failed (RFC 9457)."""

    type: str
    title: Text
    status: int = Field(ge=400, le=599)
    detail: Text = Field(description="what is wrong and what to do next")
    code: str = Field(description="stable, for programs")
    errors: list[ProblemItem] | None = Field(default=None, description="where in the request, if that can be said")
