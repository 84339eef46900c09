"""Taps of a network namespace that lasts as long as a thread: nothing of it is left, and no interface of the
machine is touched.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Awaitable, Callable
from typing import Final

import pytest
import trio

from app.fabric.errors import ConnectError, PlugClosedError
from app.fabric.mmsg import Batch
from app.fabric.plugs.base import Plug, open_plug
from app.fabric.plugs.tap import TapPlug
from app.fabric.vnl import TapVnl
from tests.fakes import PATIENCE_S, frame_of

_CLONE_NEWNET: Final = 0x40000000
_SIOCGIFFLAGS: Final = 0x8913
_SIOCSIFFLAGS: Final = 0x8914
_SIOCSIFMTU: Final = 0x8922
_SIOCGIFTXQLEN: Final = 0x8942
_IFF_UP: Final = 1
_ETHERTYPE: Final = 0x88B5

_libc = ctypes.CDLL(None, use_errno=True)


@pytest.fixture(autouse=True)
def taps_can_be_made() -> None:
    if os.geteuid() == 0 and os.path.exists("/dev/net/tun"):
        return
    reason = "needs root and /dev/net/tun, to make a tap in a namespace of its own"
    if os.environ.get("VDE_MULTILINK_REQUIRE_CLIENTS"):
        pytest.fail(f"{reason}, and VDE_MULTILINK_REQUIRE_CLIENTS forbids to skip")
    pytest.skip(reason)


def unshare() -> None:
    """A network namespace for this thread alone."""
    if _libc.unshare(_CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare")


def in_namespace(scenario: Callable[[], Awaitable[None]]) -> None:
    """Run `scenario` under Trio in a thread, and so a network namespace, of its own."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            unshare()
            trio.run(limited)
        except BaseException as error:  # noqa: BLE001 -- handed to the thread that asked
            failures.append(error)

    async def limited() -> None:
        with trio.fail_after(3 * PATIENCE_S):
            await scenario()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


def _ioctl(request: int, interface: str, value: bytes) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        return fcntl.ioctl(sock, request, struct.pack("16s24s", interface.encode(), value))


def set_up(interface: str, *, up: bool = True, mtu: int | None = None) -> None:
    if mtu is not None:
        _ioctl(_SIOCSIFMTU, interface, struct.pack("i", mtu))
    flags = struct.unpack_from("h", _ioctl(_SIOCGIFFLAGS, interface, b""), 16)[0]
    _ioctl(_SIOCSIFFLAGS, interface, struct.pack("h", flags | _IFF_UP if up else flags & ~_IFF_UP))


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)  # A child of this thread: in its namespace.


def queue_of(interface: str) -> int:
    return int(struct.unpack_from("i", _ioctl(_SIOCGIFTXQLEN, interface, b""), 16)[0])


def wire(interface: str) -> socket.socket:
    """A socket on the kernel's side of the tap, for the frames of our own ethertype alone."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETHERTYPE))
    sock.bind((interface, _ETHERTYPE))
    sock.setblocking(False)
    return sock


def ours(batch: Batch) -> list[bytes]:
    """The frames of our own ethertype: the kernel says things of its own on a fresh interface."""
    frames = [bytes(batch.frame(at)) for start, end in batch.runs for at in range(start, end)]
    return [frame for frame in frames if frame[12:14] == _ETHERTYPE.to_bytes(2, "big")]


async def received(plug: Plug, count: int) -> list[bytes]:
    batch = Batch()
    frames: list[bytes] = []
    while len(frames) < count:
        await plug.wait_readable()
        try:
            plug.receive(batch)
        except BlockingIOError:
            continue
        frames += ours(batch)
    return frames


def test_frames_go_both_ways_bit_by_bit() -> None:
    async def scenario() -> None:
        plug = await open_plug(TapVnl("vmltap0"))
        set_up("vmltap0", mtu=9216)
        frames = [frame_of(number, size) for number, size in enumerate([60, 14, 1514, 9000, 9230, 60])]
        with wire("vmltap0") as kernel:
            for frame in frames:
                kernel.send(frame)
            assert await received(plug, len(frames)) == frames
            batch = Batch()
            batch.load_frames(frames)
            assert plug.send(batch, 0, len(frames)) == len(frames)
            arrived: list[bytes] = []
            while len(arrived) < len(frames):
                await trio.lowlevel.wait_readable(kernel)
                data, address = kernel.recvfrom(1 << 16)
                if address[2] != socket.PACKET_OUTGOING:
                    arrived.append(data)
            assert arrived == frames
            assert plug.refused == []
        await plug.aclose()

    in_namespace(scenario)


def test_a_down_interface_refuses_frames_says_so_and_comes_back() -> None:
    async def scenario() -> None:
        plug = await open_plug(TapVnl("vmltap0"))
        batch = Batch()
        batch.load_frames([frame_of(1), frame_of(2, 100)])
        for _ in range(2):
            assert plug.send(batch, 0, 2) == 2, "what cannot go is refused, not queued"
            assert plug.refused == [60, 100]
            assert plug.remark == "the interface vmltap0 is down: ip link set vmltap0 up"
            plug.refused.clear()
            set_up("vmltap0")
            assert plug.send(batch, 0, 2) == 2
            assert plug.refused == []
            assert plug.remark == ""
            with wire("vmltap0") as kernel:
                kernel.send(frame_of(3))
                assert await received(plug, 1) == [frame_of(3)]
            set_up("vmltap0", up=False)
        await plug.aclose()

    in_namespace(scenario)


def test_where_reading_a_down_interface_is_an_error_it_is_not_tried_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reads: list[int] = []

    def fail(_batch: Batch, fd: int) -> None:
        reads.append(fd)
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Batch, "receive_reads", fail)
    always_readable, other_end = os.pipe()
    os.close(other_end)
    plug = TapPlug(always_readable, "vmltap0")

    async def scenario() -> None:
        with trio.move_on_after(0.35):
            await received(plug, 1)
        await plug.aclose()

    trio.run(scenario)
    assert 1 <= len(reads) <= 5
    assert "is down" in plug.remark


def test_an_interface_that_is_deleted_ends_the_plug() -> None:
    async def scenario() -> None:
        plug = await open_plug(TapVnl("vmltap0"))
        set_up("vmltap0")
        ip("link", "del", "vmltap0")
        batch = Batch()
        batch.load_frames([frame_of(1)])
        with pytest.raises(PlugClosedError, match="the tap interface vmltap0 failed"):
            await received(plug, 1)
        with pytest.raises(PlugClosedError, match="the tap interface vmltap0 failed"):
            plug.send(batch, 0, 1)
        await plug.aclose()

    in_namespace(scenario)


def test_one_plug_has_the_interface_and_closing_gives_it_back() -> None:
    async def scenario() -> None:
        before = len(os.listdir("/proc/self/fd"))
        plug = await open_plug(TapVnl("vmltap0"))
        with pytest.raises(ConnectError, match="held by another program"):
            await open_plug(TapVnl("vmltap0"))
        await plug.aclose()
        await plug.aclose()
        assert len(os.listdir("/proc/self/fd")) == before
        assert "vmltap0" not in [name for _index, name in socket.if_nameindex()]
        again = await open_plug(TapVnl("vmltap0"))
        await again.aclose()

    in_namespace(scenario)


@pytest.mark.parametrize(("before", "meanwhile"), [(500, 4096), (1000, 4096), (4096, 4096), (10000, 10000)])
def test_frames_for_us_have_room_to_wait_in_and_the_interface_is_given_back_as_it_was(
    before: int, meanwhile: int
) -> None:
    async def scenario() -> None:
        ip("tuntap", "add", "vmltap6", "mode", "tap")
        ip("link", "set", "vmltap6", "txqueuelen", str(before))
        plug = await open_plug(TapVnl("vmltap6"))
        assert queue_of("vmltap6") == meanwhile
        set_up("vmltap6")
        frames = [frame_of(number) for number in range(min(before + 500, 4096))]
        with wire("vmltap6") as kernel:
            for frame in frames:
                kernel.send(frame)
            assert await received(plug, len(frames)) == frames
        await plug.aclose()
        assert queue_of("vmltap6") == before

    in_namespace(scenario)


def test_what_somebody_has_changed_meanwhile_is_left_as_it_is() -> None:
    async def scenario() -> None:
        ip("tuntap", "add", "vmltap7", "mode", "tap")
        plug = await open_plug(TapVnl("vmltap7"))
        ip("link", "set", "vmltap7", "txqueuelen", "77")
        await plug.aclose()
        assert queue_of("vmltap7") == 77

    in_namespace(scenario)


def test_who_may_use_a_tap_but_not_change_it_uses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.fabric.plugs.tap._SIOCSIFTXQLEN", 0x89FF)  # What no interface knows: refused.

    async def scenario() -> None:
        ip("tuntap", "add", "vmltap8", "mode", "tap")
        plug = await open_plug(TapVnl("vmltap8"))
        assert queue_of("vmltap8") == 1000
        await plug.aclose()

    in_namespace(scenario)


def test_a_name_that_is_another_kind_of_interface_is_refused_with_the_reason() -> None:
    async def scenario() -> None:
        with pytest.raises(ConnectError, match="the tap interface lo cannot be attached to"):
            await open_plug(TapVnl("lo"))

    in_namespace(scenario)


def test_who_may_not_is_told_what_would_help(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_fd: int, _request: int, _argument: bytes) -> bytes:
        raise PermissionError(1, "Operation not permitted")

    async def scenario() -> None:
        monkeypatch.setattr("app.fabric.plugs.tap.fcntl.ioctl", refuse)
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(ConnectError, match="ip tuntap add vmltap0 mode tap user"):
            await open_plug(TapVnl("vmltap0"))
        assert len(os.listdir("/proc/self/fd")) == before

    in_namespace(scenario)
