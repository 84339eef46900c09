"""The resource /handoffs: a host moves from one link to another, in one request.

A hand-off runs on in the fabric whatever becomes of the request that began it. `Prefer: wait=SECONDS` (RFC 7240) waits
for its end; `Idempotency-Key` makes it safe to send a request again that may have arrived.

Invariant: between the look at the keys and the start nothing awaits, so that one key never starts two hand-offs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import trio
from quart import Blueprint, Response, request

from app.api.handoff_schemas import (
    Handoff,
    HandoffCreate,
    HandoffCreateQuery,
    HandoffList,
    HandoffPlan,
    HandoffToLink,
    HandoffToLocator,
)
from app.api.parsing import read_body, read_query
from app.api.policy import DialPolicy
from app.api.problems import IdempotencyKeyReusedError, InvalidRequestError
from app.api.responses import json_response
from app.api.schemas import NoQuery, ProblemItem
from app.fabric.handoff_states import OldLinks
from app.fabric.handoffs import HandoffRequest
from app.fabric.plugs.base import resolve_vnl
from app.fabric.vnl import Vnl

if TYPE_CHECKING:
    from app.fabric import handoff as fabric_handoff
    from app.fabric.fabric import Fabric

MAX_WAIT_S: Final = 600
"""Longer than a hand-off takes by default, many times over; whoever wants to know after that asks again."""
MAX_KEY_LENGTH: Final = 255
_WAIT: Final = re.compile(r'\s*wait\s*=\s*"?([0-9]{1,9})"?\s*(?:;.*)?', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Keyed:
    """What an Idempotency-Key stands for."""

    wanted: HandoffCreate
    handoff_id: str


class HandoffHandlers:
    """The operations on hand-offs.

    Args:
        fabric: what carries them out; owned by the caller.
        policy: what may be dialled.
    """

    def __init__(self, fabric: Fabric, policy: DialPolicy) -> None:
        self._fabric = fabric
        self._policy = policy
        self._keys: dict[str, _Keyed] = {}

    def blueprint(self) -> Blueprint:
        """The routes of this resource."""
        routes = Blueprint("handoffs", __name__)
        routes.add_url_rule("/handoffs", view_func=self.list_handoffs, methods=["GET"])
        routes.add_url_rule("/handoffs", view_func=self.create_handoff, methods=["POST"])
        routes.add_url_rule("/handoffs/<handoff_id>", view_func=self.get_handoff, methods=["GET"])
        routes.add_url_rule("/handoffs/<handoff_id>", view_func=self.abort_handoff, methods=["DELETE"])
        return routes

    async def list_handoffs(self) -> Response:
        """GET /handoffs: the last ones, oldest first."""
        read_query(NoQuery)
        handoffs: list[Handoff] = []
        for handoff in self._fabric.handoffs.all():
            handoffs.append(Handoff.at_present(handoff))
            await trio.lowlevel.checkpoint()  # Frames come first: each of a hundred reports has percentiles in it.
        return json_response(HandoffList(handoffs=handoffs))

    async def create_handoff(self) -> Response:
        """POST /handoffs: begin one, and wait for its end where that is preferred; or show what would be done."""
        query = read_query(HandoffCreateQuery)
        wanted = read_body(HandoffCreate)
        key = _idempotency_key()
        handoff = None if query.plan else self._started_before(key, wanted)
        if handoff is None:
            to = await self._target(wanted.to)
            multilink = self._fabric.multilink(wanted.multilink or None)
            asked = _fabric_request(wanted, to)
            if query.plan:
                return json_response(HandoffPlan.of(multilink.name, self._fabric.handoffs.plan(multilink, asked)))
            handoff = self._started_before(key, wanted) or self._fabric.handoffs.start(multilink, asked)
            if key is not None:
                self._remember(key, _Keyed(wanted, handoff.id))
        return await self._answer_started(handoff)

    async def get_handoff(self, handoff_id: str) -> Response:
        """GET /handoffs/{id}."""
        read_query(NoQuery)
        return json_response(Handoff.at_present(self._fabric.handoffs.find(handoff_id)))

    async def abort_handoff(self, handoff_id: str) -> Response:
        """DELETE /handoffs/{id}: stop it, roll back, and show what it came to."""
        read_query(NoQuery)
        handoff = self._fabric.handoffs.find(handoff_id)
        handoff.abort()
        await handoff.ended.wait()
        return json_response(Handoff.at_present(handoff))

    async def _target(self, to: HandoffToLocator | HandoffToLink) -> tuple[Vnl | str, str | None]:
        """What is handed off to, and the name it gets."""
        if isinstance(to, HandoffToLink):
            return to.link, None
        vnl = await trio.to_thread.run_sync(resolve_vnl, to.url)
        self._policy.check(vnl)
        return vnl, to.name or None

    async def _answer_started(self, handoff: fabric_handoff.Handoff) -> Response:
        wait_s = _preferred_wait_s()
        if wait_s is not None:
            with trio.move_on_after(wait_s):
                await handoff.ended.wait()
        is_waited_for = wait_s is not None and handoff.ended.is_set()
        status = 200 if is_waited_for else 202
        response = json_response(Handoff.at_present(handoff), status, location=["handoffs", handoff.id])
        if wait_s is not None:
            response.headers["Preference-Applied"] = f"wait={wait_s}"
        return response

    def _started_before(self, key: str | None, wanted: HandoffCreate) -> fabric_handoff.Handoff | None:
        """The hand-off that a request with this key has started.

        Raises:
            IdempotencyKeyReusedError: that request was another one.
        """
        keyed = None if key is None else self._keys.get(key)
        if keyed is None:
            return None
        handoff = next((each for each in self._fabric.handoffs.all() if each.id == keyed.handoff_id), None)
        if handoff is not None and keyed.wanted != wanted:
            raise IdempotencyKeyReusedError(
                f"this Idempotency-Key stands for another request, which began the hand-off {handoff.id}:"
                " take a new key for a new hand-off"
            )
        return handoff

    def _remember(self, key: str, keyed: _Keyed) -> None:
        """Keep a key for as long as its hand-off is kept."""
        known = {handoff.id for handoff in self._fabric.handoffs.all()}
        self._keys = {each: kept for each, kept in self._keys.items() if kept.handoff_id in known}
        self._keys[key] = keyed


def _fabric_request(wanted: HandoffCreate, target: tuple[Vnl | str, str | None]) -> HandoffRequest:
    to, to_name = target
    return HandoffRequest(
        to=to,
        to_name=to_name,
        old=wanted.from_ if "from_" in wanted.model_fields_set else None,
        verify=wanted.fabric_verify(),
        verify_timeout_s=wanted.verify_timeout_s,
        overlap_s=wanted.overlap_s,
        drain_s=wanted.drain_s,
        old_become=OldLinks(wanted.old),
    )


def _preferred_wait_s() -> int | None:
    """How long the client would wait, at most MAX_WAIT_S. A preference that is not understood is none (RFC 7240)."""
    for header in request.headers.getlist("Prefer"):
        for preference in header.split(","):
            match = _WAIT.fullmatch(preference)
            if match is not None:
                return min(int(match[1]), MAX_WAIT_S)
    return None


def _idempotency_key() -> str | None:
    key: str | None = request.headers.get("Idempotency-Key")
    if key is not None and not 1 <= len(key) <= MAX_KEY_LENGTH:
        message = f"1 to {MAX_KEY_LENGTH} characters are taken"
        raise InvalidRequestError(
            f"header.Idempotency-Key: {message}.", items=[ProblemItem(where="header.Idempotency-Key", message=message)]
        )
    return key
