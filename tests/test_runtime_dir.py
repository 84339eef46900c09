from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from app.fabric.errors import DirectoryInUseError, PathError
from app.listen_address import AddressError
from app.runtime_dir import default_runtime_dir, default_state_file, hold_runtime_dir


@pytest.mark.parametrize(
    ("environ", "euid", "path"),
    [
        ({"XDG_RUNTIME_DIR": "/run/user/0"}, 0, "/run/vde-multilink"),
        ({"XDG_RUNTIME_DIR": "/run/user/7"}, 7, "/run/user/7/vde-multilink"),
        ({"XDG_RUNTIME_DIR": "relative"}, 7, "/tmp/vde-multilink-7"),
        ({}, 7, "/tmp/vde-multilink-7"),
    ],
)
def test_where_it_is_by_default(environ: dict[str, str], euid: int, path: str) -> None:
    assert default_runtime_dir(environ, euid) == Path(path)


@pytest.mark.parametrize(
    ("environ", "euid", "path"),
    [
        ({"HOME": "/root"}, 0, "/var/lib/vde-multilink/state.sqlite3"),
        ({"XDG_STATE_HOME": "/s"}, 7, "/s/vde-multilink/state.sqlite3"),
        ({"HOME": "/home/u", "XDG_STATE_HOME": "s"}, 7, "/home/u/.local/state/vde-multilink/state.sqlite3"),
    ],
)
def test_where_the_state_is_by_default(environ: dict[str, str], euid: int, path: str) -> None:
    assert default_state_file(environ, euid) == Path(path)


def test_made_private_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "rt"
    with hold_runtime_dir(path) as held:
        assert held.path == path
        assert path.stat().st_mode & 0o7777 == 0o700
        assert held.api_address.path == str(path / "api.sock")
    assert not path.exists()


def test_one_that_was_there_stays(tmp_path: Path) -> None:
    with hold_runtime_dir(tmp_path):
        pass
    assert tmp_path.exists()


def test_what_a_killed_service_left_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "rt"
    path.mkdir(0o700)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path / "api.sock"))
    with hold_runtime_dir(path):
        (path / "api.sock").unlink()
    assert not path.exists()


def test_somebody_elses_files_in_it_stay(tmp_path: Path) -> None:
    path = tmp_path / "rt"
    with hold_runtime_dir(path):
        (path / "notes").write_text("mine")
    assert (path / "notes").read_text() == "mine"


def test_the_second_is_refused_and_disturbs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "rt"
    with hold_runtime_dir(path):
        (path / "api.sock").touch()
        with pytest.raises(DirectoryInUseError, match="--runtime-dir"), hold_runtime_dir(path):
            pytest.fail("held twice")
        assert (path / "api.sock").exists()
        (path / "api.sock").unlink()
    with hold_runtime_dir(path):
        assert path.is_dir()


def test_a_directory_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o770)
    with pytest.raises(PathError, match="chmod 0700"), hold_runtime_dir(tmp_path):
        pytest.fail("held")


def test_a_symlink_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(PathError), hold_runtime_dir(tmp_path / "link"):
        pytest.fail("held")


def test_a_missing_parent_is_told(tmp_path: Path) -> None:
    with pytest.raises(PathError, match="cannot be made"), hold_runtime_dir(tmp_path / "no" / "rt"):
        pytest.fail("held")


def test_a_path_too_long_for_the_socket_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 100)
    with pytest.raises(AddressError, match="bytes long"), hold_runtime_dir(path):
        pytest.fail("held")
    assert not path.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a directory that is not its own")
def test_another_users_directory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rt"
    path.mkdir(0o700)
    os.chown(path, 12345, 12345)
    with pytest.raises(PathError, match="uid 12345"), hold_runtime_dir(path):
        pytest.fail("held")
