"""The run viewer: a run's lines and its checklist as they come, from real daemons."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.browser.looks import wait_for, wait_run

if TYPE_CHECKING:
    from tests.browser.conftest import Tabs
    from tests.browser.platform import Platform

pytestmark = pytest.mark.integration

RUN = "batch;;some.name;;_base"


def test_an_address_opens_a_run_at_once_and_its_lines_come(tabs: Tabs, platform: Platform) -> None:
    page = tabs.open(f"{platform.page}#run={RUN}:wepp")
    wait_run(page)
    expect(page.get_by_label("Run id")).to_have_value(RUN)
    markup = "<img src=x onerror=console.error(1)> & more"
    platform.publish(
        f"{RUN}:wepp",
        markup,
        "tile 12.5%",
        json.dumps({"type": "progress", "percent": 58, "message": "abc", "task": "t"}),
    )
    lines = page.locator(".log-line")
    expect(lines).to_have_count(3)
    expect(lines.nth(0).locator(".line")).to_have_text(markup)
    expect(lines.nth(1).locator("progress")).to_have_js_property("value", 12.5)
    expect(lines.nth(2).locator(".line")).to_have_text("t: abc")
    expect(page.locator(".run-progress")).to_contain_text("58 % · t: abc")
    expect(page.locator(".run-progress progress")).to_have_js_property("value", 58)


def test_the_checklist_follows_the_hash(tabs: Tabs, platform: Platform) -> None:
    run = "checklist-run"
    page = tabs.open(f"{platform.page}#run={run}:wepp")
    wait_run(page)
    row = page.locator('tr[data-key="sbs_map"]')
    expect(row).to_have_attribute("data-done", "false")
    expect(page.locator(".locks")).to_have_text("Nothing is locked.")
    platform.write(run, attrs__has_sbs="true", locked__soils="true")
    expect(row).to_have_attribute("data-done", "true")
    expect(row).to_contain_text("done")
    expect(page.locator(".locks")).to_have_text("Locked: soils")


def test_it_answers_the_heartbeat(tabs: Tabs, platform: Platform) -> None:
    before = platform.stage.call(platform.statusd.metric, "status2_client_messages_total", 'kind="pong"')
    page = tabs.open(f"{platform.page}#run=beating:wepp")
    wait_run(page)

    def pongs() -> float:
        return platform.stage.call(platform.statusd.metric, "status2_client_messages_total", 'kind="pong"')

    wait_for(page, lambda: pongs() >= before + 2, "two pongs")


@pytest.mark.parametrize(
    ("run", "channel", "at"),
    [
        ("a/b", "wepp", "Run id"),
        ("..", "wepp", "Run id"),
        ("", "wepp", "Run id"),
        ("run", "a;b", "Channel"),
        ("run", "x" * 257, "Channel"),
    ],
)
def test_bad_ids_are_refused_before_anything_is_opened(
    tabs: Tabs, platform: Platform, run: str, channel: str, at: str
) -> None:
    page = tabs.open(platform.page)
    page.get_by_label("Run id").fill(run)
    page.get_by_label("Channel").fill(channel)
    opened: list[str] = []
    page.on("websocket", lambda socket: opened.append(socket.url))
    page.get_by_role("button", name="Open").click()
    expect(page.locator("#run-error")).not_to_be_empty()
    expect(page.get_by_label(at)).to_be_focused()
    expect(page.get_by_label(at)).to_have_attribute("aria-invalid", "true")
    assert not [url for url in opened if "/api/dev/status/live" not in url]


def test_it_is_opened_and_closed_by_hand(tabs: Tabs, platform: Platform) -> None:
    page = tabs.open(platform.page)
    page.get_by_label("Run id").fill("by-hand")
    page.get_by_label("Channel").fill("wepp")
    page.keyboard.press("Enter")
    wait_run(page)
    expect(page).to_have_url(f"{platform.page}#run=by-hand:wepp")
    page.get_by_role("button", name="Close").click()
    expect(page.locator('[data-part="status-state"]')).to_have_attribute("data-state", "stopped")
    expect(page).to_have_url(platform.page)
