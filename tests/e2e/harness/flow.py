"""Numbered frames that flow between raw clients while a test does its worst, and the proof that none was lost."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Final

from tests.e2e.harness.raw import RawClient, frame, is_numbered, number_of
from tests.e2e.harness.waiting import wait_until

PAUSE_S: Final = 0.008
BURST: Final = 4
"""Frames at once, then a pause: up to 500 a second from each, far from what fills a socket."""


class Flow:
    """Frames from the host to every link and from every link to the host, until `stop`.

    Args:
        host: a raw client on the multilink's `host`.
        links: raw clients on its `ctl`; not used for anything else meanwhile.
    """

    def __init__(self, host: RawClient, links: Sequence[RawClient]) -> None:
        self._clients = [host, *links]
        self._sent = [0] * len(self._clients)
        self._received: list[list[tuple[int, int]]] = [[] for _ in self._clients]
        self._enough = threading.Event()
        self._silence = threading.Event()
        self._errors: list[str] = []
        self._senders = [threading.Thread(target=self._send, args=(at,)) for at in range(len(self._clients))]
        self._receivers = [threading.Thread(target=self._receive, args=(at,)) for at in range(len(self._clients))]
        for thread in (*self._receivers, *self._senders):
            thread.start()

    @property
    def delivered(self) -> int:
        """Frames that have arrived somewhere so far."""
        return sum(len(frames) for frames in self._received)

    def run_on(self, frames: int = 400) -> None:
        """Return when that many more have been delivered."""
        target = self.delivered + frames
        wait_until(lambda: self.delivered >= target or self._errors, f"{frames} more frames")
        assert not self._errors, self._errors

    def stop(self) -> int:
        """End it: each frame has come to each whom it was for, once, in order. How many were delivered.

        Only then: what came to somebody else is a failure too.
        """
        self._enough.set()
        for thread in self._senders:
            thread.join()
        with contextlib.suppress(AssertionError):  # Which of them are missing is told below.
            wait_until(self._all_here, "the last frames", limit_s=5)
        time.sleep(0.1)  # One that comes twice, or to the wrong one, would come now.
        self._silence.set()
        for thread in self._receivers:
            thread.join()
        assert not self._errors, self._errors
        for at, frames in enumerate(self._received):
            for sender in self._audible(at):
                numbers = [number for who, number in frames if who == sender]
                due = self._sent[sender]
                missing = set(range(due)) - set(numbers)
                assert not missing, (
                    f"{len(missing)} of {due} frames from {sender} never came to {at}: {sorted(missing)[:9]}"
                )
                assert not [n for n, times in Counter(numbers).items() if times > 1], f"{sender} to {at}: duplicates"
                assert numbers == sorted(numbers), f"{sender} to {at}: out of order"
            strangers = {who for who, _ in frames} - set(self._audible(at))
            assert not strangers, f"{at} has heard {strangers}"
        return self.delivered

    def abandon(self) -> None:
        """End the threads whatever has happened."""
        self._enough.set()
        self._silence.set()
        for thread in (*self._senders, *self._receivers):
            thread.join()

    def _audible(self, at: int) -> list[int]:
        """Whom this one is to hear: the host hears every link, a link the host alone."""
        return list(range(1, len(self._clients))) if at == 0 else [0]

    def _all_here(self) -> bool:
        return all(
            len(frames) >= sum(self._sent[sender] for sender in self._audible(at))
            for at, frames in enumerate(self._received)
        )

    def _send(self, at: int) -> None:
        client = self._clients[at]
        try:
            while not self._enough.is_set():
                for _ in range(BURST):
                    client.send(frame(self._sent[at], at))
                    self._sent[at] += 1
                time.sleep(PAUSE_S)
        except OSError as error:
            self._errors.append(f"client {at} cannot send: {error}")

    def _receive(self, at: int) -> None:
        client = self._clients[at]
        while not self._silence.is_set():
            try:
                data = client.receive(0.05)
            except TimeoutError:
                continue
            except OSError as error:
                self._errors.append(f"client {at} cannot receive: {error}")
                return
            if is_numbered(data):
                self._received[at].append((int.from_bytes(data[10:12], "big"), number_of(data)))
