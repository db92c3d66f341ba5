"""A run's lines on the page: what its jobs say, and a long run that is read without loss of place."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.browser.looks import check_accessible_in_both, wait_for, wait_run

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Locator, Page, WebSocketRoute

    from tests.browser.conftest import Tabs
    from tests.browser.platform import Platform

pytestmark = pytest.mark.integration

KEPT = 2000
JOB = "7f3a9c0e-1111-2222-3333-444455556666"

# The text of the first line of which something is seen, and how far its top is from the log's.
FIRST = """(log) => {
  const top = log.getBoundingClientRect().top;
  const row = [...log.children].find((one) => one.getBoundingClientRect().bottom > top);
  return [row.querySelector(".line").textContent, Math.round(row.getBoundingClientRect().top - top)];
}"""
# Presses a button and says, before anything else can happen, whether the match it goes to is in the window.
PRESSED_IN_VIEW = """(button) => {
  button.click();
  const { top, bottom } = document.querySelector(".log-line[data-current]").getBoundingClientRect();
  return top >= 0 && bottom <= innerHeight;
}"""
# The page takes height from the log while a scroll of its own is still to be told of.
SHRINK = """(log) => {
  log.style.flexBasis = "12rem";
  log.dispatchEvent(new Event("scroll"));
}"""
# The reader scrolls while the page takes height from the log: both are told of at once.
SHRINK_AND_SCROLL = """(log) => {
  log.style.flexBasis = "12rem";
  log.scrollTop = 100;
}"""
AT_END = "(log) => log.scrollHeight - log.scrollTop - log.clientHeight < 2"


def opened(tabs: Tabs, platform: Platform, run: str) -> Page:
    """The page with this run."""
    page = tabs.open(f"{platform.page}#run={run}:wepp")
    wait_run(page)
    return page


def counted(page: Page) -> Locator:
    """What is said below the lines."""
    return page.locator('[data-part="counted"]')


def wait_at_end(page: Page) -> None:
    """What else the page draws may take height from the log for a turn."""
    log = page.locator(".log")
    wait_for(page, lambda: log.evaluate(AT_END), "the end is in view")


def filled(tabs: Tabs, platform: Platform, run: str, lines: int) -> Page:
    """The page with this run, of which so many lines have come."""
    page = opened(tabs, platform, run)
    platform.publish(f"{run}:wepp", *numbered(1, lines))
    expect(counted(page)).to_have_text(f"{lines} lines")
    return page


def numbered(first: int, last: int) -> list[str]:
    """Lines to be published, both ends included."""
    return [f"line {number}" for number in range(first, last + 1)]


def test_what_a_job_says_is_told_apart_at_a_glance(tabs: Tabs, platform: Platform) -> None:
    page = opened(tabs, platform, "jobs")
    platform.publish(
        "jobs:wepp",
        f"rq:{JOB} STARTED run_wepp(accustomed-pewter)",
        f"rq:{JOB} STATUS hillslope 41 % of it",
        "rq:1f EXCEPTION build_soils(accustomed-pewter)",
        f"rq:{JOB} TRIGGER   wepp WEPP_RUN_TASK_COMPLETED",
        f"rq:{JOB} COMPLETED run_wepp(accustomed-pewter)",
        "rq:1f STARTEDLY no job's",
    )
    rows = page.locator(".log-line")
    expect(rows).to_have_count(6)
    told = [
        ("rq:7f3a9c0e…", "STARTED", "run_wepp(accustomed-pewter)", "start"),
        ("rq:7f3a9c0e…", None, "hillslope 41 % of it", None),
        ("rq:1f", "EXCEPTION", "build_soils(accustomed-pewter)", "bad"),
        ("rq:7f3a9c0e…", "TRIGGER", "wepp WEPP_RUN_TASK_COMPLETED", "signal"),
        ("rq:7f3a9c0e…", "COMPLETED", "run_wepp(accustomed-pewter)", "ok"),
    ]
    for index, (job, event, text, level) in enumerate(told):
        row = rows.nth(index)
        expect(row.locator(".job")).to_have_text(job)
        expect(row.locator(".job-event")).to_have_text([event] if event else [])
        expect(row.locator(".line")).to_have_text(text)
        assert row.get_attribute("data-level") == level
    expect(rows.first.locator(".job")).to_have_attribute("title", JOB)
    expect(rows.last.locator(".job")).to_have_count(0)
    expect(rows.last.locator(".line")).to_have_text("rq:1f STARTEDLY no job's")
    expect(rows.nth(1).locator("progress")).to_have_js_property("value", 41)
    tones = page.locator(".job-event").evaluate_all("(all) => all.map((one) => getComputedStyle(one).color)")
    assert len(set(tones)) == len(tones), "each has a colour of its own"
    check_accessible_in_both(page)


def test_only_the_last_lines_are_kept(tabs: Tabs, platform: Platform) -> None:
    page = opened(tabs, platform, "many")
    platform.publish("many:wepp", *numbered(1, KEPT + 50))
    expect(counted(page)).to_have_text("2,050 lines, the last 2,000 are kept")
    lines = page.locator(".log-line .line")
    expect(lines).to_have_count(KEPT)
    expect(lines.first).to_have_text("line 51")
    expect(lines.last).to_have_text(f"line {KEPT + 50}")
    wait_at_end(page)


def test_who_has_scrolled_up_stays_there(tabs: Tabs, platform: Platform) -> None:
    page = filled(tabs, platform, "reading", 200)
    log = page.locator(".log")
    to_end = page.get_by_role("button", name="To the end")
    expect(to_end).to_be_hidden()
    log.evaluate("(log) => { log.children[149].scrollIntoView(); log.scrollTop += 3; }")
    expect(to_end).to_have_text("To the end")
    place = log.evaluate(FIRST)
    # So many that lines above the reader's place go, and that place itself does not.
    platform.publish("reading:wepp", *numbered(201, KEPT + 100))
    expect(counted(page)).to_have_text("2,100 lines, the last 2,000 are kept")
    expect(page.locator(".log-line .line").first).to_have_text("line 101")
    assert log.evaluate(FIRST) == place
    expect(to_end).to_have_text("To the end: 1,900 new lines")
    to_end.click()
    expect(to_end).to_be_hidden()
    expect(log).to_be_focused()
    platform.publish("reading:wepp", "the newest")
    expect(page.locator(".log-line .line").last).to_have_text("the newest")
    wait_at_end(page)


def test_the_end_stays_in_view_when_the_log_gets_smaller(tabs: Tabs, platform: Platform) -> None:
    page = filled(tabs, platform, "smaller", 200)
    log = page.locator(".log")
    wait_at_end(page)
    log.evaluate(SHRINK)
    wait_at_end(page)
    # Nor does a bar that comes with the first percentage lose it.
    platform.publish("smaller:wepp", "tile 12 %")
    expect(page.locator(".run-progress")).to_be_visible()
    wait_at_end(page)
    expect(page.get_by_role("button", name="To the end")).to_be_hidden()


def test_who_scrolls_up_while_the_log_gets_smaller_is_not_taken_to_the_end(tabs: Tabs, platform: Platform) -> None:
    page = filled(tabs, platform, "up-and-smaller", 200)
    log = page.locator(".log")
    wait_at_end(page)
    log.evaluate(SHRINK_AND_SCROLL)
    expect(page.get_by_role("button", name="To the end")).to_be_visible()
    assert log.evaluate("(log) => log.scrollTop") == 100


def test_it_is_held_while_paused(tabs: Tabs, platform: Platform) -> None:
    page = opened(tabs, platform, "paused")
    rows = page.locator(".log-line")
    pause = page.get_by_role("button", name="Pause")
    platform.publish("paused:wepp", "one")
    expect(rows).to_have_count(1)
    pause.click()
    expect(pause).to_have_attribute("aria-pressed", "true")
    expect(counted(page)).to_have_text("1 line · paused")
    platform.publish("paused:wepp", "two", "three")
    expect(counted(page)).to_have_text("3 lines · paused, 2 lines held")
    expect(rows).to_have_count(1)
    check_accessible_in_both(page)
    pause.click()
    expect(page.locator(".log-line .line")).to_have_text(["one", "two", "three"])
    expect(counted(page)).to_have_text("3 lines")


def test_what_is_there_is_searched(tabs: Tabs, platform: Platform) -> None:
    page = opened(tabs, platform, "searched")
    platform.publish("searched:wepp", *numbered(1, 150), f"rq:{JOB} STATUS the soils", *numbered(151, 300))
    expect(counted(page)).to_have_text("301 lines")
    find, found = page.get_by_label("Find"), page.locator('[data-part="found"]')
    current = page.locator(".log-line[data-current] .line")
    find.fill("LINE 15")
    expect(found).to_have_text("11 found")
    page.get_by_role("button", name="Previous match").click()
    expect(found).to_have_text("11 of 11")
    expect(current).to_have_text("line 159")
    expect(current).to_be_in_viewport()
    find.press("Enter")
    expect(found).to_have_text("1 of 11")
    expect(current).to_have_text("line 15")
    expect(current).to_be_in_viewport()
    find.press("Shift+Enter")
    expect(current).to_have_text("line 159")
    # What comes is looked at too, and takes nobody away.
    platform.publish("searched:wepp", "line 1500")
    expect(found).to_have_text("11 of 12")
    expect(current).to_be_in_viewport()
    # A job's whole id, of which only the beginning is shown.
    find.fill(JOB)
    find.press("Enter")
    expect(found).to_have_text("1 of 1")
    expect(current).to_have_text("the soils")
    check_accessible_in_both(page)
    find.fill("nowhere")
    expect(found).to_have_text("0 found")
    find.press("Enter")
    expect(current).to_have_count(0)
    find.fill("")
    expect(found).to_have_text("")
    expect(page.locator(".log-line[data-found]")).to_have_count(0)


def test_a_match_is_in_view_at_once(tabs: Tabs, platform: Platform) -> None:
    """A glide towards it would end where something else scrolls the page or grows in it."""
    page = filled(tabs, platform, "at_once", 300)
    page.get_by_label("Find").fill("line 15")
    page.evaluate("scrollTo({ top: 0, behavior: 'instant' })")
    assert page.get_by_role("button", name="Previous match").evaluate(PRESSED_IN_VIEW)
    assert page.get_by_role("button", name="Next match").evaluate(PRESSED_IN_VIEW)


def test_it_is_saved_as_it_was_published(tabs: Tabs, platform: Platform, tmp_path: Path) -> None:
    run = "batch;;saved;;_base"
    page = opened(tabs, platform, run)
    said = [f"rq:{JOB} TRIGGER   wepp DONE", json.dumps({"percent": 3, "message": "é"}), "two\nlines"]
    platform.publish(f"{run}:wepp", *said)
    expect(page.locator(".log-line")).to_have_count(3)
    # What is held is there, too.
    page.get_by_role("button", name="Pause").click()
    platform.publish(f"{run}:wepp", "held")
    expect(counted(page)).to_have_text("4 lines · paused, 1 line held")
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Save as text").click()
    assert re.fullmatch(r"batch__saved___base-wepp-\d{4}-\d\d-\d\dT\d+Z\.txt", waiting.value.suggested_filename)
    path = tmp_path / "saved.txt"
    waiting.value.save_as(path)
    saved = path.read_text("utf-8")
    time = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z "
    assert re.fullmatch("".join(f"{time}{re.escape(data)}\n" for data in [*said, "held"]), saved)


def test_a_key_without_words_is_shown_as_it_comes(tabs: Tabs, platform: Platform) -> None:
    frame = {"type": "preflight", "checklist": {"channels": False, "new_step.2": True}, "lock_statuses": {}}

    def serve(socket: WebSocketRoute) -> None:
        socket.send(json.dumps(frame))

    def prepare(page: Page) -> None:
        page.route_web_socket(re.compile(r"/keys$"), serve)

    page = tabs.open(f"{platform.page}#run=keys:wepp", before=prepare)
    rows = page.locator(".checklist tbody tr")
    expect(rows.locator("th")).to_have_text(["Channels", "new_step.2"])
    expect(rows.locator("td")).to_have_text(["open", "done"])


def test_few_lines_are_kept_where_they_are_large(tabs: Tabs, platform: Platform) -> None:
    def serve(socket: WebSocketRoute) -> None:
        for number in range(5):
            data = json.dumps({"message": f"large {number}", "more": "x" * 5_000_000})
            socket.send(json.dumps({"type": "status", "data": data}))

    def prepare(page: Page) -> None:
        page.route_web_socket(re.compile("/large:wepp"), serve)

    page = tabs.open(f"{platform.page}#run=large:wepp", before=prepare)
    expect(counted(page)).to_have_text("5 lines, the last 3 are kept")
    expect(page.locator(".log-line .line")).to_have_text(["large 2", "large 3", "large 4"])
