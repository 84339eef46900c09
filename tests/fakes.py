"""What stands in for the outside world in tests: plugs in memory, and VDE peers over real sockets.

memory_pair()        two ends of a channel of frames; each is a real Plug, bounded, to be stalled, killed, ...
FakeDialler          answers open_plug from a script, for links that are dialled
RawClient, RawServer the two sides of the VDE handshake, nothing of the service's code in them
frame_of, until      frames to tell apart, and waiting for what is about to be so
"""

from __future__ import annotations

import itertools
import os
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Protocol, Self

import trio

from app.fabric.errors import PlugClosedError
from app.fabric.mmsg import BATCH_FRAMES, Batch
from app.fabric.plugs import base
from app.fabric.plugs.base import Plug
from app.fabric.vnl import Vnl

PATIENCE_S: Final = 10.0
"""After so long a test has failed: far more than anything here takes, even on a machine that is busy."""
_POLL_S: Final = 0.005
_RECEIVE_SIZE: Final = 1 << 16

MAGIC: Final = 0xFEEDFACE
REQUEST: Final = struct.Struct("=IIIH108s")
REPLY: Final = struct.Struct("=H108s")
_numbers: Final = itertools.count()


def frame_of(number: int, size: int = 60) -> bytes:
    """A broadcast frame of `size` bytes that says in its payload which one it is."""
    head = b"\xff" * 6 + b"\x02\x00\x00\x00\x00\x01" + b"\x88\xb5" + number.to_bytes(8, "big")
    return (head + bytes((number + at) & 0xFF for at in range(max(0, size - len(head)))))[:size]


async def until(condition: Callable[[], object], what: str = "") -> None:
    """Return once `condition` holds.

    Raises:
        AssertionError: it does not, for PATIENCE_S.
    """
    with trio.move_on_after(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 -- counters and files have nobody to tell of them
            await trio.sleep(_POLL_S)
        return
    raise AssertionError(f"has not come to be so: {what or condition}")


# Plugs in memory -----------------------------------------------------------------------------------------------------


class MemoryPlug(Plug):
    """One end of a channel in memory. What one end sends, the other one receives; see `memory_pair`.

    Attributes:
        inbox: what has come from the other end, to be received; at most `capacity` frames.
        closes: how often `aclose` was called.
        trouble: raised by the next `receive`, whatever it is: a bug in a plug.
    """

    def __init__(self, capacity: int, description: str) -> None:
        super().__init__(description=description)
        self.inbox: deque[bytes] = deque()
        self.closes = 0
        self.trouble: Exception | None = None
        self._capacity = capacity
        self._other: MemoryPlug = self
        self._is_stalled = False
        self._refusals = 0
        self._ending: str | None = None
        self._news = trio.lowlevel.ParkingLot()

    # What a test does with it.

    def stall(self) -> None:
        """Let this end send nothing until `resume`, as if the peer had stopped reading."""
        self._is_stalled = True

    def resume(self) -> None:
        """Let this end send again."""
        self._is_stalled = False
        self._tell()

    def refuse(self, frames: int = 1) -> None:
        """Refuse the next frames that this end is to send, as a kernel does with EMSGSIZE."""
        self._refusals += frames

    def kill(self, reason: str) -> None:
        """End the channel as seen from this end; what has arrived can still be received."""
        self._ending = reason
        self._tell()

    def break_with(self, error: Exception) -> None:
        """Let the next `receive` of this end fail in a way no plug may."""
        self.trouble = error
        self._tell()

    def put(self, *frames: bytes) -> None:
        """Send frames from this end, whatever the other end's capacity."""
        self._other.inbox.extend(frames)
        self._tell()

    def take(self) -> list[bytes]:
        """Everything that has come to this end."""
        frames = list(self.inbox)
        self.inbox.clear()
        self._tell()
        return frames

    # The interface of a plug.

    def receive(self, batch: Batch) -> None:
        """See `Plug.receive`."""
        if self.trouble is not None:
            raise self.trouble
        if not self.inbox:
            if self._ending is not None:
                raise PlugClosedError(self._ending)
            raise BlockingIOError
        offsets: list[int] = []
        sizes: list[int] = []
        position = 0
        while self.inbox and len(sizes) < BATCH_FRAMES:
            frame = self.inbox.popleft()
            batch.chunk[position : position + len(frame)] = frame
            offsets.append(position)
            sizes.append(len(frame))
            position += len(frame)
        batch.load_chunk(offsets, sizes)
        self._tell()

    def send(self, batch: Batch, start: int, end: int) -> int:
        """See `Plug.send`."""
        for index in range(start, end):
            if not self._send_one(bytes(batch.frame(index))):
                return index - start
        return end - start

    async def wait_readable(self) -> None:
        """See `Plug.wait_readable`."""
        await self._wait_for(lambda: self.inbox or self.trouble or self._ending is not None)

    async def wait_writable(self) -> None:
        """See `Plug.wait_writable`."""
        await self._wait_for(lambda: self._has_room() or self._ending is not None)

    async def wait_ended(self) -> str:
        """See `Plug.wait_ended`."""
        await self._wait_for(lambda: self._ending is not None)
        return self._ending or ""

    async def aclose(self) -> None:
        """See `Plug.aclose`: the other end learns of it."""
        self.closes += 1
        if self._ending is None:
            self._ending = "closed here"
        if self._other._ending is None:
            self._other._ending = "the other end has closed"
        self._tell()

    def _send_one(self, frame: bytes) -> bool:
        if self._ending is not None:
            raise PlugClosedError(self._ending)
        if not self._has_room():
            return False
        if self._refusals:
            self._refusals -= 1
            self.refused.append(len(frame))
            return True
        self._other.inbox.append(frame)
        self._tell()
        return True

    def _has_room(self) -> bool:
        return not self._is_stalled and len(self._other.inbox) < self._other._capacity

    def _tell(self) -> None:
        self._news.unpark_all()
        self._other._news.unpark_all()

    async def _wait_for(self, condition: Callable[[], object]) -> None:
        await trio.lowlevel.checkpoint()
        while not condition():
            await self._news.park()


def memory_pair(capacity: int = 64, description: str = "memory") -> tuple[MemoryPlug, MemoryPlug]:
    """The two ends of a channel that holds up to `capacity` frames each way."""
    one, other = MemoryPlug(capacity, description), MemoryPlug(capacity, description)
    one._other, other._other = other, one
    return one, other


class FakeDialler:
    """Answers `open_plug` for one scheme from a script, and notes when it was asked.

    An answer is a plug to return, an exception to raise, or an event to wait for before the next answer is looked at.
    With no answer left it waits for ever.
    """

    def __init__(self, *answers: Plug | Exception | trio.Event) -> None:
        self.answers = deque(answers)
        self.asked_at: list[float] = []
        self.cancelled = 0

    async def __call__(self, vnl: Vnl) -> Plug:
        """See `app.fabric.plugs.base.PlugOpener`."""
        del vnl
        self.asked_at.append(trio.current_time())
        try:
            await trio.lowlevel.checkpoint()
            while self.answers:
                answer = self.answers.popleft()
                if isinstance(answer, trio.Event):
                    await answer.wait()
                elif isinstance(answer, Exception):
                    raise answer
                else:
                    return answer
            await trio.sleep_forever()
        except trio.Cancelled:
            self.cancelled += 1
            raise
        raise AssertionError("sleep_forever has returned")


@contextmanager
def dialled_by(dialler: Callable[[Vnl], Awaitable[Plug]], scheme: str = "vde") -> Iterator[None]:
    """Let `dialler` open the plugs of `scheme`, and the real opener again afterwards."""
    before = base._openers[scheme]
    base.register_plug(scheme, dialler)
    try:
        yield
    finally:
        base.register_plug(scheme, before)


# VDE peers over real sockets -----------------------------------------------------------------------------------------


class TurnedAwayError(Exception):
    """The service closed the control connection instead of answering."""


class _HasFileno(Protocol):
    def fileno(self) -> int: ...


async def _readable(sock: _HasFileno) -> None:
    with trio.fail_after(PATIENCE_S):
        await trio.lowlevel.wait_readable(sock)


def encode_request(
    data_address: bytes,
    description: bytes = b"",
    *,
    kind: int = 0,
    magic: int = MAGIC,
    version: int = 3,
    family: int = socket.AF_UNIX,
) -> bytes:
    """A request, right or wrong: 122 bytes and the description. `kind` is the port number << 8, or 1 for port 0."""
    return REQUEST.pack(magic, version, kind, family, data_address) + description


class RawPeer:
    """One end of a VDE connection after its handshake: a control connection and a connected datagram socket."""

    def __init__(self, control: socket.socket, data: socket.socket) -> None:
        self.control = control
        self.data = data

    async def send(self, *frames: bytes) -> None:
        """Send frames, waiting wherever the socket is full."""
        for frame in frames:
            while True:
                try:
                    self.data.send(frame)
                except BlockingIOError:
                    with trio.fail_after(PATIENCE_S):
                        await trio.lowlevel.wait_writable(self.data)
                else:
                    break

    async def receive(self, count: int) -> list[bytes]:
        """The next `count` frames.

        Raises:
            trio.TooSlowError: they do not come.
        """
        frames: list[bytes] = []
        while len(frames) < count:
            await _readable(self.data)
            frames += self.receive_now(count - len(frames))
        return frames

    def receive_now(self, limit: int = 1 << 30) -> list[bytes]:
        """What has arrived already, at most `limit` frames."""
        frames: list[bytes] = []
        while len(frames) < limit:
            try:
                frames.append(self.data.recv(_RECEIVE_SIZE, socket.MSG_DONTWAIT))
            except BlockingIOError:
                break
        return frames

    async def wait_left(self) -> None:
        """Return once the other side has closed the control connection.

        Raises:
            AssertionError: it said something instead.
        """
        await _readable(self.control)
        said = self.control.recv(1)
        assert said == b"", f"a control connection is silent after the handshake, but said {said!r}"

    def leave(self) -> None:
        """Close both sockets, as a process does that ends."""
        self.control.close()
        self.data.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()


class RawClient(RawPeer):
    """A VDE client that has joined a control directory. `with await RawClient.attach(path) as client:` leaves it."""

    @classmethod
    async def attach(
        cls,
        path: str,
        socket_name: str = "ctl",
        description: str = "raw client",
        *,
        kind: int = 0,
        data_directory: str | None = None,
    ) -> Self:
        """Join as vde_plug does, and remove the own name once connected.

        Args:
            path: the control directory.
            socket_name: `ctl` for a link, `host` for the host.
            description: what to say of oneself.
            kind: the request's type; the port number << 8, or 1 for port 0.
            data_directory: where to bind the data socket; the control directory by default.

        Raises:
            TurnedAwayError: the service closed the connection.
            OSError: nobody answers there.
        """
        name = f"{data_directory or path}/.{os.getpid():05d}-{next(_numbers):05d}"
        control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        data = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            control.connect(f"{path}/{socket_name}")
            data.bind(name)
            try:
                control.send(encode_request(name.encode(), description.encode(), kind=kind))
                data.connect(await read_reply(control))
            finally:
                os.unlink(name)
        except BaseException:
            control.close()
            data.close()
            raise
        return cls(control, data)


async def read_reply(control: socket.socket) -> str:
    """The address in a service's reply.

    Raises:
        TurnedAwayError: it closed the connection instead.
    """
    await _readable(control)
    try:
        reply = control.recv(REPLY.size + 1)
    except ConnectionResetError:
        reply = b""  # Closed with bytes of ours unread.
    if not reply:
        raise TurnedAwayError
    assert len(reply) == REPLY.size, f"the reply is one write of {REPLY.size} bytes, not of {len(reply)}"
    family, address = REPLY.unpack(reply)
    assert family == socket.AF_UNIX
    path: str = address.rstrip(b"\0").decode()
    return path


@dataclass(frozen=True)
class RawRequest:
    """What a client asked of a RawServer."""

    kind: int
    data_address: str
    description: str


class ServedPeer(RawPeer):
    """A client that has joined a RawServer."""

    def __init__(self, control: socket.socket, data: socket.socket, request: RawRequest) -> None:
        super().__init__(control, data)
        self.request = request


class RawServer:
    """A VDE server, as bare as can be: `ctl` (or another name) in a directory that exists.

    `with RawServer(path) as server: peer = await server.accept()`.
    """

    def __init__(self, path: str, socket_name: str = "ctl") -> None:
        self.path = path
        self._name = f"{path}/{socket_name}"
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._listening.bind(self._name)
        self._listening.listen()
        self._peers: list[ServedPeer] = []

    async def accept(self) -> ServedPeer:
        """The next client, its request answered."""
        control, request = await self.accept_request()
        data = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            name = f"{self.path}/fd{next(_numbers)}"
            data.bind(name)
            data.connect(request.data_address)
            control.send(REPLY.pack(socket.AF_UNIX, name.encode()))
        except BaseException:
            control.close()
            data.close()
            raise
        peer = ServedPeer(control, data, request)
        self._peers.append(peer)
        return peer

    async def accept_request(self) -> tuple[socket.socket, RawRequest]:
        """The next client's connection, for the caller to answer (or not) and to close."""
        await _readable(self._listening)
        control, _address = self._listening.accept()
        control.setblocking(False)
        await _readable(control)
        asked = control.recv(256)
        _magic, _version, kind, _family, address = REQUEST.unpack_from(asked)
        path = address.partition(b"\0")[0].decode()
        return control, RawRequest(kind, path, asked[REQUEST.size :].decode())

    def close(self) -> None:
        """End, like a server that is killed: the names in the directory stay behind."""
        self._listening.close()
        for peer in self._peers:
            peer.leave()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
