"""tap://INTERFACE: a tap interface of this network namespace, made if it does not exist. Source: the kernel's
tuntap.rst.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from typing import Final

import trio

from app.fabric.errors import ConnectError, PlugClosedError
from app.fabric.mmsg import Batch
from app.fabric.plugs.base import Plug, register_plug
from app.fabric.vnl import TapVnl, Vnl

_DEVICE: Final = "/dev/net/tun"
_TUNSETIFF: Final = 0x400454CA
_IFF_TAP: Final = 0x0002
_IFF_NO_PI: Final = 0x1000
_IFREQ: Final = struct.Struct("16sH22x")
_SIOCGIFTXQLEN: Final = 0x8942
_SIOCSIFTXQLEN: Final = 0x8943
_QUEUE_REQUEST: Final = struct.Struct("16si20x")
QUEUE_FRAMES: Final = 4096
"""What the kernel keeps for us to read, at the least. Its default, 1,000 frames, is 8 ms of a gigabit: less than a busy
machine may keep us off the processor, and what does not fit is lost at the tap, where nobody looks."""
_DOWN_PAUSE_S: Final = 0.1
"""Where a kernel has an interface that is down always ready to be read, and every read EIO: looked at this often."""


class TapPlug(Plug):
    """A tap interface; one frame a read and a write. While it is down, frames to it are refused, not queued.

    Args:
        fd: attached to the interface; owned from now on.
        interface: its name.
        old_queue: the length of its transmit queue, given back at the end; None: it was not changed.
    """

    is_hasty = True

    def __init__(self, fd: int, interface: str, old_queue: int | None = None) -> None:
        super().__init__(description=f"tap {interface}")
        self._fd = fd
        self._interface = interface
        self._old_queue = old_queue
        self._is_down = False

    def receive(self, batch: Batch) -> None:
        """See `Plug.receive`."""
        try:
            batch.receive_reads(self._fd)
        except BlockingIOError:
            raise
        except OSError as error:
            if error.errno != errno.EIO:
                raise self._gone(error) from error
            self._note_down()
            raise BlockingIOError(errno.EAGAIN, self.remark) from error
        self._note_up()

    def send(self, batch: Batch, start: int, end: int) -> int:
        """See `Plug.send`."""
        for index in range(start, end):
            if not self._write(batch.frame(index)):
                return index - start
        return end - start

    async def wait_readable(self) -> None:
        """See `Plug.wait_readable`."""
        if self._is_down:
            await trio.sleep(_DOWN_PAUSE_S)
        await trio.lowlevel.wait_readable(self._fd)

    async def wait_writable(self) -> None:
        """See `Plug.wait_writable`."""
        await trio.lowlevel.wait_writable(self._fd)

    async def aclose(self) -> None:
        """See `Plug.aclose`. An interface that was made here and is not persistent goes with it."""
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        if self._old_queue is not None and _queue_of(self._interface) == QUEUE_FRAMES:
            _set_queue(self._interface, self._old_queue)
        trio.lowlevel.notify_closing(fd)
        os.close(fd)

    def _write(self, frame: bytes | memoryview) -> bool:
        try:
            os.write(self._fd, frame)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno not in {errno.EIO, errno.EINVAL, errno.ENOBUFS, errno.ENOMEM}:
                raise self._gone(error) from error
            if error.errno == errno.EIO:
                self._note_down()
            self.refused.append(len(frame))
        else:
            self._note_up()
        return True

    def _note_down(self) -> None:
        if not self._is_down:
            self._is_down = True
            self.remark = f"the interface {self._interface} is down: ip link set {self._interface} up"

    def _note_up(self) -> None:
        if self._is_down:
            self._is_down = False
            self.remark = ""

    def _gone(self, error: OSError) -> PlugClosedError:
        return PlugClosedError(f"the tap interface {self._interface} failed: {error.strerror}")


async def open_tap_plug(vnl: Vnl) -> Plug:
    """Attach to the interface.

    Raises:
        ConnectError: no such device, no permission, or somebody else has it open.
    """
    if not isinstance(vnl, TapVnl):
        raise TypeError(f"a tap:// locator is due, not {vnl!r}")
    await trio.lowlevel.checkpoint()
    try:
        fd = os.open(_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ConnectError(f"{_DEVICE} cannot be opened: {error.strerror}") from error
    try:
        fcntl.ioctl(fd, _TUNSETIFF, _IFREQ.pack(vnl.interface.encode(), _IFF_TAP | _IFF_NO_PI))
    except OSError as error:
        os.close(fd)
        raise ConnectError(_advice(vnl.interface, error)) from error
    return TapPlug(fd, vnl.interface, _lengthen_queue(vnl.interface))


def _lengthen_queue(interface: str) -> int | None:
    """Make the queue of frames to be read QUEUE_FRAMES long, if it is shorter; how long it was, if that was done."""
    old = _queue_of(interface)
    if old is None or old >= QUEUE_FRAMES or not _set_queue(interface, QUEUE_FRAMES):
        return None
    return old


def _queue_of(interface: str) -> int | None:
    answer = _queue_request(_SIOCGIFTXQLEN, interface, 0)
    return None if answer is None else int(_QUEUE_REQUEST.unpack(answer)[1])


def _set_queue(interface: str, frames: int) -> bool:
    return _queue_request(_SIOCSIFTXQLEN, interface, frames) is not None


def _queue_request(request: int, interface: str, frames: int) -> bytes | None:
    """None if the kernel refuses: whoever may use a tap need not be one who may change it, and that is fine."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as any_socket:
        try:
            return fcntl.ioctl(any_socket, request, _QUEUE_REQUEST.pack(interface.encode(), frames))
        except OSError:
            return None


def _advice(interface: str, error: OSError) -> str:
    if error.errno == errno.EPERM:
        owner = f"ip tuntap add {interface} mode tap user $USER"
        return f"the tap interface {interface} needs root, or one made for this user: {owner}"
    if error.errno == errno.EBUSY:
        return f"the tap interface {interface} is held by another program: end that, or name another one"
    return f"the tap interface {interface} cannot be attached to: {error.strerror}"


register_plug("tap", open_tap_plug)
