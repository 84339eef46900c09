"""The runtime directory of a service: where its api.sock and its token are, held for as long as it lives.

    as root                    /run/vde-multilink/
    else, XDG_RUNTIME_DIR set  $XDG_RUNTIME_DIR/vde-multilink/
    else                       /tmp/vde-multilink-UID/

Invariant: whoever holds the lock (flock on the directory itself, which the kernel drops however the
process ends) is the only one to touch what is in it. So what a killed service left behind is known
to be dead, and a second service is refused before it has disturbed anything.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from app.fabric.errors import DirectoryInUseError, PathError
from app.listen_address import UnixAddress, check_unix_path

DIRECTORY_NAME: Final = "vde-multilink"
API_SOCKET_NAME: Final = "api.sock"
TOKEN_NAME: Final = "token"  # noqa: S105 -- a file's name

_DIRECTORY_MODE: Final = 0o700
_LOCK_ATTEMPTS: Final = 100
"""Each one loses a race against a service that is removing the directory as it exits."""


def default_runtime_dir(environ: Mapping[str, str] = os.environ, euid: int | None = None) -> Path:
    """Where the runtime directory is for a user who names none."""
    uid = os.geteuid() if euid is None else euid
    if uid == 0:
        return Path("/run") / DIRECTORY_NAME
    base = environ.get("XDG_RUNTIME_DIR", "")
    if base.startswith("/"):  # the XDG specification: a relative path is to be ignored
        return Path(base) / DIRECTORY_NAME
    return Path(f"/tmp/{DIRECTORY_NAME}-{uid}")  # noqa: S108 -- its owner and mode are checked before use


def default_state_file(environ: Mapping[str, str] = os.environ, euid: int | None = None) -> Path:
    """Where the state file is for a user who names none."""
    uid = os.geteuid() if euid is None else euid
    name = "state.sqlite3"
    if uid == 0:
        return Path("/var/lib") / DIRECTORY_NAME / name
    base = environ.get("XDG_STATE_HOME", "")
    home = Path(base) if base.startswith("/") else Path(environ.get("HOME") or Path.home()) / ".local" / "state"
    return home / DIRECTORY_NAME / name


@dataclass(frozen=True, slots=True)
class RuntimeDirectory:
    """A runtime directory this process holds."""

    path: Path

    @property
    def api_address(self) -> UnixAddress:
        """The API's unix socket in it."""
        return UnixAddress(str(self.path / API_SOCKET_NAME))

    @property
    def token_path(self) -> Path:
        """The file with the token that the service made."""
        return self.path / TOKEN_NAME


@contextmanager
def hold_runtime_dir(path: Path) -> Iterator[RuntimeDirectory]:
    """Make the directory where it is missing, and hold it.

    On exit it is removed if it is empty and was made here (or by a service that was killed): the owners of
    the files in it have removed them by then.

    Raises:
        DirectoryInUseError: another service holds it.
        PathError: it cannot be made, or is not safe to use.
    """
    path = path.absolute()
    check_unix_path(str(path / API_SOCKET_NAME))
    fd, made = _lock(path)
    try:
        # Only a service that was killed leaves its socket; then the directory was most likely its own too.
        ours = made or os.path.lexists(path / API_SOCKET_NAME)
        try:
            yield RuntimeDirectory(path)
        finally:
            if ours:
                with suppress(OSError):  # not empty: someone else keeps something in it
                    path.rmdir()
    finally:
        os.close(fd)


def _lock(path: Path) -> tuple[int, bool]:
    """A descriptor of the directory with the lock on it, and whether the directory was made for it."""
    made = False
    for _ in range(_LOCK_ATTEMPTS):
        made = _make(path) or made
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise PathError(
                f"the runtime directory {path} cannot be used: {error.strerror}; choose another with --runtime-dir"
            ) from error
        try:
            _check(path, os.fstat(fd))
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _still_named(path, fd):
                return fd, made
        except BlockingIOError as error:
            os.close(fd)
            raise DirectoryInUseError(
                f"another service uses the runtime directory {path}: stop it,"
                " or give this one its own with --runtime-dir"
            ) from error
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
    raise DirectoryInUseError(f"the runtime directory {path} is removed by someone as often as it is made")


def _make(path: Path) -> bool:
    try:
        path.mkdir(mode=_DIRECTORY_MODE)
    except FileExistsError:
        return False
    except OSError as error:
        raise PathError(
            f"the runtime directory {path} cannot be made: {error.strerror}; choose another with --runtime-dir"
        ) from error
    return True


def _check(path: Path, status: os.stat_result) -> None:
    """Whoever else could write here could answer in the service's stead."""
    if status.st_uid != os.geteuid():
        raise PathError(
            f"the runtime directory {path} belongs to uid {status.st_uid}, not to you:"
            " choose another with --runtime-dir"
        )
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o022:
        raise PathError(f"others may write to the runtime directory {path} (mode {mode:04o}): run chmod 0700 {path}")


def _still_named(path: Path, fd: int) -> bool:
    """Whether `path` is still the locked directory, not one that its last owner has just removed."""
    try:
        named = path.lstat()
    except FileNotFoundError:
        return False
    return os.path.samestat(named, os.fstat(fd))
