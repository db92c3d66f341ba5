"""`python -m tools.screenshot [--url URL] [--output FILE]`: the picture of opsd's page that is in README.md.

Without `--url` it starts the demo and opens the page that the demo names. Needs Chromium: `CHROMIUM`, or on PATH.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).resolve().parents[1]
PICTURE: Final = ROOT / "docs/opsd.png"
LARGEST: Final = 200 << 10
"""Bytes: a picture that every clone carries."""

_SIZE: Final = (1280, 1150)
_LINES: Final = 12
"""Messages of the run that are on the page before the picture is taken."""
_CHARTS: Final = 40.0
"""Seconds in which the charts get something to show."""
_PATIENCE: Final = 120.0
_BROWSERS: Final = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
_TOO_LARGE: Final = 1
_NO_BROWSER: Final = 2


def take(browser: str, url: str, output: Path) -> None:
    """Open `url`, wait until a run has moved on it, and write the picture."""
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
        page = opened.new_page(viewport={"width": _SIZE[0], "height": _SIZE[1]}, color_scheme="light")
        page.goto(url)
        page.locator(".log-line").nth(_LINES - 1).wait_for(timeout=_PATIENCE * 1000)
        page.wait_for_timeout(_CHARTS * 1000)
        page.evaluate("window.scrollTo(0, 0)")
        page.screenshot(path=output)
        opened.close()


@contextmanager
def demo() -> Iterator[str]:
    """The address that a demo of our own begins with; it ends with the block."""
    with subprocess.Popen(
        [sys.executable, "-m", "deploy.demo"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            first = "" if process.stdout is None else process.stdout.readline()
            if not first.startswith("Open "):
                sys.exit(f"the demo did not begin: {first!r}")
            yield first.removeprefix("Open ").strip()
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=_PATIENCE)


def main() -> NoReturn:
    """Run."""
    parser = argparse.ArgumentParser(prog="python -m tools.screenshot", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--url", help="of a page that runs; else a demo is started")
    parser.add_argument("--output", type=Path, default=PICTURE, metavar="FILE", help="the picture [docs/opsd.png]")
    options = parser.parse_args()
    browser = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, _BROWSERS)), None)
    if browser is None:
        print(f"no browser: none of {', '.join(_BROWSERS)} is on PATH", file=sys.stderr)
        sys.exit(_NO_BROWSER)
    if options.url is None:
        with demo() as url:
            take(browser, url, options.output)
    else:
        take(browser, options.url, options.output)
    size = options.output.stat().st_size
    print(f"{options.output}: {size >> 10} KB")
    if size > LARGEST:
        print(f"that is more than {LARGEST >> 10} KB", file=sys.stderr)
        sys.exit(_TOO_LARGE)
    sys.exit(0)


if __name__ == "__main__":
    main()
