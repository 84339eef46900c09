"""`watch`: what it knows, what it draws, and how it gets over a service that goes away."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from app.client import History, Link, Multilink
from app.streams import ServerEvent, parse_events
from app.watch import SECONDS_KEPT, Picture, Rate, describe
from app.watch_view import WatchView, bits_text, sparkline
from tests.running import ROOT, ServiceProcess, clean_environment, started, wait_until

AT = "2026-11-22T15:04:05.000Z"


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """pytest's own directories are too long for the sockets in them."""
    path = Path(tempfile.mkdtemp(prefix="vw"))
    yield path
    shutil.rmtree(path)


def link(name: str, **changes: Any) -> Link:
    made: Link = {
        "id": f"id-{name}", "name": name, "multilink": "vm1", "kind": "dialled", "url": "vde:///tmp/vm2",
        "description": "", "peer": None, "role": "active", "state": "up", "detail": "", "since": AT,
        "reconnect": True, "monitor": None, "health": None, "reflections": 0,
        "rx": {"frames": 1, "bytes": 60, "dropped": {}}, "tx": {"frames": 1, "bytes": 60, "dropped": {}},
    }  # fmt: skip
    made.update(changes)  # type: ignore[typeddict-item] # what a test changes is known to it
    return made


def multilink() -> Multilink:
    return {
        "name": "vm1", "url": "multi:///tmp/vm1", "path": "/tmp/vm1", "duplicates": "drop", "reflections": "pass",
        "window_s": 1.0, "failover": False, "handoff": None, "links": 1, "refused": {},
        "host": {
            "url": None, "state": "attached", "detail": "", "peer": {"pid": 7, "uid": 0, "gid": 0},
            "rx": {"frames": 1, "bytes": 2_000_000, "dropped": {}}, "tx": {"frames": 1, "bytes": 0, "dropped": {}},
        },
    }  # fmt: skip


def rates(rx: int, tx: int = 0, dropped: int = 0) -> dict[str, int]:
    return {
        "rx_frames": 1, "rx_bytes": rx, "tx_frames": 1, "tx_bytes": tx, "dropped": dropped, "duplicates": 0,
    }  # fmt: skip


def stats(**links: dict[str, int]) -> ServerEvent:
    by_id = {f"id-{name}": each for name, each in links.items()}
    return ServerEvent("r-1", "stats", {"event": "stats", "at": AT, "interval_s": 1.0, "links": by_id})


def handoff(state: str, **changes: Any) -> Any:
    phases = [
        {"state": "making", "started": AT, "duration_s": 0.01},
        {"state": "verifying", "started": AT, "duration_s": None if state == "verifying" else 0.5},
    ]
    report: dict[str, Any] = {"frames": 0, "duplicates": 12, "longest_gap_s": None, "paths": {}}
    return {
        "id": "h1", "multilink": "vm1", "from": ["old"], "to": {"link": "x", "name": "new", "url": None},
        "state": state, "phases": phases, "verified_by": "", "reason": "", "report": {"to_host": report},
        **changes,
    }  # fmt: skip


def drawn(picture: Picture, *, width: int = 120, encoding: str = "utf-8") -> str:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=file, width=width, height=40, color_system=None, highlight=False, legacy_windows=False)
    console.print(WatchView(picture))
    file.flush()
    raw = file.buffer
    assert isinstance(raw, io.BytesIO)
    return raw.getvalue().decode(encoding)


def full_picture() -> Picture:
    picture = Picture("unix:/run/x")
    picture.take_answers([multilink()], [link("old"), link("new")], [])
    return picture


# What it knows.


def test_rates_come_a_second_each_and_idle_links_have_none() -> None:
    picture = full_picture()
    for rx in (100, 200):
        picture.take_event(stats(old=rates(rx, dropped=1)))
    picture.take_event(stats(new=rates(5, 6)))
    assert list(picture.rates["id-old"])[-3:] == [Rate(100, 0, 1, 0), Rate(200, 0, 1, 0), Rate()]
    assert picture.rate_of("id-new") == Rate(5, 6, 0, 0)
    assert picture.rate_of("unknown") == Rate()


def test_a_history_with_seconds_that_wobble_leaves_no_holes() -> None:
    picture = full_picture()
    samples: list[Any] = [
        {"at": f"2026-11-22T15:04:{10 + second:02}.{780 + (second % 3) * 9:03}Z", **rates(second + 1)}
        for second in range(20)
    ]
    history: History = {
        "link": "id-old", "at": "2026-11-22T15:04:30.700Z", "interval_s": 1.0, "kept_s": 300.0, "samples": samples
    }  # fmt: skip
    picture.take_history(history)
    assert [rate.rx for rate in picture.rates["id-old"]][-21:] == [0, *range(1, 21)]
    assert len(picture.rates["id-old"]) == SECONDS_KEPT
    picture.take_history(history | {"at": "2026-11-22T15:04:34.900Z"})
    # Its newest sample, of 15:04:29.789, is five seconds old.
    assert [rate.rx for rate in picture.rates["id-old"]][-8:] == [18, 19, 20, 0, 0, 0, 0, 0]


def test_what_is_gone_is_forgotten() -> None:
    picture = full_picture()
    picture.take_event(stats(old=rates(1)))
    picture.take_answers([multilink()], [link("new")], [])
    assert set(picture.rates) == {"id-new"}


@pytest.mark.parametrize(
    ("kind", "data", "text"),
    [
        ("link_up", {"name": "a", "detail": ""}, "a is up"),
        ("link_down", {"name": "a", "detail": "the peer has left"}, "a is down: the peer has left"),
        ("link_degraded", {"name": "a", "detail": "no answer"}, "a is degraded: no answer"),
        ("host_detached", {"multilink": "vm1", "detail": ""}, "the host of vm1 has left"),
        ("missed", {"since": 7}, "some events were missed"),
        ("multilink_added", {"multilink": "vm1", "path": "/x"}, "multilink vm1 added"),
        (
            "handoff",
            {"multilink": "vm1", "to": "b", "state": "rolled_back", "verified_by": "", "reason": "dead"},
            "hand-off of vm1 to b: rolled back: dead",
        ),
        ("news_of_tomorrow", {}, "news_of_tomorrow"),
    ],
)
def test_events_are_told_in_words(kind: str, data: dict[str, Any], text: str) -> None:
    line = describe(ServerEvent("r-1", kind, {"at": AT, **data}))
    assert line is not None
    assert line.text == text


def test_only_what_changes_the_state_of_things_is_asked_for_again() -> None:
    picture = full_picture()
    assert not picture.take_event(stats())
    assert not picture.take_event(ServerEvent("r-1", "", {}))
    assert picture.take_event(ServerEvent("r-1", "link_added", {"at": AT, "name": "a"}))
    assert not picture.log


def test_events_are_read_as_the_standard_says() -> None:
    lines = [": hello", "retry: 1000", "id: r-4", "", "event: link_up", "id: r-5", 'data: {"a":', "data:1}", "", "data"]
    assert list(parse_events(lines)) == [ServerEvent("r-4", "", {}), ServerEvent("r-5", "link_up", {"a": 1})]


# What it draws.


def test_the_picture_has_what_there_is() -> None:
    picture = full_picture()
    for second in range(20):
        picture.take_event(stats(old=rates(second * 10_000, 1_000_000)))
    picture.take_event(ServerEvent("r-2", "link_up", {"at": AT, "name": "new", "detail": ""}))
    text = drawn(picture)
    for words in ("vm1", "/tmp/vm1", "host attached pid 7", "sent 2.0 MB", "8.0 Mbit/s", "1.5 Mbit/s", "new is up"):
        assert words in text, text
    assert re.search("[▁▂▃▄▅▆▇█]{8}", text)


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
def test_it_fits_every_width(width: int) -> None:
    picture = full_picture()
    picture.take_answers([multilink()], [link("x" * 64, state="down", role="standby")], [handoff("verifying")])
    picture.take_event(stats(**{"x" * 64: rates(10**9, 10**9)}))
    picture.note("y" * 300)
    assert max(len(line) for line in drawn(picture, width=width).splitlines()) <= width


def test_without_utf_8_it_is_ascii() -> None:
    picture = full_picture()
    picture.take_answers([multilink()], [link("old")], [handoff("verifying")])
    picture.take_event(stats(old=rates(1000, 1000)))
    assert drawn(picture, encoding="ascii").isascii()


def test_the_phases_of_a_hand_off_are_shown_and_its_links_are_marked() -> None:
    picture = full_picture()
    picture.take_answers([multilink()], [link("old"), link("new")], [handoff("verifying")])
    text = drawn(picture)
    assert "✓ making 0.01 s → ● verifying → overlapping → draining" in text
    assert "old old" in text
    assert "new new" in text
    picture.take_answers([multilink()], [link("old")], [handoff("rolled_back", reason="nobody answered")])
    text = drawn(picture)
    assert "rolled back" in text
    assert "nobody answered" in text
    picture.now = 4_000_000_000.0
    assert "rolled back" not in drawn(picture), "old news"


def test_what_peers_choose_is_text() -> None:
    picture = full_picture()
    picture.take_answers([multilink()], [link("[red]a\x1b[2J")], [])
    text = drawn(picture)
    assert "[red]a" in text
    assert "\x1b" not in text


def test_a_lost_service_is_said_so() -> None:
    picture = full_picture()
    picture.lost = "the service has gone: trying again"
    assert "the service has gone" in drawn(picture).splitlines()[0]


def test_curves_show_whatever_is_not_nothing() -> None:
    assert sparkline([0, 1, 500, 1000], 1000) == " ▁▄█"
    assert sparkline([0, 0], 0) == "  "
    assert sparkline([10, 10], 10) == "██"


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (0, ""),
        (1, "8 bit/s"),
        (124, "992 bit/s"),
        (125, "1.0 kbit/s"),
        (12_500_000, "100 Mbit/s"),
        (2e9, "16.0 Gbit/s"),
    ],
)
def test_rates_are_in_bits(rate: float, text: str) -> None:
    assert bits_text(rate) == text


# The command.


def test_one_picture_as_text_as_json_and_as_an_image(tmp_path: Path, short_dir: Path) -> None:
    with started(short_dir, f"multi://{short_dir}/vm1") as service:
        text = service.run("watch", "--once")
        assert text.returncode == 0, text.stderr
        assert f"{short_dir}/vm1" in text.stdout
        assert "multilink vm1 added" in text.stdout, "what has happened before is told too"
        state = json.loads(service.run("watch", "--once", "--json").stdout)
        assert [each["name"] for each in state["multilinks"]] == ["vm1"]
        svg = tmp_path / "picture.svg"
        done = service.run("watch", "--svg", str(svg))
        assert (done.returncode, done.stdout) == (0, "")
        assert svg.read_text().startswith("<svg")
        assert set(re.findall(r'https?://[^"/\s]+', svg.read_text())) <= {
            "http://www.w3.org",
            "https://www.textualize.io",
        }
        nowhere = service.run("watch", "--svg", str(tmp_path / "no" / "x.svg"))
        assert (nowhere.returncode, nowhere.stdout) == (1, "")


def test_without_a_service_it_says_so(short_dir: Path) -> None:
    service = ServiceProcess.__new__(ServiceProcess)
    service.runtime_dir = short_dir / "nowhere"
    done = service.run("watch")
    assert done.returncode == 1
    assert "no service" in done.stderr


def test_events_as_lines_of_json(short_dir: Path) -> None:
    with started(short_dir, f"multi://{short_dir}/vm1") as service, running_watch(service, "--json") as watch:
        assert watch.stdout is not None
        kinds = [json.loads(watch.stdout.readline())["event"] for _ in range(2)]
        assert kinds == ["stats", "stats"]


@contextmanager
def running_watch(service: ServiceProcess, *words: str, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """`watch`, ended by Ctrl-C, which is no failure."""
    environment = clean_environment(VDE_MULTILINK_RUNTIME_DIR=str(service.runtime_dir), TERM="xterm-256color")
    command = [sys.executable, "-m", "app", "watch", *words]
    options.setdefault("stdout", subprocess.PIPE)
    watch: subprocess.Popen[bytes]
    with subprocess.Popen(command, env=environment, cwd=ROOT, **options) as watch:
        try:
            yield watch
            watch.send_signal(signal.SIGINT)
            assert watch.wait(20) == 0
        finally:
            watch.kill()


def test_it_survives_a_restart_of_the_service(short_dir: Path) -> None:
    screen = bytearray()
    master, slave = pty.openpty()
    with started(short_dir, f"multi://{short_dir}/vm1") as service:
        with running_watch(service, stdout=slave, stderr=slave) as watch:
            os.close(slave)
            reader = threading.Thread(target=_read_all, args=(master, screen))
            reader.start()
            wait_until(lambda: b"live" in screen)
            assert service.stop(signal.SIGTERM) == 0
            wait_until(lambda: b"trying again" in screen)
            assert watch.poll() is None
            with started(short_dir, f"multi://{short_dir}/vm2"):
                wait_until(lambda: b"/vm2" in screen)
                wait_until(lambda: b"the service is back" in screen)
        reader.join(20)
        assert not reader.is_alive()
    os.close(master)
    assert b"Traceback" not in screen


def _read_all(fd: int, into: bytearray) -> None:
    while True:
        try:
            data = os.read(fd, 65536)
        except OSError:  # EIO: nobody has the other end any more
            return
        into += data
