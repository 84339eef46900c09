"""What holds for the whole page: for everybody (axe-core), on a phone, without motion, and in its stream's parser."""

from __future__ import annotations

from typing import Final

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.dashboard.browser import DESK, PHONE, Dashboard, Scheme
from tests.e2e.dashboard.conftest import OpenTab
from tests.e2e.harness.lab import Lab

pytestmark = pytest.mark.e2e


def _check(dashboard: Dashboard, where: str) -> None:
    faults = dashboard.axe_faults()
    assert not faults, f"{where}: " + "\n".join(faults)
    assert dashboard.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{where} scrolls sideways"


def _close_dialog(page: Page) -> None:
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_axe_finds_no_serious_fault_anywhere(lab: Lab, tab: OpenTab, scheme: Scheme, size: tuple[int, int]) -> None:
    service = lab.service(f"multi://{lab.root}/vm1", f"multi://{lab.root}/vm2")
    dashboard = tab(scheme, size)
    page = dashboard.open(service, token="wrong")
    expect(page.get_by_label("Token")).to_be_visible()
    _check(dashboard, "signing in")
    dashboard.open(service)
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    _check(dashboard, "nothing yet")
    service.dial(f"{lab.root}/vm2", "vm1", name="wifi")
    service.dial(f"{lab.root}/vm2", "vm1", name="lte", role="standby")
    page.get_by_role("button", name="Details of wifi").click()
    _check(dashboard, "two links")
    page.get_by_role("button", name="Add a link").click()
    page.get_by_role("dialog").get_by_role("button", name="Add").click()
    expect(page.get_by_role("dialog").get_by_role("alert")).not_to_be_empty()
    _check(dashboard, "adding a link")
    _close_dialog(page)
    page.get_by_role("button", name="Retire wifi").click()
    _check(dashboard, "retiring one")
    _close_dialog(page)
    page.get_by_role("button", name="Hand off", exact=True).click()
    _check(dashboard, "asking for a hand-off")
    page.get_by_role("dialog").get_by_label("Both carry for (seconds)").fill("60")
    page.get_by_role("dialog").get_by_role("button", name="Hand off", exact=True).click()
    progress = page.get_by_role("dialog", name="Hand-off", exact=True)
    expect(progress.locator("[data-phase=overlapping]")).to_have_attribute("data-step", "now")
    _check(dashboard, "watching it")
    _close_dialog(page)
    _check(dashboard, "while it runs")
    page.get_by_role("button", name="Watch", exact=True).click()
    progress.get_by_role("button", name="Abort and roll back").click()
    expect(progress.locator(".outcome")).to_have_attribute("data-state", "aborted")
    _check(dashboard, "its report")
    _close_dialog(page)
    dashboard.check_console(refusals=True)


def test_the_colours_can_be_chosen_and_are_remembered(lab: Lab, tab: OpenTab) -> None:
    service = lab.service(f"multi://{lab.root}/vm1")
    dashboard = tab("dark")
    page = dashboard.open(service)
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(ground)
    page.get_by_role("button", name="Colours: as the system has them").click()
    light = page.evaluate(ground)
    assert light != dark
    page.reload()
    expect(page.get_by_role("button", name="Colours: light")).to_be_visible()
    assert page.evaluate(ground) == light
    page.get_by_role("button", name="Colours: light").click()
    assert page.evaluate(ground) == dark
    dashboard.check_console()


def test_nothing_moves_for_those_who_do_not_want_it(lab: Lab, tab: OpenTab) -> None:
    service = lab.service(f"multi://{lab.root}/vm1")
    lab.client(lab.root / "vm1")
    dashboard = tab()
    page = dashboard.open(service)
    expect(page.locator("#picture .node")).to_have_count(1)
    assert page.evaluate("document.getAnimations().length") == 0


def test_many_links_do_not_overwhelm_the_picture(lab: Lab, tab: OpenTab) -> None:
    service = lab.service(f"multi://{lab.root}/vm1")
    for _ in range(40):
        lab.client(lab.root / "vm1")
    dashboard = tab()
    page = dashboard.open(service)
    expect(page.locator("tr.link")).to_have_count(40)
    expect(page.locator("#picture .node")).to_have_count(12)
    expect(page.locator("#picture .node").last).to_contain_text("29 more")
    expect(page.locator(".chart")).to_have_count(24)
    dashboard.check_console()


def test_the_stream_is_understood_however_it_is_cut(lab: Lab, tab: OpenTab) -> None:
    service = lab.service(f"multi://{lab.root}/vm1")
    page = tab().open(service)
    lines = [": hello", "retry: 1000", "id: r-1", "", "event: link_up", "id: r-2", 'data: {"a":', 'data:"b: c"}', ""]
    lines += [": still here", "", 'data: {"n": 1}', "", "event: half", 'data: {"never"']
    for end in ("\n", "\r", "\r\n"):
        for piece in (1, 2, 7, 1000):
            found = page.evaluate(_PARSE, [end.join(lines), piece])
            assert found == [
                {"id": "r-2", "kind": "link_up", "data": {"a": "b: c"}},
                {"id": "r-2", "kind": "message", "data": {"n": 1}},
            ], (end, piece)


_PARSE: Final = """async ([text, piece]) => {
    const { EventParser } = await import("/dashboard/event-stream.js");
    const parser = new EventParser();
    const found = [];
    for (let at = 0; at < text.length; at += piece) {
        found.push(...parser.feed(text.slice(at, at + piece)));
    }
    return found;
}"""
