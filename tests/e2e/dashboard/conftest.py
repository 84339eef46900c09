"""Fixtures of the tests in a browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser

from tests.e2e.dashboard.browser import DESK, Dashboard, Scheme, open_browser

OpenTab = Callable[..., Dashboard]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for a module's tests; each has tabs of its own."""
    with open_browser() as one:
        yield one


@pytest.fixture
def tab(browser: Browser) -> Iterator[OpenTab]:
    """Opens tabs, which are closed after the test."""
    tabs: list[Dashboard] = []

    def open_tab(scheme: Scheme = "light", size: tuple[int, int] = DESK) -> Dashboard:
        tabs.append(Dashboard(browser, scheme, size))
        return tabs[-1]

    yield open_tab
    for each in tabs:
        each.close()
