"""The page shows what is: no figure for what is not known, one figure in all places, and the server's time."""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from common.embedded import open_embedded_redis
from tests.browser.looks import altered, check_accessible, pause, tile, wait_feed, wait_for, wait_run
from tests.browser.platform import address_of, open_opsd, short_directory
from tests.browser.stage import open_stage
from tests.support.daemon import open_daemon
from tests.support.raw import HOST, open_redis

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Page, Route, WebSocketRoute

    from tests.browser.conftest import Tabs
    from tests.browser.platform import Platform

pytestmark = pytest.mark.integration

HISTORY = "**/api/dev/status/history*"
CHARTS = ("Connections", "Messages", "Latency", "Error rate")

MOST_LARGE = 500
"""Pairs of messages of 100 KB: more than kernels hold for a connection."""

PONG = '{"type":"pong"}'

# Where on the canvas the line begins and ends, as shares of the canvas's width; null where there is none.
EXTENT = """(canvas) => {
  const { width, height } = canvas;
  // From a copy: the browser warns of a canvas that is drawn to and read from again and again.
  const copy = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  copy.drawImage(canvas, 0, 0);
  const { data } = copy.getImageData(0, 0, width, height);
  let [left, right] = [width, -1];
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const at = 4 * (y * width + x);
      const near = [11, 102, 181].every((part, index) => Math.abs(data[at + index] - part) < 24);
      if (near && data[at + 3] > 200) [left, right] = [Math.min(left, x), Math.max(right, x)];
    }
  }
  return right < 0 ? null : [left / width, right / width];
}"""


def recorded(seconds: int) -> Any:
    """Answers with a recording of the last so many seconds, a point every five of them, by this machine's clock."""

    def answer(route: Route) -> None:
        now = time.time()
        points = [
            {
                "time": datetime.fromtimestamp(now - age, UTC).isoformat(timespec="milliseconds"),
                "connections": 3,
                "messagesPerSecond": 5,
                "latency": 2,
                "errorRate": 0.01,
                "mode": "normal",
            }
            for age in range(seconds, -1, -5)
        ]
        route.fulfill(json={"minutes": 60, "points": points})

    return answer


def check_charts_are_filled(page: Page) -> None:
    """The line of each chart goes from about its left end to its right end."""
    canvases = page.locator("hour-charts canvas")
    expect(canvases).to_have_count(len(CHARTS))

    def filled() -> bool:
        extents = [canvas.evaluate(EXTENT) for canvas in canvases.all()]
        return all(extent is not None and extent[0] < 0.4 and extent[1] > 0.8 for extent in extents)

    wait_for(page, filled, "every chart is filled by its line")


@pytest.mark.parametrize("seconds", [65, 600, 3600])
def test_charts_begin_with_the_recording(tabs: Tabs, platform: Platform, seconds: int) -> None:
    def prepare(page: Page) -> None:
        page.route(HISTORY, recorded(seconds))

    page = tabs.open(platform.page, before=prepare)
    wait_feed(page, "live")
    check_charts_are_filled(page)
    note = page.locator("hour-charts .chart-note")
    if seconds < 3600:
        expect(note).to_have_text(re.compile(r"Recorded since \d\d:\d\d:\d\d\."))
    else:
        expect(note).to_be_hidden()


@pytest.mark.parametrize(("minutes", "side"), [(15, "ahead of"), (-15, "behind")])
def test_a_clock_that_is_off_is_told_and_changes_no_chart(
    tabs: Tabs, platform: Platform, minutes: int, side: str
) -> None:
    def prepare(page: Page) -> None:
        page.clock.install(time=time.time() + minutes * 60)
        page.route(HISTORY, recorded(120))

    page = tabs.open(f"{platform.page}#run=clock:wepp", before=prepare)
    wait_feed(page, "live")
    wait_run(page)
    off = page.locator('[data-part="clock"]')
    # To the second it depends on how long the browser took to begin.
    expect(off).to_have_text(re.compile(rf"This browser's clock is 1[45] min \d+ s {side} the server's\."))
    check_charts_are_filled(page)
    check_accessible(page)
    before = datetime.now().astimezone().replace(microsecond=0)
    platform.publish("clock:wepp", "a line")
    shown = page.locator(".log-line time")
    expect(shown).to_have_count(1)
    at = datetime.strptime(shown.inner_text(), "%H:%M:%S").astimezone()
    apart = abs((at.hour * 60 + at.minute) - (before.hour * 60 + before.minute))
    assert min(apart, 24 * 60 - apart) < 12, "the line has the browser's time"


def test_a_clock_that_is_right_is_no_matter(tabs: Tabs, platform: Platform) -> None:
    page = tabs.open(platform.page)
    wait_feed(page, "live")
    expect(page.locator('[data-part="clock"]')).to_be_hidden()


def test_a_tile_and_its_chart_show_the_same(tabs: Tabs, platform: Platform) -> None:
    count = 0

    def change(status: dict[str, Any]) -> None:
        status["vector"]["sessions"]["websocketConnections"] = count
        status["vector"]["directions"]["requestFlow"] |= {"avgLatency": count + 0.5, "requestsPerSecond": 1.5}
        status["vector"]["others"]["errorRate"] = count / 1000

    page = tabs.open(platform.page, before=altered(change))
    wait_feed(page, "live")
    charts = page.locator("hour-charts .chart-value")
    places = (("connections", "Connections"), ("latency", "Latency"), ("errors", "Error rate"))
    for value, *shown in ((7, "7", "7.50 ms", "0.70 %"), (12, "12", "12.5 ms", "1.20 %")):
        count = value
        for (key, title), text in zip(places, shown, strict=True):
            expect(page.locator(f'[data-tile="{key}"] .figure')).to_have_text(text)
            expect(charts.nth(CHARTS.index(title))).to_have_text(text)


def test_what_is_not_known_is_a_dash(tabs: Tabs, platform: Platform) -> None:
    def change(status: dict[str, Any]) -> None:
        vector = status["vector"]
        vector["sessions"] |= {"activeWorkers": 0, "websocketConnections": 0}
        vector["directions"]["requestFlow"] |= {"avgLatency": 0, "requestsPerSecond": 0}
        vector["others"] |= {"memory": 0, "cpu": 0, "uptime": 0}
        status["meta"] |= {"telemetryStatus": "offline", "unavailable": ["statusd", "preflightd"]}

    page = tabs.open(platform.page, before=altered(change))
    wait_feed(page, "live")
    for key in ("connections", "workers", "latency", "memory", "cpu", "uptime"):
        expect(page.locator(f'[data-tile="{key}"] .figure')).to_have_text("—")
    charts = page.locator("hour-charts .chart-value")
    for index in (CHARTS.index("Connections"), CHARTS.index("Latency")):
        expect(charts.nth(index)).to_have_text("—")
    for key in ("api", "rps"):
        expect(tile(page, key)).not_to_have_text("—")
    # Nobody is there to tell how the traffic or Redis is; that nobody is there is known.
    for part, level in (("mode", "none"), ("lamp-redis", "none"), ("lamp-statusd", "bad"), ("lamp-preflightd", "bad")):
        expect(page.locator(f'[data-part="{part}"]')).to_have_attribute("data-level", level)
    expect(page.locator("#verdict")).to_have_text(re.compile("statusd down · preflightd down"))


def test_lamps_are_red_for_what_is_down(tabs: Tabs, platform: Platform) -> None:
    lost: set[str] = set()

    def change(status: dict[str, Any]) -> None:
        if lost:
            status["meta"]["telemetryStatus"] = "degraded"

    def answer(route: Route) -> None:
        document = route.fetch().json()
        for source in document["sources"]:
            if source["name"] in lost:
                source |= {"ready": 0, "redis": "waiting"}
        route.fulfill(json=document)

    def prepare(page: Page) -> None:
        altered(change)(page)
        page.route("**/api/dev/workers", answer)

    page = tabs.open(platform.page, before=prepare)
    wait_feed(page, "live")
    verdict = page.locator("#verdict")

    def shows(**lamps: tuple[str, str]) -> None:
        for name, (level, word) in lamps.items():
            lamp = page.locator(f'[data-part="lamp-{name}"]')
            expect(lamp).to_have_attribute("data-level", level)
            expect(lamp.locator(".lamp-word")).to_have_text(word)

    shows(statusd=("ok", "Up"), preflightd=("ok", "Up"), redis=("ok", "Up"))
    expect(verdict).to_have_text("All is well")
    lost.add("preflightd")
    shows(statusd=("ok", "Up"), preflightd=("bad", "Not ready"), redis=("bad", "Not for all"))
    lost.add("statusd")
    shows(statusd=("bad", "Not ready"), preflightd=("bad", "Not ready"), redis=("bad", "Down"))
    expect(verdict).to_have_attribute("data-level", "bad")
    expect(verdict).to_contain_text("Redis down")
    check_accessible(page)


def test_peaks_that_a_mean_hides_are_told(tabs: Tabs, platform: Platform) -> None:
    def answer(route: Route) -> None:
        now = time.time()
        point = {"connections": 3, "messagesPerSecond": 5, "latency": 2, "errorRate": 0.01}
        points = [
            {
                "time": datetime.fromtimestamp(now - age, UTC).isoformat(timespec="milliseconds"),
                **point,
                "mode": "normal",
                "min": {**point, "connections": 1},
                "max": {**point, "connections": 870 if age == 60 else 4},
            }
            for age in range(3600, -1, -12)
        ]
        route.fulfill(json={"minutes": 60, "points": points})

    def prepare(page: Page) -> None:
        page.route(HISTORY, answer)

    page = tabs.open(platform.page, before=prepare)
    wait_feed(page, "live")
    stage = page.locator(".chart-stage").first
    expect(stage).to_have_attribute(
        "aria-label", re.compile(r"Connections in the last hour: now \d+, lowest [01], highest 870")
    )


def test_a_line_marks_how_long_the_page_was_away_and_why(tabs: Tabs, platform: Platform) -> None:
    sockets: list[WebSocketRoute] = []

    def serve(socket: WebSocketRoute) -> None:
        socket.connect_to_server()
        sockets.append(socket)

    page = tabs.open(
        f"{platform.page}#run=away:wepp", before=lambda page: page.route_web_socket("**/away:wepp*", serve)
    )
    wait_run(page)
    platform.publish("away:wepp", "before")
    lines = page.locator(".log-line .line")
    expect(lines).to_have_text(["before"])
    for number, (code, why) in enumerate(
        ((1001, "the daemon is being stopped"), (None, "the connection was lost")), start=1
    ):
        sockets[-1].close(code=code)
        mark = re.compile(rf"^Not connected for \d.* s \({why}\): lines may be missing here\.$")
        expect(lines).to_have_count(2 * number)
        expect(lines.last).to_have_text(mark)
        expect(page.locator(".log-line").last).to_have_attribute("data-level", "warn")
        wait_run(page)
        platform.publish("away:wepp", f"after {number}")
        expect(lines.last).to_have_text(f"after {number}")
    expect(lines).to_have_count(5)
    check_accessible(page)


@pytest.mark.parametrize(("interval", "patience"), [(1_000, 15_000), (8_000, 24_000), (60_000, 65_000)])
def test_a_daemon_that_hangs_is_noticed_after_three_of_its_pings(
    tabs: Tabs, platform: Platform, interval: int, patience: int
) -> None:
    # The clock is so fast that other sockets seem to be dead: Playwright's stand-in for one that was given up has still
    # something for it.
    tabs.ignored = ("already in CLOSING or CLOSED state",)
    sockets: list[WebSocketRoute] = []
    answers: list[str | bytes] = []

    def hear(message: str | bytes) -> None:
        answers.append(message)

    def serve(socket: WebSocketRoute) -> None:
        sockets.append(socket)
        socket.on_message(hear)

    def prepare(page: Page) -> None:
        page.clock.install()
        page.route_web_socket("**/hung:wepp*", serve)

    page = tabs.open(f"{platform.page}#run=hung:wepp", before=prepare)
    state = page.locator('[data-part="status-state"]')
    expect(state).to_have_attribute("data-state", "open")
    pause(page)

    def ping() -> None:
        due = answers.count(PONG) + 1
        sockets[-1].send('{"type":"ping"}')
        wait_for(page, lambda: answers.count(PONG) == due, "the ping is answered")

    ping()
    page.clock.run_for(interval)
    ping()
    page.clock.run_for(patience - 100)
    expect(state).to_have_attribute("data-state", "open")
    page.clock.run_for(200)
    expect(state).to_have_attribute("data-state", "waiting")
    expect(state).to_have_text("statusd: the daemon has gone silent; trying again")


def test_a_page_that_was_too_slow_says_that_lines_may_be_missing(
    tabs: Tabs, platform: Platform, redis_program: Path
) -> None:
    """A slow consumer gets no close frame: that it may have been that is all that the page can know."""
    with short_directory() as directory, open_stage() as stage:
        redis = stage.open(open_embedded_redis(program=redis_program))
        statusd = stage.open(
            open_daemon(redis, {"max_backlog": "64KB"}, expect={"connection ended with error"}),
        )
        settings = {
            "targets": "",
            "status_ws_url": f"ws://{HOST}:{statusd.port}",
            "preflight_ws_url": f"ws://{HOST}:{platform.preflightd.port}",
        }
        opsd = stage.open(open_opsd(redis, settings, tmux_directory=directory))
        page = tabs.open(f"{address_of(opsd)}#run=slow:wepp")
        wait_run(page)

        async def publish(*lines: str) -> None:
            async with open_redis(redis) as connection:
                await connection.publish("slow:wepp", lines)

        stage.call(publish, "before")
        lines = page.locator(".log-line .line")
        expect(lines).to_have_text(["before"])
        # A page whose script stands still takes nothing.
        debugger = page.context.new_cdp_session(page)
        paused: list[object] = []

        def note(event: object) -> None:
            paused.append(event)

        debugger.on("Debugger.paused", note)
        debugger.send("Debugger.enable")
        debugger.send("Debugger.pause")
        large = json.dumps({"message": "large", "more": "x" * 100_000})
        for _ in range(MOST_LARGE):
            if statusd.said("connection ended with error"):
                break
            stage.call(publish, large, large)
        (ended,) = stage.call(statusd.wait_said, "connection ended with error")
        assert ended["reason"] == "slow_consumer"
        # It pauses at the next line of script that is run, which what was published brings about.
        wait_for(page, lambda: bool(paused), "the page stands still")
        debugger.send("Debugger.resume")
        mark = page.locator(".log-line[data-level=warn] .line")
        expect(mark).to_have_text(
            re.compile(
                r"^Not connected for \d.* s \(the connection broke off: network, killed daemon, "
                r"or a page that was too slow\): lines may be missing here\.$"
            )
        )
        wait_run(page)
        stage.call(publish, "after")
        expect(lines.last).to_have_text("after")
        page.close()
