"""What holds for every test: how hypothesis runs, and that no end-to-end test is skipped where none may be."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# No deadlines: nothing here depends on how fast the machine is. In CI the same examples every time.
settings.register_profile(
    "here", deadline=None, derandomize="CI" in os.environ, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("here")

_E2E = Path(__file__).parent / "e2e"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything below e2e/ drives real clients."""
    for item in items:
        if item.path.is_relative_to(_E2E):
            item.add_marker("e2e")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where real clients are required, a test that was skipped for the want of one has failed."""
    report = yield
    skipped = report.skipped and not hasattr(report, "wasxfail")
    if skipped and item.get_closest_marker("e2e") and os.environ.get("VDE_MULTILINK_REQUIRE_CLIENTS"):
        report.outcome = "failed"
        report.longrepr = f"skipped, but VDE_MULTILINK_REQUIRE_CLIENTS is set: {report.longrepr}"
    return report
