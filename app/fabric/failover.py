"""Which standby link takes over when the active ones do not carry any more. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from app.fabric.link import Link
from app.fabric.states import LinkState, Role


def carries(link: Link) -> bool:
    """Whether a link is up, and no monitor says that it is degraded."""
    return link.state is LinkState.UP and not link.health.degraded


def successor(links: Sequence[Link], rtt_s: dict[Link, float]) -> Link | None:
    """The standby link to make active; None while an active one carries, or if there is none to take over.

    The best is one that a monitor has found good, then the one with the shortest round-trip time (seconds), then the
    one that has been there the longest.
    """
    if any(carries(link) for link in links if link.role is Role.ACTIVE):
        return None
    candidates = [link for link in links if link.role is Role.STANDBY and carries(link)]
    return min(candidates, key=lambda link: (link.health.degraded is None, rtt_s.get(link, math.inf)), default=None)


def failing(links: Iterable[Link]) -> list[Link]:
    """The active links that do not carry: they become standby when another takes over."""
    return [link for link in links if link.role is Role.ACTIVE and not carries(link)]
