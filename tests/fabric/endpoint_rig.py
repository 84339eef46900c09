"""An endpoint on a plug in memory, for the tests of what endpoints do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from app.fabric.endpoint import Endpoint
from app.fabric.mmsg import Batch
from app.fabric.pressure import Pressure
from tests.fakes import PATIENCE_S, memory_pair, until


class Rig:
    """An endpoint on a memory plug; `peer` is the other end of it."""

    def __init__(self, capacity: int = 64) -> None:
        self.batch = Batch()
        self.received: list[bytes] = []
        self.pressure, self.ahead = Pressure(), Pressure()
        self.endpoint = Endpoint(self.batch, self.pressure, self.ahead, self._deliver)
        self.plug, self.peer = memory_pair(capacity)
        self.reason: str | None = None

    def _deliver(self, batch: Batch) -> None:
        self.endpoint.rx.add(batch.frames, batch.octets)
        self.received += [bytes(batch.frame(at)) for start, end in batch.runs for at in range(start, end)]

    def transmit(self, *frames: bytes) -> None:
        self.batch.load_frames(list(frames))
        self.endpoint.transmit(self.batch)

    async def carry(self) -> None:
        self.reason = await self.endpoint.carry(self.plug)


@asynccontextmanager
async def carried(capacity: int = 64) -> AsyncIterator[Rig]:
    rig = Rig(capacity)
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig.carry)
            await until(lambda: rig.endpoint.plug is not None)
            yield rig
            rig.endpoint.stop("the test is over")
