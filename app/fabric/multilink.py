"""A multilink: one control directory, one host, any number of links.

What the host sends goes to every active link that is up; what any link brings goes to the host and to no other link.
Each link has a task in the multilink's nursery; all of them share one Batch, and nothing awaits while it is in hand.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import structlog
import trio

from app.fabric.control_dir import CTL_NAME, HOST_NAME, ControlDirectory, directory_path
from app.fabric.counters import DropReason
from app.fabric.dedup import WINDOW_S
from app.fabric.errors import MultilinkError, ServiceStoppingError, VnlError
from app.fabric.events import EventKind, EventLog
from app.fabric.failover import failing, successor
from app.fabric.handoff_report import ReportObserver
from app.fabric.host import Host, HostState
from app.fabric.inspection import Inspection
from app.fabric.link import Link, LinkKind
from app.fabric.link_events import kind_of_change, link_data
from app.fabric.link_registry import LinkRegistry
from app.fabric.listener import ControlListener, RefusedError
from app.fabric.mmsg import Batch
from app.fabric.monitor import Monitor, MonitorSpec
from app.fabric.plugs.base import Plug, open_plug
from app.fabric.plugs.datagram import DatagramPlug
from app.fabric.pressure import Pressure
from app.fabric.prober import Prober
from app.fabric.states import LinkState, Role
from app.fabric.vnl import MultiVnl, PassOrDrop, Vnl

_log = structlog.get_logger(__name__)


class Multilink:
    """One multilink; `run` is its life.

    Args:
        vnl: what it is made from.
        registry: where its links are entered, shared by the service.
        events: told of what happens, shared by the service.
        host_plug: opens the host's plug in place of the one that `vnl` nests.
    """

    def __init__(
        self,
        vnl: MultiVnl,
        registry: LinkRegistry,
        events: EventLog,
        host_plug: Callable[[], Plug] | None = None,
    ) -> None:
        self.path = directory_path(vnl)
        self.name = os.path.basename(self.path)
        self.url = str(vnl)
        self.refused: dict[str, int] = {}
        """Handshakes that were refused, by reason."""
        self.inspection = Inspection(
            drops_duplicates=vnl.duplicates is not PassOrDrop.PASS,
            drops_reflections=vnl.reflections is PassOrDrop.DROP,
            window_s=WINDOW_S if vnl.window_s is None else vnl.window_s,
        )
        self.prober = Prober(self.inspection)
        self.failover = False
        """Whether the best standby link becomes active when all the active ones are degraded or down."""
        self.monitors: dict[Link, Monitor] = {}
        self.report: ReportObserver | None = None
        """Told of what passes, while a hand-off is under way."""
        self.ended = trio.Event()
        self._vnl = vnl
        self._registry = registry
        self._events = events
        self._host_plug = host_plug
        self._batch = Batch()
        self._to_host = Pressure()
        self._to_links = Pressure()
        self.host = Host(vnl.host, self._batch, self._to_host, self._to_links, self._from_host, self._host_has_changed)
        self._targets: tuple[Link, ...] = ()
        self._is_stale = False
        self._nursery: trio.Nursery | None = None

    @property
    def duplicates(self) -> PassOrDrop:
        """What becomes of a frame that comes again over another link."""
        return PassOrDrop.DROP if self.inspection.drops_duplicates else PassOrDrop.PASS

    @property
    def reflections(self) -> PassOrDrop:
        """What becomes of the host's own frames that come back over a link."""
        return PassOrDrop.DROP if self.inspection.drops_reflections else PassOrDrop.PASS

    def configure(
        self,
        *,
        duplicates: PassOrDrop | None = None,
        reflections: PassOrDrop | None = None,
        window_s: float | None = None,
        failover: bool | None = None,
    ) -> None:
        """Change what is done with duplicates, reflections and degraded links; None leaves it as it is."""
        self.inspection.configure(
            self.links,
            trio.current_time(),
            drops_duplicates=None if duplicates is None else duplicates is PassOrDrop.DROP,
            drops_reflections=None if reflections is None else reflections is PassOrDrop.DROP,
            window_s=window_s,
        )
        if failover is not None:
            self.failover = failover
            self._fail_over()

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
        failure: MultilinkError | None = None
        try:
            directory = ControlDirectory(self._vnl)
            try:
                async with trio.open_nursery() as nursery:
                    self._nursery = nursery
                    try:
                        await self._start(nursery, directory)
                    except MultilinkError as error:
                        failure = error  # Raised below: the nursery would wrap it into a group.
                        nursery.cancel_scope.cancel()
                    else:
                        task_status.started()
                if failure is not None:
                    raise failure
            finally:
                self._nursery = None
                directory.close()
        finally:
            self.ended.set()

    def stop(self) -> None:
        """End every link and the host at once; `ended` is set when all is closed and removed."""
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()

    def observe(self, report: ReportObserver | None) -> None:
        """Tell `report` of what passes, while a hand-off is under way; None ends it, and a failover put off is done."""
        self.report = report
        self.inspection.observe(report)
        if report is None:
            self._fail_over()

    def monitor(self, link: Link, spec: MonitorSpec | None) -> None:
        """Watch a link from now on, in place of any watch there is; None ends it."""
        watched = self.monitors.pop(link, None)
        if watched is not None:
            watched.stop()
        if spec is not None:
            monitor = Monitor(link, spec, self.prober, self._has_changed, time.time)
            self.monitors[link] = monitor
            self._live_nursery().start_soon(monitor.run)

    async def dial(
        self,
        vnl: Vnl,
        *,
        name: str | None = None,
        reconnect: bool = True,
        keep_down: bool = False,
        role: Role = Role.ACTIVE,
    ) -> Link:
        """Open a link to what `vnl` names. Cancelled, or failed, it leaves nothing.

        Raises:
            ConnectError: it could not be opened (unless `keep_down`).
            NameInvalidError, NameTakenError: from the registry.
            ServiceStoppingError: the multilink is going away.
        """
        if isinstance(vnl, MultiVnl):
            raise VnlError(f"{vnl} makes a multilink and cannot be dialled: to join one, give its path")
        link = self._new_link(vnl=vnl, name=name, reconnect=reconnect, role=role)
        nursery = self._live_nursery()
        self._add(link)
        nursery.start_soon(self._supervise, link, None, keep_down)
        if keep_down:
            return link
        try:
            await link.settled.wait()
        except trio.Cancelled:
            link.begin_retirement(0)
            with trio.CancelScope(shield=True):
                await link.ended.wait()
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

    def _add(self, link: Link) -> None:
        self._registry.add(link)
        self._events.publish(EventKind.LINK_ADDED, link_data(link))
        # Before it can bring a first frame: the far end may send from the moment it knows of us.
        self._is_stale = True

    def _new_link(
        self,
        vnl: Vnl | None = None,
        name: str | None = None,
        *,
        reconnect: bool = True,
        role: Role = Role.ACTIVE,
    ) -> Link:
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
            role=role,
        )

    def _live_nursery(self) -> trio.Nursery:
        if self._nursery is None or self._nursery.cancel_scope.cancel_called:
            raise ServiceStoppingError(f"the multilink {self.name} is stopping: it takes no new links")
        return self._nursery

    def _admit_link(self) -> None:
        self._live_nursery()

    def _attach_link(self, plug: DatagramPlug) -> None:
        link = self._new_link()
        self._add(link)
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
            self.monitor(link, None)

    def _has_changed(self, link: Link) -> None:
        self._is_stale = True
        self._events.publish(kind_of_change(link), link_data(link))
        self._fail_over()

    def _host_has_changed(self) -> None:
        attached = self.host.state is HostState.ATTACHED
        kind = EventKind.HOST_ATTACHED if attached else EventKind.HOST_DETACHED
        peer = self.host.peer
        self._events.publish(
            kind,
            {"multilink": self.name, "detail": self.host.detail, "pid": None if peer is None else peer.pid},
        )

    def _fail_over(self) -> None:
        """Let the best standby link take over where it is wanted and needed; a hand-off under way sees to it itself."""
        if not self.failover or self.report is not None:
            return
        links = self.links
        rtt_s = {link: monitor.rtt_s for link, monitor in self.monitors.items() if monitor.rtt_s is not None}
        link = successor(links, rtt_s)
        if link is None:
            return
        old = failing(links)
        _log.warning("failing over", multilink=self.name, to=link.name, away_from=[each.name for each in old])
        link.set_role(Role.ACTIVE)
        for each in old:
            each.set_role(Role.STANDBY)

    def _refresh(self) -> None:
        """Take note of changed links; with the next batch, so that a thousand that come are looked through once."""
        links = self.links
        self._targets = tuple(link for link in links if link.state is LinkState.UP and link.role is Role.ACTIVE)
        self._to_links.destinations = len(self._targets)
        self.inspection.links_changed(links, trio.current_time())
        self._is_stale = False

    def _from_host(self, batch: Batch) -> None:
        if self._is_stale:
            self._refresh()
        rx = self.host.rx
        for link in self._targets:
            link.transmit(batch)
        # What can wait, once the frames are on their way.
        if self._targets:
            rx.add(batch.frames, batch.octets)
        else:
            rx.drop(DropReason.NO_LINK, batch.frames)
        self.inspection.sample_host(batch)
        if self.report is not None:
            self.report.batch_from_host(batch.frames, trio.current_time())

    def _from_link(self, link: Link, batch: Batch) -> None:
        if self._is_stale:
            self._refresh()
        if self.inspection.is_on:
            now = trio.current_time()
            self.inspection.inspect(batch, link, now)
            if not batch.frames:
                return
            if self.report is not None:
                self.report.batch_to_host(batch.frames, now)
        else:
            self.inspection.sample(batch, link)
        if self.host.plug is None:
            link.rx.drop(DropReason.NO_HOST, batch.frames)
            return
        link.rx.add(batch.frames, batch.octets)
        self.host.transmit(batch)
