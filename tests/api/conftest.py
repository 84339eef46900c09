"""Fixtures of the API's tests."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from app.fabric.fabric import Fabric, open_fabric
from tests.api.fakes import FakeFabric
from tests.api.support import Api, make_api


@pytest.fixture
def fabric() -> FakeFabric:
    return FakeFabric()


@pytest.fixture
def api(fabric: FakeFabric) -> Api:
    return make_api(fabric.as_fabric())


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """pytest's own directories are too long for the sockets in them."""
    path = Path(tempfile.mkdtemp(prefix="api-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(params=["fake", "real"])
async def any_fabric(request: pytest.FixtureRequest) -> AsyncIterator[Fabric]:
    """The fake one, and the real one: what is said of either has to hold for both."""
    if request.param == "fake":
        yield FakeFabric().as_fabric()
    else:
        async with open_fabric() as fabric:
            yield fabric
