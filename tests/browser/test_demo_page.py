"""The demo's page, from the address that the demo begins with: it opens on a run that moves, in a time that is true."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING

import pytest
import trio
from playwright.sync_api import expect

from tests.browser.looks import wait_feed, wait_for, wait_run
from tests.browser.stage import open_stage
from tests.support.demo import open_demo

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from tests.browser.conftest import Tabs

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("redis_program")]


@asynccontextmanager
async def playing(directory: Path, *arguments: str) -> AsyncIterator[str]:
    """A demo that somebody reads; the address that it begins with."""
    async with open_demo(directory, *arguments) as running:
        await running.wait_for(b"build_channels started")
        address, _ = running.page()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(running.read_on)
            yield address
            nursery.cancel_scope.cancel()


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Of a demo's page."""
    with open_stage() as stage:
        yield stage.open(playing(tmp_path))


# The demo first: the page complains when it ends before it.
def test_it_opens_on_a_run_that_moves_and_whose_times_are_past(address: str, tabs: Tabs) -> None:
    # Written in whole seconds.
    begun = datetime.now().replace(microsecond=0)  # noqa: DTZ005 - the page shows local time
    page = tabs.open(address)
    wait_feed(page, "live")
    wait_run(page)
    lines = page.locator(".log-line")
    wait_for(page, lambda: lines.count() > 5, "the run moves")
    expect(page.locator('tr[data-key="sbs_map"]')).to_have_attribute("data-done", "true")

    def changed() -> datetime | None:
        said = page.locator(".run-checklist p", has_text="Last change").all_inner_texts()
        return datetime.strptime(said[0], "Last change %Y-%m-%d %H:%M:%S") if said else None  # noqa: DTZ007 - local

    def changed_since() -> bool:
        last = changed()
        return last is not None and last >= begun

    wait_for(page, changed_since, "a step is done under the page's eyes")
    last = changed()
    assert last is not None
    assert last <= datetime.now()  # noqa: DTZ005 - local


@pytest.fixture
def clustered(tmp_path: Path) -> Iterator[str]:
    """The page of a demo on a cluster."""
    with open_stage() as stage:
        yield stage.open(playing(tmp_path, "--cluster"))


def test_it_says_that_a_primary_has_handed_over_and_the_run_goes_on(clustered: str, tabs: Tabs) -> None:
    page = tabs.open(clustered)
    wait_feed(page, "live")
    wait_run(page)
    lines = page.locator(".log-line")
    # Whoever has missed the first sees the next.
    wait_for(page, lambda: "is the primary" in " ".join(lines.all_inner_texts()), "the page says who is the primary")
    seen = lines.all_inner_texts()[-1]
    wait_for(page, lambda: lines.all_inner_texts()[-1] != seen, "the run goes on")
    wait_feed(page, "live")
