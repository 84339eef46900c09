"""Bodies of requests to the API, with what is not given left to the service."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from app.client_types import Verify


def handoff_request(
    *,
    url: str | None = None,
    link: str | None = None,
    name: str | None = None,
    multilink: str | None = None,
    old_links: Sequence[str] | None = None,
    verify: Verify | None = None,
    verify_timeout_s: float | None = None,
    overlap_s: float | None = None,
    drain_s: float | None = None,
    old: Literal["retire", "standby"] | None = None,
) -> dict[str, object]:
    """The body of POST /handoffs; what is None is left to the service.

    Args:
        url: what is dialled for the new link; or
        link: the id or name of one that is there.
        name: for the new link.
        multilink: whose host moves.
        old_links: ids or names of the links that it leaves; every other active one by itself.
        verify: what proves that the new link carries.
        verify_timeout_s: how long the proof is waited for.
        overlap_s: how long both carry.
        drain_s: for what is under way over the old links.
        old: what becomes of the old links.
    """
    to = given(url=url, link=link, name=name)
    return {"to": to} | given(
        multilink=multilink,
        verify=verify,
        verify_timeout_s=verify_timeout_s,
        overlap_s=overlap_s,
        drain_s=drain_s,
        old=old,
        **{"from": None if old_links is None else list(old_links)},
    )


def given(**members: object) -> dict[str, object]:
    """The members that are not None."""
    return {name: value for name, value in members.items() if value is not None}
