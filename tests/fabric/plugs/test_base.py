from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from app.fabric.errors import ConnectError, VnlError
from app.fabric.fabric import SCHEMES
from app.fabric.plugs.base import CONNECT_TIMEOUT_S, open_plug, resolve_vnl
from app.fabric.vnl import CmdVnl, MultiVnl, TapVnl, VdeVnl, Vnl
from tests.fakes import FakeDialler, dialled_by, memory_pair

assert SCHEMES  # Imported, and so registered.


async def test_the_opener_of_the_scheme_opens_the_plug() -> None:
    plug, _peer = memory_pair()
    with dialled_by(FakeDialler(plug), "tap"):
        assert await open_plug(TapVnl("t0")) is plug


async def test_a_multilink_cannot_be_dialled() -> None:
    with pytest.raises(VnlError, match="cannot be dialled"):
        await open_plug(MultiVnl("/tmp/vm1"))


async def test_who_does_not_answer_in_time_is_a_connect_error(autojump_clock: MockClock) -> None:
    dialler = FakeDialler()
    with dialled_by(dialler), pytest.raises(ConnectError, match=f"not answered within {CONNECT_TIMEOUT_S:g} s"):
        await open_plug(VdeVnl("/nowhere"))
    assert trio.current_time() == CONNECT_TIMEOUT_S
    assert dialler.cancelled == 1


def test_a_locator_with_a_scheme_is_what_it_says(short_dir: Path) -> None:
    (short_dir / "net").write_text("tap://t0\n")
    assert resolve_vnl(f"vde://{short_dir}/net") == VdeVnl(f"{short_dir}/net")
    assert resolve_vnl("cmd://cat") == CmdVnl(("cat",))


def test_a_bare_path_that_is_a_directory_or_is_not_there_is_a_vde_locator(short_dir: Path) -> None:
    assert resolve_vnl(str(short_dir)) == VdeVnl(str(short_dir))
    assert resolve_vnl(f"{short_dir}/no[5]") == VdeVnl(f"{short_dir}/no", "5")


@pytest.mark.parametrize(
    ("text", "vnl"),
    [
        ("tap://t0", TapVnl("t0")),
        ("vde:///tmp/sw[3]\nanything else\n", VdeVnl("/tmp/sw", "3")),
        ("  cmd://cat -u \r\n", CmdVnl(("cat", "-u"))),
        ("multi:///tmp/vm1\n", MultiVnl("/tmp/vm1")),
    ],
)
def test_a_bare_path_that_is_a_file_means_its_first_line(short_dir: Path, text: str, vnl: Vnl) -> None:
    (short_dir / "net").write_text(text)
    assert resolve_vnl(f"{short_dir}/net") == vnl


@pytest.mark.parametrize("content", [b"", b"\n", b"hello\n", b"\xff\xfe://\n", b"\ntap://t0\n", bytes(10000)])
def test_a_file_without_a_locator_is_refused(short_dir: Path, content: bytes) -> None:
    (short_dir / "net").write_bytes(content)
    with pytest.raises(VnlError, match="first line"):
        resolve_vnl(f"{short_dir}/net")


def test_a_file_with_a_bad_locator_is_refused(short_dir: Path) -> None:
    (short_dir / "net").write_text("gopher://x\n")
    with pytest.raises(VnlError, match="unknown scheme"):
        resolve_vnl(f"{short_dir}/net")


def test_a_fifo_does_not_hold_up_the_service(short_dir: Path) -> None:
    os.mkfifo(short_dir / "net")
    assert resolve_vnl(f"{short_dir}/net") == VdeVnl(f"{short_dir}/net")
