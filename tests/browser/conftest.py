"""The browser, the pages in it, and what they show."""

from __future__ import annotations

import os
import re
import shutil
from typing import TYPE_CHECKING, NoReturn

import attrs
import pytest
from playwright.sync_api import expect, sync_playwright

from tests.browser.looks import PATIENCE
from tests.browser.platform import Platform, open_platform, short_directory
from tests.browser.stage import Stage, open_stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page

_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# The one without windows, tabs and extensions first: it does the same in two thirds of the time.
_NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")

# A context's default time-out does not reach these.
expect.set_options(timeout=PATIENCE)

# What the browser says of a busy machine, and the page goes on from: a handshake that took longer than the page waits,
# and what opsd got no answer to in time, from Redis or from the daemons.
_BUSY = re.compile(
    r"WebSocket is closed before the connection is established"
    r"|status of 503 .* \S+/api/dev/(status/history|viewers)\?"
)

_REPORT_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", (event) =>
  console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`));
"""


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser's program: `CHROMIUM`, else the first of the usual names on PATH."""
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        lacks(f"no browser: CHROMIUM is not set, and none of {', '.join(_NAMES)} is on PATH: apt-get install chromium")
    return found


@pytest.fixture(scope="session")
def tmux() -> str:
    """tmux's program."""
    found = shutil.which("tmux")
    if found is None:
        lacks("no tmux on PATH: apt-get install tmux")
    return found


def lacks(reason: str) -> NoReturn:
    """Skip the test for what this machine lacks; in CI (`CI` is set), where all of it is installed, fail it."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="package")
def browser(chromium: str) -> Iterator[Browser]:
    """A headless browser for all of these tests."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=_ARGUMENTS, timeout=PATIENCE)
        try:
            yield browser
        finally:
            browser.close()


@pytest.fixture(scope="package")
def directory() -> Iterator[Path]:
    """For sockets, also tmux's."""
    with short_directory() as path:
        yield path


@pytest.fixture(scope="package")
def stage(directory: Path) -> Iterator[Stage]:
    """Where processes are kept; it ends before their directory."""
    del directory
    with open_stage() as stage:
        yield stage


@pytest.fixture(scope="package")
def platform(stage: Stage, directory: Path, redis_program: Path) -> Platform:
    """All daemons, and an opsd that shows them."""
    return open_platform(stage, directory, redis_program)


# Playwright marks the handlers' owners with attributes of its own.
@attrs.define(slots=False)
class Tabs:
    """Opens pages, and remembers what their consoles complained of."""

    browser: Browser
    complaints: list[str] = attrs.field(factory=list)
    ignored: tuple[str, ...] = ()
    """Parts of complaints that the test provokes: the browser reports every connection that fails."""
    _contexts: list[BrowserContext] = attrs.field(factory=list)

    def open(
        self,
        address: str,
        *,
        before: Callable[[Page], None] | None = None,
        scheme: str = "light",
        size: tuple[int, int] = (1280, 900),
        permissions: tuple[str, ...] = (),
        trusting: bool = False,
    ) -> Page:
        """A page of a visitor of its own; `before` prepares it before it loads, `trusting` takes any certificate."""
        context = self.browser.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme="dark" if scheme == "dark" else "light",
            permissions=list(permissions),
            ignore_https_errors=trusting,
        )
        self._contexts.append(context)
        context.set_default_timeout(PATIENCE)
        context.add_init_script(_REPORT_VIOLATIONS)
        page = context.new_page()
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        if before is not None:
            before(page)
        page.goto(address)
        return page

    def close(self) -> None:
        """Close all of them, and fail for what they complained of."""
        for context in self._contexts:
            # A request that is being answered by the test has lost its page: no failure of whichever test comes next.
            for page in context.pages:
                page.unroute_all(behavior="ignoreErrors")
            context.close()
        unexpected = [text for text in self.complaints if not any(part in text for part in self.ignored)]
        assert not unexpected, f"the browser's console: {unexpected}"

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"} and not _BUSY.search(f"{message.text} {message.location['url']}"):
            self.complaints.append(message.text)


@pytest.fixture
def tabs(browser: Browser) -> Iterator[Tabs]:
    """Pages for the test; what they complain of fails it."""
    tabs = Tabs(browser)
    yield tabs
    tabs.close()
