"""Events as they go over the wire: encoded once, whoever and however many read them.

    event: link_up
    id: 5f3a91c2-42
    data: {"event":"link_up","at":"2026-11-22T15:04:05.678Z","link":"l0123456789ab",...}

Invariant: one step encodes a small event, or CHUNK links of a large one; frames pass in between.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Final, cast

import trio

from app.api.schema_types import rfc3339
from app.fabric.events import Event, EventKind, EventPosition
from app.fabric.statistics import Sample

CHUNK: Final = 50
KEPT: Final = 64
"""Readers that keep up ask for the last few; each may be some 100 KiB, if a thousand links are busy."""


class EventEncoder:
    """Encodes the events of one service.

    Args:
        run: tells this start of the service from all others.
    """

    def __init__(self, run: str) -> None:
        self._run = run
        self._kept: OrderedDict[int, bytes] = OrderedDict()
        self._under_way: dict[int, trio.Event] = {}

    async def encode(self, event: Event) -> bytes:
        """The whole block, with the empty line that ends it."""
        if event.kind is EventKind.MISSED:  # one reader's own, under a number that is not its own
            return self._block(event, _members(event))
        while event.number in self._under_way:
            await self._under_way[event.number].wait()
        kept = self._kept.get(event.number)
        if kept is None:
            kept = await self._stats(event) if event.kind is EventKind.STATS else self._block(event, _members(event))
            self._kept[event.number] = kept
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return kept

    async def _stats(self, event: Event) -> bytes:
        samples = cast("Mapping[str, Sample]", event.data["links"])
        if len(samples) <= CHUNK:
            return self._block(event, _stats_members(event, _rates(list(samples.items()))))
        done = self._under_way[event.number] = trio.Event()
        try:
            items = list(samples.items())
            texts = []
            for start in range(0, len(items), CHUNK):
                texts.append(_rates(items[start : start + CHUNK]))
                await trio.lowlevel.checkpoint()
            return self._block(event, _stats_members(event, ",".join(texts)))
        finally:
            del self._under_way[event.number]
            done.set()

    def _block(self, event: Event, members: str) -> bytes:
        head = f'"event":"{event.kind}","at":"{rfc3339(event.at)}"'
        text = f"event: {event.kind}\nid: {self._run}-{event.number}\ndata: {{{head}{members}}}\n\n"
        # Paths may hold bytes that are no UTF-8, which Python has as surrogates.
        return text.encode("utf-8", "replace")


def position_text(position: EventPosition) -> str:
    """The id of the event that a reader has come to."""
    return f"{position.run}-{position.number}"


def read_position_untrusted(text: str) -> EventPosition:
    """What an id stands for; one that nobody has given out stands for the time before everything."""
    run, _, number = text.partition("-")
    # More digits are no number of ours, and int() of very many takes its time.
    if number.isascii() and number.isdecimal() and len(number) <= 18:
        return EventPosition(run, int(number))
    return EventPosition("", 0)


def rates_members(sample: Sample) -> str:
    """The members of a second's rates, as JSON without braces."""
    return (
        f'"rx_frames":{sample.rx_frames},"rx_bytes":{sample.rx_bytes},"tx_frames":{sample.tx_frames},'
        f'"tx_bytes":{sample.tx_bytes},"dropped":{sample.dropped},"duplicates":{sample.duplicates}'
    )


def _rates(items: Sequence[tuple[str, Sample]]) -> str:
    return ",".join(f'"{link_id}":{{{rates_members(sample)}}}' for link_id, sample in items)


def _stats_members(event: Event, links: str) -> str:
    return f',"interval_s":{event.data["interval_s"]},"links":{{{links}}}'


def _members(event: Event) -> str:
    text = json.dumps(event.data, ensure_ascii=False, separators=(",", ":"))[1:-1]
    return f",{text}" if text else ""
