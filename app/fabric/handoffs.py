"""The hand-offs of one service: planned from what a user asks, one at a time for a multilink, the last ones
remembered.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import trio

from app.fabric.errors import HandoffInvalidError, HandoffRunningError, NotFoundError
from app.fabric.events import EventKind, EventLog
from app.fabric.handoff import Handoff, HandoffPlan
from app.fabric.handoff_states import (
    DEFAULT_DRAIN_S,
    DEFAULT_OVERLAP_S,
    DEFAULT_VERIFY_TIMEOUT_S,
    OldLinks,
    Verify,
    VerifyAuto,
)
from app.fabric.link import Link, Observer
from app.fabric.link_registry import LinkRegistry
from app.fabric.multilink import Multilink
from app.fabric.states import LinkState, Role
from app.fabric.vnl import MultiVnl, Vnl

KEPT: Final = 100
_AUTO: Final = VerifyAuto()


@dataclass(frozen=True, slots=True)
class HandoffRequest:
    """What a user asks for. `to` is a locator, or a link's id or name; `old` None means every other active link."""

    to: Vnl | str
    to_name: str | None = None
    old: Sequence[str] | None = None
    verify: Verify = _AUTO
    verify_timeout_s: float = DEFAULT_VERIFY_TIMEOUT_S
    overlap_s: float = DEFAULT_OVERLAP_S
    drain_s: float = DEFAULT_DRAIN_S
    old_become: OldLinks = OldLinks.RETIRE


class Handoffs:
    """Every hand-off that is under way, and the last of those that are over.

    Args:
        nursery: where they run.
        links: resolves ids and names.
        tell: told which links are dialled, retired and change their role.
        events: told of every phase.
    """

    def __init__(self, nursery: trio.Nursery, links: LinkRegistry, tell: Observer, events: EventLog) -> None:
        self._nursery = nursery
        self._links = links
        self._tell = tell
        self._events = events
        self.on_progress: list[Callable[[Handoff], object]] = []
        """Told of every phase that a hand-off enters, and of its end; must not await."""
        self._known: deque[Handoff] = deque(maxlen=KEPT)

    def all(self) -> list[Handoff]:
        """The last hand-offs, oldest first."""
        return list(self._known)

    def find(self, handoff_id: str) -> Handoff:
        """The hand-off of that id.

        Raises:
            NotFoundError: there is none, or it is too long ago.
        """
        for handoff in self._known:
            if handoff.id == handoff_id:
                return handoff
        raise NotFoundError(f"there is no hand-off {handoff_id!r}; the last {KEPT} are kept: see GET /handoffs")

    def running(self, multilink: str) -> Handoff | None:
        """The hand-off that is under way on a multilink."""
        return next((each for each in self._known if each.multilink == multilink and not each.ended.is_set()), None)

    def plan(self, multilink: Multilink, request: HandoffRequest) -> HandoffPlan:
        """What `request` comes to, every name resolved. Nothing happens.

        Raises:
            NotFoundError: a link that is named is not there.
            HandoffInvalidError: it makes no sense.
            NameTakenError, NameInvalidError: the new link cannot have its name.
        """
        to: Vnl | Link
        if isinstance(request.to, str):
            to = self._link_of(multilink, request.to)
            if to.state is not LinkState.UP:
                raise HandoffInvalidError(f"the link {to.name} is {to.state}: only one that is up can be handed off to")
        else:
            to = request.to
            if isinstance(to, MultiVnl):
                raise HandoffInvalidError(f"{to} makes a multilink and cannot be dialled: give the path of one")
            if request.to_name is not None:
                self._links.check_name(request.to_name)
        if request.old is None:
            active = (each for each in multilink.links if each.role is Role.ACTIVE and each.state is LinkState.UP)
            old = tuple(each for each in active if each is not to)
        else:
            old = tuple(dict.fromkeys(self._link_of(multilink, name) for name in request.old))
            if to in old:
                raise HandoffInvalidError("the new link is one of the old ones: leave it out of `from`")
        return HandoffPlan(
            to=to,
            to_name=request.to_name,
            old=old,
            verify=request.verify,
            verify_timeout_s=request.verify_timeout_s,
            overlap_s=request.overlap_s,
            drain_s=request.drain_s,
            old_become=request.old_become,
        )

    def start(self, multilink: Multilink, request: HandoffRequest) -> Handoff:
        """Begin a hand-off; returns at once.

        Raises:
            HandoffRunningError: there is one under way on this multilink.
            NotFoundError, HandoffInvalidError, NameTakenError, NameInvalidError: see `plan`.
        """
        running = self.running(multilink.name)
        if running is not None:
            raise HandoffRunningError(
                f"the hand-off {running.id} is {running.state} on {multilink.name}: wait for its end, or abort it"
            )
        handoff = Handoff(multilink, self.plan(multilink, request), self._tell, self._has_progressed)
        self._known.append(handoff)
        self._nursery.start_soon(handoff.run)
        return handoff

    def _has_progressed(self, handoff: Handoff) -> None:
        new = handoff.new_link
        data: dict[str, object] = {
            "handoff": handoff.id,
            "multilink": handoff.multilink,
            "state": str(handoff.state),
            "to": None if new is None else new.name,
            "from": [link.name for link in handoff.plan.old],
            "verified_by": handoff.verified_by,
            "reason": handoff.reason,
        }
        self._events.publish(EventKind.HANDOFF, data)
        for observer in self.on_progress:
            observer(handoff)

    def _link_of(self, multilink: Multilink, id_or_name: str) -> Link:
        link = self._links.find(id_or_name)
        if link.multilink != multilink.name:
            raise HandoffInvalidError(f"the link {id_or_name} belongs to {link.multilink}, not to {multilink.name}")
        return link
