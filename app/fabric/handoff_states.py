"""The life of a hand-off as one table, and what a user may ask for. Pure.

    making ---> verifying ---> overlapping ---> draining ---> completed
       |            |               |              |
       +------------+---------------+--------------+---> rolled_back   the new path failed, or proved nothing
       +------------+---------------+--------------+---> aborted       somebody asked for it

Until `draining` the old links carry everything as before, so rolling back means no more than to take the new one out.
While they drain they can still be restored.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from app.fabric.neighbour import IpAddress

DEFAULT_OVERLAP_S: Final = 1.0
DEFAULT_DRAIN_S: Final = 0.5
DEFAULT_VERIFY_TIMEOUT_S: Final = 10.0


class HandoffState(StrEnum):
    """Phases of a hand-off, and how it can end."""

    MAKING = "making"
    VERIFYING = "verifying"
    OVERLAPPING = "overlapping"
    DRAINING = "draining"
    COMPLETED = "completed"
    ROLLED_BACK = "rolled_back"
    ABORTED = "aborted"


PHASES: Final = (HandoffState.MAKING, HandoffState.VERIFYING, HandoffState.OVERLAPPING, HandoffState.DRAINING)
FINAL_STATES: Final = frozenset({HandoffState.COMPLETED, HandoffState.ROLLED_BACK, HandoffState.ABORTED})

TRANSITIONS: Final[dict[HandoffState, frozenset[HandoffState]]] = {
    HandoffState.MAKING: frozenset({HandoffState.VERIFYING, HandoffState.ROLLED_BACK, HandoffState.ABORTED}),
    HandoffState.VERIFYING: frozenset({HandoffState.OVERLAPPING, HandoffState.ROLLED_BACK, HandoffState.ABORTED}),
    HandoffState.OVERLAPPING: frozenset({HandoffState.DRAINING, HandoffState.ROLLED_BACK, HandoffState.ABORTED}),
    HandoffState.DRAINING: FINAL_STATES,
    **dict.fromkeys(FINAL_STATES, frozenset()),
}


class OldLinks(StrEnum):
    """What becomes of the old links."""

    RETIRE = "retire"
    STANDBY = "standby"


@dataclass(frozen=True, slots=True)
class VerifyNothing:
    """A connected link is good enough."""


@dataclass(frozen=True, slots=True)
class VerifyAuto:
    """A first frame from the new link, or an answer over it from one of those heard lately; if nobody has been,
    nothing.
    """


@dataclass(frozen=True, slots=True)
class VerifyFrames:
    """So many frames from the new link."""

    frames: int


@dataclass(frozen=True, slots=True)
class VerifyAddress:
    """An answer over the new link from this address."""

    address: IpAddress


Verify = VerifyNothing | VerifyAuto | VerifyFrames | VerifyAddress


def may_follow(state: HandoffState, following: HandoffState) -> bool:
    """Whether a hand-off in `state` can go over to `following`."""
    return following in TRANSITIONS[state]
