"""Clients that mean ill, or are broken: each kind opens one connection to a control directory, and no good comes of it.

A kind takes the directory and its place in the row and returns what it holds open, to be closed later by the test.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias

from tests.e2e.harness.raw import RawClient, bind_data, connect_control, request_bytes

Held: TypeAlias = list[socket.socket]
Kind: TypeAlias = Callable[[Path, int], Held]


def bare_connect_and_close(directory: Path, _: int) -> Held:
    """Sends the C module spinning."""
    connect_control(directory / "ctl").close()
    return []


def connect_and_reset(directory: Path, _: int) -> Held:
    """Leaves with bytes of its own unread, which is a reset for the other side."""
    with connect_control(directory / "ctl") as control:
        control.sendall(request_bytes(b"/nonexistent"))
        control.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return []


def silence(directory: Path, _: int) -> Held:
    """Says nothing and stays."""
    return [connect_control(directory / "ctl")]


def garbage(directory: Path, number: int) -> Held:
    """Says what no client says."""
    control = connect_control(directory / "ctl")
    control.sendall(os.urandom(1 + number % 200))
    return [control]


def a_web_browser(directory: Path, _: int) -> Held:
    """Speaks another protocol."""
    control = connect_control(directory / "ctl")
    control.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 5)
    return [control]


def a_flood(directory: Path, _: int) -> Held:
    """Begins well and then does not end: no more than 256 bytes may be read."""
    control = connect_control(directory / "ctl")
    control.settimeout(0)
    with contextlib.suppress(OSError):
        control.send(request_bytes(b"/nonexistent") + bytes(100_000))
    return [control]


def half_a_request_and_close(directory: Path, _: int) -> Held:
    """Loses interest in the middle."""
    with connect_control(directory / "ctl") as control:
        control.sendall(request_bytes(b"/nonexistent")[:60])
    return []


def half_a_request_and_silence(directory: Path, _: int) -> Held:
    """Begins, and stays."""
    control = connect_control(directory / "ctl")
    control.sendall(request_bytes(b"/nonexistent")[:121])
    return [control]


def wrong_fields(directory: Path, number: int) -> Held:
    """One field of the request is wrong, another one each time."""
    wrong = (
        request_bytes(b"/nonexistent", magic=0xFEEDFACD),
        request_bytes(b"/nonexistent", version=2),
        request_bytes(b"/nonexistent", version=0xFFFFFFFF),
        request_bytes(b"/nonexistent", kind=0x77),
        request_bytes(b"/nonexistent", family=2),
        request_bytes(b""),
        request_bytes(b"x" * 108),
        request_bytes(b"\0" * 108),
        request_bytes(b"relative/path"),
        request_bytes(b"/nonexistent", kind=0xFFFFFF00),
    )
    control = connect_control(directory / "ctl")
    control.sendall(wrong[number % len(wrong)])
    return [control]


def foreign_data_socket(directory: Path, number: int) -> Held:
    """Names a path that cannot be its data socket: a file, a device, a directory, a socket elsewhere, ours."""
    foreign = ("/etc/passwd", "/dev/null", "/tmp", f"{directory}/ctl", f"{directory}/host", f"{directory}", "/dev/log")
    control = connect_control(directory / "ctl")
    control.sendall(request_bytes(os.fsencode(foreign[number % len(foreign)])))
    return [control]


def data_socket_elsewhere(directory: Path, number: int) -> Held:
    """Binds its data socket where a client's does not belong."""
    elsewhere = directory.parent / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    data, name = bind_data(elsewhere)
    control = connect_control(directory / "ctl")
    control.sendall(request_bytes(os.fsencode(name), description=str(number).encode()))
    return [data, control]


def dead_data_socket(directory: Path, _: int) -> Held:
    """Names a socket that nobody holds any more."""
    data, name = bind_data(directory)
    data.close()
    control = connect_control(directory / "ctl")
    control.sendall(request_bytes(os.fsencode(name)))
    control.recv(256)
    name.unlink()
    return [control]


def another_ones_socket(directory: Path, _: int) -> Held:
    """As root: names a socket of another user's; else of a kind that cannot be connected to."""
    data = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM if os.geteuid() else socket.SOCK_DGRAM)
    fresh, name = bind_data(directory)
    fresh.close()
    name.unlink()
    data.bind(str(name))
    if os.geteuid() == 0:
        os.chown(name, 54321, 54321)
    control = connect_control(directory / "ctl")
    control.sendall(request_bytes(os.fsencode(name)))
    control.recv(256)
    name.unlink()
    return [data, control]


def in_two_pieces_and_gone(directory: Path, number: int) -> Held:
    """No ill will at all: a request in two pieces is served; then it leaves without a word."""
    RawClient(directory, pieces=(1 + number % 121,), description="two pieces").close()
    return []


def joins_and_speaks(directory: Path, _: int) -> Held:
    """Joins, and then talks on the control connection: it has left."""
    client = RawClient(directory, description="talks")
    client.control.sendall(b"hello?")
    return [client.control, client.data]


def abstract_and_gone(directory: Path, number: int) -> Held:
    """Legacy user-mode Linux: an abstract address of 108 bytes; it leaves by closing its data socket first."""
    address = b"\0" + f"ml{os.getpid()}-{number}".encode().ljust(107, b"\0")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as data, connect_control(directory / "ctl") as control:
        data.bind(address)
        control.sendall(request_bytes(address) + b"\0\0")
        assert len(control.recv(256)) == 110
    return []


def at_the_hosts_door(directory: Path, number: int) -> Held:
    """Garbage, where the host's clients come."""
    control = connect_control(directory / "host")
    control.sendall(os.urandom(1 + number % 150))
    return [control]


KINDS: Final[tuple[Kind, ...]] = (
    bare_connect_and_close,
    connect_and_reset,
    silence,
    garbage,
    a_web_browser,
    a_flood,
    half_a_request_and_close,
    half_a_request_and_silence,
    wrong_fields,
    foreign_data_socket,
    data_socket_elsewhere,
    dead_data_socket,
    another_ones_socket,
    in_two_pieces_and_gone,
    joins_and_speaks,
    abstract_and_gone,
    at_the_hosts_door,
)
