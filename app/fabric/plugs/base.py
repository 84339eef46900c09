"""The interface of a plug, and the registry that opens one for a locator.

    resolve_vnl("/tmp/vm2")  text from a user → the locator that is meant
    open_plug(vnl)           locator → an open Plug, or ConnectError

Sending and receiving never block and never await: the waiting is done between them, so that a batch of frames
is never in hand across an await.
"""

from __future__ import annotations

import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from app.fabric.errors import ConnectError, VnlError
from app.fabric.mmsg import Batch
from app.fabric.peer_socket import PeerCredentials
from app.fabric.vnl import MAX_VNL_LENGTH, VdeVnl, Vnl, parse_vnl, scheme_of

CONNECT_TIMEOUT_S: Final = 5.0
"""A peer on the same machine that has not answered by then is not going to."""


class Plug(ABC):
    """One open channel of frames, owned by whoever opened it until `aclose`.

    Attributes:
        description: what the peer says of itself, made safe to show; the empty string if it says nothing.
        peer: who is at the other end, where the kernel tells.
        remark: the latest words of the other end that help a person (a child's stderr).
        may_have_more: after `receive`: it has taken less than there may be, so that another try is worth it at once.
        is_hasty: what is not read in time is lost (a tap), instead of waiting where its sender notices (a socket).
        refused: sizes of the frames that the kernel refused one by one since the owner last cleared the list.
    """

    __slots__ = ("description", "may_have_more", "peer", "refused", "remark")

    is_hasty = False

    def __init__(self, *, description: str = "", peer: PeerCredentials | None = None) -> None:
        self.description = description
        self.peer = peer
        self.remark = ""
        self.may_have_more = False
        self.refused: list[int] = []

    def begin(self) -> None:  # noqa: B027 -- most plugs have nobody waiting
        """Called once by the owner, when it takes and sends frames: what the peer waits for may be said now.

        Raises:
            PlugClosedError: the peer is gone already.
        """

    @abstractmethod
    def receive(self, batch: Batch) -> None:
        """Fill `batch` with what has arrived.

        Raises:
            BlockingIOError: nothing has.
            PlugClosedError: the peer is gone; says how, in words.
        """

    @abstractmethod
    def send(self, batch: Batch, start: int, end: int) -> int:
        """Send the frames `start` to `end` of `batch`, in order; how many are dealt with. Fewer than asked: it is full.

        What is left over is offered again before anything else. A frame that the kernel refuses for itself (EMSGSIZE)
        is dealt with, and noted in `refused`.

        Raises:
            PlugClosedError: the peer is gone; says how, in words.
        """

    @abstractmethod
    async def wait_readable(self) -> None:
        """Return when `receive` is worth a try."""

    @abstractmethod
    async def wait_writable(self) -> None:
        """Return when `send` is worth a try."""

    async def wait_ended(self) -> str:
        """Return, with the reason in words, when the peer has left by another way than the frames' own."""
        await trio.sleep_forever()
        raise AssertionError("sleep_forever has returned")

    @abstractmethod
    async def aclose(self) -> None:
        """Close everything the plug holds, under cancellation too; a second call does nothing."""


PlugOpener = Callable[[Vnl], Awaitable[Plug]]
_openers: dict[str, PlugOpener] = {}


def register_plug(scheme: str, opener: PlugOpener) -> None:
    """Make `open_plug` use `opener` for locators of `scheme`."""
    _openers[scheme] = opener


async def open_plug(vnl: Vnl) -> Plug:
    """Open what `vnl` names. Cancelled, it leaves nothing open.

    Raises:
        ConnectError: it cannot be reached, or refuses; says why and what to do.
        VnlError: it is a kind that cannot be dialled.
    """
    opener = _openers.get(scheme_of(vnl))
    if opener is None:
        raise VnlError(f"{vnl} cannot be dialled: it makes a multilink. To join one, give its path")
    try:
        with trio.fail_after(CONNECT_TIMEOUT_S):
            return await opener(vnl)
    except trio.TooSlowError as error:
        raise ConnectError(f"{vnl} has not answered within {CONNECT_TIMEOUT_S:g} s") from error


def resolve_vnl(text: str) -> Vnl:
    """The locator that a user means: where a bare path names a regular file, its first line.

    Raises:
        VnlError: the text, or the file's first line, is no locator; or the file cannot be read.
    """
    vnl = parse_vnl(text)
    if "://" in text or not isinstance(vnl, VdeVnl):
        return vnl
    try:
        # O_NONBLOCK: a FIFO by that name must not hold up the service.
        fd = os.open(text, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return vnl  # A directory that cannot be read, or that is not there: dialling it will tell.
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return vnl
        head = os.read(fd, MAX_VNL_LENGTH + 1)
    except OSError as error:
        raise VnlError(f"the file {text} cannot be read: {error.strerror}") from error
    finally:
        os.close(fd)
    line = head.partition(b"\n")[0].strip()
    try:
        nested = line.decode()
    except UnicodeDecodeError as error:
        raise VnlError(f"the first line of the file {text} is not a locator: it is not UTF-8") from error
    if "://" not in nested:
        raise VnlError(f"the first line of the file {text} is not a locator such as vde:///tmp/vm1")
    return parse_vnl(nested)
