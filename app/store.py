"""The state file: what must outlive the service, in SQLite.

    dialled_link   the links that were dialled through the API and not retired since: dialled again after a crash

A service that is stopped on purpose retires its links, as it removes its directories: then nothing of them is kept, and
the last to leave removes the file. Whoever has the file open holds a shared lock (flock) on it, so that it is not
removed under anybody's hands.

A row belongs to the multilink whose control directory is `multilink_path`, which no two services on a machine share:
so services with one state file between them do not dial each other's links.

Invariant: the file is made (0600, its directory 0700) when there is first something to keep, and changed in
transactions, synchronous ones: a row is either wholly there or not, also after a power cut. Nothing in here
knows Trio: `app.service` calls it from a worker thread, one call at a time.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from app.fabric.errors import MultilinkError
from app.fabric.states import Role

SCHEMA_VERSION: Final = 1
_APPLICATION_ID: Final = 0x7644654D
"""In the file's header: tells a state file from any other SQLite database."""
_BUSY_TIMEOUT_S: Final = 1.0
"""Longer than another service takes for a row; shorter than what is left when the service stops."""

_SCHEMA: Final = """
CREATE TABLE dialled_link (
    link_id        TEXT NOT NULL PRIMARY KEY,
    multilink_path TEXT NOT NULL,
    name           TEXT NOT NULL,
    url            TEXT NOT NULL,
    role           TEXT NOT NULL,
    reconnect      INTEGER NOT NULL,
    UNIQUE (multilink_path, name)
) STRICT
"""

_T = TypeVar("_T")


class StateFileError(MultilinkError):
    """A state file that cannot be read or written, or was not written by this program."""

    code = "bad_state_file"
    title = "The state file cannot be used"


@dataclass(frozen=True, slots=True)
class DialledLink:
    """A dialled link as it is kept."""

    link_id: str
    multilink_path: str
    name: str
    url: str
    role: Role
    reconnect: bool


class Store:
    """The state file at `path`, opened when it is first needed.

    Every method raises StateFileError where the file cannot be used; it is then as it was.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection: sqlite3.Connection | None = None
        self._lock_fd = -1

    def dialled_links(self) -> list[DialledLink]:
        """What is kept, in the order in which it was first dialled. Makes no file."""
        if self._connection is None and not self.path.exists():
            return []

        def read(connection: sqlite3.Connection) -> list[DialledLink]:
            rows = connection.execute(
                "SELECT link_id, multilink_path, name, url, role, reconnect FROM dialled_link ORDER BY rowid"
            )
            return [
                DialledLink(link_id, path, name, url, Role(role), bool(reconnect))
                for link_id, path, name, url, role, reconnect in rows
            ]

        return self._run(read)

    def save(self, link: DialledLink) -> None:
        """Keep `link`, in place of what was kept under its id, or under its name in its multilink."""

        def write(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT INTO dialled_link (link_id, multilink_path, name, url, role, reconnect)"
                " VALUES (?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (link_id) DO UPDATE SET name = excluded.name, role = excluded.role"
                " ON CONFLICT (multilink_path, name) DO UPDATE SET link_id = excluded.link_id,"
                " url = excluded.url, role = excluded.role, reconnect = excluded.reconnect",
                (link.link_id, link.multilink_path, link.name, link.url, link.role.value, int(link.reconnect)),
            )

        self._run(write)

    def forget(self, link_id: str) -> None:
        """Keep the link of that id no longer; nothing happens if it was not kept."""
        if self._connection is None and not self.path.exists():
            return
        self._run(lambda connection: connection.execute("DELETE FROM dialled_link WHERE link_id = ?", (link_id,)))

    def forget_multilinks(self, paths: Iterable[str]) -> None:
        """Keep no link of these multilinks any longer; remove a file that then holds nothing and is nobody else's."""
        if self._connection is None and not self.path.exists():
            return
        rows = [(path,) for path in paths]

        def write(connection: sqlite3.Connection) -> bool:
            connection.executemany("DELETE FROM dialled_link WHERE multilink_path = ?", rows)
            return connection.execute("SELECT 1 FROM dialled_link").fetchone() is None

        if self._run(write) and self._is_ours_alone():
            self.path.unlink()
            with suppress(OSError):  # It was there before, or holds something else.
                self.path.parent.rmdir()

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        fd, self._lock_fd = self._lock_fd, -1
        if fd >= 0:
            os.close(fd)

    def _is_ours_alone(self) -> bool:
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _lock_file(self) -> int:
        """A descriptor of the file, made if need be, that keeps others from removing it."""
        while True:
            # Made here and not by SQLite, which would give it the umask's mode.
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_SH)
                with suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(fd), self.path.stat()):
                        return fd
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)  # Its last user removed it just now.

    def _run(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        with self._explained():
            if self._connection is None:
                self._connection = self._open()
            with self._connection:
                return work(self._connection)

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock_fd = self._lock_file()
        connection = sqlite3.connect(
            self.path, timeout=_BUSY_TIMEOUT_S, isolation_level="IMMEDIATE", check_same_thread=False
        )
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            self.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        application_id, version = (
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
        )
        if (application_id, version) == (_APPLICATION_ID, SCHEMA_VERSION):
            connection.rollback()
            return
        if application_id == _APPLICATION_ID and version > SCHEMA_VERSION:
            raise StateFileError(
                f"the state file {self.path} was written by a newer vde-multilink (format {version}, this one knows"
                f" {SCHEMA_VERSION}): upgrade, or name another file with --state"
            )
        if application_id or version or connection.execute("SELECT 1 FROM sqlite_master").fetchone():
            raise StateFileError(f"{self.path} is a database of some other program: name another file with --state")
        connection.execute(_SCHEMA)
        connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.commit()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.DatabaseError, ValueError) as error:
            if isinstance(error, sqlite3.OperationalError):
                raise StateFileError(
                    f"the state file {self.path} cannot be used: {error}; see to its permissions and to free space,"
                    " or name another with --state"
                ) from error
            raise StateFileError(
                f"the state file {self.path} is damaged: {error}; move it away (the links that were dialled"
                f" have to be added again): mv {self.path} {self.path}.damaged"
            ) from error
        except OSError as error:
            raise StateFileError(
                f"the state file {self.path} cannot be used: {error.strerror}; name another with --state"
            ) from error
