"""The control directory of a multilink: made, taken over after a crash, filled with sockets, removed.

    PATH/ctl      where links attach          PATH/fdN              the service's data socket for one peer
    PATH/host     where the host attaches     PATH/.PPPPP-NNNNN     a client's data socket, its own to remove

A live owner holds a lock (flock) on the directory itself, which needs no file and ends with the process; an owner of
another kind (the C module takes no lock) is known by its `ctl` being alive. Neither is disturbed by the asking.
"""

from __future__ import annotations

import errno
import fcntl
import grp
import itertools
import os
import pwd
import re
import socket
import stat
from typing import Final

import structlog

from app.fabric.errors import DirectoryInUseError, PathError
from app.fabric.handshake import SUN_PATH_SIZE
from app.fabric.peer_socket import is_live_socket
from app.fabric.plugs.datagram import unlink_if_there
from app.fabric.vnl import MultiVnl

CTL_NAME: Final = "ctl"
HOST_NAME: Final = "host"
BACKLOG: Final = 512

_OUR_NAMES: Final = re.compile(r"ctl|host|fd\d+|\.\d+-\d+")
_LONGEST_NAME: Final = "/fd" + "9" * 9
MAX_PATH_BYTES: Final = SUN_PATH_SIZE - 1 - len(_LONGEST_NAME)
"""So long may the directory's path be for every socket in it to have an address (sockaddr_un, with its NUL)."""

_log = structlog.get_logger(__name__)


def directory_path(vnl: MultiVnl) -> str:
    """The absolute path that `vnl` means; with none given, the user's own directory under /tmp.

    Raises:
        PathError: there would be no name to call the multilink by, or the path is too long.
    """
    if not vnl.path:
        uid = os.geteuid()
        try:
            user = pwd.getpwuid(uid).pw_name
        except KeyError:
            user = f"u{uid}"
        return f"/tmp/vdenode_{user}"  # noqa: S108 -- the default of the C module, where clients look for it
    path = os.path.abspath(vnl.path)
    if path == "/":
        raise PathError("the root directory cannot be a multilink: give a path such as /tmp/vm1")
    length = len(os.fsencode(path))
    if length > MAX_PATH_BYTES:
        raise PathError(f"the path is {length} bytes long: a unix socket's address allows for {MAX_PATH_BYTES}")
    return path


class ControlDirectory:
    """A control directory that this process owns, from construction until `close`.

    Raises:
        PathError: it cannot be made there; says why and what to do.
        DirectoryInUseError: somebody alive owns it, or it holds what no multilink has put there.
    """

    def __init__(self, vnl: MultiVnl) -> None:
        self.path = directory_path(vnl)
        self._vnl = vnl
        self._gid = _group_id(vnl.group)
        self._numbers = itertools.count()
        self._made: list[str] = []
        self._fd = self._make_or_take_over()
        try:
            _apply(self.path, vnl.directory_mode, self._gid)
        except OSError as error:
            self.close()
            raise PathError(f"{self.path} cannot be given its mode or group: {error.strerror}") from error

    def listen(self, name: str) -> socket.socket:
        """A non-blocking listening socket at `name`, with the multilink's mode and group.

        Raises:
            PathError: the kernel refuses.
        """
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            self._bind(sock, name)
            sock.listen(BACKLOG)
        except OSError as error:
            sock.close()
            raise PathError(f"{self.path}/{name} cannot be made: {error.strerror}") from error
        return sock

    def bind_data_socket(self, sock: socket.socket) -> str:
        """Bind `sock` to the next `fdN`; its path, which the caller removes with the socket.

        Raises:
            OSError: the kernel refuses.
        """
        name = f"fd{next(self._numbers)}"
        self._bind(sock, name)
        return self._made.pop()

    def close(self) -> None:
        """Remove the sockets, dead leftovers of clients and the directory, and give up the lock. A second call does
        nothing.
        """
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        try:
            if self._is_still_ours(fd):
                for path in self._made:
                    unlink_if_there(path)
                _sweep(self.path)
                os.rmdir(self.path)
        except OSError as error:
            _log.warning("control directory left behind", path=self.path, reason=error.strerror)
        finally:
            os.close(fd)

    def _bind(self, sock: socket.socket, name: str) -> None:
        path = f"{self.path}/{name}"
        sock.bind(path)
        self._made.append(path)
        _apply(path, self._vnl.socket_mode, self._gid)

    def _is_still_ours(self, fd: int) -> bool:
        ours = os.fstat(fd)
        try:
            there = os.lstat(self.path)
        except OSError:
            return False
        return (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino)

    def _make_or_take_over(self) -> int:
        """Make the directory, or make sure that a crash left it; locked, and a descriptor of it."""
        is_new = True
        try:
            # Closed to others until the sockets in it have their modes. (A dirmode of 0 leaves the umask's, as in
            # the C module.)
            os.mkdir(self.path, 0o700 if self._vnl.directory_mode else 0o777)
        except FileExistsError:
            is_new = False
        except FileNotFoundError as error:
            raise PathError(f"the directory {os.path.dirname(self.path)} does not exist: make it first") from error
        except OSError as error:
            raise PathError(f"{self.path} cannot be made: {error.strerror}") from error
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in {errno.ENOTDIR, errno.ELOOP}:
                raise PathError(
                    f"{self.path} exists and is not a directory: remove it, or give another path"
                ) from error
            if error.errno == errno.ENOENT:
                raise DirectoryInUseError(f"{self.path} is being removed by its last owner: try again") from error
            raise PathError(f"{self.path} cannot be opened: {error.strerror}") from error
        try:
            self._lock(fd)
            if not is_new:
                self._take_over(fd)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _lock(self, fd: int) -> None:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DirectoryInUseError(
                f"another multilink service owns {self.path} and is alive: give another path, or stop that one"
            ) from error
        if not self._is_still_ours(fd):
            raise DirectoryInUseError(f"{self.path} is being removed by its last owner: try again")

    def _take_over(self, fd: int) -> None:
        owner = os.fstat(fd).st_uid
        if owner != os.geteuid():
            raise DirectoryInUseError(f"{self.path} exists and belongs to uid {owner}: remove it, or give another path")
        names = os.listdir(self.path)
        foreign = sorted(name for name in names if not _is_ours(self.path, name))
        if foreign:
            raise DirectoryInUseError(
                f"{self.path} exists and is no control directory: it holds {foreign[0]!r}. Give a new path"
            )
        for name in (CTL_NAME, HOST_NAME):
            if is_live_socket(f"{self.path}/{name}"):
                raise DirectoryInUseError(f"somebody alive serves {self.path}: give another path, or stop that program")
        _sweep(self.path)
        if names:
            _log.info("control directory of a crashed service taken over", path=self.path)


def _is_ours(directory: str, name: str) -> bool:
    if not _OUR_NAMES.fullmatch(name):
        return False
    try:
        return stat.S_ISSOCK(os.lstat(f"{directory}/{name}").st_mode)
    except FileNotFoundError:
        return True


def _sweep(directory: str) -> None:
    """Remove the names of sockets that nobody holds any more; those of clients that live are theirs to remove."""
    for name in os.listdir(directory):
        path = f"{directory}/{name}"
        if _is_ours(directory, name) and not is_live_socket(path):
            unlink_if_there(path)


def _group_id(group: str | None) -> int:
    """The group's number; -1, which chown leaves alone, for none."""
    if group is None:
        return -1
    if group.isascii() and group.isdigit():
        return int(group)
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError as error:
        raise PathError(f"there is no group {group!r} on this machine: see getent group") from error


def _apply(path: str, mode: int, gid: int) -> None:
    """Group first: changing it clears the set-group-id bit. A mode of 0 leaves what the umask gave, as in the C
    module.
    """
    if gid >= 0:
        os.chown(path, -1, gid)
    if mode:
        os.chmod(path, mode)
