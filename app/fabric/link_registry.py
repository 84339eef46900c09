"""The links of one service by id and by name, and the last of those that were retired.

Invariant: no two live links answer to the same id or name, over all multilinks of the service.
"""

from __future__ import annotations

import itertools
import re
from collections import deque
from typing import Final

from app.fabric.errors import NameInvalidError, NameTakenError, NotFoundError
from app.fabric.link import Link, LinkKind

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class LinkRegistry:
    """Owns uniqueness; the tasks of the links are their multilinks'.

    Args:
        keep_retired: how many retired links are remembered.
    """

    def __init__(self, keep_retired: int) -> None:
        self._live: dict[str, Link] = {}
        self._ids_by_name: dict[str, str] = {}
        self._retired: deque[Link] = deque(maxlen=keep_retired)
        self._numbers = {kind: itertools.count(1) for kind in LinkKind}

    def live(self) -> list[Link]:
        """Every link that is not retired, oldest first."""
        return list(self._live.values())

    def retired(self) -> list[Link]:
        """The last links that were retired, oldest first."""
        return list(self._retired)

    def find(self, id_or_name: str) -> Link:
        """The live link of that id or name.

        Raises:
            NotFoundError: there is none.
        """
        link = self._live.get(self._ids_by_name.get(id_or_name, id_or_name))
        if link is None:
            raise NotFoundError(f"no link has the id or name {id_or_name!r}: see GET /links for those there are")
        return link

    def free_name(self, kind: LinkKind) -> str:
        """A name that no link has had: `attached-1`, `dialled-2`."""
        return next(name for number in self._numbers[kind] if self._is_free(name := f"{kind}-{number}"))

    def check_name(self, name: str) -> None:
        """Make sure that a new link could have `name`.

        Raises:
            NameInvalidError: it could not be addressed.
            NameTakenError: another link has it.
        """
        if not _NAME.fullmatch(name):
            raise NameInvalidError(
                f"{name!r} cannot be a link's name: 1 to 64 letters, digits and . _ -, a letter or digit first"
            )
        if not self._is_free(name):
            raise NameTakenError(f"a link named {name!r} exists already: choose another name, or retire that link")

    def add(self, link: Link) -> None:
        """Take in a link, whose name has been checked."""
        self._live[link.id] = link
        self._ids_by_name[link.name] = link.id

    def rename(self, link: Link, name: str) -> None:
        """Give a live link another name; its own is fine too.

        Raises:
            NameInvalidError, NameTakenError: nothing has changed.
            NotFoundError: it is retired by now.
        """
        self.find(link.id)
        if name != link.name:
            self.check_name(name)
            del self._ids_by_name[link.name]
            self._ids_by_name[name] = link.id
            link.name = name

    def remove(self, link: Link, *, remember: bool = True) -> None:
        """Take out a link that has ended; `remember` it among the retired."""
        if self._live.pop(link.id, None) is not None:
            del self._ids_by_name[link.name]
            if remember:
                self._retired.append(link)

    def _is_free(self, name: str) -> bool:
        return name not in self._ids_by_name and name not in self._live
