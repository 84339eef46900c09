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

from app.fabric.capture import FrameCapture
from app.fabric.counters import DirectionCounters, DropReason
from app.fabric.errors import PlugClosedError
from app.fabric.mmsg import BATCH_FRAMES, Batch
from app.fabric.plugs.base import Plug
from app.fabric.pressure import HOLD_LIMIT_S, Pressure
from app.fabric.queue import CONGESTED_LIMIT_BYTES, HOLD_FROM_BYTES, LET_GO_BYTES, QUEUE_LIMIT_BYTES, FrameQueue

SWEEP_BATCHES: Final = 64
"""Batches taken in from a plug that has ended: more than any socket or pipe can hold, and an end to it."""


class Endpoint:
    """The traffic of a link or of a host, over one plug at a time.

    Args:
        batch: the multilink's shared buffers.
        pressure: held while this endpoint is full.
        ahead: waited for before this endpoint's plug is read.
        deliver: called with the batch in hand for every receive that brought a valid frame; must not await, and
        counts `rx`.
    """

    __slots__ = (
        "_ahead", "_batch", "_deliver", "_held_at", "_is_flushing", "_nursery", "_patience", "_pressure", "_queue",
        "_queue_empty", "_reason", "capture", "is_congested", "plug", "rx", "tx",
    )  # fmt: skip

    def __init__(self, batch: Batch, pressure: Pressure, ahead: Pressure, deliver: Callable[[Batch], None]) -> None:
        self.rx = DirectionCounters()
        self.tx = DirectionCounters()
        self.plug: Plug | None = None
        self.is_congested = False
        self.capture: FrameCapture | None = None
        """Given a copy of every frame that comes and that is sent, while somebody looks."""
        self._batch = batch
        self._pressure = pressure
        self._ahead = ahead
        self._deliver = deliver
        self._queue = FrameQueue()
        self._nursery: trio.Nursery | None = None
        self._is_flushing = False
        self._held_at: float | None = None
        self._patience = trio.CancelScope()
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
        self._ahead.hasty_sources += plug.is_hasty
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self._receive_forever, plug)
                nursery.start_soon(self._watch, plug)
                if until is not None:
                    until()
                try:
                    plug.begin()
                except PlugClosedError as error:
                    self.stop(error.detail)
            self._sweep(plug)
        finally:
            self._nursery = None
            self.plug = None
            self._ahead.hasty_sources -= plug.is_hasty
            self.tx.drop(DropReason.CLOSED, self._queue.clear())
            self._queue_empty.set()
            self._relieve()
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
        if self.capture is not None:
            self.capture.outbound(batch)
        for start, end in batch.runs:
            position = start
            if not self._queue.octets:
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

    def send_own(self, frames: list[bytes]) -> None:
        """Send frames of our own making through the plug; not to be called with a batch in hand. Counted as any
        other.
        """
        self._batch.load_frames(frames)
        self.transmit(self._batch)

    @property
    def queued(self) -> tuple[int, int]:
        """How many frames, of how many bytes together, wait to go out."""
        return len(self._queue), self._queue.octets

    async def wait_queue_empty(self) -> None:
        """Return when nothing waits to go out."""
        if self._queue:
            self._queue_empty = trio.Event()
            await self._queue_empty.wait()

    def _enqueue(self, batch: Batch, start: int, end: int) -> None:
        queue = self._queue
        for index in range(start, end):
            if not queue.has_room(batch.sizes[index]):
                self.tx.drop(DropReason.CONGESTED if self.is_congested else DropReason.FULL, end - index)
                break
            queue.put(bytes(batch.frame(index)))
        if not self._is_flushing and self._nursery is not None and self.plug is not None:
            self._is_flushing = True
            self._nursery.start_soon(self._flush, self.plug)
        # Frames that wait with their senders need not be copied to wait here.
        hold_from = HOLD_FROM_BYTES if self._pressure.hasty_sources else 0
        if queue.octets > hold_from and self._held_at is None and self._is_flushing and not self.is_congested:
            self._held_at = trio.current_time()
            self._patience.deadline = self._held_at + HOLD_LIMIT_S
            self._pressure.hold(self)

    async def _flush(self, plug: Plug) -> None:
        """Empty the queue as the plug drains; give up holding the sources when that takes too long."""
        try:
            while self._queue:
                with trio.CancelScope() as self._patience:
                    if self._held_at is not None:
                        # As things are now: the others may have given up meanwhile.
                        self._patience.deadline = self._held_at + self._pressure.hold_limit()
                    await plug.wait_writable()
                if self._patience.cancelled_caught:
                    self._give_up()
                else:
                    self._flush_once(plug)
        except PlugClosedError as error:
            self.stop(error.detail)
        else:
            self._queue_empty.set()
        finally:
            self._relieve()

    def _give_up(self) -> None:
        """Hold nobody any more and lose frames alone, unless it may be held for longer than it was when it began."""
        if self._held_at is not None and trio.current_time() >= self._held_at + self._pressure.hold_limit():
            self._held_at = None
            self.is_congested = True
            self._queue.limit = CONGESTED_LIMIT_BYTES
            self._pressure.give_up(self)

    def _flush_once(self, plug: Plug) -> None:
        batch, queue = self._batch, self._queue
        while queue:
            batch.load_frames(queue.first(BATCH_FRAMES))
            sent = plug.send(batch, 0, batch.frames)
            self.tx.add(sent, sum(batch.sizes[:sent]))
            queue.remove_first(sent)
            if plug.refused:
                self._count_refused(plug)
            if self._held_at is not None and self._pressure.hasty_sources and queue.octets <= LET_GO_BYTES:
                self._held_at = None
                self._pressure.release(self)
            if sent < batch.frames:
                return

    def _relieve(self) -> None:
        self._is_flushing = False
        self.is_congested = False
        self._queue.limit = QUEUE_LIMIT_BYTES
        self._held_at = None
        self._pressure.release(self)

    def _count_refused(self, plug: Plug) -> None:
        # `send` dealt with these, so they were added as if they had gone.
        self.tx.add(-len(plug.refused), -sum(plug.refused))
        self.tx.drop(DropReason.REFUSED, len(plug.refused))
        plug.refused.clear()

    async def _receive_forever(self, plug: Plug) -> None:
        batch, ahead = self._batch, self._ahead
        is_busy = False
        while True:
            if is_busy:
                await trio.lowlevel.checkpoint()
            else:
                await plug.wait_readable()
            if ahead.is_on:
                await ahead.wait_turn()
            # No await from here to the next turn of the loop: the batch belongs to whoever runs.
            try:
                plug.receive(batch)
                self._hand_on(batch)
                if plug.may_have_more and not ahead.is_on:
                    plug.receive(batch)
                    self._hand_on(batch)
                is_busy = len(batch.sizes) > 1
            except BlockingIOError:
                is_busy = False
            except PlugClosedError as error:
                self.stop(error.detail)
                return
            finally:
                ahead.pass_turn()

    def _hand_on(self, batch: Batch) -> None:
        if batch.runts:
            self.rx.drop(DropReason.RUNT, batch.runts)
        if batch.giants:
            self.rx.drop(DropReason.GIANT, batch.giants)
        if batch.frames:
            if self.capture is not None:
                self.capture.inbound(batch)
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
        try:
            self.stop(await plug.wait_ended())
        finally:
            # This child lives as long as the others. Once all have ended, the nursery takes no flush any more, and a
            # batch that comes before `carry` goes on must not try: what it queues is counted as lost there.
            self._nursery = None
