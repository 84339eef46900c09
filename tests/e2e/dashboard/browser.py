"""Debian's Chromium with the dashboard in it, and everything that it complains of."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from typing import Any, Literal

from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from tests.e2e.harness import require
from tests.e2e.harness.service import Service

Scheme = Literal["light", "dark"]
DESK = (1280, 900)
PHONE = (360, 760)

# Only so that a test which fails also ends.
expect.set_options(timeout=20_000)


@contextmanager
def open_browser() -> Iterator[Browser]:
    """A headless Chromium; skips, or fails where clients are required, if there is none."""
    path = shutil.which("chromium")
    if path is None:
        require.lacking("chromium is not installed: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path)
        try:
            yield browser
        finally:
            browser.close()


class Dashboard:
    """A page, in a tab of its own that remembers nothing of others.

    Attributes:
        complaints: errors and warnings of the console, reports of the content security policy, uncaught exceptions.
    """

    def __init__(self, browser: Browser, scheme: Scheme = "light", size: tuple[int, int] = DESK) -> None:
        self.complaints: list[str] = []
        self.context = browser.new_context(
            viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, reduced_motion="reduce"
        )
        self.page: Page = self.context.new_page()
        self.page.on("console", self._take)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def open(self, service: Service, *, token: str | None = None) -> Page:
        """Open the address that the service has printed; with another token, or without one if it is empty."""
        address, _, own = address_of(service).partition("#token=")
        token = own if token is None else token
        self.page.goto(address + (f"#token={token}" if token else ""))
        return self.page

    def close(self) -> None:
        """Close the tab."""
        self.context.close()

    def check_console(self, *, refusals: bool = False) -> None:
        """Nothing was complained of; with `refusals`, but that requests were answered 4xx, or not at all."""
        rest = [line for line in self.complaints if not (refusals and line.startswith("Failed to load resource"))]
        assert not rest, rest

    def axe_faults(self) -> list[str]:
        """What axe-core finds serious or critical, WCAG 2.2 AA and its best practices."""
        script = resources.files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
        self.page.evaluate(script)
        found: dict[str, Any] = self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        return [
            f"{fault['id']}: {node['html'][:200]} {node['failureSummary']}"
            for fault in found["violations"]
            if fault["impact"] in {"serious", "critical"}
            for node in fault["nodes"]
        ]

    def _take(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(message.text)


def address_of(service: Service) -> str:
    """The dashboard's address, with the token."""
    lines = service.program.output().splitlines()
    return next(line.removeprefix("dashboard: ") for line in lines if line.startswith("dashboard: "))
