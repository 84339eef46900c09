"""Links as JSON, by the hundred and while frames flow.

Making a model of a link and dumping it takes 50 µs, and most of a link never changes. So that part is kept as JSON, for
as long as its members are what they were; the counters are written anew each time. A test compares both ways.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import trio

from app.api.schemas import Link
from app.fabric.counters import DirectionCounters

if TYPE_CHECKING:
    from app.fabric import link as fabric_link
    from app.fabric.monitor import Monitor

CHUNK_S: Final = 0.0003
"""Links are written for so long in one go: a hundred of those that are remembered, ten of the others."""
MOST_KEPT: Final = 4096


def _nobody(_link: fabric_link.Link) -> None:
    return None


class LinkWriter:
    """Writes links as JSON, and remembers what does not change of them.

    Args:
        monitor_of: the watch over a link, None where there is none.
    """

    def __init__(self, monitor_of: Callable[[fabric_link.Link], Monitor | None] = _nobody) -> None:
        self._monitor_of = monitor_of
        self._kept: dict[str, tuple[dict[str, Any], str]] = {}

    def write(self, link: fabric_link.Link) -> str:
        """One link, as it stands now: what `Link.of(...).model_dump_json()` would be."""
        members = Link.members_of(link, self._monitor_of(link))
        kept = self._kept.get(link.id)
        if kept is None or kept[0] != members:
            kept = self._keep(link, members)
        return f'{kept[1]},"rx":{_direction(link.rx)},"tx":{_direction(link.tx)}}}'

    async def write_list(self, links: Sequence[fabric_link.Link]) -> str:
        """A LinkList; lets others run in between, so that each link is as it stood at some time during the call."""
        texts: list[str] = []
        until = time.perf_counter() + CHUNK_S
        for link in links:
            if time.perf_counter() > until:
                await trio.lowlevel.checkpoint()
                until = time.perf_counter() + CHUNK_S
            texts.append(self.write(link))
        return f'{{"links":[{",".join(texts)}]}}'

    def _keep(self, link: fabric_link.Link, members: dict[str, Any]) -> tuple[dict[str, Any], str]:
        if len(self._kept) >= MOST_KEPT:
            self._kept.clear()  # Most of them have ended.
        text = Link.of(link, self._monitor_of(link)).model_dump_json(exclude={"rx", "tx"})
        kept = self._kept[link.id] = members, text.removesuffix("}")
        return kept


def _direction(counters: DirectionCounters) -> str:
    dropped = counters.dropped
    reasons = json.dumps(dropped) if dropped else "{}"
    return f'{{"frames":{counters.frames},"bytes":{counters.bytes},"dropped":{reasons}}}'
