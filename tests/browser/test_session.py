"""Who may see the page: the login, the logout, and what was asked under a login that has ended."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.browser.looks import check_accessible_in_both, wait_for
from tests.browser.platform import address_of, open_opsd, short_directory, tmux_status
from tests.browser.stage import open_stage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Page, Route

    from tests.browser.conftest import Tabs
    from tests.browser.platform import Platform

pytestmark = pytest.mark.integration

TOKEN = "a token of this test"

# So the browser tells of what is on its way at a logout.
REFUSED = ("401",)

# What a page that shows everything asks for again and again without a WebSocket. Two parts of it ask for workers.
POLLED = ["events", "status", "status/history", "tmux/status", "viewers", "workers", "workers"]

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
SET_ASIDE = "() => { window.earlier = window.held.splice(0); }"
# Those that were set aside, as by the logout, with their own status or the one that is given.
RELEASE = """async (status) => {
  for (const { release } of window.earlier) release(status ?? undefined);
  await new Promise((done) => setTimeout(done));
}"""
LOG_OUT = """() => {
  window.earlier = window.held.splice(0);
  document.getElementById("logout").click();
}"""
SHOWN = "() => [document.title, document.body.innerHTML]"

STOP_TWICE = """() => {
  const stop = document.querySelector("tmux-control-panel [data-part=stop]");
  stop.click();
  stop.click();
}"""

# Counts the files that the page gives to the browser.
COUNT_SAVED = """
window.saved = 0;
const make = URL.createObjectURL;
URL.createObjectURL = (blob) => { window.saved += 1; return make.call(URL, blob); };
"""

# Another address, and what the page does with it.
GO_TO = """(hash) => new Promise((told) => {
  addEventListener("hashchange", told, { once: true });
  location.hash = hash;
})"""

# Whether the session is open after an answer about it has come that was asked for before the logout.
BEGUN_BEFORE_A_LOGOUT = """async () => {
  const { session } = await import("/web/session.js");
  const real = window.fetch;
  let release;
  const held = new Promise((resolve) => { release = resolve; });
  window.fetch = async (...asked) => {
    const answer = await real(...asked);
    if (asked[0] === "/api/dev/config") await held;
    return answer;
  };
  const begun = session.begin();
  await session.logOut();
  release();
  await begun;
  return session.open;
}"""

# Whether it is open when a logout is answered after a login.
LOGGED_OUT_BEFORE_A_LOGIN = """async (token) => {
  const { session } = await import("/web/session.js");
  const { unauthorized } = await import("/web/api.js");
  const real = window.fetch;
  let release;
  const held = new Promise((resolve) => { release = () => resolve(new Response(null, { status: 204 })); });
  window.fetch = (...asked) => asked[0] === "/api/logout" ? held : real(...asked);
  const ended = session.logOut();
  unauthorized.dispatchEvent(new CustomEvent("unauthorized", { detail: { asked: performance.now() } }));
  await session.logIn(token);
  release();
  await ended;
  return session.open;
}"""

# How two logouts end of which the second finds no session any more.
LOGGED_OUT_TWICE = """async () => {
  const { session } = await import("/web/session.js");
  const real = window.fetch;
  const first = session.logOut();
  window.fetch = async (...asked) => {
    const answer = await real(...asked);
    return asked[0] === "/api/logout" ? new Response(null, { status: 401 }) : answer;
  };
  return (await Promise.allSettled([first, session.logOut()])).map(({ status }) => status);
}"""

WORKERS = {"telemetryStatus": "healthy", "unavailable": [], "sources": [], "workers": [{"id": "statusd-1"}]}


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
    expect(page.locator("system-status")).to_have_attribute("data-feed", "connecting")
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


def test_a_press_before_the_logout_asks_nothing_after_it(tabs: Tabs, guarded: str) -> None:
    tabs.ignored = REFUSED
    page = log_in_and_hold(tabs, guarded)
    stop_twice(page)
    log_out(page)
    before = page.evaluate(SHOWN)
    page.evaluate(RELEASE)
    assert page.evaluate(SHOWN) == before


def test_two_presses_are_one_question(tabs: Tabs, guarded: str) -> None:
    page = log_in_and_hold(tabs, guarded)
    stop_twice(page)
    page.evaluate(SET_ASIDE)
    page.evaluate(RELEASE)
    assert page.get_by_role("dialog").count() == 1


def test_a_snapshot_that_comes_after_the_logout_is_not_saved(tabs: Tabs, guarded: str) -> None:
    tabs.ignored = REFUSED
    asked: list[Route] = []

    def keep(route: Route) -> None:
        asked.append(route)

    def prepare(page: Page) -> None:
        page.add_init_script(COUNT_SAVED)
        page.route("**/api/dev/workers", lambda route: route.fulfill(json=WORKERS))
        page.route("**/api/workers/snapshot/*", keep)

    page = tabs.open(guarded, before=prepare)
    log_in(page, TOKEN)
    download = page.locator("worker-snapshot-panel [data-part=download]")
    download.click()
    wait_for(page, lambda: bool(asked), "the snapshot is asked for")
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_label("Token")).to_be_visible()
    expect(download).to_have_attribute("aria-disabled", "true")
    asked[0].fulfill(json={})
    expect(download).not_to_have_attribute("aria-disabled", "true")
    assert page.evaluate("window.saved") == 0


def test_an_address_opens_its_run_after_the_login_only(tabs: Tabs, guarded: str) -> None:
    page = tabs.open(guarded, before=hold)
    expect(page.get_by_label("Token")).to_be_visible()
    page.evaluate(GO_TO, "#run=other:wepp")
    view = page.locator("run-viewer [data-part=view]")
    assert view.get_attribute("hidden") is not None
    log_in(page, TOKEN)
    expect(view).to_be_visible()
    expect(page.get_by_label("Run id")).to_have_value("other")


def test_no_answer_about_an_earlier_session_opens_it_again(tabs: Tabs, guarded: str) -> None:
    tabs.ignored = REFUSED
    page = tabs.open(guarded)
    log_in(page, TOKEN)
    expect(page.get_by_role("button", name="Log out")).to_be_visible()
    assert page.evaluate(BEGUN_BEFORE_A_LOGOUT) is False


def test_a_second_logout_is_no_failure(tabs: Tabs, guarded: str) -> None:
    tabs.ignored = REFUSED
    page = tabs.open(guarded)
    log_in(page, TOKEN)
    expect(page.get_by_role("button", name="Log out")).to_be_visible()
    assert page.evaluate(LOGGED_OUT_TWICE) == ["fulfilled", "fulfilled"]


def test_a_logout_that_the_server_may_not_have_heard_of_is_no_good_news(tabs: Tabs, guarded: str) -> None:
    def prepare(page: Page) -> None:
        page.route("**/api/logout", lambda route: route.abort())

    tabs.ignored = ("net::ERR_FAILED",)
    page = tabs.open(guarded, before=prepare)
    log_in(page, TOKEN)
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_label("Token")).to_be_visible()
    expect(page.locator("login-form").get_by_role("alert")).to_have_text(
        "The server may not have ended the session: the server can't be reached."
    )


def test_a_logout_that_is_answered_after_a_login_ends_it_not(tabs: Tabs, guarded: str) -> None:
    page = tabs.open(guarded)
    log_in(page, TOKEN)
    expect(page.get_by_role("button", name="Log out")).to_be_visible()
    assert page.evaluate(LOGGED_OUT_BEFORE_A_LOGIN, TOKEN) is True


def stop_twice(page: Page) -> None:
    """Press Stop twice, until all is asked for that comes before the question."""
    page.evaluate(SET_ASIDE)
    page.evaluate(RELEASE)
    page.evaluate(STOP_TWICE)
    wait_for(page, lambda: page.evaluate(HELD).count("workers") == 3, "the clients are asked for")


def hold(page: Page) -> None:
    """Hold the answers back; what it will hear of tmux is that all runs."""
    page.add_init_script(HOLD)
    page.route("**/api/dev/tmux/status", lambda route: route.fulfill(json=tmux_status()))


def log_in_and_hold(tabs: Tabs, address: str) -> Page:
    """A page that has asked for everything, and has got nothing yet."""
    page = tabs.open(f"{address}#run=held:wepp", before=hold)
    log_in(page, TOKEN)
    wait_held(page)
    return page


def wait_held(page: Page) -> None:
    """Until all answers are held back, and none is on its way."""
    wait_for(page, lambda: sorted(page.evaluate(HELD)) == POLLED, "everything is asked for")


def log_out(page: Page) -> None:
    """With all of these answers on their way."""
    page.evaluate(LOG_OUT)
    expect(page.get_by_label("Token")).to_be_visible()


def log_in(page: Page, token: str) -> None:
    """Send the form."""
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name=re.compile("^Log in$")).click()
