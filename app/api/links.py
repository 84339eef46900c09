"""The resource /links: the channels between the multilinks and their peers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
from quart import Blueprint, Response

from app.api.parsing import read_body, read_query
from app.api.policy import DialPolicy
from app.api.responses import json_response
from app.api.schemas import Link, LinkCreate, LinkDeleteQuery, LinkList, LinkListQuery, LinkPatch, NoQuery
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
        return json_response(LinkList(links=[Link.of(link) for link in links]))

    async def create_link(self) -> Response:
        """POST /links: dial a link; answers when it is up."""
        read_query(NoQuery)
        wanted = read_body(LinkCreate)
        # A bare path may name a file that holds a locator: what counts is what it resolves to.
        vnl = await trio.to_thread.run_sync(resolve_vnl, wanted.url)
        self._policy.check(vnl)
        link = await self._fabric.dial(
            vnl, multilink=wanted.multilink or None, name=wanted.name or None, reconnect=wanted.reconnect
        )
        return json_response(Link.of(link), 201, location=["links", link.id])

    async def get_link(self, link_id: str) -> Response:
        """GET /links/{id}: by id or by name."""
        read_query(NoQuery)
        return json_response(Link.of(self._fabric.find_link(link_id)))

    async def update_link(self, link_id: str) -> Response:
        """PATCH /links/{id}: its name, its role, or both."""
        read_query(NoQuery)
        change = read_body(LinkPatch)
        link = self._fabric.find_link(link_id)
        # The name first: it is the one that can be refused, and then nothing may have changed.
        if "name" in change.model_fields_set:
            self._fabric.rename_link(link, change.name)
        if "role" in change.model_fields_set:
            self._fabric.set_link_role(link, Role(change.role))
        return json_response(Link.of(link))

    async def delete_link(self, link_id: str) -> Response:
        """DELETE /links/{id}: drain it, close it, and show what it came to."""
        query = read_query(LinkDeleteQuery)
        link = self._fabric.find_link(link_id)
        return json_response(Link.of(await self._fabric.retire(link, query.drain_s)))
