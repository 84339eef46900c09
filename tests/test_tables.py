from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console, RenderableType

from app.client import Direction, Link, Multilink
from app.tables import bytes_text, link_details, links_table, multilinks_table, plain, since_text

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def direction(octets: int = 0, **dropped: int) -> Direction:
    return {"frames": octets // 100, "bytes": octets, "dropped": dropped}


def make_link(**changes: object) -> Link:
    link: dict[str, object] = {
        "id": "l0123456789ab",
        "name": "path1",
        "multilink": "vm1",
        "kind": "dialled",
        "url": "vde:///tmp/vm2",
        "description": "",
        "peer": None,
        "role": "active",
        "state": "up",
        "detail": "",
        "since": "2026-11-22T11:59:00.000Z",
        "reconnect": True,
        "monitor": None,
        "health": None,
        "reflections": 0,
        "rx": direction(),
        "tx": direction(),
    }
    link.update(changes)
    return link  # type: ignore[return-value]  # built up by name


def show(table: RenderableType, width: int = 80) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert all(len(line) <= width for line in text.splitlines())
    return text


@pytest.mark.parametrize(
    ("octets", "text"),
    [
        *((0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (99_949, "99.9 kB"), (99_950, "100 kB"), (999_499, "999 kB")),
        *((999_500, "1.0 MB"), (12_345_678_901, "12.3 GB"), (5 * 10**18, "5000 PB")),
    ],
)
def test_bytes(octets: int, text: str) -> None:
    assert bytes_text(octets) == text


@pytest.mark.parametrize(
    ("ago", "text"),
    [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "119 min"), (7200, "2 h"), (172_800, "2 d"), (-5, "0 s")],
)
def test_since(ago: int, text: str) -> None:
    assert since_text((NOW - timedelta(seconds=ago)).isoformat(), NOW) == text


def test_nothing_that_a_terminal_obeys_gets_through() -> None:
    hostile = make_link(
        kind="attached", url=None, description="\x1b[2J[bold red]x\r\n\u202e", peer={"pid": 7, "uid": 8, "gid": 9}
    )
    for table in (links_table([hostile], now=NOW), link_details(hostile, now=NOW)):
        text = show(table, 200)
        assert "[bold red]x" in text
        assert not set(text) & {"\x1b", "\r", "\u202e"}
    assert plain("ä\tb") == "ä\ufffdb"


def test_a_line_a_link() -> None:
    text = show(
        links_table(
            [
                make_link(rx=direction(12_345_678), tx=direction(999, full=3, closed=1_000)),
                make_link(name="vm2-path2", state="down", detail="ssh: connect refused", role="standby"),
            ],
            now=NOW,
        )
    )
    header, first, *rest = text.splitlines()
    assert header.split() == ["LINK", "MULTILINK", "STATE", "PEER", "FOR", "RX", "TX", "LOST"]
    assert first.split() == ["path1", "vm1", "up", "vde:///tmp/vm2", "60", "s", "12.3", "MB", "999", "B", "1,003"]
    assert "down" in rest[0]
    assert "standby" in rest[1]
    assert "ssh: connect refused" in rest[1]


def test_a_claim_that_the_kernel_bears_out_needs_no_proof_beside_it() -> None:
    peer = {"pid": 12, "uid": 0, "gid": 0}
    honest = make_link(kind="attached", url=None, description="vdeplug: user=root pid=12", peer=peer)
    liar = make_link(kind="attached", url=None, description="vdeplug: user=root pid=1", peer=peer)
    silent = make_link(kind="attached", url=None, peer=peer)
    assert "uid 0" not in show(links_table([honest], now=NOW))
    assert "(pid 12, uid 0)" in show(links_table([liar], now=NOW), 120)
    assert "attached (pid 12, uid 0)" in show(links_table([silent], now=NOW), 120)


def test_long_names_and_paths_still_fit() -> None:
    url = "cmd://ssh -F /etc/vde-multilink/ssh.conf ip2.vm2.domain.org vde_plug /tmp/vm2"
    text = show(links_table([make_link(name="x" * 30, url=url)], now=NOW))
    assert "x" * 30 in text
    assert "".join(line[47:58].strip() for line in text.splitlines())


def test_details_say_everything() -> None:
    text = show(link_details(make_link(tx=direction(1_234_567, full=7), detail="redialled"), now=NOW))
    for words in ("l0123456789ab", "dialled", "redialled", "12,345 frames, 1.2 MB; lost: 7 full", "up for 60 s"):
        assert words in text
    assert "process" not in text


def test_multilinks() -> None:
    multilink: Multilink = {
        "name": "vm1",
        "url": "multi:///tmp/vm1",
        "path": "/tmp/vm1",
        "host": {
            "url": None,
            "state": "attached",
            "detail": "",
            "peer": {"pid": 4, "uid": 0, "gid": 0},
            "rx": direction(5_000, no_link=2),
            "tx": direction(10**9),
        },
        "duplicates": "drop",
        "reflections": "pass",
        "window_s": 0.5,
        "failover": False,
        "handoff": None,
        "links": 3,
        "refused": {},
    }
    assert show(multilinks_table([multilink])).splitlines()[1].split() == (
        ["vm1", "/tmp/vm1", "attached", "pid", "4", "3", "5.0", "kB", "1.0", "GB", "2"]
    )
