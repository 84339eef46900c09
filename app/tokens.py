"""The bearer token of the TCP API: given by the operator, or made here and kept in the runtime directory."""

from __future__ import annotations

import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from app.fabric.errors import MultilinkError

_TOKEN_BYTES: Final = 32
_MAX_FILE_BYTES: Final = 4096
_TOKEN: Final = re.compile(r"[A-Za-z0-9\-._~+/]{1,512}=*")
"""What RFC 6750 can carry in a header."""


class TokenError(MultilinkError):
    """A token that cannot be read or could not be sent."""

    code = "bad_token"
    title = "The token cannot be used"


def check_token(token: str, source: str) -> str:
    """`token` without the white space around it, if it can be sent as a bearer token.

    Raises:
        TokenError: it cannot; the detail names `source`, never the token.
    """
    stripped = token.strip()
    if not _TOKEN.fullmatch(stripped):
        raise TokenError(
            f"the token in {source} cannot be used: it takes 1 to 512 letters, digits and -._~+/ on one line"
        )
    return stripped


def read_token_file(path: Path) -> str:
    """The token that a file holds.

    Raises:
        TokenError: it cannot be read, or holds no token.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise TokenError(f"the token file {path} cannot be read: {error.strerror}") from error
    if len(content) > _MAX_FILE_BYTES:
        raise TokenError(f"the token file {path} is too long: it holds the token on one line, nothing else")
    return check_token(content.decode("utf-8", "replace"), str(path))


def everybody_can_read(path: Path) -> bool:
    """Whether any user of the machine can read a token file, which deserves a warning."""
    return bool(path.stat().st_mode & stat.S_IROTH)


@contextmanager
def kept_token(path: Path) -> Iterator[str]:
    """A token of the service's own, in the file `path` (0600) for as long as the context lasts.

    One that a killed service left there is used again, so that open dashboards go on.

    Raises:
        TokenError: the file cannot be written.
    """
    token = _left_behind(path)
    if token is None:
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        try:
            _write(path, token)
        except OSError as error:
            raise TokenError(f"the token file {path} cannot be written: {error.strerror}") from error
    try:
        yield token
    finally:
        path.unlink(missing_ok=True)


def _left_behind(path: Path) -> str | None:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    private = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o077
    try:
        return read_token_file(path) if private else None
    except TokenError:
        return None  # a torn write of the service that was killed


def _write(path: Path, token: str) -> None:
    path.unlink(missing_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w") as file:
        file.write(token + "\n")
