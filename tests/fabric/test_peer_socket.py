from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.fabric.peer_socket import (
    FALLBACK_DIRECTORIES,
    ForeignSocketError,
    PeerCredentials,
    connect_data_socket,
    is_live_socket,
    peer_credentials,
)
from tests.fakes import frame_of

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
UID = os.geteuid()


@pytest.fixture
def ours() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        yield sock


@pytest.fixture
def theirs(short_dir: Path) -> Iterator[socket.socket]:
    """The peer's data socket, bound in `short_dir`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        sock.bind(f"{short_dir}/.00001-00001")
        yield sock


def connect(ours: socket.socket, path: str, *directories: str, uid: int = UID) -> None:
    connect_data_socket(ours, os.fsencode(path), uid=uid, directories=directories)


def test_credentials_are_those_of_the_process_at_the_other_end() -> None:
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with left, right:
        assert peer_credentials(left) == PeerCredentials(os.getpid(), os.geteuid(), os.getegid())


def test_the_peers_own_socket_in_the_right_place_is_connected_to(
    short_dir: Path, ours: socket.socket, theirs: socket.socket
) -> None:
    connect(ours, theirs.getsockname(), str(short_dir))
    ours.send(frame_of(1))
    assert theirs.recv(100) == frame_of(1)


@pytest.mark.parametrize("directory", FALLBACK_DIRECTORIES)
def test_the_places_where_clients_fall_back_to_are_allowed(ours: socket.socket, directory: str) -> None:
    if not os.access(directory, os.W_OK):
        pytest.skip(f"{directory} is not ours to write to")
    path = f"{directory}/vde.{os.getpid()}-test"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as theirs:
        theirs.bind(path)
        try:
            connect(ours, path, *FALLBACK_DIRECTORIES)
        finally:
            os.unlink(path)


def test_an_abstract_address_has_no_place_and_no_owner(ours: socket.socket) -> None:
    address = b"\0vml-test-" + os.urandom(8).hex().encode() + bytes(82)
    assert len(address) == 108
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as theirs:
        theirs.bind(address)
        connect_data_socket(ours, address, uid=UID, directories=())
        ours.send(frame_of(1))
        assert theirs.recv(100) == frame_of(1)


@needs_root
def test_a_socket_of_another_user_is_refused(short_dir: Path, ours: socket.socket, theirs: socket.socket) -> None:
    os.chown(theirs.getsockname(), 12345, 0)
    with pytest.raises(ForeignSocketError, match="belongs to uid 12345"):
        connect(ours, theirs.getsockname(), str(short_dir))
    with pytest.raises(OSError, match="not connected"):
        ours.getpeername()


def test_a_peer_of_another_user_may_not_name_ours(short_dir: Path, ours: socket.socket, theirs: socket.socket) -> None:
    with pytest.raises(ForeignSocketError, match="the peer is uid 12345"):
        connect(ours, theirs.getsockname(), str(short_dir), uid=12345)


def test_what_is_no_socket_is_refused(short_dir: Path, ours: socket.socket) -> None:
    (short_dir / "file").write_text("")
    os.mkfifo(short_dir / "fifo")
    for name in ("file", "fifo", ""):
        with pytest.raises(ForeignSocketError, match="not a socket"):
            connect(ours, f"{short_dir}/{name}", str(short_dir))


def test_a_symbolic_link_to_a_socket_is_refused(short_dir: Path, ours: socket.socket, theirs: socket.socket) -> None:
    (short_dir / "link").symlink_to(theirs.getsockname())
    with pytest.raises(ForeignSocketError, match="not a socket"):
        connect(ours, f"{short_dir}/link", str(short_dir))


def test_a_socket_that_lies_elsewhere_is_refused(short_dir: Path, ours: socket.socket, theirs: socket.socket) -> None:
    (short_dir / "vm1").mkdir()
    with pytest.raises(ForeignSocketError, match=f"lies in {short_dir}"):
        connect(ours, theirs.getsockname(), f"{short_dir}/vm1")


@pytest.mark.parametrize("detour", ["vm1/../.00001-00001", "vm1/link/.00001-00001"])
def test_no_detour_through_an_allowed_directory_helps(
    short_dir: Path, ours: socket.socket, theirs: socket.socket, detour: str
) -> None:
    (short_dir / "vm1").mkdir()
    (short_dir / "vm1" / "link").symlink_to(short_dir)
    with pytest.raises(ForeignSocketError, match=f"lies in {short_dir},"):
        connect(ours, f"{short_dir}/{detour}", f"{short_dir}/vm1")


def test_an_allowed_directory_may_itself_be_reached_by_a_link(
    short_dir: Path, ours: socket.socket, theirs: socket.socket
) -> None:
    (short_dir / "alias").symlink_to(short_dir)
    connect(ours, theirs.getsockname(), f"{short_dir}/alias")


def test_a_name_that_is_not_there_is_refused(short_dir: Path, ours: socket.socket) -> None:
    with pytest.raises(ForeignSocketError, match="No such file"):
        connect(ours, f"{short_dir}/.00009-00009", str(short_dir))


def test_a_socket_that_is_dead_or_of_another_type_is_the_kernels_to_refuse(
    short_dir: Path, ours: socket.socket, theirs: socket.socket
) -> None:
    path = theirs.getsockname()
    theirs.close()
    with pytest.raises(ConnectionRefusedError):
        connect(ours, path, str(short_dir))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
        stream.bind(f"{short_dir}/stream")
        stream.listen()
        with pytest.raises(OSError, match="wrong type"):
            connect(ours, f"{short_dir}/stream", str(short_dir))


def test_no_descriptor_is_left_whatever_the_outcome(short_dir: Path, theirs: socket.socket) -> None:
    (short_dir / "file").write_text("")
    before = len(os.listdir("/proc/self/fd"))
    for name in ("file", "nothing", ".00001-00001"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            try:
                connect(sock, f"{short_dir}/{name}", str(short_dir))
            except ForeignSocketError:
                continue
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_socket_lives_as_long_as_somebody_holds_it(short_dir: Path, kind: int) -> None:
    path = f"{short_dir}/sock"
    assert not is_live_socket(path)
    with socket.socket(socket.AF_UNIX, kind) as sock:
        sock.bind(path)
        if kind == socket.SOCK_STREAM:
            sock.listen()
        assert is_live_socket(path)
        assert is_live_socket(path), "asking changes nothing"
    assert not is_live_socket(path)


def test_the_owner_does_not_notice_the_asking(short_dir: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.bind(f"{short_dir}/ctl")
        sock.listen(0)
        sock.setblocking(False)
        for _ in range(5):
            assert is_live_socket(f"{short_dir}/ctl")
        with pytest.raises(BlockingIOError):
            sock.accept()
