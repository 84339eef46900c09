"""The resource /links: the channels between the multilinks and their peers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
from quart import Blueprint, Response

from app.api.link_json import LinkWriter
from app.api.parsing import read_body, read_query
from app.api.policy import DialPolicy
from app.api.responses import json_response, json_text_response
from app.api.schema_types import ip_address
from app.api.schemas import Link, LinkCreate, LinkDeleteQuery, LinkListQuery, LinkPatch, MonitorCreate, NoQuery
from app.fabric.link import Link as FabricLink
from app.fabric.monitor import Monitor, MonitorSpec
from app.fabric.plugs.base import resolve_vnl
from app.fabric.states import LinkState, Role

if TYPE_CHECKING:
    from app.fabric.fabric import Fabric


class LinkHandlers:
    """The operations on links.

    Args:
        fabric: what has the links; owned by the caller.
        policy: what may be dialled.
    """

    def __init__(self, fabric: Fabric, policy: DialPolicy) -> None:
        self._fabric = fabric
        self._policy = policy
        self._writer = LinkWriter(self._monitor_of)

    def blueprint(self) -> Blueprint:
        """The routes of this resource."""
        routes = Blueprint("links", __name__)
        routes.add_url_rule("/links", view_func=self.list_links, methods=["GET"])
        routes.add_url_rule("/links", view_func=self.create_link, methods=["POST"])
        routes.add_url_rule("/links/<link_id>", view_func=self.get_link, methods=["GET"])
        routes.add_url_rule("/links/<link_id>", view_func=self.update_link, methods=["PATCH"])
        routes.add_url_rule("/links/<link_id>", view_func=self.delete_link, methods=["DELETE"])
        return routes

    async def list_links(self) -> Response:
        """GET /links: the live ones, or with `?state=retired` the last that were."""
        query = read_query(LinkListQuery)
        retired = query.state == LinkState.RETIRED.value
        links = self._fabric.retired_links() if retired else self._fabric.links()
        if query.state is not None:
            links = [link for link in links if link.state == query.state]
        if query.multilink is not None:
            name = self._fabric.multilink(query.multilink).name
            links = [link for link in links if link.multilink == name]
        return json_text_response(await self._writer.write_list(links))

    async def create_link(self) -> Response:
        """POST /links: dial a link; answers when it is up."""
        read_query(NoQuery)
        wanted = read_body(LinkCreate)
        # A bare path may name a file that holds a locator: what counts is what it resolves to.
        vnl = await trio.to_thread.run_sync(resolve_vnl, wanted.url)
        self._policy.check(vnl)
        link = await self._fabric.dial(
            vnl,
            multilink=wanted.multilink or None,
            name=wanted.name or None,
            reconnect=wanted.reconnect,
            role=Role(wanted.role),
        )
        if wanted.monitor is not None:
            self._set_monitor(link, wanted.monitor)
        return json_response(self._shown(link), 201, location=["links", link.id])

    async def get_link(self, link_id: str) -> Response:
        """GET /links/{id}: by id or by name."""
        read_query(NoQuery)
        return json_response(self._shown(self._fabric.find_link(link_id)))

    async def update_link(self, link_id: str) -> Response:
        """PATCH /links/{id}: its name, its role, the watch over it."""
        read_query(NoQuery)
        change = read_body(LinkPatch)
        link = self._fabric.find_link(link_id)
        # The name first: it is what can be refused, and then nothing may have changed. (A watch is refused only where
        # the multilink is going, and the link with it.)
        if "name" in change.model_fields_set:
            self._fabric.rename_link(link, change.name)
        if "role" in change.model_fields_set:
            self._fabric.set_link_role(link, Role(change.role))
        if "monitor" in change.model_fields_set:
            self._set_monitor(link, change.monitor)
        return json_response(self._shown(link))

    async def delete_link(self, link_id: str) -> Response:
        """DELETE /links/{id}: drain it, close it, and show what it came to."""
        query = read_query(LinkDeleteQuery)
        link = self._fabric.find_link(link_id)
        return json_response(self._shown(await self._fabric.retire(link, query.drain_s)))

    def _shown(self, link: FabricLink) -> Link:
        return Link.of(link, self._monitor_of(link))

    def _monitor_of(self, link: FabricLink) -> Monitor | None:
        multilink = self._fabric.multilinks.get(link.multilink)
        return None if multilink is None else multilink.monitors.get(link)

    def _set_monitor(self, link: FabricLink, wanted: MonitorCreate | None) -> None:
        spec = None if wanted is None else MonitorSpec(ip_address(wanted.address), wanted.interval_s)
        self._fabric.multilink(link.multilink).monitor(link, spec)
