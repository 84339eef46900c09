"""The life of a link as one table: every state, every event, nothing else.

                               <--restored--
    connecting --opened--> up --retiring--> draining --closed--> retired
        |  ^                |                   |
      failed  redialled   failed              failed (ends the drain early)
        v  |                v                   v
        down <--------------+                 retired
        down --closed--> retired

A pair that is not in the table raises LinkStateError and leaves the state as it was. Time is passed
in by the caller, never read here.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from app.fabric.errors import LinkStateError


class LinkState(StrEnum):
    """States a link can be in, as the API spells them."""

    CONNECTING = "connecting"
    UP = "up"
    DRAINING = "draining"
    DOWN = "down"
    RETIRED = "retired"


class LinkEvent(StrEnum):
    """What can happen to a link."""

    OPENED = "opened"
    FAILED = "failed"
    REDIALLED = "redialled"
    RETIRING = "retiring"
    RESTORED = "restored"
    CLOSED = "closed"


class Role(StrEnum):
    """Whether the host's frames are sent to a link (`active`) or it is only heard (`standby`)."""

    ACTIVE = "active"
    STANDBY = "standby"


TRANSITIONS: Final[dict[tuple[LinkState, LinkEvent], LinkState]] = {
    (LinkState.CONNECTING, LinkEvent.OPENED): LinkState.UP,
    (LinkState.CONNECTING, LinkEvent.FAILED): LinkState.DOWN,
    (LinkState.CONNECTING, LinkEvent.CLOSED): LinkState.RETIRED,
    (LinkState.UP, LinkEvent.FAILED): LinkState.DOWN,
    (LinkState.UP, LinkEvent.RETIRING): LinkState.DRAINING,
    (LinkState.UP, LinkEvent.CLOSED): LinkState.RETIRED,
    (LinkState.DRAINING, LinkEvent.RESTORED): LinkState.UP,
    (LinkState.DRAINING, LinkEvent.FAILED): LinkState.RETIRED,
    (LinkState.DRAINING, LinkEvent.CLOSED): LinkState.RETIRED,
    (LinkState.DOWN, LinkEvent.REDIALLED): LinkState.CONNECTING,
    (LinkState.DOWN, LinkEvent.CLOSED): LinkState.RETIRED,
}


def next_state(state: LinkState, event: LinkEvent) -> LinkState:
    """The state that follows `state` on `event`.

    Raises:
        LinkStateError: the table has no such pair; nothing has changed.
    """
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise LinkStateError(f"a link that is {state} cannot be {event}") from None
