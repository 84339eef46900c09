"""Pictures of the dashboard, taken from a live service under real traffic: `make screenshots`.

Two multilinks in one service, a namespace (vdens) as the host of each, two paths between them, a third link to a
switch that goes away; iperf3 and ping between the hosts. Everything goes to build/screenshots, and the two that the
README shows to docs/.
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from playwright.sync_api import Browser, Page, expect

from tests.e2e.dashboard.browser import PHONE, Scheme, address_of, open_browser
from tests.e2e.harness import require
from tests.e2e.harness.lab import Lab
from tests.e2e.harness.service import Service
from tests.e2e.harness.waiting import wait_until

ROOT: Final = Path(__file__).parents[1]
PICTURES: Final = ROOT / "build" / "screenshots"
FOR_THE_README: Final = {"busy-light.png": "dashboard.png", "handoff-dark.png": "dashboard-handoff.png"}
README_LIMIT: Final = 200_000
BUSY_S: Final = 75
DESK: Final = (1280, 1300)
"""High enough for the picture, the table and the first charts."""
_WAVES: Final = "3M 9M 6M 12M 5M 8M"


def main() -> None:
    """Take them all."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    with Lab() as lab, open_browser() as browser:
        service = set_up(lab)
        page = open_page(browser, service, "light", DESK)
        time.sleep(3)
        shoot(page, "idle-light.png")
        make_traffic(lab, service)
        time.sleep(BUSY_S)
        dark = open_page(browser, service, "dark", DESK)
        phone = open_page(browser, service, "dark", PHONE)
        phone_light = open_page(browser, service, "light", PHONE)
        time.sleep(2.5)
        shoot(page, "busy-light.png")
        shoot(dark, "busy-dark.png", whole=True)
        shoot(phone, "busy-phone-dark.png", whole=True)
        shoot(phone_light, "busy-phone-light.png")
        hand_off(page, dark, phone)
    for source, target in FOR_THE_README.items():
        shutil.copyfile(PICTURES / source, ROOT / "docs" / target)
        size = (ROOT / "docs" / target).stat().st_size
        if size > README_LIMIT:
            sys.exit(f"docs/{target} has {size} bytes: more than the README should load")


def set_up(lab: Lab) -> Service:
    """Two hosts, two paths between them, and a link that is down."""
    service = lab.service(f"multi://{lab.root}/vm1", f"multi://{lab.root}/vm2")
    service.dial(f"{lab.root}/vm2", "vm1", name="wifi", monitor={"address": "10.9.0.2", "interval_s": 1})
    watched = {"address": "10.9.0.2", "interval_s": 1}
    service.dial(f"{lab.root}/vm2", "vm1", name="lte", role="standby", monitor=watched)
    switch = lab.start(["vde_switch", "-s", f"{lab.root}/office", "-M", f"{lab.root}/mgmt"])
    wait_until((lab.root / "office" / "ctl").exists, "the switch")
    service.dial(f"{lab.root}/office", "vm1", name="office")
    switch.kill()
    service.wait_link(lambda link: link["name"] == "office" and link["state"] == "down")
    # The hosts come when there is a path: what a host sends before that is lost, and counted.
    lab.start(["vdens", f"vde://{lab.root}/vm1[host]", "sh", "-c", _interface(1) + "exec iperf3 -s"])
    service.wait_host("vm1")
    return service


def make_traffic(lab: Lab, service: Service) -> None:
    """Waves of UDP both ways, and a ping."""
    waves = f"while :; do for rate in {_WAVES}; do iperf3 -c 10.9.0.1 -u -b $rate -t 9 --bidir; done; done"
    script = _interface(2) + f"sleep 1; {require.program('ping')} -i 0.2 10.9.0.1 & {waves}"
    lab.start(["vdens", f"vde://{lab.root}/vm2[host]", "sh", "-c", script])
    service.wait_host("vm2")


def hand_off(light: Page, dark: Page, phone: Page) -> None:
    """From wifi to lte, by way of the dialog."""
    light.get_by_role("button", name="Hand off to lte").click()
    form = light.get_by_role("dialog", name="Hand off vm1")
    form.get_by_label("ask an address").check()
    form.get_by_label("Address", exact=True).fill("10.9.0.2")
    form.get_by_label("Both carry for (seconds)").fill("6")
    form.get_by_label("kept on standby").check()
    shoot(light, "asking-light.png")
    form.get_by_role("button", name="Hand off", exact=True).click()
    progress = light.get_by_role("dialog", name="Hand-off", exact=True)
    expect(progress.locator("[data-phase=overlapping]")).to_have_attribute("data-step", "now")
    time.sleep(2)
    shoot(light, "handoff-light.png")
    shoot(phone, "handoff-phone-dark.png")
    dark.get_by_role("button", name="Watch", exact=True).click()
    dark.get_by_role("button", name="Close").click()
    shoot(dark, "handoff-dark.png")
    expect(progress.locator(".outcome")).to_have_attribute("data-state", "completed")
    time.sleep(1)
    shoot(light, "report-light.png")


def open_page(browser: Browser, service: Service, scheme: Scheme, size: tuple[int, int]) -> Page:
    """The dashboard as a user sees it, motion and all."""
    page = browser.new_page(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
    page.goto(address_of(service))
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    return page


def shoot(page: Page, name: str, *, whole: bool = False) -> None:
    """Take one."""
    page.screenshot(path=PICTURES / name, full_page=whole)
    print(PICTURES / name)


def _interface(number: int) -> str:
    ip = require.program("ip")
    return f"{ip} addr add 10.9.0.{number}/24 dev vde0; {ip} link set vde0 up; {ip} link set lo up; "


if __name__ == "__main__":
    main()
