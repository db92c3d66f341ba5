"""What an operator does on the page: starts and stops the daemons in tmux, and logs in."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.browser.looks import PATIENCE, check_accessible_in_both, tab
from tests.browser.platform import SESSION, address_of, open_opsd, short_directory, targets
from tests.browser.stage import open_stage
from tests.support.raw import HOST

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Page

    from tests.browser.conftest import Tabs
    from tests.browser.platform import Platform
    from tests.browser.stage import Stage

pytestmark = pytest.mark.integration

TOKEN = "a token of this test"
REFUSE_CLIPBOARD = "navigator.clipboard.writeText = () => Promise.reject(new DOMException('no', 'NotAllowedError'))"

# Nothing listens before it is started, and after it was stopped.
AWAY = ("source unavailable", "telemetry status changed")


@pytest.fixture(scope="module")
def apart() -> Iterator[Path]:
    """For the sockets of the daemons that are started here."""
    with short_directory() as path:
        yield path


@pytest.fixture(scope="module")
def stage_apart(apart: Path) -> Iterator[Stage]:
    """Ends before their directory."""
    del apart
    with open_stage() as stage:
        yield stage


@pytest.fixture(scope="module")
def alone(stage_apart: Stage, platform: Platform, apart: Path) -> str:
    """The page of an opsd whose daemons are not started yet."""
    if shutil.which("tmux") is None:
        pytest.skip("no tmux on PATH")
    environ = {
        "STATUS_LISTEN_ADDR": f"{HOST}:0",
        "STATUS_REDIS_URL": platform.redis.url(2),
        "PREFLIGHT_LISTEN_ADDR": f"{HOST}:0",
        "PREFLIGHT_REDIS_URL": platform.redis.url(0),
    }
    opsd = open_opsd(platform.redis, {"targets": targets(apart)}, tmux_directory=apart, environ=environ, expect=AWAY)
    return address_of(stage_apart.open(opsd))


@pytest.fixture(scope="module")
def guarded(stage_apart: Stage, platform: Platform, apart: Path) -> str:
    """The page of an opsd with a token."""
    opsd = open_opsd(platform.redis, {"token": TOKEN, "targets": ""}, tmux_directory=apart, expect=AWAY)
    return address_of(stage_apart.open(opsd))


def test_the_daemons_are_started_and_stopped_after_a_question(tabs: Tabs, alone: str) -> None:
    page = tabs.open(alone, permissions=("clipboard-read", "clipboard-write"))
    workers = page.locator("worker-snapshot-panel")
    panel = page.locator("tmux-control-panel")
    dialog = page.get_by_role("dialog")
    expect(workers).to_contain_text("Telemetry is offline")
    expect(panel.locator('[data-part="state"]')).to_have_text(f"“{SESSION}” is not running.")
    expect(panel.get_by_role("button", name="Stop")).to_be_disabled()

    # Escape is no, and gives the focus back.
    start = panel.get_by_role("button", name="Start")
    start.click()
    expect(dialog).to_be_visible()
    expect(dialog.get_by_role("button", name="Start")).to_be_focused()
    # Nothing behind it is reached; null is the browser's own part of the window.
    assert {tab(page) for _ in range(4)} <= {"Cancel", "Start", None}
    check_accessible_in_both(page)
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(start).to_be_focused()
    expect(panel.locator('[data-part="state"]')).to_have_text(f"“{SESSION}” is not running.")

    workers.get_by_role("button", name="Start them in tmux").click()
    dialog.get_by_role("button", name="Start").click()
    expect(panel.locator('[data-part="state"]')).to_have_text(f"“{SESSION}” is running.", timeout=PATIENCE)
    expect(workers.locator("tbody tr")).to_have_count(2, timeout=PATIENCE)
    expect(page.locator('[data-tile="workers"] .value')).to_have_text("2")
    expect(page.locator('[data-part="telemetry"]')).to_contain_text("Healthy")
    expect(panel.locator("details")).to_have_count(2)
    panel.locator("details").first.locator("summary").click()
    expect(panel.locator("pre").first).to_contain_text("listening", timeout=PATIENCE)

    panel.get_by_role("button", name="Copy").click()
    expect(panel).to_contain_text("Copied.")
    assert page.evaluate("navigator.clipboard.readText()") == f"tmux attach -t {SESSION}"

    stop = panel.get_by_role("button", name="Stop")
    stop.focus()
    page.keyboard.press("Enter")
    expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
    check_accessible_in_both(page)
    dialog.get_by_role("button", name="Stop").press("Enter")
    expect(panel.locator('[data-part="state"]')).to_have_text(f"“{SESSION}” is not running.", timeout=PATIENCE)
    expect(stop).to_be_focused()
    expect(stop).to_be_disabled()
    expect(workers).to_contain_text("Telemetry is offline", timeout=PATIENCE)


def test_a_refused_clipboard_leaves_the_command_selected(tabs: Tabs, alone: str) -> None:
    def refuse(page: Page) -> None:
        page.add_init_script(REFUSE_CLIPBOARD)

    page = tabs.open(alone, before=refuse)
    panel = page.locator("tmux-control-panel")
    dialog = page.get_by_role("dialog")
    panel.get_by_role("button", name="Start").click()
    dialog.get_by_role("button", name="Start").click()
    panel.get_by_role("button", name="Copy").click()
    expect(panel).to_contain_text("Selected: copy it with Ctrl+C.")
    assert page.evaluate("getSelection().toString()") == f"tmux attach -t {SESSION}"
    panel.get_by_role("button", name="Stop").click()
    dialog.get_by_role("button", name="Stop").click()
    expect(panel.locator('[data-part="state"]')).to_have_text(f"“{SESSION}” is not running.", timeout=PATIENCE)


def test_nothing_is_shown_before_the_login_and_after_the_logout(tabs: Tabs, guarded: str) -> None:
    tabs.ignored = ("401",)
    page = tabs.open(guarded)
    field = page.get_by_label("Token")
    expect(field).to_be_focused()
    expect(page.locator("system-status")).to_be_hidden()
    expect(page.get_by_role("navigation")).to_be_hidden()

    log_in(page, "something else")
    expect(page.get_by_role("alert").filter(has_text="That is not the token.")).to_be_visible()
    check_accessible_in_both(page)

    log_in(page, TOKEN)
    expect(page.locator("system-status")).to_have_attribute("data-feed", "live", timeout=PATIENCE)
    expect(page.locator("main")).to_be_focused()
    assert "opsd_session" not in page.evaluate("document.cookie")
    page.reload()
    expect(page.locator("system-status")).to_have_attribute("data-feed", "live", timeout=PATIENCE)

    page.get_by_role("button", name="Log out").click()
    expect(field).to_be_visible()
    expect(page.locator("system-status")).to_be_hidden()
    expect(page.locator("#verdict")).to_be_hidden()
    expect(page).to_have_title("Operations")
    page.reload()
    expect(page.get_by_label("Token")).to_be_visible()


def log_in(page: Page, token: str) -> None:
    """Send the form."""
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name=re.compile("^Log in$")).click()
