"""Waiting for what other processes do: by asking again and again, with a generous end to it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")

LIMIT_S: Final = 30.0
"""Long enough for a slow machine under load; what is waited for takes milliseconds."""
_PAUSE_S: Final = 0.02


def wait_until(ask: Callable[[], T], what: str, *, limit_s: float = LIMIT_S) -> T:
    """The first true answer of `ask`; fails, saying `what` never came, after `limit_s`."""
    deadline = time.monotonic() + limit_s
    while True:
        answer = ask()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {limit_s:g} s in vain for {what}; the last answer was {answer!r}")
        time.sleep(_PAUSE_S)
