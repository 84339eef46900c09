"""Directories with names short enough for unix sockets, and a fabric to fill."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from app.fabric.fabric import Fabric, open_fabric


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """An empty directory; pytest's own may have names too long for a sockaddr_un."""
    path = Path(tempfile.mkdtemp(prefix="vm", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
async def fabric() -> AsyncIterator[Fabric]:
    """A fabric without multilinks, ended after the test."""
    async with open_fabric() as opened:
        yield opened
