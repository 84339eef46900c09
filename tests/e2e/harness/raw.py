"""A VDE client in a few lines, written from the protocol's description and not from the service's own code."""

from __future__ import annotations

import itertools
import os
import socket
import struct
from pathlib import Path
from types import TracebackType
from typing import Final, Self

MAGIC: Final = 0xFEEDFACE
_MAC_PREFIX: Final = b"\x02\x00\x00\x00"
_ETHERTYPE: Final = b"\x88\xb5"
_numbers: Final = itertools.count()


def request_bytes(
    data_path: bytes, *, magic: int = MAGIC, version: int = 3, kind: int = 0, family: int = 1, description: bytes = b""
) -> bytes:
    """A request to join; every field can be made wrong."""
    return struct.pack("=IIIH108s", magic, version, kind, family, data_path) + description


def connect_control(path: Path) -> socket.socket:
    """A connection to a control socket, nothing said on it."""
    control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    control.settimeout(30)
    try:
        control.connect(str(path))
    except BaseException:
        control.close()
        raise
    return control


def bind_data(directory: Path) -> tuple[socket.socket, Path]:
    """A data socket bound where clients bind theirs."""
    data = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    name = directory / f".{os.getpid():05d}-{next(_numbers):05d}"
    data.bind(str(name))
    return data, name


class RawClient:
    """A client that has joined `directory`: as a link on `ctl`, as the host on `host`.

    Args:
        directory: the control directory.
        door: the name of the control socket.
        pieces: cut points of the request, sent one by one.
    """

    def __init__(
        self, directory: Path, door: str = "ctl", *, description: str = "raw", pieces: tuple[int, ...] = ()
    ) -> None:
        self.data, name = bind_data(directory)
        self.control = socket.socket()
        try:
            self.control.close()
            self.control = connect_control(directory / door)
            request = request_bytes(os.fsencode(name), description=description.encode())
            cuts = [0, *pieces, len(request)]
            for start, end in itertools.pairwise(cuts):
                self.control.sendall(request[start:end])
            reply = self.control.recv(256)
            assert len(reply) == 110, f"a reply of {len(reply)} bytes from {directory}/{door}"
            family, path = struct.unpack("=H108s", reply)
            assert family == socket.AF_UNIX
            self.peer_path = Path(os.fsdecode(path.rstrip(b"\0")))
            self.data.connect(str(self.peer_path))
        except BaseException:
            self.close()
            raise
        finally:
            name.unlink(missing_ok=True)
        self.data.settimeout(30)

    def send(self, frame: bytes) -> None:
        """Send one frame, waiting while the socket is full."""
        self.data.send(frame)

    def receive(self, limit_s: float = 30) -> bytes:
        """The next frame; TimeoutError if none comes."""
        self.data.settimeout(limit_s)
        return self.data.recv(10000)

    def pending(self) -> list[bytes]:
        """Every frame that has arrived by now."""
        frames = []
        self.data.settimeout(0)
        try:
            while True:
                frames.append(self.data.recv(10000))
        except BlockingIOError:
            return frames
        finally:
            self.data.settimeout(30)

    def close(self) -> None:
        """Leave; a second call does nothing."""
        self.control.close()
        self.data.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def frame(number: int, sender: int = 1, *, size: int = 60) -> bytes:
    """A broadcast frame that tells its sender and its number."""
    head = b"\xff" * 6 + _MAC_PREFIX + sender.to_bytes(2, "big") + _ETHERTYPE + number.to_bytes(8, "big")
    return head.ljust(size, b"\0")


def is_numbered(frame_bytes: bytes) -> bool:
    """Whether `frame` made it: a link that talks nonsense brings frames too, now and then."""
    return frame_bytes[6:10] == _MAC_PREFIX and frame_bytes[12:14] == _ETHERTYPE


def number_of(frame_bytes: bytes) -> int:
    """The number in a frame that `frame` made."""
    return int.from_bytes(frame_bytes[14:22], "big")
