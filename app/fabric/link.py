"""A link: one channel between the multilink and a peer, and the one supervisor that catches what may fail on it.

An attached link lives as long as its plug. A dialled one stays when its plug ends: `down`, and dialled again where it
may be, until it is retired. States change by the table of `app.fabric.states` only.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Final, Literal, NamedTuple, TypeAlias

import structlog
import trio

from app.fabric.endpoint import Endpoint
from app.fabric.errors import ConnectError, MultilinkError, describe_bug
from app.fabric.mmsg import Batch
from app.fabric.peer_socket import PeerCredentials
from app.fabric.plugs.base import Plug, open_plug
from app.fabric.pressure import Pressure
from app.fabric.redial import keep_dialled
from app.fabric.states import LinkEvent, LinkState, Role, next_state
from app.fabric.vnl import Vnl

_ON_REQUEST: Final = "retired on request"

_log = structlog.get_logger(__name__)


LinkChange: TypeAlias = Literal["dialled", "retired", "renamed", "role"]
"""What somebody can ask of a link, as observers are told of it."""


class LinkKind(StrEnum):
    """Who set the link up."""

    ATTACHED = "attached"
    DIALLED = "dialled"


class Health(NamedTuple):
    """What a monitor has found out; `degraded` is None while nobody looks."""

    degraded: bool | None
    reason: str


class Link(Endpoint):
    """One link, from before it is up until after it is retired.

    Args:
        name: unique among the live links of a service.
        multilink: the name of the multilink it belongs to.
        batch: the multilink's buffers.
        to_links: the pressure that this link holds while it is full.
        to_host: the pressure that it waits for before it reads.
        from_link: takes what the peer sent.
        changed: told after every change of state or role; must not await.
        vnl: what is dialled; None for an attached link.
        reconnect: whether a dialled link that goes down is dialled again.
        role: whether the host's frames are sent to it from the beginning.
    """

    __slots__ = (
        "__weakref__", "_changed", "_detail", "_draining", "_left_up", "_may_resume", "_scope", "_vnl", "description",
        "ended", "failure", "health", "id", "kind", "multilink", "name", "peer", "reconnect", "reflections", "role",
        "settled", "since", "state", "told",
    )  # fmt: skip

    def __init__(
        self,
        *,
        name: str,
        multilink: str,
        batch: Batch,
        to_links: Pressure,
        to_host: Pressure,
        from_link: Callable[[Link, Batch], None],
        changed: Callable[[Link], None],
        vnl: Vnl | None = None,
        reconnect: bool = True,
        role: Role = Role.ACTIVE,
    ) -> None:
        super().__init__(batch, to_links, to_host, lambda received: from_link(self, received))
        self.id = f"l{secrets.token_hex(6)}"
        self.name = name
        self.multilink = multilink
        self.kind = LinkKind.ATTACHED if vnl is None else LinkKind.DIALLED
        self.reconnect = reconnect
        self.description = ""
        self.peer: PeerCredentials | None = None
        self.role = role
        self.reflections = 0
        """Frames of the host's own that came back over this link, as far as was looked."""
        self.health = Health(None, "")
        self.state = LinkState.CONNECTING
        self.told: tuple[LinkState, bool | None] = (LinkState.CONNECTING, None)
        """State and health as they were when they were last told to anybody."""
        self.since = time.time()
        self.settled = trio.Event()
        """Set once the link is up for the first time, or never will be, or is kept although it is not."""
        self.ended = trio.Event()
        """Set once the link is retired and everything of it is closed."""
        self.failure: MultilinkError | None = None
        """Why a dialled link never came up."""
        self._vnl = vnl
        self._changed = changed
        self._detail = ""
        self._scope = trio.CancelScope()
        self._draining = trio.CancelScope()
        self._may_resume = False
        self._left_up = trio.Event()
        self._left_up.set()

    @property
    def url(self) -> str | None:
        """What is dialled, as text; None for an attached link."""
        return None if self._vnl is None else str(self._vnl)

    @property
    def detail(self) -> str:
        """Why the link is as it is, in words; while it is up, what its plug last remarked."""
        if self.state is not LinkState.UP or self.plug is None:
            return self._detail
        loop = f"{self.reflections} of the host's own frames came back: is there a loop?" if self.reflections else ""
        return "; ".join(filter(None, (self.health.reason, self.plug.remark, loop)))

    async def wait_left_up(self) -> None:
        """Return when the link is not `up`, or has ceased to be."""
        await self._left_up.wait()

    def set_role(self, role: Role) -> None:
        """Send the host's frames to this link (`active`) or only hear it (`standby`), from the next batch on."""
        self.role = role
        self._changed(self)

    async def run(self, plug: Plug | None = None, *, keep_down: bool = False) -> None:
        """Live until retired or, attached, until the peer ends. The one task of this link.

        Args:
            plug: what an attached link lives on.
            keep_down: a dialled link that cannot be connected at first stays `down` and is dialled again.
        """
        try:
            with self._scope:
                if plug is not None:
                    await self._carry(plug)
                else:
                    await self._stay_dialled(keep_down=keep_down)
        except Exception as error:  # noqa: BLE001 -- the one supervisor: a bug ends this task alone
            _log.exception("link failed", link=self.id, multilink=self.multilink)
            self._detail = describe_bug(error)
        finally:
            if self.state is not LinkState.RETIRED:
                reason = _ON_REQUEST if self._scope.cancel_called else self._detail
                self._advance(LinkEvent.CLOSED, reason or "its multilink has ended")
            if not self.settled.is_set():
                self.failure = self.failure or ConnectError(f"link {self.name} never came up: {self._detail}")
            self.settled.set()
            if self.capture is not None:
                self.capture.end()
            self.ended.set()

    def begin_retirement(self, drain_s: float) -> None:
        """Send nothing new; `drain_s` seconds later, or once the peer ends, close. Returns at once: see `ended`."""
        if self.state is LinkState.UP:
            nursery = self._nursery
            if nursery is not None:
                # Made here and not in the task: `resume` may be called before that runs for the first time.
                self._draining = trio.CancelScope()
                self._may_resume = True
                self._advance(LinkEvent.RETIRING, "draining")
                nursery.start_soon(self._drain, self._draining, drain_s)
                return
        if self.state is LinkState.DRAINING:
            self._may_resume = False  # Two have asked for it, and one of them has not taken it back.
        else:
            self._scope.cancel()

    def resume(self) -> bool:
        """Take a retirement back while the link still drains: it is up again. False if it is too late for that."""
        nursery = self._nursery
        if self.state is not LinkState.DRAINING or nursery is None or nursery.cancel_scope.cancel_called:
            return False
        if not self._may_resume:
            return False
        self._draining.cancel()
        self._advance(LinkEvent.RESTORED, "")
        return True

    async def _stay_dialled(self, *, keep_down: bool) -> None:
        if self._vnl is None:
            raise TypeError("a link without a locator cannot be dialled")
        first: Plug | str
        try:
            first = await open_plug(self._vnl)
        except MultilinkError as error:
            if not keep_down:
                self.failure = error
                self._detail = error.detail
                return
            first = error.detail
            self._advance(LinkEvent.FAILED, error.detail)
            self.settled.set()
        if self.reconnect:
            await keep_dialled(
                self._vnl,
                carry=self._carry,
                waiting=self._tell_waiting,
                dialling=lambda: self._advance(LinkEvent.REDIALLED, self._detail),
                first=first,
            )
        if isinstance(first, Plug):
            await self._carry(first)
        await trio.sleep_forever()  # Down, and kept for people to see, until it is retired.

    async def _carry(self, plug: Plug) -> str:
        self.description = plug.description
        self.peer = plug.peer
        reason = await self.carry(plug, until=self._has_opened)
        if self.state is LinkState.DRAINING:
            self._advance(LinkEvent.CLOSED, reason)
            self._scope.cancel()
        elif self.kind is LinkKind.ATTACHED:
            self._detail = reason
        else:
            self._advance(LinkEvent.FAILED, reason)
        return reason

    def _has_opened(self) -> None:
        self._advance(LinkEvent.OPENED)
        self.settled.set()

    def _tell_waiting(self, detail: str) -> None:
        if self.state is LinkState.CONNECTING:
            self._advance(LinkEvent.FAILED, detail)
        elif self.state is LinkState.DOWN:
            self._detail = detail

    async def _drain(self, scope: trio.CancelScope, drain_s: float) -> None:
        deadline = trio.current_time() + drain_s
        with scope:
            with trio.move_on_at(deadline):
                await self.wait_queue_empty()
            # Frames of the peer's that are under way are taken in until the time is over.
            await trio.sleep_until(deadline)
            self.stop(_ON_REQUEST)

    def _advance(self, event: LinkEvent, detail: str | None = None) -> None:
        self.state = next_state(self.state, event)
        self.since = time.time()
        if self.state is LinkState.UP:
            self._left_up = trio.Event()
        else:
            self._left_up.set()
        if detail is not None:
            self._detail = detail
        elif event is LinkEvent.OPENED:
            self._detail = ""
        self._changed(self)


Observer: TypeAlias = Callable[[LinkChange, Link], None]
"""Told, at once and without awaiting, of what somebody asked for and got; not of what happens by itself."""
