"""A fabric without sockets: it has the surface and the refusals of `app.fabric.fabric.Fabric`, and carries no frames.

What can be dialled: the path of a multilink of this fabric, anything below /net/, and any command. All else is a
ConnectError; with `everything_connects` nothing is.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import cast

import trio

from app.fabric.counters import DirectionCounters, DropReason
from app.fabric.errors import (
    AmbiguousMultilinkError,
    ConnectError,
    DirectoryInUseError,
    NameInvalidError,
    NameTakenError,
    NotFoundError,
    PathError,
    VnlError,
)
from app.fabric.fabric import Fabric
from app.fabric.host import HostState
from app.fabric.link import LinkKind
from app.fabric.peer_socket import PeerCredentials
from app.fabric.states import LinkState, Role
from app.fabric.vnl import MultiVnl, VdeVnl, Vnl

SINCE = 1_792_500_000.25


@dataclass
class FakeHost:
    url: str | None = None
    state: HostState = HostState.DETACHED
    detail: str = "no host has come yet"
    peer: PeerCredentials | None = None
    rx: DirectionCounters = field(default_factory=DirectionCounters)
    tx: DirectionCounters = field(default_factory=DirectionCounters)


@dataclass
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


@dataclass
class FakeMultilink:
    fabric: FakeFabric
    name: str
    url: str
    path: str
    host: FakeHost = field(default_factory=FakeHost)
    duplicates: str = "pass"
    refused: dict[str, int] = field(default_factory=dict)

    @property
    def links(self) -> list[FakeLink]:
        return [link for link in self.fabric.live if link.multilink == self.name]


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
        multilink = FakeMultilink(self, path.name, str(vnl), str(path), host)
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

    async def dial(
        self, vnl: Vnl, *, multilink: str | None = None, name: str | None = None, reconnect: bool = True
    ) -> FakeLink:
        owner = self.multilink(multilink)
        if isinstance(vnl, MultiVnl):
            raise VnlError(f"{vnl} makes a multilink: to join one, give its path")
        if name is not None:
            self._check_name(name)
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
        self.live.append(link)
        return link

    def rename_link(self, link: FakeLink, name: str) -> None:
        if name != link.name:
            self._check_name(name)
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

    def _is_there(self, path: str) -> bool:
        own = {multilink.path for multilink in self.multilinks.values()}
        return self.everything_connects or path in own or path.startswith("/net/")

    def _check_name(self, name: str) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
            raise NameInvalidError(f"{name!r} cannot be a link's name")
        if any(name in {link.name, link.id} for link in self.live):
            raise NameTakenError(f"a link named {name!r} exists already")

    def _end(self, link: FakeLink) -> None:
        link.state, link.detail = LinkState.RETIRED, "retired on request"
        self.live.remove(link)
        self.retired.append(link)
