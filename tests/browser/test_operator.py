"""What an operator asks of the daemons through the page: snapshots, and who follows a run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.browser.looks import check_accessible_in_both, keep_workers, wait_feed, wait_for, wait_run

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

    from tests.browser.conftest import Tabs
    from tests.browser.platform import Platform

pytestmark = pytest.mark.integration

SNAPSHOT = "**/api/workers/snapshot/preflightd-1"


def answer_with(page: Page, status: int, error: str, **headers: str) -> None:
    """Let opsd answer so when it is asked for the snapshot."""

    def answer(route: Route) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        body = json.dumps({"error": error})
        route.fulfill(status=status, headers={"Content-Type": "application/json", **named}, body=body)

    page.route(SNAPSHOT, answer)


def test_a_snapshot_that_fails_is_said_and_tried_again(tabs: Tabs, platform: Platform) -> None:
    tabs.ignored = ("503", "429")
    page = tabs.open(platform.page, before=keep_workers)
    wait_feed(page, "live")
    panel = page.locator("worker-snapshot-panel")
    row = panel.locator('tr[data-key="preflightd-1"]')
    start = panel.get_by_role("button", name="Start them in tmux")
    expect(panel.locator("tbody tr")).to_have_count(2)
    expect(start).to_be_hidden()
    download = row.get_by_role("button", name="Download a snapshot of preflightd-1")

    answer_with(page, 429, "preflightd: a snapshot of this worker was taken a moment ago", Retry_After="7")
    download.click()
    expect(row.get_by_role("alert")).to_have_text(
        "No snapshot: preflightd: a snapshot of this worker was taken a moment ago; try again in 7 s."
    )
    again = row.get_by_role("button", name="Try again: a snapshot of preflightd-1")
    expect(again).to_be_focused()
    # Its worker is well.
    expect(start).to_be_hidden()

    page.unroute(SNAPSHOT)
    answer_with(page, 503, "preflightd: no answer")
    again.click()
    expect(row.get_by_role("alert")).to_have_text("No snapshot: preflightd: no answer.")
    expect(start).to_be_visible()
    check_accessible_in_both(page)

    page.unroute(SNAPSHOT)
    with page.expect_download() as waiting:
        again.click()
    assert waiting.value.suggested_filename.startswith("preflightd-1-")
    expect(row.get_by_role("alert")).to_have_text("")
    expect(start).to_be_hidden()
    expect(download).to_be_focused()


def test_a_snapshot_of_daemons_that_were_started_anew_meanwhile_says_nothing_of_these(
    tabs: Tabs, platform: Platform
) -> None:
    tabs.ignored = ("503",)
    asked: list[Route] = []
    workers = [{"id": "preflightd-1"}, {"id": "statusd-1"}]

    def keep(route: Route) -> None:
        asked.append(route)

    def answer(route: Route) -> None:
        route.fulfill(json={"telemetryStatus": "healthy", "sources": [], "workers": workers})

    def prepare(page: Page) -> None:
        page.route(SNAPSHOT, keep)
        page.route("**/api/dev/workers", answer)

    page = tabs.open(platform.page, before=prepare)
    panel = page.locator("worker-snapshot-panel")
    row = panel.locator('tr[data-key="preflightd-1"]')
    row.get_by_role("button").click()
    wait_for(page, lambda: bool(asked), "the snapshot is asked for")
    page.evaluate("document.dispatchEvent(new CustomEvent('tmux-changed'))")
    asked[0].fulfill(status=503, json={"error": "preflightd: no answer"})
    expect(row.get_by_role("alert")).to_have_text("No snapshot: preflightd: no answer.")
    workers.append({"id": "another"})
    expect(panel.locator("p.state")).to_have_text("3 workers report.")
    expect(panel.get_by_role("button", name="Start them in tmux")).to_be_hidden()


def test_the_run_viewer_says_how_many_follow_the_run(tabs: Tabs, platform: Platform) -> None:
    address = f"{platform.page}#run=followed:wepp"
    first = tabs.open(address)
    wait_run(first)
    viewers = first.locator('[data-part="viewers"]')
    expect(viewers).to_have_text("Clients: 1 of the log, 1 of the checklist, this page among them.")
    second = tabs.open(address)
    wait_run(second)
    expect(viewers).to_have_text("Clients: 2 of the log, 2 of the checklist, this page among them.")
    check_accessible_in_both(first)
    first.get_by_role("button", name="Close").click()
    expect(viewers).to_have_text("")
    expect(second.locator('[data-part="viewers"]')).to_have_text(
        "Clients: 1 of the log, 1 of the checklist, this page among them."
    )
