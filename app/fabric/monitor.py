"""Watching a link between hand-offs: is the address behind it still there, over this link?

Asks once an interval, over this link only (`app.fabric.prober`), and keeps the round-trip time and the share lost. A
link that is up but has brought no answer for DEGRADED_AFTER questions in a row is degraded, until one comes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import trio

from app.fabric.link import Health, Link
from app.fabric.neighbour import IpAddress
from app.fabric.prober import Prober
from app.fabric.states import LinkState

DEGRADED_AFTER: Final = 3
KEPT_OUTCOMES: Final = 20


@dataclass(frozen=True, slots=True)
class MonitorSpec:
    """What is asked, and how often (seconds)."""

    address: IpAddress
    interval_s: float = 1.0


class Monitor:
    """The watch over one link; `run` is its task.

    Args:
        link: what is watched.
        spec: what is asked.
        prober: asks.
        changed: told when the link becomes degraded or good; must not await.
        clock: unix time, for `last_heard`.
    """

    def __init__(
        self,
        link: Link,
        spec: MonitorSpec,
        prober: Prober,
        changed: Callable[[Link], None],
        clock: Callable[[], float],
    ) -> None:
        self.spec = spec
        self.rtt_s: float | None = None
        """Of the last answer."""
        self.last_heard: float | None = None
        """Unix time of the last answer."""
        self._link = link
        self._prober = prober
        self._changed = changed
        self._clock = clock
        self._outcomes: deque[bool] = deque(maxlen=KEPT_OUTCOMES)
        self._scope = trio.CancelScope()

    @property
    def lost(self) -> float | None:
        """The share of the last questions that were not answered, 0 to 1; None before the first outcome."""
        return self._outcomes.count(False) / len(self._outcomes) if self._outcomes else None

    async def run(self) -> None:
        """Ask until the link ends or `stop` is called."""
        with self._scope:
            try:
                while not self._link.ended.is_set():
                    due = trio.current_time() + self.spec.interval_s
                    if self._link.state is LinkState.UP:
                        await self._ask_once()
                    await trio.sleep_until(due)
            finally:
                self._judge(None, "")

    def stop(self) -> None:
        """End `run`."""
        self._scope.cancel()

    async def _ask_once(self) -> None:
        answer = None
        with trio.move_on_after(self.spec.interval_s):
            answer = await self._prober.ask(self._link, [self.spec.address])
        self._outcomes.append(answer is not None)
        if answer is not None:
            self.rtt_s = answer.after_s
            self.last_heard = self._clock()
            self._judge(False, "")
        elif list(self._outcomes)[-DEGRADED_AFTER:].count(False) == DEGRADED_AFTER:
            self._judge(True, f"degraded: {self.spec.address} does not answer over this link")

    def _judge(self, degraded: bool | None, reason: str) -> None:
        was = self._link.health.degraded
        self._link.health = Health(degraded, reason)
        if was is not degraded:
            self._changed(self._link)
