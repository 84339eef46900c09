"""Every multilink of one service: the collection that owns their names and their tasks."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import trio

from app.fabric.capture import Captures
from app.fabric.errors import (
    AmbiguousMultilinkError,
    NameTakenError,
    NotFoundError,
    ServiceStoppingError,
)
from app.fabric.events import EventKind, EventLog
from app.fabric.handoffs import Handoffs
from app.fabric.link import Link, LinkChange, Observer
from app.fabric.link_registry import LinkRegistry
from app.fabric.multilink import Multilink
from app.fabric.plugs import cmd, tap, vde
from app.fabric.plugs.base import Plug
from app.fabric.states import Role
from app.fabric.statistics import INTERVAL_S, Sample, Statistics
from app.fabric.vnl import MultiVnl, Vnl

SCHEMES: Final = (vde, cmd, tap)
"""Importing a plug's module registers it."""
DEFAULT_DRAIN_S: Final = 0.5


class Fabric:
    """The multilinks by name, and the links of all of them. Made by `open_fabric`."""

    def __init__(self, nursery: trio.Nursery, keep_retired: int) -> None:
        self.multilinks: dict[str, Multilink] = {}
        self.on_change: list[Observer] = []
        self._nursery = nursery
        self._registry = LinkRegistry(keep_retired)
        self.events = EventLog()
        self.captures = Captures()
        self.handoffs = Handoffs(nursery, self._registry, self._tell, self.events)
        self.statistics = Statistics(self._registry.live, time.time, self._publish_rates)

    async def add_multilink(self, vnl: MultiVnl, host_plug: Callable[[], Plug] | None = None) -> Multilink:
        """Make a multilink; returns once clients can join it. Cancelled or failed, it leaves nothing.

        Args:
            vnl: what to make.
            host_plug: opens the host's plug instead of the one that `vnl` nests.

        Raises:
            PathError, DirectoryInUseError, NameTakenError, ConnectError, ServiceStoppingError: see there.
        """
        if self._nursery.cancel_scope.cancel_called:
            raise ServiceStoppingError("the service is stopping: it takes no new multilinks")
        multilink = Multilink(vnl, self._registry, self.events, host_plug)
        if multilink.name in self.multilinks:
            raise NameTakenError(
                f"a multilink named {multilink.name!r} exists already: give a path with another last part"
            )
        self.multilinks[multilink.name] = multilink
        try:
            await self._nursery.start(multilink.run)
        except BaseException:
            del self.multilinks[multilink.name]
            raise
        self.events.publish(EventKind.MULTILINK_ADDED, {"multilink": multilink.name, "path": multilink.path})
        return multilink

    async def remove_multilink(self, name: str) -> Multilink:
        """End a multilink with its links, and remove its directory.

        Raises:
            NotFoundError: there is none of that name.
        """
        multilink = self.multilink(name)
        for link in multilink.links:
            self._tell("retired", link)
        multilink.stop()
        await multilink.ended.wait()
        if self.multilinks.pop(name, None) is not None:
            self.events.publish(EventKind.MULTILINK_REMOVED, {"multilink": name, "path": multilink.path})
        return multilink

    def multilink(self, name: str | None) -> Multilink:
        """The multilink of that name; with None, the only one there is.

        Raises:
            NotFoundError: there is none of that name.
            AmbiguousMultilinkError: no name was given, and there is not exactly one.
        """
        if name is not None:
            try:
                return self.multilinks[name]
            except KeyError:
                raise NotFoundError(
                    f"there is no multilink {name!r}: see GET /multilinks for those there are"
                ) from None
        if len(self.multilinks) != 1:
            names = ", ".join(sorted(self.multilinks)) or "none yet"
            raise AmbiguousMultilinkError(f"say which multilink is meant; there are: {names}")
        return next(iter(self.multilinks.values()))

    def links(self) -> list[Link]:
        """Every live link, oldest first: the attached ones, and the dialled ones also while they are down."""
        return self._registry.live()

    def retired_links(self) -> list[Link]:
        """The last links that ended, oldest first."""
        return self._registry.retired()

    def find_link(self, id_or_name: str) -> Link:
        """The live link of that id or name.

        Raises:
            NotFoundError: there is none.
        """
        return self._registry.find(id_or_name)

    async def dial(
        self,
        vnl: Vnl,
        *,
        multilink: str | None = None,
        name: str | None = None,
        reconnect: bool = True,
        keep_down: bool = False,
        role: Role = Role.ACTIVE,
    ) -> Link:
        """Open a link and return once it is up; with `keep_down` at once, and it is dialled until it comes up.

        Raises:
            ConnectError: it cannot be opened, and nothing is kept.
            NameTakenError, NameInvalidError, NotFoundError, AmbiguousMultilinkError, VnlError, ServiceStoppingError:
            see there.
        """
        link = await self.multilink(multilink).dial(vnl, name=name, reconnect=reconnect, keep_down=keep_down, role=role)
        self._tell("dialled", link)
        return link

    def rename_link(self, link: Link, name: str) -> None:
        """Give a link another name.

        Raises:
            NameTakenError, NameInvalidError, NotFoundError: nothing has changed.
        """
        self._registry.rename(link, name)
        self._tell("renamed", link)

    def set_link_role(self, link: Link, role: Role) -> None:
        """Send the host's frames to the link (`active`), or only hear it (`standby`)."""
        link.set_role(role)
        self._tell("role", link)

    async def retire(self, link: Link, drain_s: float = DEFAULT_DRAIN_S) -> Link:
        """Drain a link and close it; returns when it is closed. Cancelled, the retirement goes on by itself."""
        self._tell("retired", link)
        link.begin_retirement(drain_s)
        await link.ended.wait()
        return link

    def close_streams(self) -> None:
        """End everybody who is told of events, or given copies of frames: they would go on for ever."""
        self.events.close()
        self.captures.close()

    def _publish_rates(self, at: float, samples: dict[Link, Sample]) -> None:
        if self.events.readers:
            rates = {link.id: sample for link, sample in samples.items()}
            self.events.publish(EventKind.STATS, {"at": at, "interval_s": INTERVAL_S, "links": rates})

    def _tell(self, change: LinkChange, link: Link) -> None:
        for observer in self.on_change:
            observer(change, link)


@asynccontextmanager
async def open_fabric(*, keep_retired: int = 100) -> AsyncIterator[Fabric]:
    """A fabric without multilinks; at the end every link and child is ended and every file removed.

    Args:
        keep_retired: how many retired links are remembered.
    """
    async with trio.open_nursery() as nursery:
        fabric = Fabric(nursery, keep_retired)
        nursery.start_soon(fabric.statistics.run)
        try:
            yield fabric
        finally:
            nursery.cancel_scope.cancel()
