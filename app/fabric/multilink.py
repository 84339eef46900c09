"""A multilink: one control directory, one host, any number of links.

What the host sends goes to every active link that is up; what any link brings goes to the host and to no other link.
Each link has a task in the multilink's nursery; all of them share one Batch, and nothing awaits while it is in hand.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import structlog
import trio

from app.fabric.control_dir import CTL_NAME, HOST_NAME, ControlDirectory, directory_path
from app.fabric.counters import DropReason
from app.fabric.errors import ServiceStoppingError, VnlError
from app.fabric.host import Host, HostState
from app.fabric.link import Link, LinkKind
from app.fabric.link_registry import LinkRegistry
from app.fabric.listener import ControlListener, RefusedError
from app.fabric.mmsg import Batch
from app.fabric.plugs.base import Plug, open_plug
from app.fabric.plugs.datagram import DatagramPlug
from app.fabric.pressure import Pressure
from app.fabric.states import LinkState, Role
from app.fabric.vnl import MultiVnl, Vnl

_log = structlog.get_logger(__name__)


class Multilink:
    """One multilink; `run` is its life.

    Args:
        vnl: what it is made from.
        registry: where its links are entered, shared by the service.
        host_plug: opens the host's plug in place of the one that `vnl` nests.
    """

    def __init__(
        self,
        vnl: MultiVnl,
        registry: LinkRegistry,
        host_plug: Callable[[], Plug] | None = None,
    ) -> None:
        self.path = directory_path(vnl)
        self.name = os.path.basename(self.path)
        self.url = str(vnl)
        self.refused: dict[str, int] = {}
        """Handshakes that were refused, by reason."""
        self.duplicates = "pass"
        """What becomes of a frame that comes over more than one link: every copy goes to the host, as in the C
        module.
        """
        self.ended = trio.Event()
        self._vnl = vnl
        self._registry = registry
        self._host_plug = host_plug
        self._batch = Batch()
        self._to_host = Pressure()
        self._to_links = Pressure()
        self.host = Host(vnl.host, self._batch, self._to_host, self._to_links, self._from_host)
        self._targets: tuple[Link, ...] = ()
        self._nursery: trio.Nursery | None = None

    @property
    def links(self) -> list[Link]:
        """The live links of this multilink, oldest first."""
        return [link for link in self._registry.live() if link.multilink == self.name]

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Make the directory, serve it until cancelled or stopped, remove it.

        Raises:
            PathError, DirectoryInUseError: from the directory.
            ConnectError: from the nested host plug; nothing is left behind.
        """
        try:
            directory = ControlDirectory(self._vnl)
            try:
                async with trio.open_nursery() as nursery:
                    self._nursery = nursery
                    await self._start(nursery, directory)
                    task_status.started()
            finally:
                self._nursery = None
                directory.close()
        finally:
            self.ended.set()

    def stop(self) -> None:
        """End every link and the host at once; `ended` is set when all is closed and removed."""
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()

    async def dial(self, vnl: Vnl, *, name: str | None, reconnect: bool, keep_down: bool) -> Link:
        """Open a link to what `vnl` names. Cancelled, or failed, it leaves nothing.

        Raises:
            ConnectError: it could not be opened (unless `keep_down`).
            NameInvalidError, NameTakenError: from the registry.
            ServiceStoppingError: the multilink is going away.
        """
        if isinstance(vnl, MultiVnl):
            raise VnlError(f"{vnl} makes a multilink and cannot be dialled: to join one, give its path")
        link = self._new_link(vnl=vnl, name=name, reconnect=reconnect)
        nursery = self._live_nursery()
        self._registry.add(link)
        nursery.start_soon(self._supervise, link, None, keep_down)
        if keep_down:
            return link
        try:
            await link.settled.wait()
        except trio.Cancelled:
            link.begin_retirement(0)
            raise
        if link.failure is not None:
            await link.ended.wait()
            raise link.failure
        return link

    async def _start(self, nursery: trio.Nursery, directory: ControlDirectory) -> None:
        plug: Plug | None = None
        if self._host_plug is not None:
            plug = self._host_plug()
            nursery.start_soon(self.host.run, plug)
        elif self._vnl.host is not None:
            plug = await open_plug(self._vnl.host)
            nursery.start_soon(self.host.run_dialled, plug)
        if plug is not None:
            self.host.take_place(plug)
        else:
            host_listener = ControlListener(
                directory.listen(HOST_NAME), directory, self._admit_host, self._attach_host, self.refused
            )
            nursery.start_soon(host_listener.serve)
        listener = ControlListener(
            directory.listen(CTL_NAME), directory, self._admit_link, self._attach_link, self.refused
        )
        nursery.start_soon(listener.serve)

    def _new_link(self, vnl: Vnl | None = None, name: str | None = None, *, reconnect: bool = True) -> Link:
        kind = LinkKind.ATTACHED if vnl is None else LinkKind.DIALLED
        if name is None:
            name = self._registry.free_name(kind)
        else:
            self._registry.check_name(name)
        return Link(
            name=name,
            multilink=self.name,
            batch=self._batch,
            to_links=self._to_links,
            to_host=self._to_host,
            from_link=self._from_link,
            changed=self._has_changed,
            vnl=vnl,
            reconnect=reconnect,
        )

    def _live_nursery(self) -> trio.Nursery:
        if self._nursery is None or self._nursery.cancel_scope.cancel_called:
            raise ServiceStoppingError(f"the multilink {self.name} is stopping: it takes no new links")
        return self._nursery

    def _admit_link(self) -> None:
        self._live_nursery()

    def _attach_link(self, plug: DatagramPlug) -> None:
        link = self._new_link()
        self._registry.add(link)
        self._live_nursery().start_soon(self._supervise, link, plug, False)

    def _admit_host(self) -> None:
        self._live_nursery()
        if self.host.state is HostState.ATTACHED:
            raise RefusedError(f"{self.name} has a host already: one at a time")

    def _attach_host(self, plug: DatagramPlug) -> None:
        self.host.take_place(plug)
        self._live_nursery().start_soon(self.host.run, plug)

    async def _supervise(self, link: Link, plug: Plug | None, keep_down: bool) -> None:
        try:
            await link.run(plug, keep_down=keep_down)
        finally:
            # A link that never came up was never one to be remembered.
            self._registry.remove(link, remember=link.failure is None)

    def _has_changed(self, link: Link) -> None:
        self._targets = tuple(each for each in self.links if each.state is LinkState.UP and each.role is Role.ACTIVE)
        _log.info(
            "link changed", link=link.id, name=link.name, multilink=self.name, state=str(link.state), detail=link.detail
        )

    def _from_host(self, batch: Batch) -> None:
        rx = self.host.rx
        targets = self._targets
        if not targets:
            rx.drop(DropReason.NO_LINK, batch.frames)
            return
        rx.add(batch.frames, batch.octets)
        for link in targets:
            link.transmit(batch)

    def _from_link(self, link: Link, batch: Batch) -> None:
        if self.host.plug is None:
            link.rx.drop(DropReason.NO_HOST, batch.frames)
            return
        link.rx.add(batch.frames, batch.octets)
        self.host.transmit(batch)
