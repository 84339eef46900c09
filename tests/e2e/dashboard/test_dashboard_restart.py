"""The service goes and comes again: the page says so, keeps what it has shown, and recovers by itself."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.e2e.dashboard.browser import address_of
from tests.e2e.dashboard.conftest import OpenTab
from tests.e2e.harness.lab import Lab
from tests.e2e.harness.service import Service

pytestmark = pytest.mark.e2e


def _address_to_listen(service: Service) -> str:
    match = re.match(r"http://([^/]+)/", address_of(service))
    assert match is not None
    return match[1]


def test_a_killed_service_is_told_of_and_its_return_noticed(lab: Lab, tab: OpenTab) -> None:
    token_file = lab.root / "token"
    token_file.write_text("a-token-that-stays-the-same-1234567890\n", encoding="ascii")
    token_file.chmod(0o600)
    arguments = [f"multi://{lab.root}/vm1", f"multi://{lab.root}/vm2", "--token-file", str(token_file)]
    service = lab.service(*arguments)
    listen = _address_to_listen(service)
    service.dial(f"{lab.root}/vm2", "vm1", name="wifi")
    dashboard = tab()
    page = dashboard.open(service)
    row = page.locator("tr.link[data-link=wifi]")
    expect(row).to_contain_text("up")
    service.kill()
    expect(page.locator("#banner")).to_contain_text("The service does not answer")
    expect(page.get_by_text("No connection")).to_be_visible()
    expect(page.locator("#main")).to_have_class(re.compile("stale"))
    expect(row).to_be_visible()
    assert not dashboard.axe_faults(), "what is greyed can still be read"

    again = lab.service(*arguments, "--listen", listen, home=service.home)
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    expect(page.locator("#banner")).to_be_hidden()
    expect(page.locator("#main")).not_to_have_class(re.compile("stale"))
    expect(row).to_contain_text("up")  # A killed service remembers what it had dialled.
    again.dial(f"{lab.root}/vm2", "vm1", name="lte")
    expect(page.locator("tr.link[data-link=lte]")).to_contain_text("up")
    dashboard.check_console(refusals=True)


def test_a_service_that_comes_back_with_another_token_asks_for_it(lab: Lab, tab: OpenTab) -> None:
    service = lab.service(f"multi://{lab.root}/vm1")
    listen = _address_to_listen(service)
    dashboard = tab()
    page = dashboard.open(service)
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    service.stop()
    expect(page.locator("#banner")).to_contain_text("The service does not answer")
    again = lab.service(f"multi://{lab.root}/vm1", "--listen", listen)
    expect(page.locator("#sign-in-words")).to_contain_text("may have changed when the service was started again")
    page.get_by_label("Token").fill((again.runtime_dir / "token").read_text(encoding="ascii").strip())
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    expect(page.locator("#banner")).to_be_hidden()
    dashboard.check_console(refusals=True)
