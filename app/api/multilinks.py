"""The resource /multilinks: the control directories that this service runs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import trio
from quart import Blueprint, Response

from app.api.parsing import read_body, read_query
from app.api.policy import DialPolicy
from app.api.responses import json_response
from app.api.schemas import Multilink, MultilinkCreate, MultilinkList, MultilinkPatch, NoQuery
from app.fabric.errors import VnlError
from app.fabric.plugs.base import resolve_vnl
from app.fabric.vnl import MultiVnl, PassOrDrop

if TYPE_CHECKING:
    from app.fabric.fabric import Fabric
    from app.fabric.multilink import Multilink as FabricMultilink


class MultilinkHandlers:
    """The operations on multilinks.

    Args:
        fabric: what has the multilinks; owned by the caller.
        policy: what may be their host.
        duplicates: for multilinks whose locator does not say it.
    """

    def __init__(self, fabric: Fabric, policy: DialPolicy, duplicates: PassOrDrop) -> None:
        self._fabric = fabric
        self._policy = policy
        self._duplicates = duplicates

    def blueprint(self) -> Blueprint:
        """The routes of this resource."""
        routes = Blueprint("multilinks", __name__)
        routes.add_url_rule("/multilinks", view_func=self.list_multilinks, methods=["GET"])
        routes.add_url_rule("/multilinks", view_func=self.create_multilink, methods=["POST"])
        routes.add_url_rule("/multilinks/<name>", view_func=self.get_multilink, methods=["GET"])
        routes.add_url_rule("/multilinks/<name>", view_func=self.update_multilink, methods=["PATCH"])
        routes.add_url_rule("/multilinks/<name>", view_func=self.delete_multilink, methods=["DELETE"])
        return routes

    async def list_multilinks(self) -> Response:
        """GET /multilinks."""
        read_query(NoQuery)
        multilinks = [self._shown(multilink) for multilink in self._fabric.multilinks.values()]
        return json_response(MultilinkList(multilinks=multilinks))

    async def create_multilink(self) -> Response:
        """POST /multilinks: make its directory; answers when clients can come."""
        read_query(NoQuery)
        wanted = read_body(MultilinkCreate)
        vnl = await trio.to_thread.run_sync(resolve_vnl, wanted.url)
        if not isinstance(vnl, MultiVnl):
            raise VnlError(f"{wanted.url!r} does not make a multilink: give one such as multi:///tmp/vm1")
        self._policy.check(vnl)
        # What is done by itself (drop) need not be said.
        if vnl.duplicates is None and self._duplicates is PassOrDrop.PASS:
            vnl = replace(vnl, duplicates=self._duplicates)
        multilink = await self._fabric.add_multilink(vnl)
        return json_response(self._shown(multilink), 201, location=["multilinks", multilink.name])

    async def get_multilink(self, name: str) -> Response:
        """GET /multilinks/{name}."""
        read_query(NoQuery)
        return json_response(self._shown(self._fabric.multilink(name)))

    async def update_multilink(self, name: str) -> Response:
        """PATCH /multilinks/{name}: what is done with duplicates, reflections and links that degrade."""
        read_query(NoQuery)
        change = read_body(MultilinkPatch)
        given = change.model_fields_set
        multilink = self._fabric.multilink(name)
        multilink.configure(
            duplicates=PassOrDrop(change.duplicates) if "duplicates" in given else None,
            reflections=PassOrDrop(change.reflections) if "reflections" in given else None,
            window_s=change.window_s if "window_s" in given else None,
            failover=change.failover if "failover" in given else None,
        )
        return json_response(self._shown(multilink))

    async def delete_multilink(self, name: str) -> Response:
        """DELETE /multilinks/{name}: end its links, remove its directory, and show what it came to."""
        read_query(NoQuery)
        return json_response(self._shown(await self._fabric.remove_multilink(name)))

    def _shown(self, multilink: FabricMultilink) -> Multilink:
        return Multilink.of(multilink, self._fabric.handoffs.running(multilink.name))
