"""Links in the page: they appear, are added, changed, sorted and retired; refusals are shown in the service's words."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.e2e.dashboard.conftest import OpenTab
from tests.e2e.harness.lab import Lab
from tests.e2e.harness.raw import frame
from tests.e2e.harness.waiting import wait_until

pytestmark = pytest.mark.e2e


def test_links_appear_as_vde_plug_attaches_and_go_as_it_leaves(lab: Lab, tab: OpenTab) -> None:
    service = lab.service(f"multi://{lab.root}/vm1", f"multi://{lab.root}/vm2")
    dashboard = tab()
    page = dashboard.open(service)
    rows = page.locator("tr.link")
    expect(page.get_by_text("There is no link yet.", exact=False)).to_be_visible()
    plugs = [lab.start(["vde_plug", f"{lab.root}/vm1"]) for _ in range(2)]
    expect(rows).to_have_count(2)
    link = service.wait_peer(plugs[0].pid)
    row = page.locator(f"tr.link[data-link='{link['name']}']")
    expect(row).to_contain_text(f"pid {plugs[0].pid}")
    expect(row).to_contain_text("up")
    expect(page.locator("#picture .node")).to_have_count(2)
    expect(page.locator(".chart")).to_have_count(2)
    expect(page.locator("#events")).to_contain_text(f"{link['name']} is up")
    expect(page.locator("#picture svg")).to_have_attribute("aria-labelledby", "picture-words")

    # The other multilink has none of these.
    page.get_by_role("tab", name="vm1").press("ArrowRight")
    expect(page.get_by_role("tab", name="vm2")).to_be_focused()
    expect(rows).to_have_count(0)
    page.get_by_role("tab", name="vm1").click()
    expect(rows).to_have_count(2)
    plugs[0].kill()
    expect(rows).to_have_count(1)
    expect(page.locator("#picture .node")).to_have_count(1)
    dashboard.check_console()


def test_a_link_is_added_set_on_standby_and_retired(lab: Lab, tab: OpenTab) -> None:
    service = lab.service(f"multi://{lab.root}/vm1", f"multi://{lab.root}/vm2")
    dashboard = tab()
    page = dashboard.open(service)
    page.get_by_role("button", name="Add a link").click()
    dialog = page.get_by_role("dialog", name="Add a link to vm1")
    dialog.get_by_label("Locator (VNL)").fill(f"{lab.root}/vm2")
    dialog.get_by_label("Name", exact=True).fill("wifi")
    dialog.get_by_role("button", name="Add").click()
    expect(dialog).to_have_count(0)
    row = page.locator("tr.link[data-link=wifi]")
    expect(row).to_contain_text("dialled")
    expect(page.locator("#announcer")).to_have_text("wifi is up.")

    page.get_by_role("button", name="Set on standby: wifi").click()
    expect(row.locator(".pill")).to_have_text("standby")
    assert service.link("wifi")["role"] == "standby"
    page.get_by_role("button", name="Make active: wifi").click()
    expect(row.locator(".pill")).to_have_text("up")

    page.get_by_role("button", name="Details of wifi").click()
    details = page.locator("tr.details:visible")
    expect(details).to_contain_text(service.link("wifi")["id"])
    expect(details).to_contain_text("dialled again")

    page.get_by_role("button", name="Retire wifi").click()
    confirm = page.get_by_role("dialog", name="Retire wifi?")
    confirm.get_by_role("button", name="Cancel").click()
    expect(confirm).to_have_count(0)
    expect(row).to_have_count(1)
    page.get_by_role("button", name="Retire wifi").click()
    drain = confirm.get_by_label("Drain for (seconds)")
    drain.fill("-3")
    drain.press("Enter")
    expect(confirm.get_by_role("alert")).to_contain_text("drain_s")
    drain.fill("0.1")
    drain.press("Enter")
    expect(row).to_have_count(0)
    expect(page.get_by_role("button", name="Add a link")).to_be_focused()
    expect(page.locator("#events")).to_contain_text("wifi is retired")
    assert [link["name"] for link in service.links(state="retired", multilink="vm1")] == ["wifi"]
    dashboard.check_console(refusals=True)


def test_a_refusal_is_told_in_the_services_own_words(lab: Lab, tab: OpenTab) -> None:
    service = lab.service(f"multi://{lab.root}/vm1")
    dashboard = tab()
    page = dashboard.open(service)
    page.get_by_role("button", name="Add a link").click()
    dialog = page.get_by_role("dialog")
    field = dialog.get_by_label("Locator (VNL)")
    here = f"vde://{lab.root}"
    for wrong in ("nonsense://x", f"{here}/nowhere", f"multi://{lab.root}/vm9", "cmd://true", f"{here}/vm1[", ""):
        said = service.api.post("/links", json={"url": wrong, "multilink": "vm1"}).json()["detail"]
        field.fill(wrong)
        dialog.get_by_role("button", name="Add").click()
        expect(dialog.get_by_role("alert")).to_have_text(said)
        expect(field).to_have_value(wrong)
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    assert service.links() == []
    dashboard.check_console(refusals=True)


def test_the_table_is_sorted_and_the_chart_read_with_the_keyboard(lab: Lab, tab: OpenTab) -> None:
    service = lab.service(f"multi://{lab.root}/vm1", f"multi://{lab.root}/vm2")
    for name in ("b", "c", "a"):
        service.dial(f"{lab.root}/vm2", "vm1", name=name)
    host = lab.client(lab.root / "vm1", "host")
    dashboard = tab()
    page = dashboard.open(service)
    rows = page.locator("tr.link")

    def order() -> list[str | None]:
        return [row.get_attribute("data-link") for row in rows.all()]

    expect(rows).to_have_count(3)
    assert order() == ["b", "c", "a"]
    head = page.get_by_role("columnheader", name="Name")
    head.get_by_role("button").press("Enter")
    expect(head).to_have_attribute("aria-sort", "ascending")
    assert order() == ["a", "b", "c"]
    head.get_by_role("button").press("Enter")
    expect(head).to_have_attribute("aria-sort", "descending")
    assert order() == ["c", "b", "a"]

    for number in range(50):
        host.send(frame(number, size=1000))
    wait_until(lambda: service.link("a")["tx"]["frames"] == 50, "the frames")
    plot = page.get_by_role("slider", name="Throughput of a, second by second")
    plot.focus()
    expect(plot).to_have_attribute("aria-valuenow", "0")

    def reads_the_burst() -> bool:
        # It may only come to be known after it has been passed.
        plot.press("End" if plot.get_attribute("aria-valuenow") == "-20" else "ArrowLeft")
        said = plot.get_attribute("aria-valuetext") or ""
        return re.search(r"from host .+bit/s \((?!0 )\d+ frames?\)", said) is not None

    wait_until(reads_the_burst, "the second in which the frames went")
    plot.hover(position={"x": 5, "y": 40})
    expect(plot).to_have_attribute("aria-valuenow", re.compile("^-29[0-9]$"))
    page.get_by_role("heading", name="Links", exact=True).hover()
    plot.press("Home")
    expect(plot).to_have_attribute("aria-valuenow", "-299")
    expect(page.locator(".chart[data-link] .readout[data-reading]")).to_contain_text("not there yet")
    dashboard.check_console()
