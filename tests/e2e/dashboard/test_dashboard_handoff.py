"""Hand-offs from the page: asked for, watched, aborted, and their reports read."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.e2e.dashboard.conftest import OpenTab
from tests.e2e.harness.lab import Lab

pytestmark = pytest.mark.e2e


def test_a_hand_off_to_a_link_that_is_there_is_watched_and_reported(lab: Lab, tab: OpenTab) -> None:
    service = lab.service(f"multi://{lab.root}/vm1", f"multi://{lab.root}/vm2")
    service.dial(f"{lab.root}/vm2", "vm1", name="wifi")
    service.dial(f"{lab.root}/vm2", "vm1", name="lte", role="standby")
    dashboard = tab()
    page = dashboard.open(service)
    page.get_by_role("button", name="Hand off", exact=True).click()
    form = page.get_by_role("dialog", name="Hand off vm1")
    expect(form.get_by_label("lte (standby)")).to_be_checked()
    expect(form).to_contain_text("Active now: wifi.")
    form.get_by_label("kept on standby").check()
    form.get_by_label("Both carry for (seconds)").fill("2")
    form.get_by_role("button", name="Hand off", exact=True).click()

    progress = page.get_by_role("dialog", name="Hand-off", exact=True)
    expect(progress.locator("[data-phase=overlapping]")).to_have_attribute("data-step", "now")
    expect(page.locator("#picture .node[data-path=new]")).to_contain_text("lte")
    expect(page.locator("#picture .node[data-path=old]")).to_contain_text("wifi")
    expect(progress.locator(".outcome")).to_have_attribute("data-state", "completed")
    expect(progress.locator(".steps [data-step=done]")).to_have_count(4)
    expect(progress.get_by_role("button", name="Abort and roll back")).to_be_hidden()
    progress.get_by_role("button", name="Close").click()
    assert service.link("lte")["role"] == "active"
    assert service.link("wifi")["role"] == "standby"
    expect(page.locator("#events")).to_contain_text("Hand-off to lte is completed")

    # The report is there again after the page has been loaded anew.
    page.reload()
    expect(page.locator("#handoffs")).to_contain_text("wifi → lte")
    page.get_by_role("button", name="Report of the hand-off to lte").click()
    expect(progress).to_contain_text("Completed.")
    expect(progress.get_by_role("table", name="To the host")).to_be_visible()
    dashboard.check_console()


def test_a_hand_off_to_a_new_path_retires_the_old_one(lab: Lab, tab: OpenTab) -> None:
    service = lab.service(f"multi://{lab.root}/vm1", f"multi://{lab.root}/vm2")
    service.dial(f"{lab.root}/vm2", "vm1", name="wifi")
    flow = lab.flow(lab.root / "vm1", 1)
    witness = next(link["name"] for link in service.links(multilink="vm1") if link["kind"] == "attached")
    dashboard = tab()
    page = dashboard.open(service)
    page.get_by_role("button", name="Hand off", exact=True).click()
    form = page.get_by_role("dialog", name="Hand off vm1")
    form.get_by_label("a new path").check()
    form.get_by_label("Locator (VNL) of the new path").fill("nonsense://")
    form.get_by_role("button", name="Hand off", exact=True).click()
    expect(form.get_by_role("alert")).to_contain_text("nonsense")
    form.get_by_label("Locator (VNL) of the new path").fill(f"vde://{lab.root}/vm2")
    form.get_by_label("Name of the new link").fill("lte")
    form.get_by_label("not at all").check()
    expect(form.get_by_label("Give up after (seconds)")).to_be_hidden()
    form.get_by_label("Both carry for (seconds)").fill("0,2")
    form.get_by_role("button", name="Hand off", exact=True).click()
    progress = page.get_by_role("dialog", name="Hand-off", exact=True)
    expect(progress).to_contain_text("lte")
    expect(progress.locator(".outcome")).to_have_attribute("data-state", "completed")
    progress.get_by_role("button", name="Close").click()
    expect(page.locator("tr.link[data-link=wifi]")).to_have_count(0)
    expect(page.locator(f"tr.link[data-link={witness}]")).to_have_count(0)
    expect(page.locator("tr.link[data-link=lte]")).to_contain_text("up")
    flow.abandon()
    dashboard.check_console(refusals=True)


def test_a_hand_off_that_proves_nothing_is_aborted_or_rolled_back(lab: Lab, tab: OpenTab) -> None:
    service = lab.service(f"multi://{lab.root}/vm1", f"multi://{lab.root}/vm2")
    service.dial(f"{lab.root}/vm2", "vm1", name="wifi")
    service.dial(f"{lab.root}/vm2", "vm1", name="lte", role="standby")
    dashboard = tab()
    page = dashboard.open(service)

    def hand_off(give_up_s: str) -> None:
        page.get_by_role("button", name="Hand off to lte").click()
        form = page.get_by_role("dialog", name="Hand off vm1")
        form.get_by_label("ask an address").check()
        form.get_by_label("Address", exact=True).fill("10.99.0.9")
        form.get_by_label("Give up after (seconds)").fill(give_up_s)
        form.get_by_role("button", name="Hand off", exact=True).click()

    progress = page.get_by_role("dialog", name="Hand-off", exact=True)
    hand_off("60")
    expect(progress.locator("[data-phase=verifying]")).to_have_attribute("data-step", "now")
    progress.get_by_role("button", name="Abort and roll back").click()
    expect(progress.locator(".outcome")).to_have_attribute("data-state", "aborted")
    progress.get_by_role("button", name="Close").click()
    expect(page.get_by_role("button", name="Hand off to lte")).to_be_enabled()

    hand_off("0.3")
    expect(progress.locator(".outcome")).to_have_attribute("data-state", "rolled_back")
    expect(progress.locator("[data-phase=verifying]")).to_have_attribute("data-step", "failed")
    handoffs = service.api.get("/handoffs").json()["handoffs"]
    assert [each["state"] for each in handoffs] == ["aborted", "rolled_back"]
    reason = handoffs[1]["reason"]
    expect(progress.locator(".outcome")).to_contain_text(reason[1:])
    assert service.link("wifi")["role"] == "active"
    dashboard.check_console()
