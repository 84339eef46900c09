"""Which locators the API may open: pure, no I/O.

`cmd://` runs programs, so whoever may ask for it can do whatever the service can. It is therefore off
unless the operator allows the scheme as a whole, or certain commands word for word.

Invariant: a locator passes only if it and every locator nested in it are allowed. The check is made on
what a locator resolves to, never on the text that was sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from app.fabric.errors import SchemeNotAllowedError
from app.fabric.vnl import CmdVnl, Vnl, scheme_of, walk_vnl

DEFAULT_SCHEMES: Final = frozenset({"multi", "vde", "tap"})


@dataclass(frozen=True, slots=True)
class DialPolicy:
    """What the operator allows.

    Attributes:
        schemes: schemes allowed whatever follows them.
        commands: the argument lists that `cmd://` may run where `cmd` is not in `schemes`; exact, no patterns.
    """

    schemes: frozenset[str] = DEFAULT_SCHEMES
    commands: frozenset[tuple[str, ...]] = frozenset()

    def allows(self, vnl: Vnl) -> bool:
        """Whether `vnl` itself, nested ones left aside, is allowed."""
        if scheme_of(vnl) in self.schemes:
            return True
        return isinstance(vnl, CmdVnl) and vnl.argv in self.commands

    def check(self, vnl: Vnl) -> None:
        """Refuse `vnl` unless it and all that is nested in it are allowed.

        Raises:
            SchemeNotAllowedError: naming the scheme, and what would allow it.
        """
        for part in walk_vnl(vnl):
            if self.allows(part):
                continue
            scheme = scheme_of(part)
            if isinstance(part, CmdVnl) and self.commands:
                raise SchemeNotAllowedError(
                    f"the command of {part} is not one of those this service allows: "
                    "add it to the allowed commands of the configuration, or start the service with --allow cmd"
                )
            raise SchemeNotAllowedError(
                f"{scheme}:// is not allowed through the API: start the service with --allow {scheme} to allow it"
            )
