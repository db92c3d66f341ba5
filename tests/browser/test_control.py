"""What an operator does on the page: starts and stops the daemons in tmux."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.browser.looks import check_accessible_in_both, connect, tab
from tests.browser.platform import SESSION, address_of, open_opsd, short_directory, targets, tmux_status
from tests.browser.stage import open_stage
from tests.support.ports import free_port
from tests.support.raw import HOST

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Page, Route

    from tests.browser.conftest import Tabs
    from tests.browser.platform import Platform
    from tests.browser.stage import Stage

pytestmark = pytest.mark.integration

REFUSE_CLIPBOARD = "navigator.clipboard.writeText = () => Promise.reject(new DOMException('no', 'NotAllowedError'))"


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
def port() -> int:
    """Of the statusd that is started here."""
    return free_port()


def environment(platform: Platform, port: int) -> dict[str, str]:
    """Of the daemons that are started here."""
    return {
        "STATUS_LISTEN_ADDR": f"{HOST}:{port}",
        "STATUS_REDIS_URL": platform.redis.url(2),
        "PREFLIGHT_LISTEN_ADDR": f"{HOST}:0",
        "PREFLIGHT_REDIS_URL": platform.redis.url(0),
    }


@pytest.fixture(scope="module")
def alone(stage_apart: Stage, platform: Platform, apart: Path, tmux: str, port: int) -> str:
    """The page of an opsd whose daemons are not started yet."""
    del tmux
    environ = environment(platform, port)
    settings = {"targets": targets(apart), "status_ws_url": f"ws://{HOST}:{port}"}
    opsd = open_opsd(platform.redis, settings, tmux_directory=apart, environ=environ)
    return address_of(stage_apart.open(opsd))


def attach_command(directory: Path) -> str:
    """What an operator types, whatever the environment of the terminal is."""
    return f"tmux -S {directory.resolve()}/tmux-{os.getuid()}/default attach -t {SESSION}"


def test_the_daemons_are_started_and_stopped_after_a_question(tabs: Tabs, alone: str, apart: Path, port: int) -> None:
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
    expect(panel.locator('[data-part="state"]')).to_have_text(f"“{SESSION}” is running.")
    expect(workers.locator("tbody tr")).to_have_count(2)
    expect(page.locator('[data-tile="workers"] .value')).to_have_text("2")
    for name in ("statusd", "preflightd", "redis"):
        expect(page.locator(f'[data-part="lamp-{name}"]')).to_contain_text("Up")
    expect(panel.locator("details")).to_have_count(3)
    panel.locator("details").first.locator("summary").click()
    expect(panel.locator("pre").first).to_contain_text("listening")

    panel.get_by_role("button", name="Copy").click()
    expect(panel).to_contain_text("Copied.")
    assert page.evaluate("navigator.clipboard.readText()") == attach_command(apart)

    stop = panel.get_by_role("button", name="Stop")
    stop.click()
    expect(dialog).to_contain_text("No client is connected to them.")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    connect(page, port)
    expect(page.locator('[data-tile="connections"] .value')).to_have_text("1")
    stop.focus()
    page.keyboard.press("Enter")
    expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
    expect(dialog).to_contain_text(f"“{SESSION}” and the daemons in it end. 1 client is connected to them.")
    expect(dialog).to_contain_text("The platform's pages then try again until the daemons run;")
    check_accessible_in_both(page)
    dialog.get_by_role("button", name="Stop").press("Enter")
    expect(panel.locator('[data-part="state"]')).to_have_text(f"“{SESSION}” is not running.")
    expect(stop).to_be_focused()
    expect(stop).to_be_disabled()
    expect(workers).to_contain_text("Telemetry is offline")


def test_stop_does_not_guess_how_many_are_connected(tabs: Tabs, platform: Platform) -> None:
    """A session that is there, and daemons that can't be asked."""
    status = tmux_status({})
    broken = False

    def workers(route: Route) -> None:
        if broken:
            route.fulfill(status=503, json={"error": "no answer"})
        else:
            route.continue_()

    def prepare(page: Page) -> None:
        page.route("**/api/dev/tmux/status", lambda route: route.fulfill(json=status))
        page.route("**/api/dev/workers", workers)

    tabs.ignored = ("503",)
    page = tabs.open(platform.page, before=prepare)
    expect(page.locator("tmux-control-panel [data-part='state']")).to_contain_text("is running")
    broken = True
    page.locator("tmux-control-panel").get_by_role("button", name="Stop").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("How many clients are connected can't be told.")
    page.keyboard.press("Escape")


def test_what_did_not_work_is_said_until_the_next_press(tabs: Tabs, platform: Platform) -> None:
    status = tmux_status()

    def prepare(page: Page) -> None:
        page.route("**/api/dev/tmux/status", lambda route: route.fulfill(json=status))
        page.route("**/api/dev/tmux/stop", lambda route: route.fulfill(status=502, json={"error": "it refused"}))

    tabs.ignored = ("502",)
    page = tabs.open(platform.page, before=prepare)
    panel = page.locator("tmux-control-panel")
    stop = panel.get_by_role("button", name="Stop")
    stop.click()
    page.get_by_role("dialog").get_by_role("button", name="Stop").click()
    error = panel.get_by_role("alert")
    expect(error).to_have_text("That did not work: it refused.")
    # Not only until the next status.
    status["sessionName"] = "another"
    expect(panel.locator('[data-part="state"]')).to_contain_text("another")
    expect(error).to_have_text("That did not work: it refused.")
    stop.click()
    expect(error).to_have_text("")
    page.keyboard.press("Escape")


def test_daemons_that_end_at_once_are_no_good_news(tabs: Tabs, platform: Platform, tmux: str) -> None:
    """Their port is taken: by the daemons that the page is about, and those are well."""
    del tmux
    with short_directory() as directory, open_stage() as stage:
        environ = environment(platform, platform.statusd.port)
        opsd = open_opsd(
            platform.redis,
            {"targets": f"statusd=unix:{directory / 'statusd'}"},
            tmux_directory=directory,
            environ=environ,
        )
        page = tabs.open(address_of(stage.open(opsd)))
        panel = page.locator("tmux-control-panel")
        panel.get_by_role("button", name="Start").click()
        page.get_by_role("dialog").get_by_role("button", name="Start").click()
        state = panel.locator('[data-part="state"]')
        expect(state).to_have_text(f"“{SESSION}” is there, but nothing runs in it any more.")
        expect(state).to_have_attribute("data-level", "bad")
        expect(panel.locator("summary").first).to_contain_text(re.compile(r"pane \d+\.\d+, ended with 2: \S.*in use"))
        expect(page.locator("#verdict")).to_contain_text("Ended in tmux: statusd")
        check_accessible_in_both(page)
        panel.get_by_role("button", name="Stop").click()
        expect(page.get_by_role("dialog")).to_contain_text("No client is connected to them.")
        page.get_by_role("dialog").get_by_role("button", name="Stop").click()
        expect(state).to_have_text(f"“{SESSION}” is not running.")
        expect(page.locator("#verdict")).not_to_contain_text("tmux")
        page.close()


def test_a_refused_clipboard_leaves_the_command_selected(tabs: Tabs, alone: str, apart: Path) -> None:
    def refuse(page: Page) -> None:
        page.add_init_script(REFUSE_CLIPBOARD)

    page = tabs.open(alone, before=refuse)
    panel = page.locator("tmux-control-panel")
    dialog = page.get_by_role("dialog")
    panel.get_by_role("button", name="Start").click()
    dialog.get_by_role("button", name="Start").click()
    panel.get_by_role("button", name="Copy").click()
    expect(panel).to_contain_text("Selected: copy it with Ctrl+C.")
    assert page.evaluate("getSelection().toString()") == attach_command(apart)
    panel.get_by_role("button", name="Stop").click()
    dialog.get_by_role("button", name="Stop").click()
    expect(panel.locator('[data-part="state"]')).to_have_text(f"“{SESSION}” is not running.")
