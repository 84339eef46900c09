"""What each kind of event says, as JSON. The stream writes them by hand (see `event_json`); tests hold it to these."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, RootModel

from app.api.schema_types import AnswerModel, Count, QueryModel, Text, Timestamp
from app.api.schemas import LinkKindName, LinkStateName, RoleName

LinkEventName = Literal[
    "link_added",
    "link_up",
    "link_down",
    "link_degraded",
    "link_recovered",
    "link_draining",
    "link_changed",
    "link_retired",
]


class LinkEvent(AnswerModel):
    """Something has become of a link; it is told as it is afterwards."""

    event: LinkEventName
    at: Timestamp
    link: str = Field(description="the link's id")
    name: Text
    multilink: Text
    kind: LinkKindName
    url: Text | None
    state: LinkStateName
    role: RoleName
    detail: Text = Field(description="why it is in that state, in words")


class HostEvent(AnswerModel):
    """A host has come or gone."""

    event: Literal["host_attached", "host_detached"]
    at: Timestamp
    multilink: Text
    detail: Text
    pid: int | None = Field(description="the host's process, where the kernel has named it")


class MultilinkEvent(AnswerModel):
    """A multilink is there, or is no more."""

    event: Literal["multilink_added", "multilink_removed"]
    at: Timestamp
    multilink: Text
    path: Text


class HandoffEvent(AnswerModel):
    """A hand-off has entered a phase, or is over."""

    event: Literal["handoff"]
    at: Timestamp
    handoff: str = Field(description="the hand-off's id")
    multilink: Text
    state: Literal["making", "verifying", "overlapping", "draining", "completed", "rolled_back", "aborted"]
    to: Text | None = Field(description="the new link's name, once it is there")
    from_: list[Text] = Field(alias="from", description="the names of the old links")
    verified_by: Text
    reason: Text = Field(description="why it did not complete, in words")


class Rates(AnswerModel):
    """What one link did within a second. Frames and bytes, not bits."""

    rx_frames: Count
    rx_bytes: Count
    tx_frames: Count
    tx_bytes: Count
    dropped: Count = Field(description="frames lost, in both directions")
    duplicates: Count = Field(description="second copies left out")


class StatsEvent(AnswerModel):
    """What the links did within the last second; one that is not named was idle."""

    event: Literal["stats"]
    at: Timestamp = Field(description="the end of that second")
    interval_s: float
    links: dict[str, Rates] = Field(description="by the link's id")


class MissedEvent(AnswerModel):
    """Events in between cannot be told any more: ask for the state of things again."""

    event: Literal["missed"]
    at: Timestamp
    since: Count = Field(description="the number in the id that was given")


class Event(RootModel[LinkEvent | HostEvent | MultilinkEvent | HandoffEvent | StatsEvent | MissedEvent]):
    """The `data` of one server-sent event; its `event` is also the event's type."""

    root: Annotated[
        LinkEvent | HostEvent | MultilinkEvent | HandoffEvent | StatsEvent | MissedEvent,
        Field(discriminator="event"),
    ]


class EventsQuery(QueryModel):
    """What is to be told."""

    kinds: str | None = Field(
        default=None,
        pattern=r"^[a-z_]+(,[a-z_]+)*$",
        description="only events of these kinds, with commas between them; `missed` is always told",
        examples=["link_up,link_down"],
    )
    last_event_id: str | None = Field(
        default=None, max_length=64, description="as the header Last-Event-ID, for those who cannot send it"
    )


class Sample(Rates):
    """What a link did within one second."""

    at: Timestamp = Field(description="the end of that second")


class History(AnswerModel):
    """A link's last five minutes, a sample a second; seconds in which it was idle are left out."""

    link: str = Field(description="the link's id")
    at: Timestamp = Field(description="the time of this answer")
    interval_s: float
    kept_s: float = Field(description="how far the samples can go back")
    samples: list[Sample] = Field(description="oldest first")
