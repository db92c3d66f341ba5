"""The page's status: it changes by itself, falls back to polling, says what is old or wrong, and can be read by all."""

from __future__ import annotations

import gzip
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from preflightd.checklist import packaged
from tests.browser.looks import LIVE, altered, check_accessible, connect, steady, tile, wait_feed, wait_run

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route, WebSocketRoute

    from tests.browser.conftest import Tabs
    from tests.browser.platform import Platform

pytestmark = pytest.mark.integration

PHONE = (360, 800)
DESK = (1920, 1080)
WALL = (2560, 1440)

# As the browser says when its network is back: the page does not wait for its next attempt then.
ONLINE = "window.dispatchEvent(new Event('online'))"


def test_values_change_live_without_a_reload(tabs: Tabs, platform: Platform) -> None:
    page = tabs.open(platform.page)
    wait_feed(page, "live")
    expect(tile(page, "workers")).to_have_text("2")
    expect(tile(page, "connections")).to_have_text("0")
    page.evaluate("window.marked = true")

    connect(page, platform.statusd.port)
    expect(tile(page, "connections")).to_have_text("1")
    page.evaluate("window.socket.close()")
    expect(tile(page, "connections")).to_have_text("0")
    assert page.evaluate("window.marked") is True


def test_polls_while_the_websocket_is_cut_and_comes_back_to_it(tabs: Tabs, platform: Platform) -> None:
    cut = True

    def serve(socket: WebSocketRoute) -> None:
        if cut:
            socket.close()
        else:
            socket.connect_to_server()

    page = tabs.open(platform.page, before=lambda page: page.route_web_socket(LIVE, serve))
    wait_feed(page, "polling")
    expect(page.locator('[data-part="feed"]')).to_contain_text("Polling")
    connect(page, platform.statusd.port)
    expect(tile(page, "connections")).to_have_text("1")
    cut = False
    page.evaluate(ONLINE)
    wait_feed(page, "live")
    page.evaluate("window.socket.close()")
    expect(tile(page, "connections")).to_have_text("0")


def test_old_figures_are_marked_as_stale_until_new_ones_come(tabs: Tabs, platform: Platform) -> None:
    tabs.ignored = ("net::ERR_FAILED",)
    sockets: list[WebSocketRoute] = []
    cut = False

    def serve(socket: WebSocketRoute) -> None:
        if cut:
            socket.close()
            return
        socket.connect_to_server()
        sockets.append(socket)

    def answer(route: Route) -> None:
        if cut:
            route.abort()
        else:
            route.continue_()

    def prepare(page: Page) -> None:
        page.route_web_socket(LIVE, serve)
        page.route("**/api/dev/status", answer)

    page = tabs.open(platform.page, before=prepare)
    wait_feed(page, "live")
    cut = True
    sockets[-1].close()
    wait_feed(page, "offline")
    status = page.locator("system-status")
    expect(status).to_have_attribute("data-freshness", "stale")
    expect(page.locator('[data-part="feed"]')).to_contain_text(re.compile(r"Stale for \d+ s"))
    expect(page.locator("#verdict")).to_contain_text("No connection")
    check_accessible(page)
    cut = False
    page.evaluate(ONLINE)
    wait_feed(page, "live")
    expect(status).to_have_attribute("data-freshness", "fresh")


def test_trouble_is_shown_in_words_and_colour_and_is_announced_once(tabs: Tabs, platform: Platform) -> None:
    trouble = False

    def change(status: dict[str, Any]) -> None:
        directions = steady(status)["vector"]["directions"]
        directions["primaryRegion"] = "<img src=x onerror=console.error(1)>"
        if trouble:
            directions["trafficMode"] = "isolated"
            status["vector"]["others"]["errorRate"] = 0.75
            status["meta"]["unavailable"] = ["preflightd"]

    page = tabs.open(platform.page, before=altered(change))
    wait_feed(page, "live")
    mode = page.locator('[data-part="mode"]')
    expect(mode).to_have_attribute("data-level", "ok")
    expect(mode).to_contain_text("Normal")
    expect(page.locator("system-status [role=status]")).to_have_text("")
    for name in ("statusd", "preflightd", "redis"):
        expect(page.locator(f'[data-part="lamp-{name}"]')).to_have_attribute("data-level", "ok")
    expect(page.locator("#verdict")).to_have_text("All is well")
    expect(tile(page, "region")).to_have_text("<img src=x onerror=console.error(1)>")

    trouble = True
    expect(mode).to_have_attribute("data-level", "bad")
    expect(mode).to_contain_text("Isolated")
    expect(page.locator("system-status [role=status]")).to_have_text("Traffic is isolated. preflightd is down.")
    expect(page.locator('[data-tile="errors"]')).to_have_attribute("data-level", "bad")
    expect(page.locator('[data-part="lamp-preflightd"]')).to_have_attribute("data-level", "bad")
    expect(page.locator('[data-part="lamp-preflightd"]')).to_contain_text("Down")
    expect(page.locator('[data-part="lamp-statusd"]')).to_have_attribute("data-level", "ok")
    expect(page.locator("#verdict")).to_have_text("Traffic isolated · preflightd down")
    expect(page.locator("#verdict")).to_have_attribute("data-level", "bad")
    expect(page).to_have_title("Traffic isolated · Operations")


def test_the_last_hour_is_drawn(tabs: Tabs, platform: Platform) -> None:
    page = tabs.open(platform.page)
    wait_feed(page, "live")
    expect(page.locator("hour-charts canvas")).to_have_count(4)
    stage = page.locator(".chart-stage").first
    expect(stage).to_have_attribute("aria-label", re.compile("Connections in the last hour: now "))


def test_a_snapshot_downloads_and_opens(tabs: Tabs, platform: Platform, tmp_path: Path) -> None:
    page = tabs.open(platform.page)
    row = page.locator('worker-snapshot-panel tr[data-key="statusd-1"]')
    expect(row).to_contain_text(str(platform.statusd.pid))
    with page.expect_download() as waiting:
        row.get_by_role("button").click()
    path = tmp_path / waiting.value.suggested_filename
    waiting.value.save_as(path)
    assert re.fullmatch(r"statusd-1-.*\.json(\.gz)?", path.name)
    data = path.read_bytes()
    snapshot = json.loads(gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data)
    assert snapshot["worker"]["pid"] == platform.statusd.pid
    assert snapshot["tasks"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESK, WALL], ids=["phone", "desk", "wall"])
def test_it_reads_well_everywhere(
    tabs: Tabs, platform: Platform, tmp_path: Path, size: tuple[int, int], scheme: str
) -> None:
    run = f"shown-{scheme}-{size[0]}"
    page = tabs.open(f"{platform.page}#run={run}:wepp", scheme=scheme, size=size)
    wait_feed(page, "live")
    wait_run(page)
    platform.publish(f"{run}:wepp", "soil tile 41%", "EXCEPTION in build_soils", "TRIGGER wepp COMPLETED")
    expect(page.locator(".log-line")).to_have_count(3)
    expect(page.locator("tr[data-done]")).to_have_count(len(packaged().evaluate({}).checklist))
    expect(page.locator("hour-charts canvas")).to_have_count(4)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "it scrolls sideways"
    check_accessible(page)
    directory = Path(os.environ.get("OPSD_SCREENSHOTS") or tmp_path)
    directory.mkdir(parents=True, exist_ok=True)
    picture = directory / f"opsd-{size[0]}x{size[1]}-{scheme}.png"
    page.screenshot(path=picture, full_page=True)
    assert picture.stat().st_size
