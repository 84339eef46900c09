"""The floor: what a forwarder costs that is Trio, and nothing else.

    python -m bench.floor DIR HOST_DIR

Joins HOST_DIR as a client, takes links at DIR/ctl, and sends each frame of the host's to every link: one wait, one
read, one send a link. No queue, no counters, no second direction, no end. What this takes longer than the C
programs, every service under Trio does.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Final

import trio

from app.fabric.handshake import (
    MAX_REQUEST_SIZE,
    Request,
    decode_reply_untrusted,
    decode_request_untrusted,
    encode_reply,
    encode_request,
)

FRAME_MAX: Final = 9234
REPLY_SIZE: Final = 110


async def forward(host: socket.socket, links: list[socket.socket]) -> None:
    """Send what the host sends to all links."""
    fd, buffer = host.fileno(), memoryview(bytearray(FRAME_MAX))
    into = [buffer]
    while True:
        await trio.lowlevel.wait_readable(fd)
        try:
            frame = buffer[: os.readv(fd, into)]
        except BlockingIOError:
            continue
        for link in links:
            link.send(frame)


def join(directory: Path) -> tuple[socket.socket, socket.socket]:
    """A client's control connection and its data socket."""
    control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    control.connect(os.fspath(directory / "ctl"))
    data = _bound(directory / f".{os.getpid()}")
    control.sendall(encode_request(Request(os.fsencode(data.getsockname()))))
    data.connect(decode_reply_untrusted(control.recv(REPLY_SIZE, socket.MSG_WAITALL)))
    return control, data


async def take_links(directory: Path, links: list[socket.socket], connections: list[socket.socket]) -> None:
    """Take clients as links; they stay for good."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(os.fspath(directory / "ctl"))
    listener.listen()
    listener.setblocking(False)
    while True:
        await trio.lowlevel.wait_readable(listener)
        connection, _ = listener.accept()
        request = decode_request_untrusted(connection.recv(MAX_REQUEST_SIZE))
        if request is None:
            raise ValueError("a request in pieces")
        data = _bound(directory / f"{len(links)}")
        data.connect(request.data_address)
        links.append(data)
        connections.append(connection)
        connection.sendall(encode_reply(os.fsencode(data.getsockname())))


async def main(directory: Path, host_directory: Path) -> None:
    """Both, until killed."""
    links: list[socket.socket] = []
    connections: list[socket.socket] = []
    directory.mkdir()  # noqa: ASYNC240 -- nothing else runs yet
    control, host = join(host_directory)
    with control, host:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(take_links, directory, links, connections)
            nursery.start_soon(forward, host, links)


def _bound(path: Path) -> socket.socket:
    data = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    data.bind(os.fspath(path))
    data.setblocking(False)
    return data


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]), Path(sys.argv[2]))
