"""opsd's application: what each endpoint answers. No port: requests go to it directly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jsonschema
import pytest
import trio

from common.version import version
from opsd.api.status import HISTORY_TIMEOUT
from opsd.endpoints import ENDPOINTS
from opsd.events import MODE
from opsd.history import HistoryUnavailableError
from opsd.pages import load_pages
from opsd.schema import SCHEMA
from opsd.tmux.errors import TmuxConflictError, TmuxError, TmuxUnavailableError
from tests.support.opsd_app import CHANGE, LIVE, SNAPSHOT, Opsd, converse
from tests.support.raw import PATIENCE

if TYPE_CHECKING:
    from trio.testing import MockClock

GETS = [
    "/api/dev/status",
    "/api/dev/status/schema",
    "/api/dev/status/history",
    "/api/dev/metrics",
    "/api/dev/events",
    "/api/dev/workers",
    "/api/workers/snapshot/statusd-1",
    "/api/dev/tmux/status",
]
POSTS = ["/api/dev/tmux/start", "/api/dev/tmux/stop", "/api/logout"]


async def test_the_status_has_the_headers_of_its_version_and_validates() -> None:
    answer = await Opsd().ask("/api/dev/status")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-tes-status-version"] == "2.0"
    jsonschema.validate(answer.json(), SCHEMA)
    assert answer.json()["vector"]["directions"]["requestFlow"]["totalRoutes"] == len(ENDPOINTS)
    assert (await Opsd().ask("/api/dev/status/schema")).json() == SCHEMA


async def test_calls_of_the_api_are_counted_and_nothing_else() -> None:
    opsd = Opsd()
    for path in ("/api/dev/status", "/api/nope", "/", "/health"):
        await opsd.ask(path)
    assert opsd.board.ended == 2
    assert opsd.board.in_flight == 0


async def test_a_bug_is_a_500_in_json_with_a_traceback_in_the_log() -> None:
    opsd = Opsd()
    opsd.board.broken = True
    answer = await opsd.ask("/api/workers/snapshot/statusd-1")
    assert (answer.status_code, answer.json()) == (500, {"error": "internal error"})
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "a bug" in opsd.logbook.said("request failed")[0]["traceback"]
    assert opsd.board.ended == 1
    assert opsd.board.in_flight == 0


async def test_a_bug_before_there_is_an_answer_is_a_500_too(monkeypatch: pytest.MonkeyPatch) -> None:
    opsd = Opsd()

    def buggy(_board: object) -> bytes:
        raise LookupError("a bug")

    monkeypatch.setattr(type(opsd.board), "body", property(buggy))
    answer = await opsd.ask("/api/dev/status")
    assert (answer.status_code, answer.json()) == (500, {"error": "internal error"})
    async with converse(opsd) as client:
        assert (await client.next())["type"] == "websocket.accept"
        with trio.fail_after(PATIENCE):
            assert not [message async for message in client.from_app]
    assert [line["path"] for line in opsd.logbook.said("request failed")] == ["/api/dev/status", LIVE]
    assert opsd.board.in_flight == 0


async def test_there_is_no_websocket_but_those_that_are_listed() -> None:
    opsd = Opsd()
    async with converse(opsd, "/api/dev/status") as client:
        start = await client.next()
        assert (start["type"], start["status"]) == ("websocket.http.response.start", 404)
        assert await client.next() == {"type": "websocket.http.response.body", "body": b'{"error": "not found"}'}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nope", 404),
        ("GET", "/api/dev/status/", 404),
        ("GET", "/api/dev/tmux/start", 405),
        ("POST", "/api/dev/status", 405),
        ("DELETE", "/api/dev/status", 405),
        ("HEAD", "/api/dev/status", 200),
        ("HEAD", "/", 200),
    ],
)
async def test_methods_and_paths(method: str, path: str, status: int) -> None:
    answer = await Opsd().ask(path, method, headers=CHANGE)
    assert answer.status_code == status
    if status >= 400:
        assert set(answer.json()) == {"error"}


@pytest.mark.parametrize(
    ("query", "asked"),
    [
        ("", (60, 300)),
        ("?minutes=5", (5, 300)),
        ("?points=2000&minutes=44640", (44640, 2000)),
        ("?minutes=007", (7, 300)),
    ],
)
async def test_history_is_asked_for_minutes_and_points(query: str, asked: tuple[int, int]) -> None:
    opsd = Opsd()
    answer = await opsd.ask(f"/api/dev/status/history{query}")
    assert answer.status_code == 200
    assert answer.json()["minutes"] == asked[0]
    assert len(answer.json()["points"]) == 1
    assert opsd.history.asked == [asked]


@pytest.mark.parametrize(
    "query",
    [
        *("minutes=0", "minutes=-1", "minutes=x", "minutes=", "minutes=1.5", "minutes=44641", "minutes=1&minutes=2"),
        *("points=0", "points=2001", "points=9999999999999999999", "points=%C2%B2", "points=+5"),
    ],
)
async def test_history_of_nonsense_is_refused(query: str) -> None:
    opsd = Opsd()
    answer = await opsd.ask(f"/api/dev/status/history?{query}")
    assert answer.status_code == 400
    assert "whole number" in answer.json()["error"]
    assert opsd.history.asked == []


async def test_without_redis_there_is_no_history_but_all_else() -> None:
    opsd = Opsd()
    opsd.history.error = HistoryUnavailableError("no connection")
    answer = await opsd.ask("/api/dev/status/history")
    assert (answer.status_code, answer.json()) == (503, {"error": "no history: no connection"})
    assert (await opsd.ask("/api/dev/status")).status_code == 200


async def test_a_redis_that_hangs_is_no_history_and_soon(autojump_clock: MockClock) -> None:
    opsd, begun = Opsd(), trio.current_time()
    opsd.history.hangs = True
    answer = await opsd.ask("/api/dev/status/history")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.json() == {"error": "no history: Redis does not answer in time"}
    assert trio.current_time() - begun == pytest.approx(HISTORY_TIMEOUT)


async def test_metrics_are_the_vector_and_the_own_ones_only_if_wanted() -> None:
    page = (await Opsd().ask("/api/dev/metrics")).text
    assert 'opsd_traffic_mode{mode="normal"} 1.0' in page
    assert 'opsd_traffic_mode{mode="isolated"} 0.0' in page
    assert 'opsd_telemetry_status{status="offline"} 1.0' in page
    # From the start, so that the first is an increase.
    assert 'opsd_alerts_total{outcome="sent"} 0.0' in page
    assert 'opsd_alerts_total{outcome="failed"} 0.0' in page
    assert "process_" not in page
    assert (await Opsd().ask("/metrics")).status_code == 404
    assert f'opsd_build_info{{version="{version()}"}} 1.0' in (await Opsd(metrics_enabled="true").ask("/metrics")).text
    assert "python_info" in (await Opsd(metrics_enabled="true").ask("/metrics")).text


async def test_events_are_limited() -> None:
    opsd = Opsd()
    for number in range(3):
        opsd.board._changes.look({MODE: str(number)}, "2026-01-15T12:34:56.789Z", 0.0)
    assert [event["to"] for event in (await opsd.ask("/api/dev/events?limit=2")).json()["events"]] == ["2", "1"]
    assert (await opsd.ask("/api/dev/events?limit=0")).status_code == 400


async def test_a_snapshot_is_json_compressed_on_the_way_or_a_compressed_file() -> None:
    opsd = Opsd()
    answer = await opsd.ask("/api/workers/snapshot/statusd-1", headers={"Accept-Encoding": "br, gzip;q=0.5"})
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.headers["content-disposition"] == 'attachment; filename="statusd-1.json"'
    assert answer.json() == {"tasks": []}
    for accepted in ("identity", "gzip;q=0"):
        answer = await opsd.ask("/api/workers/snapshot/statusd-1", headers={"Accept-Encoding": accepted})
        assert "content-encoding" not in answer.headers
        assert answer.headers["content-disposition"] == 'attachment; filename="statusd-1.json.gz"'
        assert answer.content == SNAPSHOT


@pytest.mark.parametrize("worker", ["other-1", "..", "%2e%2e%2fetc", "a%00b"])
async def test_a_snapshot_of_nobody_is_not_found(worker: str) -> None:
    assert (await Opsd().ask(f"/api/workers/snapshot/{worker}")).status_code == 404


async def test_a_snapshot_that_comes_too_soon_says_when_the_next_can_be_had() -> None:
    answer = await Opsd().ask("/api/workers/snapshot/statusd-2")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
    assert answer.json() == {"error": "statusd: a moment ago"}


async def test_tmux_is_started_and_stopped() -> None:
    opsd = Opsd(windows=["statusd", "preflightd"])
    for what in ("start", "stop"):
        answer = await opsd.ask(f"/api/dev/tmux/{what}", "POST", headers=CHANGE)
        assert answer.status_code == 200
        assert answer.json()["attach"] == "tmux attach -t run-status"
    assert opsd.tmux.done == [["statusd", "preflightd"], "stop"]


@pytest.mark.parametrize(
    ("error", "status"),
    [(TmuxConflictError("busy"), 409), (TmuxUnavailableError("none"), 503), (TmuxError("refused"), 502)],
)
async def test_what_tmux_refuses_is_said(error: Exception, status: int) -> None:
    opsd = Opsd()
    opsd.tmux.error = error
    answer = await opsd.ask("/api/dev/tmux/stop", "POST", headers=CHANGE)
    assert (answer.status_code, answer.json()) == (status, {"error": str(error)})


async def test_nothing_is_started_where_no_daemon_is_expected() -> None:
    answer = await Opsd(windows=[]).ask("/api/dev/tmux/start", "POST", headers=CHANGE)
    assert answer.status_code == 409


async def test_health_and_metrics_say_when_there_is_no_history() -> None:
    opsd = Opsd()
    opsd.history.working = False
    health = await opsd.ask("/health")
    assert (health.status_code, health.json()["history"]) == (200, "down")
    assert "opsd_history_up 0.0" in (await opsd.ask("/api/dev/metrics")).text
    opsd.history.working = True
    assert (await opsd.ask("/health")).json()["history"] == "ok"
    assert "opsd_history_up 1.0" in (await opsd.ask("/api/dev/metrics")).text


async def test_the_page_is_asked_for_again_with_its_tag() -> None:
    opsd = Opsd()
    first = await opsd.ask("/")
    assert (first.content, first.headers["content-type"]) == (b"<p>", "text/html; charset=utf-8")
    again = await opsd.ask("/", headers={"If-None-Match": f'"x", W/{first.headers["etag"]}'})
    assert (again.status_code, again.content) == (304, b"")
    assert (await opsd.ask("/", headers={"If-None-Match": '"other"'})).status_code == 200
    assert (await opsd.ask("/web/a/b.js")).content == b";"


@pytest.mark.parametrize(
    "path",
    ["/web/", "/web/nope.js", "/web/../auth.py", "/web/%2e%2e/auth.py", "/web//etc/passwd", "/web/a%2f..%2fa/b.js"],
)
async def test_only_the_files_of_the_page_are_served(path: str) -> None:
    assert (await Opsd().ask(path)).status_code == 404


def test_the_package_has_the_page() -> None:
    pages = load_pages()
    assert pages["index.html"].content_type == "text/html; charset=utf-8"
    for name, page in pages.items():
        assert page.body or name.endswith(".py")
        if name.endswith(".js"):
            assert page.content_type == "text/javascript; charset=utf-8"
    assert not any(".." in name or name.startswith("/") for name in pages)


async def test_until_every_source_was_asked_once_it_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    opsd = Opsd()
    monkeypatch.setattr(type(opsd.board), "ready", False)
    answer = await opsd.ask("/health")
    assert (answer.status_code, answer.json()) == (503, {"error": "sources not asked yet"})
    assert (await opsd.ask("/health/live")).status_code == 200


async def test_health() -> None:
    opsd = Opsd()
    assert (await opsd.ask("/health")).status_code == 200
    opsd.closing.set()
    assert (await opsd.ask("/health")).status_code == 503
    assert (await opsd.ask("/health/live")).status_code == 200
