"""What has happened is on the page: in the list, and over the charts at its time."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from tests.browser.looks import altered, check_accessible_in_both, wait_feed, wait_for

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

    from tests.browser.conftest import Tabs
    from tests.browser.platform import Platform

pytestmark = pytest.mark.integration

# Whether the canvas has a column in this colour, from its top to the axis but for the line that it crosses.
COLUMN = """(canvas, colour) => {
  const { width, height } = canvas;
  const copy = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  copy.drawImage(canvas, 0, 0);
  const { data } = copy.getImageData(0, 0, width, height);
  for (let x = 0; x < width; x += 1) {
    let count = 0;
    for (let y = 0; y < height; y += 1) {
      const at = 4 * (y * width + x);
      if (data[at + 3] > 200 && colour.every((part, index) => Math.abs(data[at + index] - part) < 8)) count += 1;
    }
    if (count > height / 2) return true;
  }
  return false;
}"""
BAD, OK = [168, 29, 22], [15, 107, 60]


def ago(seconds: float) -> str:
    """A time as opsd writes it."""
    return datetime.fromtimestamp(time.time() - seconds, UTC).isoformat(timespec="milliseconds")


def event(seconds: float, kind: str, before: str, after: str, **more: str) -> dict[str, Any]:
    """An event that was so long ago."""
    return {"time": ago(seconds), "kind": kind, "from": before, "to": after, "errorRate": 0.25, **more}


def history(route: Route) -> None:
    """A recording of an hour."""
    points = [{"time": ago(age), "connections": 1, "latency": 1, "errorRate": 0} for age in range(3600, -1, -60)]
    route.fulfill(json={"minutes": 60, "points": points})


def test_what_has_happened_is_listed_and_marked_on_the_charts(tabs: Tabs, platform: Platform) -> None:
    found: list[dict[str, Any]] = []

    def change(status: dict[str, Any]) -> None:
        # Of what happens the figures tell, too.
        status["vector"]["sessions"]["activeWorkers"] = len(found)

    def prepare(page: Page) -> None:
        altered(change)(page)
        page.route("**/api/dev/status/history*", history)
        page.route("**/api/dev/events*", lambda route: route.fulfill(json={"events": found}))

    page = tabs.open(platform.page, before=prepare)
    wait_feed(page, "live")
    page.locator("summary", has_text="Events").click()
    rows = page.locator(".changes li")
    expect(page.locator(".history")).to_contain_text("None yet.")
    canvases = page.locator("hour-charts canvas")
    expect(canvases).to_have_count(4)
    assert not canvases.first.evaluate(COLUMN, BAD)

    found[:] = [
        event(300, "source", "down", "up", source="statusd"),
        event(600, "mode", "normal", "isolated"),
        event(900, "workers", "ready", "1 of 2 ready", source="preflightd"),
        event(1200, "source", "up", "down", source="statusd"),
        event(1500, "redis", "online", "<b>lost</b>", source="statusd"),
    ]
    told = [
        ("statusd", "up", "was down", "ok"),
        ("Traffic", "isolated", "was normal, error rate 25.0 %", "bad"),
        ("Workers of preflightd", "1 of 2 ready", "was ready", "warn"),
        ("statusd", "down", "was up", "bad"),
        # Of a kind that the page has no words for.
        ("redis statusd", "<b>lost</b>", "was online", "warn"),
    ]
    expect(rows).to_have_count(len(told))
    for index, (subject, state, detail, level) in enumerate(told):
        expect(rows.nth(index).locator("strong")).to_have_text(subject)
        expect(rows.nth(index).locator(".tag")).to_have_text(state)
        expect(rows.nth(index).locator(".tag")).to_have_attribute("data-level", level)
        expect(rows.nth(index).locator(".muted")).to_have_text(detail)
    for canvas in canvases.all():
        for colour in (BAD, OK):
            wait_for(
                page,
                lambda canvas=canvas, colour=colour: canvas.evaluate(COLUMN, colour),  # type: ignore[misc]
                "the chart is marked",
            )
    stages = page.locator(".chart-stage")
    expect(stages.first).to_have_attribute("aria-label", re.compile("5 events$"))
    check_accessible_in_both(page)


def test_the_cursor_on_a_mark_says_what_it_was(tabs: Tabs, platform: Platform) -> None:
    found = [event(1800, "source", "up", "down", source="statusd")]

    def prepare(page: Page) -> None:
        page.route("**/api/dev/status/history*", history)
        page.route("**/api/dev/events*", lambda route: route.fulfill(json={"events": found}))

    page = tabs.open(platform.page, before=prepare)
    wait_feed(page, "live")
    over = page.locator(".chart .u-over").first
    over.scroll_into_view_if_needed()
    when = page.locator(".chart-when").first

    def says() -> bool:
        box = over.bounding_box()
        assert box is not None
        # From the left to the right: where half an hour ago is, to the pixel, is the chart's matter.
        for share in range(300, 700, 5):
            page.mouse.move(box["x"] + box["width"] * share / 1000, box["y"] + box["height"] / 2)
            # At once: what comes above the chart takes it away from under the mouse.
            told, level = when.evaluate("(when) => [when.innerText, when.dataset.level]")
            if re.fullmatch(r"\d\d:\d\d:\d\d statusd: down", told):
                return bool(level == "bad")
        return False

    wait_for(page, says, "the mark is told, and how bad it was")
