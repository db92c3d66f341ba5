"""opsd's application: what each endpoint answers, to whom, with which headers. No port: requests go to it directly."""

from __future__ import annotations

import gzip
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import attrs
import httpx
import jsonschema
import pytest
import trio

from common.config import load
from common.guesses import BURST
from common.secret import Secret
from common.version import version
from opsd.api import Parts
from opsd.app import make_app
from opsd.auth import Guard
from opsd.board import Board, Snapshot, SnapshotError
from opsd.endpoints import ENDPOINTS
from opsd.events import MODE, Event
from opsd.history import HistoryUnavailableError
from opsd.live import MOST_CLIENTS
from opsd.pages import Page, load_pages
from opsd.places import MOST_OF_ONE
from opsd.schema import SCHEMA
from opsd.settings import OpsSettings
from opsd.tmux.errors import TmuxConflictError, TmuxError, TmuxUnavailableError
from opsd.tmux.script import Window
from opsd.tmux.status import TmuxStatus
from tests.support.logbook import Logbook
from tests.support.raw import PATIENCE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, MutableMapping, Sequence

    from trio.testing import MockClock

    from opsd.viewers import Count

HOST = "localhost:9003"
CHANGE = {"X-Ops-Request": "1"}
SNAPSHOT = gzip.compress(b'{"tasks":[]}')
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


class FakeBoard(Board):
    """A board without sources, and with the snapshots of one."""

    def __init__(self) -> None:
        super().__init__([], region="us-east-1", own_routes=len(ENDPOINTS), log=Logbook().log)
        self.ended = 0
        self.broken = False

    async def snapshot(self, worker: str) -> Snapshot:
        if self.broken:
            raise RuntimeError("a bug")
        if worker == "statusd-2":
            raise SnapshotError(429, "statusd: a moment ago", 7)
        if worker != "statusd-1":
            raise SnapshotError(404, "no such worker")
        return Snapshot("statusd-1.json", SNAPSHOT)

    def request_ended(self) -> None:
        super().request_ended()
        self.ended += 1

    def publish(self) -> None:
        """Make a new version."""
        self._publish(trio.current_time())

    @property
    def in_flight(self) -> int:
        return self._in_flight


@attrs.define
class FakeHistory:
    """Remembers what it was asked."""

    error: Exception | None = None
    asked: list[tuple[int, int]] = attrs.field(factory=list)
    working: bool = True

    async def query(self, minutes: int, points: int) -> list[dict[str, object]]:
        self.asked.append((minutes, points))
        if self.error is not None:
            raise self.error
        return [{"time": "2026-01-15T00:00:00.000Z", "connections": 1}]


@attrs.define
class FakeTmux:
    """Does what it is told, or fails."""

    error: Exception | None = None
    done: list[object] = attrs.field(factory=list)

    async def status(self) -> TmuxStatus:
        return TmuxStatus(True, "", (), "run-status", "tmux attach -t run-status")

    async def start(self, windows: Sequence[Window]) -> TmuxStatus:
        return await self._do([window.name for window in windows])

    async def stop(self) -> TmuxStatus:
        return await self._do("stop")

    async def _do(self, what: object) -> TmuxStatus:
        if self.error is not None:
            raise self.error
        self.done.append(what)
        return await self.status()


@attrs.define
class FakeViewers:
    """Counts as it is told; hangs if it is told nothing of a name."""

    counts: dict[tuple[str, str], Count] = attrs.field(factory=dict)

    async def count(self, daemon: str, name: str) -> Count:
        if (daemon, name) not in self.counts:
            await trio.sleep_forever()
        return self.counts[daemon, name]


class Opsd:
    """An application and what is behind it."""

    def __init__(self, token: str | None = None, windows: Sequence[str] = ("statusd",), **variables: str) -> None:
        environ = {f"OPS_{name.upper()}": value for name, value in variables.items()}
        self.logbook = Logbook()
        self.board = FakeBoard()
        self.history = FakeHistory()
        self.viewers = FakeViewers()
        self.tmux = FakeTmux()
        self.closing = trio.Event()
        secret = None if token is None else Secret.literal(token, "OPS_TOKEN")
        settings = load(OpsSettings, environ).settings
        self.parts = Parts(
            settings=settings,
            board=self.board,
            history=self.history,
            viewers=self.viewers,
            tmux=self.tmux,
            windows=tuple(Window(name, (name,), {}) for name in windows),
            guard=Guard(secret, wall=lambda: 1e9, clock=trio.current_time, trusted=settings.trusted_proxies),
            pages={
                "index.html": Page(b"<p>", "text/html; charset=utf-8", '"1"'),
                "a/b.js": Page(b";", "text/javascript", '"2"'),
            },
            closing=self.closing,
        )
        self.app = make_app(self.parts, self.logbook.log)

    async def ask(
        self, path: str, method: str = "GET", *, remote: str = "127.0.0.1", cookies: str = "", **options: Any
    ) -> httpx.Response:
        """One request."""
        transport = httpx.ASGITransport(self.app, client=(remote, 1))
        headers = {"Host": HOST, **({"Cookie": cookies} if cookies else {}), **options.pop("headers", {})}
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{HOST}") as client:
            return await client.request(method, path, headers=headers, **options)


class Conversation:
    """One WebSocket, spoken to as ASGI."""

    def __init__(self) -> None:
        self.to_app, self._from_client = trio.open_memory_channel[dict[str, Any]](10)
        self._to_client, self.from_app = trio.open_memory_channel[dict[str, Any]](0)

    async def run(self, opsd: Opsd, headers: dict[str, str]) -> None:
        scope = {
            "type": "websocket",
            "path": "/api/dev/status/live",
            "raw_path": b"/api/dev/status/live",
            "root_path": "",
            "query_string": b"",
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
            "client": ("127.0.0.1", 1),
            "subprotocols": [],
            "extensions": {"websocket.http.response": {}},
        }
        await self.to_app.send({"type": "websocket.connect"})
        async with self._to_client:
            await opsd.app(scope, self._from_client.receive, self._send)

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        await self._to_client.send(dict(message))

    async def next(self) -> dict[str, Any]:
        with trio.fail_after(5):
            return await self.from_app.receive()


@asynccontextmanager
async def converse(opsd: Opsd, **headers: str) -> AsyncIterator[Conversation]:
    """A WebSocket that ends with the block."""
    conversation = Conversation()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(conversation.run, opsd, {"Host": HOST, **headers})
        yield conversation
        nursery.cancel_scope.cancel()


# -- the status --------------------------------------------------------------------------------------------------------


async def test_the_status_has_the_headers_of_its_version_and_validates() -> None:
    answer = await Opsd().ask("/api/dev/status")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-tes-status-version"] == "2.0"
    jsonschema.validate(answer.json(), SCHEMA)
    assert answer.json()["vector"]["directions"]["requestFlow"]["totalRoutes"] == len(ENDPOINTS)
    assert (await Opsd().ask("/api/dev/status/schema")).json() == SCHEMA


async def test_every_answer_has_the_security_headers() -> None:
    opsd = Opsd()
    for path in ("/", "/health", "/nope", "/api/dev/status", "/web/a/b.js"):
        headers = (await opsd.ask(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]


async def test_the_policy_of_the_page_names_the_daemons() -> None:
    policy = (await Opsd().ask("/")).headers["content-security-policy"]
    connect = next(part.strip() for part in policy.split(";") if "connect-src" in part)
    assert connect.split() == [
        *("connect-src", "'self'", "ws://localhost:9003", "wss://localhost:9003"),
        *("ws://localhost:9002", "ws://localhost:9001"),
    ]
    assert "unsafe" not in policy
    configured = Opsd(status_ws_url="wss://run.example.gov/status", preflight_ws_url="ws://10.0.0.1:7")
    policy = (await configured.ask("/")).headers["content-security-policy"]
    assert "wss://run.example.gov ws://10.0.0.1:7;" in policy


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


# -- history, events, metrics ------------------------------------------------------------------------------------------


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
        opsd.board._happened(Event("2026-01-15T12:34:56.789Z", MODE, "normal", str(number), 0.0))
    assert [event["to"] for event in (await opsd.ask("/api/dev/events?limit=2")).json()["events"]] == ["2", "1"]
    assert (await opsd.ask("/api/dev/events?limit=0")).status_code == 400


# -- workers, tmux -----------------------------------------------------------------------------------------------------


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


# -- who may -----------------------------------------------------------------------------------------------------------


async def test_with_a_token_every_call_of_the_api_needs_it() -> None:
    opsd = Opsd(token="sesame", metrics_enabled="true")
    for path in [*GETS, "/metrics", "/api/nope"]:
        answer = await opsd.ask(path)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Bearer realm="opsd"')
        assert (await opsd.ask(path, headers={"Authorization": "Bearer sesame"})).status_code != 401
        assert (await opsd.ask(path, headers={"X-TES-Dev-Token": "sesame"})).status_code != 401
    for path in POSTS:
        assert (await opsd.ask(path, "POST", headers=CHANGE)).status_code == 401
        assert (await opsd.ask(path, "POST", headers={**CHANGE, "X-TES-Dev-Token": "sesame"})).status_code < 300
    for path in ("/", "/web/a/b.js", "/health", "/health/live"):
        assert (await opsd.ask(path)).status_code == 200


async def test_a_stranger_learns_only_that_a_token_is_needed() -> None:
    opsd = Opsd(token="sesame")
    assert (await opsd.ask("/api/dev/config")).json() == {"tokenRequired": True, "loggedIn": False}
    known = (await opsd.ask("/api/dev/config", headers={"Authorization": "Bearer sesame"})).json()
    assert (known["loggedIn"], known["statusWsUrl"]) == (True, "ws://localhost:9002")
    open_to_all = (await Opsd().ask("/api/dev/config", headers={"X-Forwarded-Proto": "https"})).json()
    assert (open_to_all["tokenRequired"], open_to_all["preflightWsUrl"]) == (False, "wss://localhost:9001")


async def test_a_login_gives_a_cookie_and_a_logout_ends_it() -> None:
    opsd = Opsd(token="sesame")
    answer = await opsd.ask("/api/login", "POST", json={"token": "sesame"})
    assert answer.status_code == 204
    cookie = answer.headers["set-cookie"].partition(";")[0]
    assert (await opsd.ask("/api/dev/status", cookies=cookie)).status_code == 200
    assert (await opsd.ask("/api/logout", "POST", cookies=cookie)).status_code == 403
    assert (await opsd.ask("/api/logout", "POST", cookies=cookie, headers=CHANGE)).status_code == 204
    assert (await opsd.ask("/api/dev/status", cookies=cookie)).status_code == 401


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b'{"token":"wrong"}', "application/json", 401),
        (b'{"token":"sesame"}', "application/json; charset=utf-8", 204),
        (b'{"token":"sesame"}', "text/plain", 415),
        (b'{"token":"sesame"}', "application/x-www-form-urlencoded", 415),
        (b'{"token":1}', "application/json", 400),
        (b"[]", "application/json", 400),
        (b"\xff", "application/json", 400),
        (b"", "application/json", 400),
        (b"[" * 8000, "application/json", 400),
        (b'{"token":"\\ud800"}', "application/json", 400),
        (b" " * 9000, "application/json", 413),
    ],
)
async def test_what_a_login_takes(body: bytes, content_type: str, status: int) -> None:
    answer = await Opsd(token="sesame").ask("/api/login", "POST", content=body, headers={"Content-Type": content_type})
    assert answer.status_code == status


async def test_health_and_metrics_say_when_there_is_no_history() -> None:
    opsd = Opsd()
    opsd.history.working = False
    health = await opsd.ask("/health")
    assert (health.status_code, health.json()["history"]) == (200, "down")
    assert "opsd_history_up 0.0" in (await opsd.ask("/api/dev/metrics")).text
    opsd.history.working = True
    assert (await opsd.ask("/health")).json()["history"] == "ok"
    assert "opsd_history_up 1.0" in (await opsd.ask("/api/dev/metrics")).text


@pytest.mark.parametrize("path", ["/api/login", "/api/dev/config", "/api/dev/status", "/api/dev/tmux/stop"])
async def test_guesses_are_limited_wherever_they_are_made(autojump_clock: MockClock, path: str) -> None:
    opsd = Opsd(token="sesame")
    for _ in range(BURST):
        if path == "/api/login":
            assert (await opsd.ask(path, "POST", json={"token": "wrong"})).status_code == 401
        else:
            method = "POST" if "tmux" in path else "GET"
            await opsd.ask(path, method, headers={**CHANGE, "Authorization": "Bearer wrong"})
    answer = await opsd.ask("/api/dev/status", headers={"Authorization": "Bearer sesame"})
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "2")
    login = await opsd.ask("/api/login", "POST", json={"token": "sesame"})
    assert (login.status_code, login.json()) == (429, {"error": "too many wrong tokens"})
    assert not (await opsd.ask("/api/dev/config", headers={"Authorization": "Bearer sesame"})).json()["loggedIn"]


async def test_without_a_token_there_is_nothing_to_guess() -> None:
    opsd = Opsd()
    for _ in range(2 * BURST):
        assert (await opsd.ask("/api/login", "POST", json={"token": "wrong"})).status_code == 204


@pytest.mark.parametrize("path", [*GETS, "/metrics", "/api/dev/config"])
async def test_what_a_browser_asks_for_a_foreign_page_is_refused(path: str) -> None:
    opsd = Opsd()
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://evil.example"}):
        assert (await opsd.ask(path, headers=headers)).status_code == 403
    # A link to the page itself is no harm.
    assert (await opsd.ask("/", headers={"Sec-Fetch-Site": "cross-site"})).status_code == 200


async def test_another_name_of_this_machine_is_refused_everywhere() -> None:
    opsd = Opsd()
    for path in ("/", "/api/dev/status", "/health"):
        assert (await opsd.ask(path, headers={"Host": "rebound.example:9003"})).status_code == 421
    assert (await Opsd(token="sesame").ask("/", headers={"Host": "ops.example.gov"})).status_code == 200


@pytest.mark.parametrize("path", POSTS)
async def test_a_foreign_page_changes_nothing(path: str) -> None:
    opsd = Opsd()
    assert (await opsd.ask(path, "POST")).status_code == 403
    assert (await opsd.ask(path, "POST", headers={**CHANGE, "Origin": "http://evil.example"})).status_code == 403
    assert (await opsd.ask(path, "POST", headers=CHANGE, remote="10.0.0.1")).status_code == 403
    assert (await opsd.ask(path, "POST", headers={**CHANGE, "Origin": f"http://{HOST}"})).status_code < 300
    assert len(opsd.tmux.done) <= 1


# -- the page ----------------------------------------------------------------------------------------------------------


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


async def test_health() -> None:
    opsd = Opsd()
    assert (await opsd.ask("/health")).status_code == 200
    opsd.closing.set()
    assert (await opsd.ask("/health")).status_code == 503
    assert (await opsd.ask("/health/live")).status_code == 200


# -- live --------------------------------------------------------------------------------------------------------------


async def test_a_client_gets_the_status_at_once_and_at_every_change() -> None:
    opsd = Opsd()
    async with converse(opsd) as client:
        assert (await client.next())["type"] == "websocket.accept"
        first = await client.next()
        jsonschema.validate(json.loads(first["text"]), SCHEMA)
        opsd.board.tmux_sessions = 7
        opsd.board.publish()
        assert json.loads((await client.next())["text"])["vector"]["sessions"]["tmux"] == 7


async def test_a_slow_client_skips_what_is_old() -> None:
    opsd = Opsd()
    async with converse(opsd) as client:
        assert (await client.next())["type"] == "websocket.accept"
        await trio.testing.wait_all_tasks_blocked()
        # The first is on its way while these are made.
        for sessions in range(1, 101):
            opsd.board.tmux_sessions = sessions
            opsd.board.publish()
        seen = [json.loads((await client.next())["text"])["vector"]["sessions"]["tmux"] for _ in range(2)]
        assert seen == [0, 100]


async def test_what_a_client_says_has_no_meaning_and_its_end_is_noticed() -> None:
    opsd = Opsd()
    async with converse(opsd) as client:
        await client.next()
        await client.next()
        for _ in range(50):
            await client.to_app.send({"type": "websocket.receive", "text": "x" * 1000})
        await client.to_app.send({"type": "websocket.disconnect", "code": 1005})
        with trio.fail_after(PATIENCE):
            # Ends when the application has.
            assert not [message async for message in client.from_app]


async def test_at_the_end_of_the_daemon_clients_are_told() -> None:
    opsd = Opsd()
    async with converse(opsd) as client:
        await client.next()
        await client.next()
        opsd.closing.set()
        assert await client.next() == {"type": "websocket.close", "code": 1001, "reason": ""}


@pytest.mark.parametrize(
    ("token", "headers", "status"),
    [
        (None, {"Origin": "http://evil.example"}, 403),
        (None, {"Host": "rebound.example"}, 421),
        ("sesame", {}, 401),
        ("sesame", {"Authorization": "Bearer wrong"}, 401),
    ],
)
async def test_a_stranger_gets_no_websocket(token: str | None, headers: dict[str, str], status: int) -> None:
    async with converse(Opsd(token=token), **headers) as client:
        start = await client.next()
        assert (start["type"], start["status"]) == ("websocket.http.response.start", status)
        assert "error" in json.loads((await client.next())["body"])


@pytest.mark.parametrize("headers", [{"Authorization": "Bearer sesame"}, {"X-TES-Dev-Token": "sesame"}])
async def test_a_friend_gets_a_websocket(headers: dict[str, str]) -> None:
    async with converse(Opsd(token="sesame"), Origin=f"http://{HOST}", **headers) as client:
        assert (await client.next())["type"] == "websocket.accept"


async def test_clients_are_limited() -> None:
    opsd = Opsd()
    async with trio.open_nursery() as nursery:
        for _ in range(MOST_CLIENTS):
            client = Conversation()
            nursery.start_soon(client.run, opsd, {"Host": HOST})
            assert (await client.next())["type"] == "websocket.accept"
        async with converse(opsd) as one_more:
            await one_more.next()
            assert (await one_more.next())["code"] == 1013
        nursery.cancel_scope.cancel()


async def test_one_address_has_its_share_of_what_runs() -> None:
    opsd = Opsd()
    stranger = {"Host": HOST, "X-Forwarded-For": "2001:db8::1"}
    async with trio.open_nursery() as nursery:
        for _ in range(MOST_OF_ONE):
            client = Conversation()
            nursery.start_soon(client.run, opsd, stranger)
            assert (await client.next())["type"] == "websocket.accept"
        # Of the same /64.
        refused = await opsd.ask("/api/dev/status", headers={"X-Forwarded-For": "2001:db8::2"})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        assert (await opsd.ask("/api/dev/status", headers={"X-Forwarded-For": "2001:db8:0:1::"})).status_code == 200
        assert (await opsd.ask("/api/dev/status")).status_code == 200
        nursery.cancel_scope.cancel()
    assert (await opsd.ask("/api/dev/status", headers={"X-Forwarded-For": "2001:db8::2"})).status_code == 200


async def test_what_strangers_say_is_short_and_harmless_in_the_log() -> None:
    opsd = Opsd()
    path = "/%C2%9B31m%E2%80%A8%E2%80%AE%7F%00" + "x" * 16_000
    await opsd.ask(path, headers={"Host": "evil.example"})
    (line,) = opsd.logbook.said("request refused")
    assert line["path"].startswith("/\\u009b31m\\u2028\\u202e\\u007f\\u0000xxx")
    assert len(line["path"]) <= 200
