"""Fixtures of the tests that drive real clients."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.harness.lab import Lab


@pytest.fixture
def lab() -> Iterator[Lab]:
    """A place for what one test starts and makes; nothing of it may be left."""
    with Lab() as one:
        yield one
