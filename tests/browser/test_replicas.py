"""A browser behind the shipped Caddyfile: the platform's forms of an id, the drain of a replica, a foreign page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from common.embedded import open_embedded_redis
from tests.browser.looks import wait_for
from tests.browser.stage import open_stage
from tests.support.daemon import open_daemon
from tests.support.proxies import PREFIX, open_caddy
from tests.support.raw import HOST, open_redis

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.browser.conftest import Tabs
    from tests.browser.stage import Stage

pytestmark = pytest.mark.integration

RUN = "batch;;some.name;;_base"
SETTINGS = {"allowed_origins": "*.example.gov", "ping_interval": "1h", "pong_timeout": "3h"}

# Connects in a given form of the id, again half a second after each end, and keeps what it was told.
CLIENT = """([prefix, run, encodes]) => {
  window.opened = 0;
  window.lines = [];
  const id = `${run}:wepp`;
  const connect = () => {
    const socket = new WebSocket(`ws://${location.host}${prefix}/status/${encodes ? encodeURIComponent(id) : id}`);
    socket.onopen = () => { window.opened += 1; };
    socket.onmessage = (event) => { window.lines.push(JSON.parse(event.data).data); };
    socket.onclose = () => setTimeout(connect, 500);
  };
  connect();
}"""

# How a handshake from this page ends.
HANDSHAKE = """(address) => new Promise((resolve) => {
  const socket = new WebSocket(address);
  socket.onopen = () => { socket.close(); resolve("open"); };
  socket.onerror = () => resolve("refused");
})"""


@pytest.fixture
def stage_of_replicas() -> Iterator[Stage]:
    """Ends after the pages: a page that loses its daemon says so."""
    with open_stage() as stage:
        yield stage


@pytest.mark.parametrize("encodes", [True, False], ids=["encoded", "plain"])
def test_a_page_comes_back_to_the_other_replica(
    stage_of_replicas: Stage, tabs: Tabs, redis_program: Path, encodes: bool
) -> None:
    tabs.ignored = ("WebSocket connection to", "favicon")
    stage = stage_of_replicas
    redis = stage.open(open_embedded_redis(program=redis_program))
    daemons = [stage.open(open_daemon(redis, SETTINGS)) for _ in range(2)]
    upstreams = " ".join(f"{HOST}:{daemon.port}" for daemon in daemons)
    port = stage.open(open_caddy({"NEW_STATUS": upstreams}))

    async def publish(line: str) -> None:
        async with open_redis(redis) as connection:
            await connection.publish(f"{RUN}:wepp", [line])

    page = tabs.open(f"http://{HOST}:{port}/")
    page.evaluate(CLIENT, [PREFIX, RUN, encodes])
    wait_for(page, lambda: page.evaluate("window.opened") == 1, "the page is connected")
    stage.call(publish, "before")
    wait_for(page, lambda: page.evaluate("window.lines") == ["before"], "the first line")
    wait_for(page, lambda: any(daemon.said("connection accepted") for daemon in daemons), "one has accepted it")
    home, other = sorted(daemons, key=lambda daemon: not daemon.said("connection accepted"))
    home.signal()
    wait_for(page, lambda: page.evaluate("window.opened") >= 2, "the page is connected again")
    stage.call(publish, "after")
    wait_for(page, lambda: page.evaluate("window.lines") == ["before", "after"], "the second line")
    # Another name of the same host is another site.
    stranger = tabs.open(f"http://localhost:{port}/")
    address = f"ws://{HOST}:{port}{PREFIX}/status/run:wepp"

    def is_refused() -> bool:
        assert stranger.evaluate(HANDSHAKE, address) == "refused"
        return bool(other.said("request refused", status=403))

    # Until the proxy sees that one is away, it may try that one, in vain.
    wait_for(page, is_refused, "the stranger is refused by the one that is there")
    wait_for(page, lambda: page.evaluate(HANDSHAKE, address) == "open", "a page of the site is let in")
