"""Who may see the page: the login, the logout, and what was asked under a login that has ended."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.browser.looks import check_accessible_in_both, wait_for
from tests.browser.platform import address_of, open_opsd, short_directory
from tests.browser.stage import open_stage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Page

    from tests.browser.conftest import Tabs
    from tests.browser.platform import Platform

pytestmark = pytest.mark.integration

TOKEN = "a token of this test"

# What the page asks for again and again while it shows everything, and has no WebSocket.
POLLED = {"status", "workers", "events", "tmux/status", "status/history", "viewers"}

# Every answer to such a question is held back; no WebSocket can be.
HOLD = """
window.WebSocket = class { constructor() { throw new DOMException("none here", "SecurityError"); } };
window.held = [];
const real = window.fetch;
window.fetch = async (path, options) => {
  const response = await real(path, options);
  const name = String(path).split("?")[0].replace("/api/dev/", "");
  if (name === "config" || !String(path).startsWith("/api/dev/")) return response;
  // With its text at hand, all that the page does with it is done before the next turn of its loop.
  const text = await response.text();
  const status = await new Promise((release) => window.held.push({ name, release })) ?? response.status;
  return { ok: status === 200, status, headers: response.headers, json: async () => JSON.parse(text) };
};
"""
HELD = "() => window.held.map(({ name }) => name)"
# Those of the first login, with their own status or the one that is given.
RELEASE = """async (status) => {
  for (const { release } of window.earlier) release(status ?? undefined);
  await new Promise((done) => setTimeout(done));
}"""
LOG_OUT = """() => {
  window.earlier = window.held.splice(0);
  document.getElementById("logout").click();
}"""
SHOWN = "() => [document.title, document.body.innerHTML]"


@pytest.fixture(scope="module")
def guarded(platform: Platform) -> Iterator[str]:
    """The page of an opsd with a token."""
    with short_directory() as directory, open_stage() as stage:
        opsd = open_opsd(platform.redis, {"token": TOKEN, "targets": ""}, tmux_directory=directory)
        yield address_of(stage.open(opsd))


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
    expect(page.locator("system-status")).to_have_attribute("data-feed", "live")
    expect(page.locator("main")).to_be_focused()
    assert "opsd_session" not in page.evaluate("document.cookie")
    page.reload()
    expect(page.locator("system-status")).to_have_attribute("data-feed", "live")

    page.get_by_role("button", name="Log out").click()
    expect(field).to_be_visible()
    expect(page.locator("system-status")).to_be_hidden()
    expect(page.locator("#verdict")).to_be_hidden()
    expect(page).to_have_title("Operations")
    page.reload()
    expect(page.get_by_label("Token")).to_be_visible()


def test_no_answer_that_comes_after_the_logout_is_shown(tabs: Tabs, guarded: str) -> None:
    page = log_in_and_hold(tabs, guarded)
    log_out(page)
    before = page.evaluate(SHOWN)
    page.evaluate(RELEASE)
    assert page.evaluate(SHOWN) == before
    expect(page.locator("#verdict")).to_be_hidden()


def test_what_a_login_asks_waits_for_no_answer_to_an_earlier_one(tabs: Tabs, guarded: str) -> None:
    page = log_in_and_hold(tabs, guarded)
    log_out(page)
    log_in(page, TOKEN)
    wait_held(page)


def test_a_refusal_of_what_an_earlier_login_asked_ends_no_later_one(tabs: Tabs, guarded: str) -> None:
    page = log_in_and_hold(tabs, guarded)
    log_out(page)
    log_in(page, TOKEN)
    wait_held(page)
    page.evaluate(RELEASE, arg=401)
    expect(page.get_by_label("Token")).to_be_hidden()
    expect(page.get_by_role("button", name="Log out")).to_be_visible()


def log_in_and_hold(tabs: Tabs, address: str) -> Page:
    """A page that has asked for everything, and has got nothing yet."""

    def prepare(page: Page) -> None:
        page.add_init_script(HOLD)

    page = tabs.open(f"{address}#run=held:wepp", before=prepare)
    log_in(page, TOKEN)
    wait_held(page)
    return page


def wait_held(page: Page) -> None:
    """Until an answer of each kind is held back."""
    wait_for(page, lambda: set(page.evaluate(HELD)) == POLLED, "everything is asked for")


def log_out(page: Page) -> None:
    """With all of these answers on their way."""
    page.evaluate(LOG_OUT)
    expect(page.get_by_label("Token")).to_be_visible()


def log_in(page: Page, token: str) -> None:
    """Send the form."""
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name=re.compile("^Log in$")).click()
