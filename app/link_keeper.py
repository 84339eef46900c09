"""Keeps the store in step with the dialled links, and dials again at the start those that it holds.

The fabric tells of changes while frames flow, so a change is only noted there and then; a task of the keeper's own
writes it, in a worker thread. Invariant: changes are written in the order in which they happened, and all of
them before `keep_links` ends.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import structlog
import trio

from app.fabric.errors import MultilinkError
from app.fabric.link import Link, LinkChange, LinkKind
from app.fabric.vnl import Vnl, parse_vnl
from app.store import DialledLink, StateFileError, Store

if TYPE_CHECKING:
    from app.fabric.fabric import Fabric

_log = structlog.get_logger(__name__)


@asynccontextmanager
async def keep_links(fabric: Fabric, store: Store) -> AsyncIterator[None]:
    """Write every change of the dialled links to `store` until the context ends, then close the store.

    An end without an error is a stop on purpose, which retires the links: then those of `fabric` are forgotten.
    """
    changes, unwritten = trio.open_memory_channel[Callable[[], None]](math.inf)

    def observe(change: LinkChange, link: Link) -> None:
        if link.kind is not LinkKind.DIALLED:
            return
        if change == "retired":
            changes.send_nowait(partial(store.forget, link.id))
        else:
            changes.send_nowait(partial(store.save, _as_kept(fabric, link)))

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_write, unwritten)
            fabric.on_change.append(observe)
            try:
                yield
                paths = [multilink.path for multilink in fabric.multilinks.values()]
                changes.send_nowait(partial(store.forget_multilinks, paths))
            finally:
                fabric.on_change.remove(observe)
                changes.close()
    finally:
        store.close()


async def _write(unwritten: trio.MemoryReceiveChannel[Callable[[], None]]) -> None:
    # Shielded: what the API has answered for is written, also when the service is cancelled; each write is bounded.
    with trio.CancelScope(shield=True):
        async for write in unwritten:
            try:
                await trio.to_thread.run_sync(write)
            except StateFileError as error:
                _log.error("the change of a link is not kept", reason=error.detail)


def _as_kept(fabric: Fabric, link: Link) -> DialledLink:
    if link.url is None:
        raise TypeError("a dialled link has a locator")
    return DialledLink(
        link_id=link.id,
        multilink_path=fabric.multilink(link.multilink).path,
        name=link.name,
        url=link.url,
        role=link.role,
        reconnect=link.reconnect,
    )


async def dial_kept_links(fabric: Fabric, kept: list[DialledLink], check: Callable[[Vnl], None]) -> None:
    """Dial the links of `kept` whose multilink is here; those that cannot connect now stay `down` and are tried again.

    Args:
        fabric: has the multilinks; its links get new ids, which `keep_links` notes.
        kept: what the store held.
        check: raises a MultilinkError for what the operator does not allow any more.
    """
    names = {multilink.path: multilink.name for multilink in fabric.multilinks.values()}
    for row in kept:
        log = _log.bind(link=row.name, url=row.url, path=row.multilink_path)
        name = names.get(row.multilink_path)
        if name is None:
            log.info("link not dialled: its multilink is not here; it stays in the state file")
            continue
        try:
            vnl = parse_vnl(row.url)
            check(vnl)
            link = await fabric.dial(vnl, multilink=name, name=row.name, reconnect=row.reconnect, keep_down=True)
        except MultilinkError as error:
            log.warning("link not dialled again; it stays in the state file", reason=error.detail)
            continue
        if link.role is not row.role:
            fabric.set_link_role(link, row.role)
        log.info("link dialled again", multilink=name)
