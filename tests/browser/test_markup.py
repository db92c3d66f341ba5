"""What others supply is text on the page, never markup: every string of the API's answers and of the live figures, the
lines of a run, and the names in its hash.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

import pytest
from playwright.sync_api import expect

from tests.browser.looks import LIVE, wait_feed, wait_run
from tests.browser.platform import tmux_status

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route, WebSocketRoute

    from tests.browser.conftest import Tabs
    from tests.browser.platform import Platform

pytestmark = pytest.mark.integration

MARKUP: Final = (
    """ "'><img src=x onerror="window.marked = 1"><b class=marked>{{7*7}}</b><script>window.marked = 1</script>"""
)
"""What an element, an attribute or a script would be made of."""

SEEN: Final = "<img src=x onerror="
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT")
_EVENT: Final = {"time": "2026-01-15T14:03:09.000Z", "errorRate": 0.25, "from": "online"}


def marked(value: Any) -> Any:
    """The same value with markup in each of its strings; times stay what they are."""
    match value:
        case str():
            return value if _TIME.match(value) else value + MARKUP
        case list():
            return [marked(item) for item in value]
        case dict():
            return {name: marked(item) for name, item in value.items()}
    return value


def prepare(page: Page) -> None:
    """Let all that opsd says through with markup in it, and have something to be said by everybody."""

    def api(route: Route) -> None:
        answer = route.fetch()
        if "json" not in answer.headers.get("content-type", ""):
            route.fulfill(response=answer)
            return
        route.fulfill(response=answer, json=marked(answer.json()))

    def live(socket: WebSocketRoute) -> None:
        server = socket.connect_to_server()
        server.on_message(lambda message: socket.send(json.dumps(marked(json.loads(message)))))

    ended = {"exitSignal": "9", "dead": True, "lines": ["the last line"]}
    tmux = tmux_status(ended, {**ended, "index": "0.1", "dead": False})
    events = [
        _EVENT | {"kind": kind, "source": "statusd", "to": "lost"} for kind in ("source", "workers", "mode", "new")
    ]
    page.route("**/api/dev/**", api)
    page.route("**/api/dev/tmux/status", lambda route: route.fulfill(json=marked(tmux)))
    page.route("**/api/dev/events*", lambda route: route.fulfill(json=marked({"events": events})))
    page.route_web_socket(LIVE, live)


def check(page: Page) -> None:
    """Nothing of it has become an element or has run."""
    assert page.locator(".marked, img[src=x], [onerror]").count() == 0
    assert page.evaluate("window.marked") is None
    assert page.evaluate("document.scripts.length") == page.evaluate("document.querySelectorAll('script[src]').length")


def test_what_daemons_workers_and_panes_say_is_text(tabs: Tabs, platform: Platform) -> None:
    page = tabs.open(platform.page, before=prepare)
    wait_feed(page, "live")
    page.locator("summary", has_text="Events").click()
    for place in ("#workers", "#tmux", ".changes"):
        expect(page.locator(place)).to_contain_text(SEEN)
    check(page)


def test_what_a_run_says_is_text(tabs: Tabs, platform: Platform) -> None:
    platform.write("marked", **{f"locked__{MARKUP}": "true", "attrs__has_sbs": MARKUP, f"timestamps__{MARKUP}": MARKUP})
    page = tabs.open(f"{platform.page}#run=marked:log")
    wait_run(page)
    said = [MARKUP, json.dumps({"type": MARKUP, "message": MARKUP, MARKUP: [MARKUP]}), f"job:1 EXCEPTION_JSON {MARKUP}"]
    platform.publish("marked:log", *said, f"rq:1 STARTED {MARKUP}", f"TRIGGER {MARKUP} {MARKUP}")
    expect(page.locator(".log-line .line").last).to_contain_text(f"TRIGGER {MARKUP.strip()[:4]}")
    expect(page.locator(".locks")).to_contain_text(SEEN)
    check(page)
    # Nor does it when the address or a search brings it.
    page.evaluate("(text) => { location.hash = `run=${text}:${text}`; }", MARKUP)
    expect(page.locator("#run-error")).not_to_be_empty()
    check(page)
