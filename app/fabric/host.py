"""The host: the one side that hears every link and is heard by every link.

It comes to PATH/host like any VDE client, or is a nested plug that is opened with the multilink and dialled again
when it ends.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

import structlog
import trio

from app.fabric.endpoint import Endpoint
from app.fabric.errors import describe_bug
from app.fabric.mmsg import Batch
from app.fabric.peer_socket import PeerCredentials
from app.fabric.plugs.base import Plug
from app.fabric.pressure import Pressure
from app.fabric.redial import keep_dialled
from app.fabric.vnl import Vnl

_log = structlog.get_logger(__name__)


class HostState(StrEnum):
    """Whether there is a host just now."""

    ATTACHED = "attached"
    DETACHED = "detached"


class Host(Endpoint):
    """The host's place in a multilink, taken or not; its counters go on over all hosts that come and go.

    Args:
        vnl: the nested plug; None for whoever comes to the socket.
        batch: the multilink's buffers.
        to_host: the pressure that the host holds while it is full.
        to_links: the pressure that it waits for before it is read.
        from_host: takes what the host sent.
        changed: told when a host has come or gone; must not await.
    """

    def __init__(
        self,
        vnl: Vnl | None,
        batch: Batch,
        to_host: Pressure,
        to_links: Pressure,
        from_host: Callable[[Batch], None],
        changed: Callable[[], None],
    ) -> None:
        super().__init__(batch, to_host, to_links, from_host)
        self.url = None if vnl is None else str(vnl)
        self.description = ""
        self.peer: PeerCredentials | None = None
        self._vnl = vnl
        self._changed = changed
        self._detail = "no host has come yet"
        self._detached = trio.Event()
        self._detached.set()

    @property
    def state(self) -> HostState:
        """Whether a host is attached."""
        return HostState.DETACHED if self._detached.is_set() else HostState.ATTACHED

    @property
    def detail(self) -> str:
        """Why there is no host, in words; while there is one, what its plug last remarked."""
        return self._detail if self.plug is None else self.plug.remark

    async def wait_detached(self) -> None:
        """Return when there is no host."""
        await self._detached.wait()

    def take_place(self, plug: Plug) -> None:
        """Mark the place as taken, from now on and not only from when `run` gets to run."""
        self._detached = trio.Event()
        self.peer = plug.peer
        self.description = plug.description

    async def run(self, plug: Plug) -> str:
        """Be the host over `plug` until it ends; why it did, in words. Catches what may fail."""
        self.take_place(plug)
        try:
            reason = await self.carry(plug, until=self._changed)
        except Exception as error:  # noqa: BLE001 -- the one supervisor: a bug ends this task alone
            _log.exception("host failed")
            reason = describe_bug(error)
        finally:
            self.peer = None
            self._detached.set()
        self._detail = reason
        self._changed()
        return reason

    async def run_dialled(self, plug: Plug) -> None:
        """Be the host over a nested plug, opened already, and over its successors, until cancelled."""
        if self._vnl is None:
            raise TypeError("a host without a locator cannot be dialled")
        await keep_dialled(self._vnl, carry=self.run, waiting=self._tell_waiting, dialling=lambda: None, first=plug)

    def _tell_waiting(self, detail: str) -> None:
        self._detail = detail
