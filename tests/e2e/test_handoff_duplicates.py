"""Frames over two lossy paths at once: what came on any of them reaches the host, once; what was meant twice, twice.

    far ─> f1 ══ wirefilter ══ n1 ─> relay ─> vm1/ctl ─┐
      └──> f2 ══ wirefilter ══ n2 ─> relay ─> vm1/ctl ─┴─> vm1/host

The relay is the witness of what has come over each path; it is a raw client at either side, and no code of the service.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.e2e.harness.lab import Lab
from tests.e2e.harness.raw import RawClient, frame, number_of
from tests.e2e.harness.service import Service
from tests.e2e.harness.waiting import wait_until

pytestmark = pytest.mark.e2e

FRAMES = 600
PAUSE_S = 0.002
QUIET_S = 0.3
"""Without a frame for so long, none comes any more: the paths delay by 40 ms at most."""


class LossyPath:
    """One path with a wirefilter in it, and what came out of it."""

    def __init__(self, lab: Lab, service: Service, number: int, options: list[str]) -> None:
        far, near = (lab.root / f"{end}{number}" for end in "fn")
        for end in (far, near):
            assert service.api.post("/multilinks", json={"url": f"multi://{end}"}).status_code == 201
        self.far = lab.client(far, "host")
        self._near = lab.client(near, "host")
        lab.start(["dpipe", "vde_plug", str(far), "=", "wirefilter", *options, "=", "vde_plug", str(near)])
        for end in (far, near):
            service.wait_link(lambda link, end=end: link["multilink"] == end.name and link["state"] == "up")  # type: ignore[misc]  # bound now
        self.link = lab.client(lab.root / "vm1", description=f"path {number}")
        self.brought: list[int] = []
        self.last = time.monotonic()
        self._is_over = threading.Event()
        self._relay = threading.Thread(target=self._relay_frames)
        self._relay.start()

    def _relay_frames(self) -> None:
        while not self._is_over.is_set():
            try:
                data = self._near.receive(0.05)
            except TimeoutError:
                continue
            self.brought.append(number_of(data))
            self.last = time.monotonic()
            self.link.send(data)

    def close(self) -> None:
        """End the relay."""
        self._is_over.set()
        self._relay.join()


class Listener:
    """What has come to the host."""

    def __init__(self, host: RawClient) -> None:
        self.heard: list[int] = []
        self._host = host
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        while not self._is_over.is_set():
            try:
                self.heard.append(number_of(self._host.receive(0.05)))
            except TimeoutError:
                continue

    def close(self) -> None:
        """End it."""
        self._is_over.set()
        self._thread.join()


def flow(lab: Lab, options: list[list[str]], numbers: list[int]) -> tuple[list[list[int]], list[int], list[int]]:
    """Send frames over all paths; what each path brought, what the host heard, and what was counted as duplicate."""
    vm1: Path = lab.root / "vm1"
    service = lab.service(f"multi://{vm1}")
    host = lab.client(vm1, "host")
    paths = [LossyPath(lab, service, number, each) for number, each in enumerate(options, 1)]
    wait_until(lambda: len(service.links(multilink="vm1", state="up")) == len(paths), "the links")
    listener = Listener(host)
    try:
        for number in numbers:
            for path in paths:
                path.far.send(frame(number))
            time.sleep(PAUSE_S)
        wait_until(lambda: all(time.monotonic() - path.last > QUIET_S for path in paths), "the last frames")
    finally:
        for path in paths:
            path.close()
        listener.close()
    counted = [link["rx"] for link in service.links(multilink="vm1")]
    for rx, path in zip(counted, paths, strict=True):
        assert set(rx["dropped"]) <= {"duplicate"}
        assert rx["frames"] + rx["dropped"].get("duplicate", 0) == len(path.brought)
    return [path.brought for path in paths], listener.heard, [rx["dropped"].get("duplicate", 0) for rx in counted]


@pytest.mark.parametrize("losses", [("20", "20"), ("20", "80"), ("80", "20"), ("80", "80"), ("0", "80")])
def test_what_came_on_any_path_reaches_the_host_once_whatever_is_lost_and_out_of_order(
    lab: Lab, losses: tuple[str, str]
) -> None:
    options = [["-l", loss, "-d", delay, "-N"] for loss, delay in zip(losses, ("5+4", "25+14"), strict=True)]
    brought, heard, duplicates = flow(lab, options, list(range(FRAMES)))
    print([len(each) for each in brought], len(heard), duplicates)
    for each, loss in zip(brought, losses, strict=True):
        assert len(each) < FRAMES * (1 - int(loss) / 200) or loss == "0", "the path has not lost enough for a test"
        assert each
        assert len(each) == len(set(each))
    assert any(each != sorted(each) for each in brought), "and has kept the order"
    assert Counter(heard) == Counter(set(brought[0]) | set(brought[1]))
    assert sum(duplicates) == len(set(brought[0]) & set(brought[1])) > 0


def test_identical_frames_sent_on_purpose_all_arrive_and_no_more(lab: Lab) -> None:
    numbers = [number // 3 for number in range(FRAMES)]
    brought, heard, duplicates = flow(lab, [["-d", "5"], ["-d", "25"]], numbers)
    assert brought == [numbers, numbers], "these paths lose nothing"
    assert Counter(heard) == Counter(numbers)
    assert sum(duplicates) == FRAMES
