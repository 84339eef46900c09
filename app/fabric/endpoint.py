"""One side of a multilink, link or host: a plug, what waits to go out through it, and what was counted.

Receiving is a loop that waits, takes one batch, and hands it on before it waits again. Sending is a plain call from
whoever has the batch in hand; what a full plug refuses is copied into the queue, which a task of its own empties as
the plug drains.

Invariant: every frame offered to `transmit` ends in `tx.frames` or under one reason in `tx.dropped`, at the latest
when the plug ends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

from app.fabric.counters import DirectionCounters, DropReason
from app.fabric.errors import PlugClosedError
from app.fabric.mmsg import Batch
from app.fabric.plugs.base import Plug
from app.fabric.queue import FrameQueue

SWEEP_BATCHES: Final = 64
"""Batches taken in from a plug that has ended: more than any socket or pipe can hold, and an end to it."""


class Endpoint:
    """The traffic of a link or of a host, over one plug at a time.

    Args:
        batch: the multilink's shared buffers.
        deliver: called with the batch in hand for every receive that brought a valid frame; must not await, and
        counts `rx`.
    """

    def __init__(self, batch: Batch, deliver: Callable[[Batch], None]) -> None:
        self.rx = DirectionCounters()
        self.tx = DirectionCounters()
        self.plug: Plug | None = None
        self._batch = batch
        self._deliver = deliver
        self._queue = FrameQueue()
        self._nursery: trio.Nursery | None = None
        self._is_flushing = False
        self._queue_empty = trio.Event()
        self._reason = ""

    async def carry(self, plug: Plug, until: Callable[[], object] | None = None) -> str:
        """Move frames through `plug` until it ends or `stop` is called; the reason in words, for a person.

        The plug is closed in any case, and what was still queued is counted as lost.

        Args:
            plug: open, and owned from now on.
            until: called once the plug can be used, to tell whoever waits for it.
        """
        self._reason = ""
        self.plug = plug
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self._receive_forever, plug)
                nursery.start_soon(self._watch, plug)
                if until is not None:
                    until()
            self._sweep(plug)
        finally:
            self._nursery = None
            self.plug = None
            self.tx.drop(DropReason.CLOSED, self._queue.clear())
            self._queue_empty.set()
            self._is_flushing = False
            with trio.CancelScope(shield=True):
                await plug.aclose()
        return self._reason

    def stop(self, reason: str) -> None:
        """End `carry`, with `reason` unless it has one already."""
        self._reason = self._reason or reason
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()

    def transmit(self, batch: Batch) -> None:
        """Send every valid frame of `batch`; never blocks, never raises: what cannot go is queued or counted."""
        plug = self.plug
        if plug is None:
            self.tx.drop(DropReason.CLOSED, batch.frames)
            return
        for start, end in batch.runs:
            position = start
            if not self._queue:
                try:
                    position += plug.send(batch, start, end)
                except PlugClosedError as error:
                    self.stop(error.detail)
                    self.tx.drop(DropReason.CLOSED, end - start)
                    continue
                if position - start == batch.frames:
                    self.tx.add(batch.frames, batch.octets)
                else:
                    self.tx.add(position - start, sum(batch.sizes[start:position]))
                if plug.refused:
                    self._count_refused(plug)
            if position < end:
                self._enqueue(batch, position, end)

    async def wait_queue_empty(self) -> None:
        """Return when nothing waits to go out."""
        if self._queue:
            self._queue_empty = trio.Event()
            await self._queue_empty.wait()

    def _enqueue(self, batch: Batch, start: int, end: int) -> None:
        for index in range(start, end):
            if not self._queue.put(bytes(batch.frame(index))):
                self.tx.drop(DropReason.FULL, end - index)
                break
        if not self._is_flushing and self._nursery is not None and self.plug is not None:
            self._is_flushing = True
            self._nursery.start_soon(self._flush, self.plug)

    async def _flush(self, plug: Plug) -> None:
        try:
            while self._queue:
                await plug.wait_writable()
                while self._queue and plug.send_frame(self._queue.first()):
                    self.tx.add(1, len(self._queue.first()))
                    self._queue.remove_first()
                    if plug.refused:
                        self._count_refused(plug)
        except PlugClosedError as error:
            self.stop(error.detail)
        else:
            self._queue_empty.set()
        finally:
            self._is_flushing = False

    def _count_refused(self, plug: Plug) -> None:
        # `send` dealt with these, so they were added as if they had gone.
        self.tx.add(-len(plug.refused), -sum(plug.refused))
        self.tx.drop(DropReason.REFUSED, len(plug.refused))
        plug.refused.clear()

    async def _receive_forever(self, plug: Plug) -> None:
        batch = self._batch
        while True:
            await plug.wait_readable()
            # No await from here to the next turn of the loop: the batch belongs to whoever runs.
            try:
                plug.receive(batch)
            except BlockingIOError:
                continue
            except PlugClosedError as error:
                self.stop(error.detail)
                return
            self._hand_on(batch)

    def _hand_on(self, batch: Batch) -> None:
        if batch.runts:
            self.rx.drop(DropReason.RUNT, batch.runts)
        if batch.giants:
            self.rx.drop(DropReason.GIANT, batch.giants)
        if batch.frames:
            self._deliver(batch)

    def _sweep(self, plug: Plug) -> None:
        """Take in what the peer had sent before it ended, or before its time was up."""
        for _ in range(SWEEP_BATCHES):
            try:
                plug.receive(self._batch)
            except (BlockingIOError, PlugClosedError):
                return
            self._hand_on(self._batch)

    async def _watch(self, plug: Plug) -> None:
        self.stop(await plug.wait_ended())
