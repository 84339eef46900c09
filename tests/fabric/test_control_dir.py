from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from app.fabric.control_dir import MAX_PATH_BYTES, ControlDirectory, directory_path
from app.fabric.errors import DirectoryInUseError, PathError
from app.fabric.vnl import MultiVnl, parse_multi_vnl

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def owned(vnl: MultiVnl) -> Iterator[ControlDirectory]:
    directory = ControlDirectory(vnl)
    try:
        yield directory
    finally:
        directory.close()


def mode_of(path: Path | str) -> int:
    return stat.S_IMODE(os.lstat(path).st_mode)


def dead_socket(path: Path, kind: int = socket.SOCK_STREAM) -> None:
    """A socket's name with nobody behind it, as SIGKILL leaves it."""
    with socket.socket(socket.AF_UNIX, kind) as sock:
        sock.bind(str(path))


@contextmanager
def live_socket(path: Path, kind: int = socket.SOCK_STREAM) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, kind) as sock:
        sock.bind(str(path))
        if kind == socket.SOCK_STREAM:
            sock.listen()
        sock.setblocking(False)
        yield sock


def crashed(path: Path) -> None:
    """A directory as a service leaves it that is killed."""
    path.mkdir(mode=0o700)
    dead_socket(path / "ctl")
    dead_socket(path / "host")
    dead_socket(path / "fd0", socket.SOCK_DGRAM)
    dead_socket(path / "fd17", socket.SOCK_DGRAM)
    dead_socket(path / ".00123-00000", socket.SOCK_DGRAM)


# Where it lies.


def test_a_path_is_made_absolute(short_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(short_dir)
    assert directory_path(MultiVnl("vm1")) == f"{short_dir}/vm1"
    assert directory_path(MultiVnl("a/../vm1/")) == f"{short_dir}/vm1"


def test_without_a_path_it_is_the_users_own_below_tmp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert directory_path(MultiVnl("")) == "/tmp/vdenode_root"
    monkeypatch.setattr("os.geteuid", lambda: 4242424)
    assert directory_path(MultiVnl("")) == "/tmp/vdenode_u4242424"


def test_the_root_directory_is_refused() -> None:
    with pytest.raises(PathError, match="root directory"):
        directory_path(MultiVnl("/"))


def test_the_longest_path_has_room_for_every_socket(short_dir: Path) -> None:
    path = f"{short_dir}/".ljust(MAX_PATH_BYTES, "x")
    with owned(MultiVnl(path)) as directory, directory.listen("ctl"):
        directory._numbers = iter([999_999_999])  # type: ignore[assignment]  # the longest name there will be
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as data:
            os.unlink(directory.bind_data_socket(data))
    assert not os.path.exists(path)


def test_a_longer_path_is_refused_with_the_reason(short_dir: Path) -> None:
    path = f"{short_dir}/".ljust(MAX_PATH_BYTES + 1, "x")
    with pytest.raises(PathError, match=f"{MAX_PATH_BYTES + 1} bytes.* {MAX_PATH_BYTES}"):
        ControlDirectory(MultiVnl(path))


def test_the_length_is_counted_in_bytes(short_dir: Path) -> None:
    path = f"{short_dir}/" + "é" * (MAX_PATH_BYTES // 2)
    with pytest.raises(PathError, match="bytes long"):
        ControlDirectory(MultiVnl(path))


def test_a_missing_parent_is_refused_with_the_reason(short_dir: Path) -> None:
    with pytest.raises(PathError, match=f"{short_dir}/no does not exist: make it first"):
        ControlDirectory(MultiVnl(f"{short_dir}/no/vm1"))


def test_an_unknown_group_is_refused_before_anything_is_made(short_dir: Path) -> None:
    with pytest.raises(PathError, match="no group 'nobodys-group'"):
        ControlDirectory(MultiVnl(f"{short_dir}/vm1", group="nobodys-group"))
    assert list(short_dir.iterdir()) == []


def test_a_parent_that_is_a_file_is_refused(short_dir: Path) -> None:
    (short_dir / "file").write_text("")
    with pytest.raises(PathError, match="Not a directory"):
        ControlDirectory(MultiVnl(f"{short_dir}/file/vm1"))


# Modes and groups.


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077, 0o777])
@pytest.mark.parametrize(
    ("options", "socket_mode", "directory_mode"),
    [
        ("", 0o600, 0o2700),
        ("[mode=0600]", 0o600, 0o2700),
        ("[mode=0660]", 0o660, 0o2770),
        ("[mode=0666]", 0o666, 0o2777),
        ("[mode=0775]", 0o664, 0o2775),
        ("[mode=0440]", 0o440, 0o2550),
        ("[mode=0640]", 0o640, 0o2750),
        ("[mode=0660/dirmode=0750]", 0o660, 0o750),
        ("[dirmode=02777]", 0o600, 0o2777),
        ("[dirmode=01777/mode=0622]", 0o622, 0o1777),
    ],
)
def test_modes_on_disk_do_not_depend_on_the_umask(
    short_dir: Path, options: str, socket_mode: int, directory_mode: int, mask: int
) -> None:
    path = short_dir / "vm1"
    with umask(mask), owned(parse_multi_vnl(f"multi://{path}{options}")) as directory:
        with (
            directory.listen("ctl"),
            directory.listen("host"),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as data,
        ):
            data_path = directory.bind_data_socket(data)
            assert mode_of(path) == directory_mode
            assert [mode_of(path / name) for name in ("ctl", "host", "fd0")] == [socket_mode] * 3
            assert data_path == f"{path}/fd0"
            os.unlink(data_path)
    assert not path.exists()


@needs_root
@pytest.mark.parametrize("group", ["daemon", "12345"])
def test_the_group_is_that_of_the_directory_and_of_every_socket(short_dir: Path, group: str) -> None:
    gid = 1 if group == "daemon" else 12345
    path = short_dir / "vm1"
    with owned(MultiVnl(str(path), mode=0o660, group=group)) as directory:
        with directory.listen("ctl"), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as data:
            os.path.basename(directory.bind_data_socket(data))
            assert {os.lstat(name).st_gid for name in (path, path / "ctl", path / "fd0")} == {gid}
            assert mode_of(path) == 0o2770
            assert mode_of(path / "fd0") == 0o660


def test_the_group_is_given_first_because_that_clears_the_set_group_id_bit(
    short_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    monkeypatch.setattr("os.chown", lambda *_args: calls.append("chown"))
    monkeypatch.setattr("os.chmod", lambda *_args: calls.append("chmod"))
    with owned(MultiVnl(f"{short_dir}/vm1", group="0")) as directory, directory.listen("ctl"):
        assert calls == ["chown", "chmod"] * 2


def test_a_group_that_may_not_be_given_leaves_nothing_behind(short_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, uid: int, gid: int) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("os.chown", refuse)
    with pytest.raises(PathError, match="Operation not permitted"):
        ControlDirectory(MultiVnl(f"{short_dir}/vm1", group="0"))
    assert list(short_dir.iterdir()) == []


# What is in the way.


def test_a_file_in_the_way_is_refused_and_kept(short_dir: Path) -> None:
    (short_dir / "vm1").write_text("precious")
    with pytest.raises(PathError, match="not a directory"):
        ControlDirectory(MultiVnl(f"{short_dir}/vm1"))
    assert (short_dir / "vm1").read_text() == "precious"


def test_a_symbolic_link_is_refused_and_what_it_names_is_untouched(short_dir: Path) -> None:
    crashed(short_dir / "other")
    (short_dir / "vm1").symlink_to(short_dir / "other")
    before = sorted(os.listdir(short_dir / "other"))
    with pytest.raises(PathError, match="not a directory"):
        ControlDirectory(MultiVnl(f"{short_dir}/vm1"))
    assert (short_dir / "vm1").is_symlink()
    assert sorted(os.listdir(short_dir / "other")) == before


def test_a_dangling_symbolic_link_is_refused(short_dir: Path) -> None:
    (short_dir / "vm1").symlink_to(short_dir / "nowhere")
    with pytest.raises(PathError):
        ControlDirectory(MultiVnl(f"{short_dir}/vm1"))
    assert not (short_dir / "nowhere").exists()


@pytest.mark.parametrize("name", ["notes.txt", ".bashrc", "ctl.bak", "fd", "fd1x", ".1-", "sub", "vde.123-4", "pty"])
def test_a_directory_with_foreign_content_is_never_taken_over(short_dir: Path, name: str) -> None:
    path = short_dir / "vm1"
    crashed(path)
    (path / name).write_text("precious")
    path.chmod(0o1777)
    before = sorted(os.listdir(path))
    with pytest.raises(DirectoryInUseError, match="no control directory"):
        ControlDirectory(MultiVnl(str(path)))
    assert sorted(os.listdir(path)) == before
    assert (path / name).read_text() == "precious"
    assert mode_of(path) == 0o1777


@pytest.mark.parametrize("name", ["ctl", "host", "fd0", ".00001-00002"])
def test_a_name_of_ours_that_is_no_socket_is_foreign(short_dir: Path, name: str) -> None:
    path = short_dir / "vm1"
    path.mkdir()
    (path / name).write_text("precious")
    with pytest.raises(DirectoryInUseError, match="no control directory"):
        ControlDirectory(MultiVnl(str(path)))
    assert (path / name).read_text() == "precious"


@needs_root
@pytest.mark.parametrize("is_empty", [True, False])
def test_a_directory_of_another_user_is_refused_and_untouched(short_dir: Path, is_empty: bool) -> None:
    path = short_dir / "vm1"
    crashed(path)
    if is_empty:
        for name in os.listdir(path):
            (path / name).unlink()
    before = sorted(os.listdir(path))
    os.chown(path, 12345, 0)
    with pytest.raises(DirectoryInUseError, match="belongs to uid 12345"):
        ControlDirectory(MultiVnl(str(path)))
    assert sorted(os.listdir(path)) == before
    assert mode_of(path) == 0o700


# Taking over.


def test_a_crashed_directory_is_taken_over_and_swept(short_dir: Path) -> None:
    path = short_dir / "vm1"
    crashed(path)
    with owned(MultiVnl(str(path), mode=0o660)) as directory:
        assert os.listdir(path) == []
        assert mode_of(path) == 0o2770
        with directory.listen("ctl"):
            assert os.listdir(path) == ["ctl"]
    assert not path.exists()


def test_an_empty_directory_is_taken_over(short_dir: Path) -> None:
    (short_dir / "vm1").mkdir()
    with owned(MultiVnl(f"{short_dir}/vm1")):
        pass
    assert not (short_dir / "vm1").exists()


def test_client_sockets_that_live_are_kept(short_dir: Path) -> None:
    path = short_dir / "vm1"
    crashed(path)
    with live_socket(path / ".00042-00001", socket.SOCK_DGRAM):
        with owned(MultiVnl(str(path))):
            assert os.listdir(path) == [".00042-00001"]
        assert os.listdir(path) == [".00042-00001"], "neither does the end of the service take it away"


def test_client_sockets_that_have_died_meanwhile_go_at_the_end(short_dir: Path) -> None:
    path = short_dir / "vm1"
    with owned(MultiVnl(str(path))):
        dead_socket(path / ".00042-00001", socket.SOCK_DGRAM)
    assert not path.exists()


def test_a_live_owner_is_left_alone(short_dir: Path) -> None:
    vnl = MultiVnl(f"{short_dir}/vm1")
    with owned(vnl) as directory, directory.listen("ctl") as ctl:
        with pytest.raises(DirectoryInUseError, match="is alive"):
            ControlDirectory(vnl)
        with pytest.raises(BlockingIOError):
            ctl.accept()
        assert os.listdir(directory.path) == ["ctl"]


def test_a_live_owner_is_left_alone_even_while_it_has_no_socket_yet(short_dir: Path) -> None:
    vnl = MultiVnl(f"{short_dir}/vm1")
    with owned(vnl), pytest.raises(DirectoryInUseError, match="is alive"):
        ControlDirectory(vnl)


@pytest.mark.parametrize("name", ["ctl", "host"])
def test_a_live_owner_without_the_lock_never_sees_a_connection(short_dir: Path, name: str) -> None:
    path = short_dir / "vm1"
    path.mkdir(mode=0o2755)
    path.chmod(0o2755)
    with live_socket(path / name) as ctl:
        dead_socket(path / "fd0", socket.SOCK_DGRAM)
        with pytest.raises(DirectoryInUseError, match="somebody alive serves"):
            ControlDirectory(MultiVnl(str(path), mode=0o600))
        with pytest.raises(BlockingIOError):
            ctl.accept()
        assert sorted(os.listdir(path)) == sorted([name, "fd0"])
        assert mode_of(path) == 0o2755


def test_a_refused_take_over_leaves_no_descriptor_and_no_lock(short_dir: Path) -> None:
    path = short_dir / "vm1"
    path.mkdir()
    before = len(os.listdir("/proc/self/fd"))
    with live_socket(path / "ctl"):
        for _ in range(3):
            with pytest.raises(DirectoryInUseError, match="somebody alive serves"):
                ControlDirectory(MultiVnl(str(path)))
    assert len(os.listdir("/proc/self/fd")) == before
    with owned(MultiVnl(str(path))):
        pass


@pytest.mark.parametrize("is_crashed", [True, False])
def test_of_many_that_start_at_once_exactly_one_wins(short_dir: Path, is_crashed: bool) -> None:
    starters = 8
    with ThreadPoolExecutor(starters) as pool:
        for round_number in range(15):
            path = short_dir / f"vm{round_number}"
            if is_crashed:
                crashed(path)
            barrier = threading.Barrier(starters)

            def start(path: Path = path, barrier: threading.Barrier = barrier) -> ControlDirectory | None:
                barrier.wait()
                try:
                    return ControlDirectory(MultiVnl(str(path)))
                except DirectoryInUseError:
                    return None

            starts = [pool.submit(start) for _ in range(starters)]
            winners = [winner for each in starts if (winner := each.result()) is not None]
            assert len(winners) == 1
            winners[0].listen("ctl").close()
            winners[0].close()
            assert not path.exists()


def test_starting_while_another_one_ends_is_refused_or_works(short_dir: Path) -> None:
    vnl = MultiVnl(f"{short_dir}/vm1")
    outcomes = set()
    for _ in range(50):
        first = ControlDirectory(vnl)
        closing = threading.Thread(target=first.close)
        closing.start()
        try:
            ControlDirectory(vnl).close()
            outcomes.add("made")
        except DirectoryInUseError:
            outcomes.add("refused")
        closing.join()
        assert not os.path.exists(first.path)
    assert outcomes <= {"made", "refused"}


# Sockets in it, and the end.


def test_data_sockets_get_names_that_differ(short_dir: Path) -> None:
    with owned(MultiVnl(f"{short_dir}/vm1")) as directory, ExitStack() as stack:
        socks = [stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) for _ in range(4)]
        paths = [directory.bind_data_socket(sock) for sock in socks]
        assert [os.path.basename(path) for path in paths] == ["fd0", "fd1", "fd2", "fd3"]
        assert [sock.getsockname() for sock in socks] == paths
        for path in paths:
            os.unlink(path)


def test_a_listening_socket_does_not_block_and_takes_connections(short_dir: Path) -> None:
    with owned(MultiVnl(f"{short_dir}/vm1")) as directory, directory.listen("ctl") as ctl:
        with pytest.raises(BlockingIOError):
            ctl.accept()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.connect(f"{directory.path}/ctl")
            ctl.accept()[0].close()


def test_a_name_that_is_there_already_is_refused_with_the_reason(short_dir: Path) -> None:
    with owned(MultiVnl(f"{short_dir}/vm1")) as directory, directory.listen("ctl"):
        with pytest.raises(PathError, match="Address already in use"):
            directory.listen("ctl")


def test_closing_twice_is_harmless(short_dir: Path) -> None:
    directory = ControlDirectory(MultiVnl(f"{short_dir}/vm1"))
    directory.close()
    with owned(MultiVnl(f"{short_dir}/vm1")) as successor:
        directory.close()
        assert os.path.isdir(successor.path)


def test_closing_removes_only_the_directory_that_was_made(short_dir: Path) -> None:
    path = short_dir / "vm1"
    with owned(MultiVnl(str(path))) as directory:
        directory.listen("ctl").close()
        path.rename(short_dir / "moved")
        path.mkdir()
        (path / "ctl").write_text("another's")
    assert (path / "ctl").read_text() == "another's"


def test_what_others_have_put_there_stays(short_dir: Path) -> None:
    path = short_dir / "vm1"
    with owned(MultiVnl(str(path))) as directory:
        directory.listen("ctl").close()
        (path / "notes.txt").write_text("precious")
    assert os.listdir(path) == ["notes.txt"]
    assert (path / "notes.txt").read_text() == "precious"


def test_the_lock_ends_with_the_directory(short_dir: Path) -> None:
    path = short_dir / "vm1"
    with owned(MultiVnl(str(path))):
        kept = os.open(path, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(kept, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(kept, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(kept)
