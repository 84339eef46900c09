"""Hand-offs as JSON: what is asked for, what would be done, and what has become of it. As strict as `schemas`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import BeforeValidator, ConfigDict, Discriminator, Field, Tag

from app.api.schema_types import (
    AnswerModel,
    Count,
    IpText,
    QueryModel,
    RequestModel,
    Text,
    Timestamp,
    ip_address,
    plain_text,
    rfc3339,
    without_default,
)
from app.api.schemas import DEFAULT_DRAIN_S, MAX_DRAIN_S
from app.fabric import handoff_report
from app.fabric import handoff_states as states
from app.fabric.vnl import Vnl

if TYPE_CHECKING:
    from app.fabric import handoff as fabric_handoff

MAX_VERIFY_TIMEOUT_S: Final = 300.0
MAX_OVERLAP_S: Final = 300.0
MAX_VERIFY_FRAMES: Final = 1_000_000
MAX_OLD_LINKS: Final = 1000

HandoffStateName = Literal["making", "verifying", "overlapping", "draining", "completed", "rolled_back", "aborted"]
PhaseName = Literal["making", "verifying", "overlapping", "draining"]
OldLinksName = Literal["retire", "standby"]


class VerifyFrames(RequestModel):
    """So many frames from the new link prove that it carries."""

    frames: int = Field(ge=1, le=MAX_VERIFY_FRAMES, description="frames from the new link")


class VerifyAddress(RequestModel):
    """An answer over the new link, to an ARP request or a neighbour solicitation, proves that it carries."""

    address: IpText = Field(description="the IPv4 or IPv6 address that is asked", examples=["10.0.0.2"])


def _kind_of_verify(value: Any) -> str | None:
    if isinstance(value, str):
        return "word" if value in {"auto", "none"} else None
    if isinstance(value, dict):
        return next((kind for kind in ("frames", "address") if kind in value), None)
    return None


Verify = Annotated[
    Annotated[Literal["auto", "none"], Tag("word")]
    | Annotated[VerifyFrames, Tag("frames")]
    | Annotated[VerifyAddress, Tag("address")],
    Discriminator(
        _kind_of_verify,
        custom_error_type="verify",
        custom_error_message='Give "auto", "none", {"frames": 1} or {"address": "10.0.0.2"}',
    ),
]


class HandoffToLocator(RequestModel):
    """A link to be dialled."""

    url: str = Field(
        description="the new path's locator (VNL), as for a link",
        examples=["cmd://ssh ip2 vde_plug /tmp/vm2", "vde:///tmp/vm2"],
    )
    name: str = Field(
        default="", min_length=1, description="a name for the new link", json_schema_extra=without_default
    )


class HandoffToLink(RequestModel):
    """A link that is there, `standby` perhaps."""

    link: str = Field(min_length=1, description="its id or its name", examples=["lte"])


def _kind_of_target(value: Any) -> str | None:
    return next((kind for kind in ("link", "url") if kind in value), None) if isinstance(value, dict) else None


HandoffTarget = Annotated[
    Annotated[HandoffToLocator, Tag("url")] | Annotated[HandoffToLink, Tag("link")],
    Discriminator(
        _kind_of_target,
        custom_error_type="target",
        custom_error_message='Give a locator, {"url": "vde:///tmp/vm2"}, or a link that is there, {"link": "lte"}',
    ),
]


class HandoffCreate(RequestModel):
    """A hand-off: the host of a multilink moves to another link."""

    multilink: str = Field(
        default="",
        min_length=1,
        description="the multilink's name; may be left out where there is exactly one",
        json_schema_extra=without_default,
    )
    to: HandoffTarget = Field(description="the new link: a locator to be dialled, or a link that is there")
    old: OldLinksName = Field(default="retire", description="what becomes of the old links in the end")
    from_: list[Annotated[str, Field(min_length=1)]] = Field(
        default=[],
        alias="from",
        max_length=MAX_OLD_LINKS,
        description="the old links, by id or name; left out: every other active link",
        json_schema_extra=without_default,
    )
    verify: Verify = Field(
        default="auto",
        description=(
            "what proves that the new link carries: `auto` takes a first frame from it, or an answer over it from one"
            " of those heard lately; `none` takes a connected link as it is"
        ),
    )
    verify_timeout_s: float = Field(
        default=states.DEFAULT_VERIFY_TIMEOUT_S,
        gt=0,
        le=MAX_VERIFY_TIMEOUT_S,
        allow_inf_nan=False,
        description="without a proof in this time it is rolled back",
    )
    overlap_s: float = Field(
        default=states.DEFAULT_OVERLAP_S,
        ge=0,
        le=MAX_OVERLAP_S,
        allow_inf_nan=False,
        description="how long both carry",
    )
    drain_s: float = Field(
        default=DEFAULT_DRAIN_S,
        ge=0,
        le=MAX_DRAIN_S,
        allow_inf_nan=False,
        description="for what is queued to go out over the old links, and what is under way to come in",
    )

    def fabric_verify(self) -> states.Verify:
        """`verify` as the fabric has it."""
        match self.verify:
            case VerifyFrames(frames=frames):
                return states.VerifyFrames(frames)
            case VerifyAddress(address=address):
                return states.VerifyAddress(ip_address(address))
            case "none":
                return states.VerifyNothing()
            case _:
                return states.VerifyAuto()


def _true_or_false(value: Any) -> Any:
    if value not in {"true", "false", True, False}:
        raise ValueError("Give true or false")
    return value in {"true", True}


class HandoffCreateQuery(QueryModel):
    """Whether it is only shown what would be done."""

    plan: Annotated[bool, BeforeValidator(_true_or_false)] = Field(
        default=False, description="only answer what would be done, and do nothing"
    )


class VerifyFramesShown(AnswerModel):
    """So many frames from the new link."""

    frames: Count


class VerifyAddressShown(AnswerModel):
    """An answer over the new link from this address."""

    address: str


VerifyShown = Literal["auto", "none"] | VerifyFramesShown | VerifyAddressShown


def _shown_verify(verify: states.Verify) -> VerifyShown:
    match verify:
        case states.VerifyFrames(frames):
            return VerifyFramesShown(frames=frames)
        case states.VerifyAddress(address):
            return VerifyAddressShown(address=str(address))
        case states.VerifyNothing():
            return "none"
        case states.VerifyAuto():
            return "auto"


class HandoffTo(AnswerModel):
    """The new link."""

    link: Text | None = Field(description="its id; null until it has been made")
    name: Text | None = Field(description="its name; null where it will be given one")
    url: Text | None = Field(description="its locator; null for an attached link")


class HandoffPlan(AnswerModel):
    """What is to be done, every name resolved."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    multilink: Text
    to: HandoffTo
    from_: list[Text] = Field(alias="from", description="the names of the old links")
    old: Annotated[OldLinksName, BeforeValidator(plain_text)]
    verify: VerifyShown
    verify_timeout_s: float = Field(ge=0)
    overlap_s: float = Field(ge=0)
    drain_s: float = Field(ge=0)

    @staticmethod
    def members_of(multilink: str, plan: fabric_handoff.HandoffPlan, new: HandoffTo | None = None) -> dict[str, Any]:
        """The members of the JSON view; `new` in place of the planned link, once there is one."""
        return {
            "multilink": multilink,
            "to": _planned(plan) if new is None else new,
            "from_": [link.name for link in plan.old],
            "old": plan.old_become,
            "verify": _shown_verify(plan.verify),
            "verify_timeout_s": plan.verify_timeout_s,
            "overlap_s": plan.overlap_s,
            "drain_s": plan.drain_s,
        }

    @classmethod
    def of(cls, multilink: str, plan: fabric_handoff.HandoffPlan) -> HandoffPlan:
        """The JSON view of a plan."""
        return cls(**cls.members_of(multilink, plan))


class HandoffPhase(AnswerModel):
    """One phase of a hand-off."""

    state: Annotated[PhaseName, BeforeValidator(plain_text)]
    started: Timestamp
    duration_s: float | None = Field(ge=0, description="null while it is under way")


class HandoffPath(AnswerModel):
    """What one link did in one direction."""

    first: Count = Field(description="to the host: frames that it brought before any other link")
    later: Count = Field(description="to the host: second copies, which were dropped")
    missed: Count = Field(description="to the host: frames that others brought, and it never")
    frames: Count = Field(description="from the host: frames sent over it")
    dropped: Count = Field(description="from the host: frames that it could not take")


class HandoffDirection(AnswerModel):
    """What a hand-off saw in one direction."""

    frames: Count
    duplicates: Count = Field(description="second copies that were dropped")
    longest_gap_s: float | None = Field(description="the longest time without a frame; null before the second one")
    skew_median_s: float | None = Field(description="how much later the other copy came; null without one")
    skew_p99_s: float | None
    paths: dict[str, HandoffPath] = Field(description="by the link's name")

    @classmethod
    def of(cls, report: handoff_report.DirectionReport) -> HandoffDirection:
        """The JSON view of a direction."""
        return cls(
            frames=report.frames,
            duplicates=report.duplicates,
            longest_gap_s=report.longest_gap_s,
            skew_median_s=report.skew_median_s,
            skew_p99_s=report.skew_p99_s,
            paths={
                name: HandoffPath(
                    first=path.first, later=path.later, missed=path.missed, frames=path.frames, dropped=path.dropped
                )
                for name, path in report.paths.items()
            },
        )


class HandoffReport(AnswerModel):
    """What a hand-off saw, from its start to its end."""

    to_host: HandoffDirection
    from_host: HandoffDirection


class Handoff(HandoffPlan):
    """One hand-off."""

    id: str = Field(description="opaque, and never used again")
    state: Annotated[HandoffStateName, BeforeValidator(plain_text)]
    phases: list[HandoffPhase]
    verified_by: Text = Field(description="what has proved that the new link carries; empty so far")
    reason: Text = Field(description="why it was rolled back or aborted, in words")
    report: HandoffReport

    @classmethod
    def at_present(cls, handoff: fabric_handoff.Handoff) -> Handoff:
        """The JSON view of a hand-off, as it stands now."""
        handoff.update_report()
        new = handoff.new_link
        made = None if new is None else HandoffTo(link=new.id, name=new.name, url=new.url)
        return cls(
            **cls.members_of(handoff.multilink, handoff.plan, made),
            id=handoff.id,
            state=handoff.state.value,
            phases=_phases(handoff.phases),
            verified_by=handoff.verified_by,
            reason=handoff.reason,
            report=HandoffReport(
                to_host=HandoffDirection.of(handoff.report.to_host),
                from_host=HandoffDirection.of(handoff.report.from_host),
            ),
        )


class HandoffList(AnswerModel):
    """The last 100 hand-offs, oldest first."""

    handoffs: list[Handoff]


def _planned(plan: fabric_handoff.HandoffPlan) -> HandoffTo:
    to: Any = plan.to
    if isinstance(to, Vnl):
        return HandoffTo(link=None, name=plan.to_name, url=str(to))
    return HandoffTo(link=to.id, name=to.name, url=to.url)


def _phases(phases: Sequence[fabric_handoff.Phase]) -> list[HandoffPhase]:
    return [
        HandoffPhase(state=phase.state, started=rfc3339(phase.started), duration_s=phase.duration_s)  # type: ignore[arg-type] # made plain by its validator
        for phase in phases
    ]
