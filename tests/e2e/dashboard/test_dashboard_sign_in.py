"""The token: from the address, from the form, kept for the tab and nowhere else."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.e2e.dashboard.conftest import OpenTab
from tests.e2e.harness.lab import Lab

pytestmark = pytest.mark.e2e


def test_the_printed_address_signs_in_and_the_token_leaves_the_address_bar(lab: Lab, tab: OpenTab) -> None:
    service = lab.service(f"multi://{lab.root}/vm1")
    dashboard = tab()
    page = dashboard.open(service)
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    expect(page.get_by_role("tab", name="vm1")).to_be_visible()
    assert page.evaluate("location.href").endswith("/")
    assert page.evaluate("sessionStorage.length") == 1
    assert page.evaluate("localStorage.length") == 0
    assert page.evaluate("document.cookie") == ""
    page.reload()
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    dashboard.check_console()


def test_without_a_token_there_is_a_form_and_a_wrong_one_gets_the_services_words(lab: Lab, tab: OpenTab) -> None:
    service = lab.service(f"multi://{lab.root}/vm1")
    token = (service.runtime_dir / "token").read_text(encoding="ascii").strip()
    dashboard = tab()
    page = dashboard.open(service, token="")
    field = page.get_by_label("Token")
    expect(field).to_be_focused()
    expect(page.locator("#sign-in-words")).to_contain_text("Authorization: Bearer TOKEN")
    expect(page.locator("#main")).to_be_hidden()
    for wrong in ("wrong", "schlüssel ☃", "two words"):
        field.fill(wrong)
        field.press("Enter")
        expect(page.locator("#sign-in-words")).to_contain_text("That is not this service's token")
    field.fill(f" {token} ")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    expect(page.locator("#sign-in")).to_be_hidden()
    dashboard.check_console(refusals=True)


def test_a_wrong_token_in_the_address_gets_the_form_too(lab: Lab, tab: OpenTab) -> None:
    service = lab.service(f"multi://{lab.root}/vm1")
    dashboard = tab()
    page = dashboard.open(service, token="of-yesterday")
    expect(page.locator("#sign-in-words")).to_contain_text("may have changed when the service was started again")
    dashboard.check_console(refusals=True)
