"""Events of links: which kind a change is, and what is told of the link."""

from __future__ import annotations

from app.fabric.events import EventKind
from app.fabric.link import Link
from app.fabric.states import LinkState


def kind_of_change(link: Link) -> EventKind:
    """What has happened, as its state, its health and what was told last say; notes what is told now."""
    told, link.told = link.told, (link.state, link.health.degraded)
    state_before, degraded_before = told
    if link.state is not state_before:
        return _KIND_OF_STATE[link.state]
    if link.health.degraded and not degraded_before:
        return EventKind.LINK_DEGRADED
    if degraded_before and not link.health.degraded:
        return EventKind.LINK_RECOVERED
    return EventKind.LINK_CHANGED


def link_data(link: Link) -> dict[str, object]:
    """What an event says of its link: plain values only."""
    return {
        "link": link.id,
        "name": link.name,
        "multilink": link.multilink,
        "kind": str(link.kind),
        "url": link.url,
        "state": str(link.state),
        "role": str(link.role),
        "detail": link.detail,
    }


_KIND_OF_STATE = {
    LinkState.CONNECTING: EventKind.LINK_CHANGED,
    LinkState.UP: EventKind.LINK_UP,
    LinkState.DRAINING: EventKind.LINK_DRAINING,
    LinkState.DOWN: EventKind.LINK_DOWN,
    LinkState.RETIRED: EventKind.LINK_RETIRED,
}
