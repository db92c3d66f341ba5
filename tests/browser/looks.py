"""What is asked of every page: that it comes live, that axe finds nothing, and where the focus is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Locator, Page

PATIENCE = 30_000
"""Milliseconds: for a loaded machine."""

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
    expect(page.locator("system-status")).to_have_attribute("data-feed", state, timeout=PATIENCE)


def wait_run(page: Page) -> None:
    """Wait until both daemons take part in the run that is shown."""
    for part in ("status-state", "checklist-state"):
        expect(page.locator(f'[data-part="{part}"]')).to_have_attribute("data-state", "open", timeout=PATIENCE)


def wait_for(page: Page, condition: Callable[[], bool], what: str) -> None:
    """Wait for what only the test can see."""
    for _ in range(PATIENCE // _STEP):
        if condition():
            return
        page.wait_for_timeout(_STEP)
    raise AssertionError(f"not within {PATIENCE / 1000} s: {what}")


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
