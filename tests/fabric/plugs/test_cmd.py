from __future__ import annotations

import os
import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from app.fabric.counters import DropReason
from app.fabric.errors import ConnectError
from app.fabric.link import Link
from app.fabric.mmsg import BATCH_FRAMES, Batch
from app.fabric.plugs.base import Plug, open_plug
from app.fabric.plugs.cmd import CmdPlug
from app.fabric.pressure import Pressure
from app.fabric.processes import read_process
from app.fabric.states import LinkState
from app.fabric.vnl import CmdVnl
from tests.fakes import PATIENCE_S, frame_of, until


def shell(script: str) -> CmdVnl:
    return CmdVnl(("sh", "-c", script))


@asynccontextmanager
async def opened(vnl: CmdVnl) -> AsyncIterator[CmdPlug]:
    plug = await open_plug(vnl)
    assert isinstance(plug, CmdPlug)
    try:
        yield plug
    finally:
        await plug.aclose()


async def end_of(vnl: CmdVnl) -> str:
    """Why the plug ended by itself, with somebody listening to it as a link does."""
    async with opened(vnl) as plug, trio.open_nursery() as nursery:
        nursery.start_soon(listen, plug)
        with trio.fail_after(PATIENCE_S):
            reason = await plug.wait_ended()
        nursery.cancel_scope.cancel()
    return reason


async def listen(plug: Plug) -> None:
    batch = Batch()
    while True:
        await plug.wait_readable()
        try:
            plug.receive(batch)
        except BlockingIOError:
            continue


def alive(pid: int) -> bool:
    entry = read_process(pid)
    return entry is not None and not entry.is_zombie


def our_children() -> list[int]:
    """Every child of this process, zombies too."""
    entries = [read_process(int(name)) for name in os.listdir("/proc") if name.isdigit()]
    return [entry.pid for entry in entries if entry is not None and entry.parent == os.getpid()]


async def pid_in(file: Path) -> int:
    await until(lambda: file.exists() and file.read_text().endswith("\n"), f"{file} written")
    return int(file.read_text())


# Starting.


async def test_a_program_that_is_not_there_is_told() -> None:
    with pytest.raises(ConnectError, match="the program no-such-program is not on this service's PATH"):
        await open_plug(CmdVnl(("no-such-program", "x")))
    with pytest.raises(ConnectError, match="/no/such/program"):
        await open_plug(CmdVnl(("/no/such/program",)))


async def test_a_program_that_may_not_be_run_is_told(short_dir: Path) -> None:
    (short_dir / "script").write_text("#!/bin/sh\n")
    with pytest.raises(ConnectError, match="cannot be started: Permission denied"):
        await open_plug(CmdVnl((f"{short_dir}/script",)))


async def test_arguments_reach_the_program_without_a_shell() -> None:
    words = ("a b", "$HOME", "`id`", "*", ";", "")
    reason = await end_of(CmdVnl(("sh", "-c", 'printf "<%s>" "$@" >&2; exit 1', "sh", *words)))
    assert reason == "sh exited with status 1: " + "".join(f"<{word}>" for word in words)


async def test_the_program_is_named_in_the_description() -> None:
    async with opened(CmdVnl(("/bin/cat",))) as plug:
        assert plug.description == f"cat (pid {plug._process.pid})"


# Ending by itself.


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("exit 0", "sh exited with status 0"),
        ("exit 3", "sh exited with status 3"),
        ("echo boom >&2; exit 7", "sh exited with status 7: boom"),
        ("echo one >&2; echo two >&2; exit 1", "sh exited with status 1: one; two"),
        ("for n in 1 2 3 4 5; do echo line $n >&2; done; exit 1", "sh exited with status 1: line 3; line 4; line 5"),
        ("printf 'a\\033[31mb\\007\\n' >&2; exit 1", "sh exited with status 1: a\ufffd[31mb\ufffd"),
        ("printf 'old\\rnew' >&2; exit 1", "sh exited with status 1: old; new"),
        ("kill -9 $$", "sh was ended by SIGKILL"),
        ("echo dying >&2; kill -15 $$", "sh was ended by SIGTERM: dying"),
        ("exec >&-; echo closed >&2; exec sleep 60", "sh closed its end of the frames but has not exited: closed"),
    ],
)
async def test_how_it_ended_is_told_with_its_last_words(script: str, reason: str) -> None:
    assert await end_of(shell(script)) == reason


async def test_a_flood_on_stderr_is_neither_kept_nor_in_the_way() -> None:
    reason = await end_of(shell("head -c 3000000 /dev/zero | tr '\\0' x >&2; echo >&2; echo end >&2; exit 2"))
    assert reason.startswith("sh exited with status 2: x")
    assert reason.endswith("; end")
    assert len(reason) < 400


async def test_a_child_that_holds_stderr_does_not_hold_up_the_end(short_dir: Path) -> None:
    reason = await end_of(shell(f"sleep 60 & echo $! >{short_dir}/pid; echo gone >&2; exit 4"))
    assert reason == "sh exited with status 4: gone"
    assert not alive(await pid_in(short_dir / "pid"))


async def test_what_it_says_while_it_runs_is_its_remark() -> None:
    async with opened(shell("echo connecting >&2; exec cat")) as plug, trio.open_nursery() as nursery:
        nursery.start_soon(plug.wait_ended)
        await until(lambda: plug.remark == "connecting")
        nursery.cancel_scope.cancel()


# Being ended.


@pytest.mark.parametrize(
    "script",
    [
        "sleep 60 & echo $! >PID; exec cat",
        "trap '' TERM; sleep 60 & echo $! >PID; exec cat >/dev/null",
        "trap '' TERM HUP INT; (trap '' TERM; while :; do sleep 0.05; done) & echo $! >PID; while :; do sleep 1; done",
        "sleep 60 & echo $! >PID; exit 1",
        "(trap '' TERM; while :; do sleep 0.05; done) & echo $! >PID; exit 1",
        "setsid sleep 60 & echo $! >PID; exec cat",
    ],
)
async def test_its_children_end_with_it(short_dir: Path, script: str) -> None:
    file = short_dir / "pid"
    async with opened(shell(script.replace("PID", shlex.quote(str(file))))) as plug:
        child = await pid_in(file)
        if "exit 1" in script:
            await until(lambda: plug._process.poll() is not None)
        assert alive(child)
    assert not alive(child)
    assert our_children() == [], "not a zombie either"


async def test_a_program_that_ends_with_its_stdin_needs_no_signal(short_dir: Path) -> None:
    file = short_dir / "said"
    async with opened(shell(f"trap 'echo TERM >{file}; exit' TERM; cat >/dev/null; exit 0")) as plug:
        await trio.sleep(0.05)
    assert plug._process.returncode is not None
    assert our_children() == []


async def test_closing_works_under_cancellation_and_twice() -> None:
    before = len(os.listdir("/proc/self/fd"))
    plug = await open_plug(shell("sleep 60 & wait"))
    with trio.CancelScope() as scope:
        scope.cancel()
        await plug.aclose()
    assert our_children() == []
    await plug.aclose()
    assert len(os.listdir("/proc/self/fd")) <= before


async def test_starting_under_cancellation_leaves_no_child() -> None:
    for delay_s in (0.0, 0.001, 0.003, 0.01):
        with trio.move_on_after(delay_s):
            plug = await open_plug(CmdVnl(("cat",)))
            await plug.aclose()
        assert our_children() == []


# Frames.


class Rig:
    """A link over a plug, what it brought, and a batch to send from."""

    def __init__(self) -> None:
        self.batch = Batch()
        self.received: list[bytes] = []
        self.link = Link(
            name="cmd",
            multilink="m",
            batch=self.batch,
            to_links=Pressure(),
            to_host=Pressure(),
            from_link=self._take,
            changed=lambda _link: None,
        )

    def _take(self, link: Link, batch: Batch) -> None:
        link.rx.add(batch.frames, batch.octets)
        self.received += [bytes(batch.frame(at)) for start, end in batch.runs for at in range(start, end)]

    def transmit(self, frames: list[bytes]) -> None:
        for start in range(0, len(frames), BATCH_FRAMES):
            self.batch.load_frames(frames[start : start + BATCH_FRAMES])
            self.link.transmit(self.batch)


@asynccontextmanager
async def carried(vnl: CmdVnl) -> AsyncIterator[Rig]:
    rig = Rig()
    plug = await open_plug(vnl)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.link.run, plug)
        await rig.link.settled.wait()
        yield rig
        rig.link.stop("the test is over")
        with trio.fail_after(PATIENCE_S):
            await rig.link.ended.wait()


async def test_big_frames_go_through_cat_and_back_bit_by_bit() -> None:
    frames = [frame_of(number, 9234 - 7 * number) for number in range(100)]
    async with carried(CmdVnl(("cat",))) as rig:
        rig.transmit(frames)
        await until(lambda: len(rig.received) >= 100)
    assert rig.received == frames
    assert (rig.link.tx.frames, rig.link.tx.bytes) == (100, sum(map(len, frames)))
    assert (rig.link.rx.frames, rig.link.rx.bytes) == (100, sum(map(len, frames)))
    assert rig.link.tx.dropped == {}


async def test_a_slow_reader_is_accounted_for_exactly() -> None:
    frames = [frame_of(number, 9000) for number in range(600)]
    async with carried(shell("sleep 0.2; exec cat")) as rig:
        rig.transmit(frames)
        tx = rig.link.tx
        assert 0 < tx.frames < 600
        assert tx.dropped[DropReason.FULL] > 0
        await until(lambda: tx.frames + tx.dropped_frames == 600 and len(rig.received) == tx.frames)
    assert rig.received == frames[: len(rig.received)]
    assert set(tx.dropped) <= {DropReason.FULL, DropReason.CONGESTED}
    assert rig.link.rx.frames == tx.frames


async def test_what_a_dying_program_had_not_read_is_accounted_for(short_dir: Path) -> None:
    frames = [frame_of(number, 9000) for number in range(300)]
    async with carried(shell("sleep 0.1; exit 5")) as rig:
        rig.transmit(frames)
        with trio.fail_after(PATIENCE_S):
            await rig.link.ended.wait()
        assert rig.link.detail == "sh exited with status 5"
        assert rig.link.state is LinkState.RETIRED
    tx = rig.link.tx
    assert tx.frames + tx.dropped_frames == 300
    assert tx.dropped[DropReason.CLOSED] > 0


async def test_what_a_program_says_before_it_ends_is_heard(short_dir: Path) -> None:
    frames = [frame_of(number, 1000) for number in range(40)]
    stream = b"".join(len(frame).to_bytes(2, "big") + frame for frame in frames)
    (short_dir / "frames").write_bytes(stream)
    async with carried(shell(f"cat {short_dir}/frames; exit 1")) as rig:
        with trio.fail_after(PATIENCE_S):
            await rig.link.ended.wait()
    assert rig.received == frames
