"""The platform's own clients, as stand-ins, behind Caddy and TLS as the platform has them: a swap of the daemons, their
restart and their death are nothing that a user has to reload a page for.
"""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from signal import SIGKILL
from typing import TYPE_CHECKING
from urllib.parse import quote

import attrs
import pytest
from playwright.sync_api import expect

from common.config import Settings
from common.embedded import open_embedded_redis
from tests.browser.looks import pause, wait_for
from tests.browser.stage import open_stage
from tests.support.daemon import open_daemon
from tests.support.ports import free_port
from tests.support.proxies import PREFIX, open_platform_caddy
from tests.support.raw import HOST, open_redis, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    from playwright.sync_api import Page

    from common.embedded import EmbeddedRedis
    from tests.browser.conftest import Tabs
    from tests.browser.stage import Stage
    from tests.support.daemon import DaemonProcess

pytestmark = pytest.mark.integration

PAGES = Path(__file__).parent / "clients"
RUN = "batch;;some.name;;_base"

# What the browser says of each attempt while a daemon is away.
AWAY = ("WebSocket connection to", "502")

# The page's clock goes on by so much at each look, so that nobody waits for its timers.
LOOK = 500

TURN = """(hidden) => {
  Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
  const state = hidden ? "hidden" : "visible";
  Object.defineProperty(document, "visibilityState", { configurable: true, get: () => state });
  document.dispatchEvent(new Event("visibilitychange"));
}"""

# The status of a daemon's /health, 0 if there was none within 5 s.
HEALTH = """(path) => fetch(path, { signal: AbortSignal.timeout(5000) }).then((answer) => answer.status, () => 0)"""


@attrs.define
class Service:
    """A daemon that is started again on its port, as a service manager does."""

    module: str
    redis: EmbeddedRedis
    settings: Mapping[str, str]
    port: int = attrs.field(factory=free_port)
    _life: AsyncExitStack = attrs.field(factory=AsyncExitStack)
    _daemon: DaemonProcess | None = None

    @property
    def running(self) -> DaemonProcess:
        """The process of now."""
        assert self._daemon is not None
        return self._daemon

    async def start(self, *, code: int = 0) -> None:
        """Start it; `code` is how it is to end."""
        settings = {"listen_addr": f"{HOST}:{self.port}", **self.settings}
        # Not when nobody is connected: the page may be back before anything else.
        daemon = await self._life.enter_async_context(
            open_daemon(self.redis, settings, module=self.module, code=code, healthy=False)
        )
        self._daemon = daemon

        async def is_healthy() -> bool:
            return await daemon.health() == 200

        await wait_until(is_healthy, f"{self.module} is healthy")

    async def stop(self) -> None:
        """SIGTERM, and wait for its end; nothing if it was killed already."""
        await self._life.aclose()
        self._life = AsyncExitStack()

    async def kill(self) -> None:
        """SIGKILL; it was started with that `code`."""
        self.running.signal(SIGKILL)
        await self.stop()


@attrs.frozen
class Site:
    """What the platform has of ours."""

    stage: Stage
    redis: EmbeddedRedis
    services: Mapping[str, Service]
    address: str

    def client(self, page: str) -> str:
        """The address of a stand-in, for the run."""
        return f"{self.address}/{page}.html?run={quote(RUN)}"

    def publish(self, line: str) -> None:
        """As a job does."""

        async def publish() -> None:
            async with open_redis(self.redis) as redis:
                await redis.call("SELECT", 2)
                await redis.publish(f"{RUN}:wepp", [line])

        self.stage.call(publish)

    def write(self, field: str, value: str) -> None:
        """As a step does."""

        async def write() -> None:
            async with open_redis(self.redis) as redis:
                await redis.call("SELECT", 0)
                await redis.call("HSET", RUN, field, value)

        self.stage.call(write)


@asynccontextmanager
async def open_service(
    module: str, redis: EmbeddedRedis, code: int, settings: Mapping[str, str]
) -> AsyncIterator[Service]:
    """The daemon, started; it ends with `code` the first time."""
    service = Service(module, redis, settings)
    await service.start(code=code)
    try:
        yield service
    finally:
        await service.stop()


def open_site(stage: Stage, program: Path, *, killed: str = "", settings: Mapping[str, str] | None = None) -> Site:
    """All of it on the stage; the daemon called `killed` is to be ended with SIGKILL the first time."""
    redis = stage.open(open_embedded_redis(program=program))
    services = {
        module: stage.open(open_service(module, redis, -SIGKILL if module == killed else 0, settings or {}))
        for module in ("statusd", "preflightd")
    }
    caddy = open_platform_caddy(services["statusd"].port, services["preflightd"].port, PAGES)
    return Site(stage, redis, services, stage.open(caddy))


@pytest.fixture
def stage_of_site() -> Iterator[Stage]:
    """Ends after the pages: a page that loses its daemon says so."""
    with open_stage() as stage:
        yield stage


def go_on(page: Page) -> None:
    """Let the page's timers come due."""
    page.clock.run_for(LOOK)


def wait_open(page: Page, times: int) -> None:
    """Wait until the client is connected for the so-manieth time; its timers need not be waited for."""

    def is_open() -> bool:
        if page.evaluate("window.opened") < times:
            go_on(page)
        return bool(page.evaluate("window.opened") >= times)

    wait_for(page, is_open, f"the client is connected for the {times}. time")
    expect(page.locator("#state")).to_have_text("open")


def end(site: Site, module: str, *, kill: bool) -> None:
    """End the daemon."""
    service = site.services[module]
    site.stage.call(service.kill if kill else service.stop)


def start(site: Site, module: str) -> None:
    """Start the daemon again, to be ended with SIGTERM."""
    site.stage.call(site.services[module].start)


ENDS = pytest.mark.parametrize("kill", [False, True], ids=["restart", "kill"])


@ENDS
def test_the_log_panel_is_back_after_statusd_is(
    stage_of_site: Stage, tabs: Tabs, redis_program: Path, kill: bool
) -> None:
    tabs.ignored = AWAY
    site = open_site(stage_of_site, redis_program, killed="statusd" if kill else "")
    page = tabs.open(site.client("log_panel"), before=lambda page: page.clock.install(), trusting=True)
    wait_open(page, 1)
    log = page.locator("#log")
    site.publish("before")
    expect(log).to_have_text("before")
    end(site, "statusd", kill=kill)
    expect(page.locator("#state")).not_to_have_text("open")
    expect(page.locator("#state")).not_to_have_text("hung up")
    # An attempt that comes to nothing is no end either.
    page.clock.run_for(10_000)
    start(site, "statusd")
    wait_open(page, 2)
    site.publish("after")
    expect(log).to_have_text("before\nafter\n", use_inner_text=False)


@ENDS
def test_the_checklist_is_back_and_true_after_preflightd_is(
    stage_of_site: Stage, tabs: Tabs, redis_program: Path, kill: bool
) -> None:
    tabs.ignored = AWAY
    site = open_site(stage_of_site, redis_program, killed="preflightd" if kill else "")
    page = tabs.open(site.client("checklist"), before=lambda page: page.clock.install(), trusting=True)
    wait_open(page, 1)
    done = page.locator("#done")
    site.write("attrs:has_sbs", "true")
    expect(done).to_have_text("sbs_map")
    end(site, "preflightd", kill=kill)
    expect(page.locator("#state")).not_to_have_text("open")
    # While nobody looks.
    site.write("timestamps:build_channels", "1")
    start(site, "preflightd")
    wait_open(page, 2)
    expect(done).to_have_text("sbs_map channels")
    site.write("timestamps:run_rhem", "2")
    expect(done).to_have_text("sbs_map channels rhem")


def test_the_checklist_is_back_at_once_when_its_page_is_seen_again(
    stage_of_site: Stage, tabs: Tabs, redis_program: Path
) -> None:
    tabs.ignored = AWAY
    site = open_site(stage_of_site, redis_program)
    page = tabs.open(site.client("checklist"), before=lambda page: page.clock.install(), trusting=True)
    wait_open(page, 1)
    page.evaluate(TURN, True)
    pause(page)
    end(site, "preflightd", kill=False)
    expect(page.locator("#state")).to_have_text("closed")
    start(site, "preflightd")
    page.evaluate(TURN, False)
    # Its clock stands still: no timer brings it back.
    expect(page.locator("#state")).to_have_text("open")
    assert page.evaluate("window.opened") == 2


def test_a_hangup_would_leave_the_log_panel_dead(stage_of_site: Stage, tabs: Tabs, redis_program: Path) -> None:
    """Why `HANGUP` is what it is by default; and the stand-in is as strict as the panel."""
    tabs.ignored = AWAY
    site = open_site(stage_of_site, redis_program, settings={"hangup": "all"})
    page = tabs.open(site.client("log_panel"), before=lambda page: page.clock.install(), trusting=True)
    wait_open(page, 1)
    end(site, "statusd", kill=False)
    expect(page.locator("#state")).to_have_text("hung up")
    start(site, "statusd")
    page.clock.run_for(60_000)
    expect(page.locator("#state")).to_have_text("hung up")
    assert page.evaluate("window.opened") == 1


def test_what_the_diagnostics_page_asks_for_holds(stage_of_site: Stage, tabs: Tabs, redis_program: Path) -> None:
    """A ping within 20 s, a checklist frame, and a /health of each daemon that says yes within 5 s."""
    assert Settings().ping_interval < 20
    site = open_site(stage_of_site, redis_program)
    panel = tabs.open(site.client("log_panel"), trusting=True)
    checklist = tabs.open(site.client("checklist"), trusting=True)
    for page in (panel, checklist):
        wait_for(page, lambda page=page: page.evaluate("window.pings") > 0, "a ping")  # type: ignore[misc]
    assert checklist.evaluate("window.frames_") >= 1
    for part in ("status", "preflight"):
        # One that a busy machine answers late is asked again.
        wait_for(
            panel,
            lambda part=part: panel.evaluate(HEALTH, f"{PREFIX}/{part}/health") == 200,  # type: ignore[misc]
            f"{part} is healthy",
        )
