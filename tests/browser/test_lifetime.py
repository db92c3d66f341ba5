"""What the page does when nobody looks: what was taken from it ends, and a hidden page rests."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.browser.looks import LIVE, connect, pause, steady, tile, wait_feed, wait_for, wait_run

if TYPE_CHECKING:
    from playwright.sync_api import Page, WebSocket, WebSocketRoute

    from tests.browser.conftest import Tabs
    from tests.browser.platform import Platform

pytestmark = pytest.mark.integration

LONG = 120_000
PROBE = "/health/live?probe"
PANELS = ("/api/dev/workers", "/api/dev/tmux/status", "/api/dev/status/history")

TAKE = """() => {
  window.taken = [...document.querySelectorAll(
    "system-status, run-viewer, worker-snapshot-panel, tmux-control-panel")].map((one) => [one, one.parentNode]);
  for (const [one] of window.taken) one.remove();
}"""
PUT_BACK = "() => { for (const [one, parent] of window.taken) parent.append(one); }"

# Counts the answers that the page waits for. Each has its text at hand: what the page does with it, it does at once.
COUNT_ASKED = """
window.underWay = 0;
const real = window.fetch;
window.fetch = async (...asked) => {
  window.underWay += 1;
  try {
    const { ok, status, headers, body } = await real(...asked).then(async (answer) => (
      { ok: answer.ok, status: answer.status, headers: answer.headers, body: await answer.text() }));
    return { ok, status, headers, text: async () => body, json: async () => JSON.parse(body) };
  } finally {
    window.underWay -= 1;
  }
};
"""

# A headless browser hides no page.
TURN = """(hidden) => {
  Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


def connections(page: Page, platform: Platform) -> int:
    """How many opsd knows of, whatever the page shows."""
    status = page.request.get(f"{platform.page}api/dev/status").json()
    count: int = status["vector"]["sessions"]["websocketConnections"]
    return count


def requests_in(page: Page, asked: list[str], milliseconds: int) -> list[str]:
    """What the page asks for while its clock goes on by so much."""
    asked.clear()
    page.clock.run_for(milliseconds)
    # Requests are told of in their order: with this one, all before it.
    page.evaluate(f"fetch('{PROBE}').then((answer) => answer.text())")
    wait_for(page, lambda: any(PROBE in url for url in asked), "the probe is seen")
    return [url for url in asked if PROBE not in url]


def test_what_is_taken_from_the_page_asks_no_more_until_it_is_put_back(tabs: Tabs, platform: Platform) -> None:
    asked: list[str] = []
    sockets: list[WebSocket] = []

    def keep(socket: WebSocket) -> None:
        sockets.append(socket)

    def prepare(page: Page) -> None:
        page.clock.install()
        page.on("request", lambda request: asked.append(request.url))
        page.on("websocket", keep)

    page = tabs.open(f"{platform.page}#run=taken:wepp", before=prepare)
    wait_feed(page, "live")
    wait_run(page)
    expect(page.locator("hour-charts canvas")).to_have_count(4)
    page.evaluate(TAKE)
    wait_for(page, lambda: all(socket.is_closed() for socket in sockets), "the sockets are closed")
    opened = len(sockets)
    # One of them may have been opened anew, on a machine that is slow.
    assert len({socket.url for socket in sockets}) == 3
    assert requests_in(page, asked, LONG) == []
    assert len(sockets) == opened

    page.evaluate(PUT_BACK)
    wait_feed(page, "live")
    wait_run(page)
    expect(page.locator("hour-charts canvas")).to_have_count(4)


def test_a_hidden_page_rests_and_is_right_at_once_when_it_is_seen_again(tabs: Tabs, platform: Platform) -> None:
    asked: list[str] = []
    silent = False

    def serve(socket: WebSocketRoute) -> None:
        server = socket.connect_to_server()

        def pass_on(message: str | bytes) -> None:
            if not silent:
                # Of what has changed a page asks at once, whether it is seen or not.
                socket.send(json.dumps(steady(json.loads(message))))

        server.on_message(pass_on)

    def prepare(page: Page) -> None:
        page.clock.install()
        page.add_init_script(COUNT_ASKED)
        page.on("request", lambda request: asked.append(request.url))
        page.route("**/api/dev/status", lambda route: route.fulfill(json=steady(route.fetch().json())))
        page.route_web_socket(LIVE, serve)

    page = tabs.open(platform.page, before=prepare)
    wait_feed(page, "live")
    expect(page.locator("hour-charts canvas")).to_have_count(4)
    page.evaluate(TURN, arg=True)
    # What was under way may be asked once more.
    wait_for(page, lambda: page.evaluate("window.underWay") == 0, "nothing is under way")
    assert not [url for url in requests_in(page, asked, LONG) if any(path in url for path in PANELS)]

    # Its socket dies without a word.
    wait_feed(page, "live")
    pause(page)
    silent = True
    asked.clear()
    # A page of before may have been one.
    wait_for(page, lambda: connections(page, platform) == 0, "nobody is connected")
    connect(page, platform.statusd.port)
    wait_for(page, lambda: connections(page, platform) == 1, "opsd has counted it")
    page.clock.fast_forward(3000)
    page.evaluate(TURN, arg=False)
    # The page's clock stands still: what it does, it does at once.
    expect(tile(page, "connections")).to_have_text("1")
    wait_for(page, lambda: all(any(path in url for url in asked) for path in PANELS), "the panels ask again")
