"""A fabric without sockets: it has the surface and the refusals of `app.fabric.fabric.Fabric`, and carries no frames.

What can be dialled: the path of a multilink of this fabric, anything below /net/, and any command. All else is a
ConnectError; with `everything_connects` nothing is.
"""

from __future__ import annotations

import itertools
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import cast

import trio

from app.fabric.capture import Captures, FrameCapture
from app.fabric.counters import DirectionCounters, DropReason
from app.fabric.dedup import WINDOW_S
from app.fabric.errors import (
    AmbiguousMultilinkError,
    ConnectError,
    DirectoryInUseError,
    HandoffRunningError,
    LinkStateError,
    NameInvalidError,
    NameTakenError,
    NotFoundError,
    PathError,
    VnlError,
)
from app.fabric.events import EventLog
from app.fabric.fabric import Fabric
from app.fabric.handoff import Handoff, HandoffPlan, Phase
from app.fabric.handoff_report import ReportObserver
from app.fabric.handoff_states import HandoffState
from app.fabric.handoffs import KEPT, HandoffRequest, Handoffs
from app.fabric.host import HostState
from app.fabric.link import Health, LinkKind
from app.fabric.link_registry import LinkRegistry
from app.fabric.monitor import MonitorSpec
from app.fabric.multilink import Multilink
from app.fabric.peer_socket import PeerCredentials
from app.fabric.states import LinkState, Role
from app.fabric.statistics import Statistics
from app.fabric.vnl import MultiVnl, PassOrDrop, VdeVnl, Vnl

SINCE = 1_792_500_000.25


@dataclass
class FakeHost:
    url: str | None = None
    state: HostState = HostState.DETACHED
    detail: str = "no host has come yet"
    peer: PeerCredentials | None = None
    rx: DirectionCounters = field(default_factory=DirectionCounters)
    tx: DirectionCounters = field(default_factory=DirectionCounters)


@dataclass(eq=False)
class FakeLink:
    id: str
    name: str
    multilink: str
    kind: LinkKind
    url: str | None = None
    description: str = ""
    peer: PeerCredentials | None = None
    role: Role = Role.ACTIVE
    state: LinkState = LinkState.UP
    detail: str = ""
    since: float = SINCE
    rx: DirectionCounters = field(default_factory=DirectionCounters)
    tx: DirectionCounters = field(default_factory=DirectionCounters)
    reconnect: bool = True
    health: Health = field(default_factory=lambda: Health(None, ""))
    reflections: int = 0
    queued: tuple[int, int] = (0, 0)
    capture: FrameCapture | None = None
    ended: trio.Event = field(default_factory=trio.Event)


@dataclass
class FakeMonitor:
    spec: MonitorSpec
    rtt_s: float | None = None
    lost: float | None = None
    last_heard: float | None = None


@dataclass
class FakeInspection:
    window_s: float = WINDOW_S


@dataclass
class FakeMultilink:
    fabric: FakeFabric
    name: str
    url: str
    path: str
    host: FakeHost = field(default_factory=FakeHost)
    duplicates: PassOrDrop = PassOrDrop.DROP
    reflections: PassOrDrop = PassOrDrop.PASS
    failover: bool = False
    inspection: FakeInspection = field(default_factory=FakeInspection)
    monitors: dict[FakeLink, FakeMonitor] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)

    @property
    def links(self) -> list[FakeLink]:
        return [link for link in self.fabric.live if link.multilink == self.name]

    def configure(
        self,
        *,
        duplicates: PassOrDrop | None,
        reflections: PassOrDrop | None,
        window_s: float | None,
        failover: bool | None,
    ) -> None:
        self.duplicates = self.duplicates if duplicates is None else duplicates
        self.reflections = self.reflections if reflections is None else reflections
        self.inspection.window_s = self.inspection.window_s if window_s is None else window_s
        self.failover = self.failover if failover is None else failover

    def monitor(self, link: FakeLink, spec: MonitorSpec | None) -> None:
        self.monitors.pop(link, None)
        if spec is not None:
            self.monitors[link] = FakeMonitor(spec)


@dataclass(eq=False)
class FakeHandoff:
    """Stays in its first phase until it is aborted."""

    multilink: str
    plan: HandoffPlan
    id: str = field(default_factory=lambda: f"h{next(_handoff_numbers):06}")
    state: HandoffState = HandoffState.MAKING
    phases: list[Phase] = field(default_factory=lambda: [Phase(HandoffState.MAKING, SINCE)])
    verified_by: str = ""
    reason: str = ""
    new_link: FakeLink | None = None
    ended: trio.Event = field(default_factory=trio.Event)
    report: ReportObserver = field(default_factory=lambda: ReportObserver(lambda _slot: None))

    def update_report(self) -> None:
        self.report.settle()

    def abort(self) -> None:
        if self.ended.is_set():
            raise LinkStateError(f"the hand-off {self.id} is {self.state} already")
        self.state, self.reason = HandoffState.ABORTED, "aborted on request"
        self.ended.set()


_handoff_numbers: Iterator[int] = itertools.count(1)


class FakeHandoffs(Handoffs):
    """Plans as the real ones do, and begins fake ones."""

    def __init__(self, fabric: FakeFabric) -> None:
        self._links = cast("LinkRegistry", fabric)
        self._known = deque(maxlen=KEPT)
        self.on_progress = []

    def start(self, multilink: Multilink, request: HandoffRequest) -> Handoff:
        running = self.running(multilink.name)
        if running is not None:
            raise HandoffRunningError(f"the hand-off {running.id} is {running.state}")
        handoff = cast("Handoff", FakeHandoff(multilink.name, self.plan(multilink, request)))
        self._known.append(handoff)
        return handoff


class FakeFabric:
    def __init__(self, *, everything_connects: bool = False, dial_s: float = 0) -> None:
        self.everything_connects = everything_connects
        self.dial_s = dial_s
        self.multilinks: dict[str, FakeMultilink] = {}
        self.live: list[FakeLink] = []
        self.retired: list[FakeLink] = []
        self.drains: list[float] = []
        self.dialled: list[Vnl] = []
        self.directories_in_use = {"/busy/vm"}
        self.dial_cancelled = trio.Event()
        self.handoffs = FakeHandoffs(self)
        self.events = EventLog()
        self.captures = Captures()
        self.statistics = Statistics(list, lambda: SINCE, lambda _at, _samples: None)
        self._numbers = itertools.count(1)

    async def add_multilink(self, vnl: MultiVnl) -> FakeMultilink:
        await trio.lowlevel.checkpoint()
        path = PurePosixPath(vnl.path or "/tmp/vdenode_test")
        if not path.is_absolute() or len(str(path)) > 80:
            raise PathError(f"{path} is too long, or has no parent: choose another directory")
        if path.name in self.multilinks:
            raise NameTakenError(f"a multilink named {path.name!r} exists already")
        if str(path) in self.directories_in_use:
            raise DirectoryInUseError(f"somebody answers in {path}: choose another directory")
        host = FakeHost(url=None if vnl.host is None else str(vnl.host))
        duplicates = vnl.duplicates or PassOrDrop.DROP
        multilink = FakeMultilink(self, path.name, str(vnl), str(path), host, duplicates=duplicates)
        self.multilinks[path.name] = multilink
        return multilink

    async def remove_multilink(self, name: str) -> FakeMultilink:
        multilink = self.multilink(name)
        for link in multilink.links:
            self._end(link)
        await trio.lowlevel.checkpoint()
        self.multilinks.pop(name, None)
        return multilink

    def multilink(self, name: str | None) -> FakeMultilink:
        if name is None:
            if len(self.multilinks) != 1:
                raise AmbiguousMultilinkError(f"say which multilink is meant; there are: {', '.join(self.multilinks)}")
            return next(iter(self.multilinks.values()))
        try:
            return self.multilinks[name]
        except KeyError:
            raise NotFoundError(f"there is no multilink {name!r}") from None

    def links(self) -> list[FakeLink]:
        return list(self.live)

    def retired_links(self) -> list[FakeLink]:
        return self.retired[-100:]

    def find_link(self, id_or_name: str) -> FakeLink:
        for link in self.live:
            if id_or_name in {link.id, link.name}:
                return link
        raise NotFoundError(f"no link has the id or name {id_or_name!r}")

    def find(self, id_or_name: str) -> FakeLink:
        """As the registry calls it."""
        return self.find_link(id_or_name)

    async def dial(
        self,
        vnl: Vnl,
        *,
        multilink: str | None = None,
        name: str | None = None,
        reconnect: bool = True,
        role: Role = Role.ACTIVE,
    ) -> FakeLink:
        owner = self.multilink(multilink)
        if isinstance(vnl, MultiVnl):
            raise VnlError(f"{vnl} makes a multilink: to join one, give its path")
        if name is not None:
            self.check_name(name)
        try:
            await trio.sleep(self.dial_s)
        except trio.Cancelled:
            self.dial_cancelled.set()
            raise
        if isinstance(vnl, VdeVnl) and not self._is_there(vnl.path):
            raise ConnectError(f"nothing answers in {vnl.path}: check the path")
        self.dialled.append(vnl)
        number = next(self._numbers)
        link = FakeLink(
            f"l{number:06}", name or f"dialled-{number}", owner.name, LinkKind.DIALLED, str(vnl), reconnect=reconnect
        )
        link.role = role
        self.live.append(link)
        return link

    def rename_link(self, link: FakeLink, name: str) -> None:
        if name != link.name:
            self.check_name(name)
            link.name = name

    def set_link_role(self, link: FakeLink, role: Role) -> None:
        link.role = role

    async def retire(self, link: FakeLink, drain_s: float = 0.5) -> FakeLink:
        await trio.lowlevel.checkpoint()
        self.drains.append(drain_s)
        self._end(link)
        return link

    def attach(self, multilink: str, *, name: str = "attached-1") -> FakeLink:
        """What a client that comes to the control socket does."""
        link = FakeLink(f"l{next(self._numbers):06}", name, multilink, LinkKind.ATTACHED)
        link.description = "vdeplug: user=root pid=12214"
        link.peer = PeerCredentials(pid=12214, uid=0, gid=0)
        link.rx.add(3, 300)
        link.tx.drop(DropReason.FULL, 2)
        self.live.append(link)
        return link

    def as_fabric(self) -> Fabric:
        """For what asks for the real one."""
        return cast("Fabric", self)

    def close_streams(self) -> None:
        self.events.close()
        self.captures.close()

    def _is_there(self, path: str) -> bool:
        own = {multilink.path for multilink in self.multilinks.values()}
        return self.everything_connects or path in own or path.startswith("/net/")

    def check_name(self, name: str) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
            raise NameInvalidError(f"{name!r} cannot be a link's name")
        if any(name in {link.name, link.id} for link in self.live):
            raise NameTakenError(f"a link named {name!r} exists already")

    def _end(self, link: FakeLink) -> None:
        link.state, link.detail = LinkState.RETIRED, "retired on request"
        self.live.remove(link)
        self.retired.append(link)
