"""What is asked of every page: that it comes live, that axe finds nothing, and where the focus is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Error, expect

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Locator, Page, Route, WebSocketRoute

PATIENCE = 60_000
"""Milliseconds: for a loaded machine. Every `expect` and every action has it (see `conftest`)."""

LIVE = "**/api/dev/status/live"
"""The WebSocket of the figures."""

_STEP = 50

# The name of what has the focus, with a mark where one could not see that it has; null where nothing has it.
_FOCUSED = """() => {
  const element = document.activeElement;
  if (element === null || element === document.body) return null;
  const name = element.getAttribute("aria-label") ?? element.labels?.[0]?.textContent ?? element.textContent;
  const { outlineStyle, outlineWidth } = getComputedStyle(element);
  return outlineStyle !== "none" && parseFloat(outlineWidth) >= 2 ? name : `${name} (no outline)`;
}"""


def tile(page: Page, key: str) -> Locator:
    """The figure of a tile."""
    return page.locator(f'[data-tile="{key}"] .value')


def wait_feed(page: Page, state: str) -> None:
    """Wait until the figures come this way."""
    expect(page.locator("system-status")).to_have_attribute("data-feed", state)


def wait_run(page: Page) -> None:
    """Wait until both daemons take part in the run that is shown."""
    for part in ("status-state", "checklist-state"):
        expect(page.locator(f'[data-part="{part}"]')).to_have_attribute("data-state", "open")


def wait_for(page: Page, condition: Callable[[], bool], what: str) -> None:
    """Wait for what only the test can see."""
    for _ in range(PATIENCE // _STEP):
        if condition():
            return
        page.wait_for_timeout(_STEP)
    raise AssertionError(f"not within {PATIENCE / 1000} s: {what}")


def steady(status: dict[str, Any]) -> dict[str, Any]:
    """The status as it is while nothing happens: on a busy machine a daemon may be away for a moment."""
    status["vector"]["directions"]["trafficMode"] = "normal"
    status["vector"]["sessions"]["activeWorkers"] = 2
    status["meta"] |= {"telemetryStatus": "healthy", "unavailable": []}
    return status


def altered(change: Callable[[dict[str, Any]], None]) -> Callable[[Page], None]:
    """Lets the live statuses through as `change` leaves them."""

    def serve(socket: WebSocketRoute) -> None:
        server = socket.connect_to_server()

        def pass_on(message: str | bytes) -> None:
            status = json.loads(message)
            change(status)
            socket.send(json.dumps(status))

        server.on_message(pass_on)

    return lambda page: page.route_web_socket(LIVE, serve)


def keep_workers(page: Page) -> None:
    """Let the page have the workers as they are when both are there: one that is late on a busy machine is away for a
    moment, and its row comes back as another.
    """
    known: list[Any] = []

    def answer(route: Route) -> None:
        document = route.fetch().json()
        if len(document["workers"]) == 2:
            known.append(document)
        route.fulfill(json=known[0] if known else document)

    page.route("**/api/dev/workers", answer)


def pause(page: Page) -> None:
    """Stop the page's clock, as soon as this machine can: it does not stop at a time that has passed."""
    for ahead in (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0):
        now: float = page.evaluate("Date.now() / 1000")
        try:
            page.clock.pause_at(now + ahead)
        except Error as error:
            if "to the past" not in str(error):
                raise
        else:
            return
    raise AssertionError("the page's clock does not stop")


def connect(page: Page, port: int) -> None:
    """Let the page be one more client of statusd, until `window.socket` is closed."""
    page.evaluate(f"window.socket = new WebSocket('ws://127.0.0.1:{port}/some-run:some-channel')")


def tab(page: Page) -> str | None:
    """Press Tab, and return the name of what has the focus then."""
    page.keyboard.press("Tab")
    name: str | None = page.evaluate(_FOCUSED)
    return name


def check_accessible(page: Page) -> None:
    """Fail for anything that axe finds."""
    violations = Axe().run(page).response["violations"]
    found = [(violation["id"], [node["html"] for node in violation["nodes"]]) for violation in violations]
    assert not found


def check_accessible_in_both(page: Page) -> None:
    """The same in light and in dark."""
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        check_accessible(page)
