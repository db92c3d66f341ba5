"""The page without a mouse, and as a screen reader has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.browser.looks import check_accessible_in_both, keep_workers, tab, wait_feed

if TYPE_CHECKING:
    from tests.browser.conftest import Tabs
    from tests.browser.platform import Platform

pytestmark = pytest.mark.integration

# Down to the panel of tmux, which may not be there. What can't be done now (Close) is left out.
CONTROLS = [
    "Skip to the status",
    *("Status", "Run", "Workers", "tmux"),
    "Events",
    *("Run id", "Channel", "Open"),
    *("Download a snapshot of statusd-1", "Download a snapshot of preflightd-1"),
]


def test_every_control_is_reached_in_reading_order_and_shows_the_focus(tabs: Tabs, platform: Platform) -> None:
    page = tabs.open(platform.page, before=keep_workers)
    wait_feed(page, "live")
    expect(page.locator("worker-snapshot-panel tbody tr")).to_have_count(2)
    assert [tab(page) for _ in CONTROLS] == CONTROLS


def test_the_skip_link_leads_past_the_bar(tabs: Tabs, platform: Platform) -> None:
    page = tabs.open(platform.page)
    wait_feed(page, "live")
    assert tab(page) == CONTROLS[0]
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    assert tab(page) == "Events"


def test_everything_has_a_name(tabs: Tabs, platform: Platform) -> None:
    page = tabs.open(f"{platform.page}#run=named:wepp")
    wait_feed(page, "live")
    for landmark in ("banner", "main", "navigation"):
        expect(page.get_by_role(landmark)).to_have_count(1)
    for name in ("System status", "Run", "Workers", "tmux", "Sessions", "Directions", "Operations", "Last hour"):
        expect(page.get_by_role("region", name=name, exact=True)).to_have_count(1)
    for name in ("Serving processes", "Checklist"):
        expect(page.get_by_role("table", name=name)).to_have_count(1)
    expect(page.get_by_role("log", name="Status lines")).to_have_count(1)
    for title in ("Connections", "Messages", "Latency", "Error rate"):
        expect(page.get_by_role("img", name=f"{title} in the last hour")).to_have_count(1)
    page.get_by_text("Events").click()
    check_accessible_in_both(page)
