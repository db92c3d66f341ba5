"""opsd as a process: what it serves with its sources up, down or hanging, over real sockets, and how it ends."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import jsonschema
import pytest
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from opsd.schema import SCHEMA
from opsd.serve import MOST_CONNECTIONS
from tests.support.client import handshake
from tests.support.daemon import DaemonProcess, environment, open_daemon
from tests.support.opsd_telemetry import encoded, event, telemetry, worker
from tests.support.raw import HOST, NO_TLS, PATIENCE, open_stream, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from common.embedded import EmbeddedRedis

pytestmark = pytest.mark.integration

NOWHERE = "redis://127.0.0.1:1/3"
CHANGE = {"X-Ops-Request": "1"}
SETTINGS = b"HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
LIVE = (
    b"GET /api/dev/status/live HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
DOWN = ("source unavailable", "workers changed", "telemetry status changed", "redis unavailable, retrying")


class Source:
    """A daemon's admin listener whose status the test sets."""

    def __init__(self) -> None:
        self.port = 0
        self.connections = 0
        self.asked = 0
        """How often it was asked for anything."""
        self.answers = True
        """Whether it says its status when it is asked; its events come in any case."""
        self._changed = trio.Event()

    def push(self, connections: int) -> None:
        """Tell everybody who listens to the events."""
        self.connections = connections
        self._changed.set()
        self._changed = trio.Event()

    def _document(self) -> dict[str, object]:
        return telemetry({"1": worker(connections=self.connections)})

    async def serve(self, stream: trio.SocketStream) -> None:
        head = b""
        try:
            while chunk := await stream.receive_some():
                head += chunk
                while b"\r\n\r\n" in head:
                    request, _, head = head.partition(b"\r\n\r\n")
                    await self._answer(stream, request)
        except trio.BrokenResourceError:
            pass
        finally:
            await trio.aclose_forcefully(stream)

    async def _answer(self, stream: trio.SocketStream, request: bytes) -> None:
        self.asked += 1
        if request.startswith(b"GET /workers/status") and self.answers:
            body = encoded(self._document())
            await stream.send_all(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
            )
        elif request.startswith(b"GET /events"):
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
            while True:
                changed = self._changed
                await stream.send_all(event(self._document()))
                await changed.wait()
        else:
            await stream.send_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")


@asynccontextmanager
async def open_source() -> AsyncIterator[Source]:
    """A source that ends with the block."""
    source = Source()
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host=HOST)
        source.port = listener.socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, source.serve, [listener])
        yield source
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_opsd(
    redis: EmbeddedRedis | str = NOWHERE, *, expect: tuple[str, ...] = DOWN, **settings: str
) -> AsyncIterator[DaemonProcess]:
    """An opsd that has asked its sources once."""
    variables = {"targets": "none", "redis_retry_base": "50ms", **settings}
    async with open_daemon(redis, variables, module="opsd", expect=expect, healthy=False) as opsd:

        async def is_ready() -> bool:
            return (await get(opsd, "/health")).status_code == 200

        await wait_until(is_ready, "opsd is ready")
        yield opsd


def url(opsd: DaemonProcess, path: str = "") -> str:
    return f"http://{HOST}:{opsd.port}{path}"


async def get(opsd: DaemonProcess, path: str, method: str = "GET", **options: Any) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE, verify=NO_TLS) as client:
        return await client.request(method, url(opsd, path), **options)


@asynccontextmanager
async def live(opsd: DaemonProcess, **headers: str) -> AsyncIterator[WebSocketConnection]:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    with trio.fail_after(PATIENCE):
        # The socket is ours: trio-websocket forgets it when the server is the first to say goodbye.
        async with await open_stream(opsd.port) as stream, trio.open_nursery() as nursery:
            host = f"{HOST}:{opsd.port}"
            websocket = await wrap_client_stream(nursery, stream, host, "/api/dev/status/live", extra_headers=raw)
            yield websocket
            nursery.cancel_scope.cancel()


async def test_with_everything_down_the_status_and_the_page_are_served() -> None:
    async with open_opsd(targets="statusd=http://127.0.0.1:1,preflightd=unix:/nonexistent") as opsd:
        answer = await get(opsd, "/api/dev/status")
        assert answer.status_code == 200
        jsonschema.validate(answer.json(), SCHEMA)
        assert answer.json()["meta"]["telemetryStatus"] == "offline"
        assert answer.json()["meta"]["unavailable"] == ["statusd", "preflightd"]
        assert (await get(opsd, "/")).status_code == 200
        assert (await get(opsd, "/web/app.js")).headers["content-type"].startswith("text/javascript")
        assert (await get(opsd, "/api/dev/status/history")).status_code == 503
        assert (await get(opsd, "/api/dev/workers")).json()["workers"] == []


async def test_history_comes_from_redis(redis_server: EmbeddedRedis) -> None:
    async with open_opsd(redis_server, expect=()) as opsd:

        async def is_online() -> bool:
            return (await get(opsd, "/api/dev/status/history?minutes=5")).status_code == 200

        await wait_until(is_online, "history is there")


async def test_a_push_of_a_daemon_comes_to_the_live_client_without_a_question() -> None:
    async with (
        open_source() as source,
        open_opsd(targets=f"statusd=http://{HOST}:{source.port}") as opsd,
        live(opsd) as websocket,
    ):
        source.answers = False
        for connections in range(1, 8):
            source.push(connections)
            while (await newest(websocket))["vector"]["sessions"]["websocketConnections"] != connections:
                pass


async def read_to_end(websocket: WebSocketConnection) -> None:
    """Raises ConnectionClosed."""
    while True:
        await newest(websocket)


async def newest(websocket: WebSocketConnection) -> dict[str, Any]:
    with trio.fail_after(PATIENCE):
        document: dict[str, Any] = json.loads(await websocket.get_message())
    jsonschema.validate(document, SCHEMA)
    return document


async def test_who_has_the_token_or_its_cookie_gets_in() -> None:
    async with open_opsd(token="sesame", expect=(*DOWN, "configuration")) as opsd:
        assert (await get(opsd, "/api/dev/status")).status_code == 401
        assert (await get(opsd, "/api/dev/status", headers={"X-TES-Dev-Token": "sesame"})).status_code == 200
        login = await get(opsd, "/api/login", "POST", json={"token": "sesame"})
        cookie = login.headers["set-cookie"].partition(";")[0]
        assert (await get(opsd, "/api/dev/status", headers={"Cookie": cookie})).status_code == 200
        async with live(opsd, Cookie=cookie, Origin=url(opsd)) as websocket:
            await newest(websocket)
        async with live(opsd, Authorization="Bearer sesame") as websocket:
            await newest(websocket)
        assert await refusal(opsd) == 401
        assert await refusal(opsd, Cookie=cookie, Origin="http://evil.example") == 403


async def refusal(opsd: DaemonProcess, **headers: str) -> int:
    """The status of the answer to a WebSocket's handshake. Not by trio-websocket, which then forgets its socket."""
    head = handshake("/api/dev/status/live", headers)
    with trio.fail_after(PATIENCE):
        async with await open_stream(opsd.port) as stream:
            await stream.send_all(head)
            answer = b""
            while b"\r\n" not in answer:
                answer += (chunk := await stream.receive_some())
                assert chunk, "closed without an answer"
    return int(answer.split()[1])


async def test_at_the_end_live_clients_are_told_and_it_exits_with_0() -> None:
    async with open_opsd() as opsd, live(opsd) as websocket:
        await newest(websocket)
        opsd.signal()
        with pytest.raises(ConnectionClosed) as closed:
            await read_to_end(websocket)
        reason = closed.value.reason
        assert reason is not None
        assert reason.code == 1001
        assert await opsd.wait_exit() == 0


async def test_a_client_that_takes_nothing_does_not_hold_up_the_end() -> None:
    async with open_opsd() as opsd:
        stream = await open_stream(opsd.port, receive_buffer=4096)
        async with stream:
            request = f"GET /web/vendor/uplot/uPlot.esm.js HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
            await stream.send_all(request * 50)
            await wait_until(lambda: opsd.clients() == 1, "it is connected")
            assert (await get(opsd, "/api/dev/status")).status_code == 200
            opsd.signal()
            assert await opsd.wait_exit() == 0


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\xff\x00garbage\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET /api/dev/status HTTP/1.0\r\n\r\n",
        b"GET /%ff%fe HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00" * 100,
        b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n" + SETTINGS,
        b"GET /api/dev/status/live HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        LIVE + b"\xff\xff\xff\xff\xff",
        b"POST /api/login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{",
        b"POST /api/login HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 40000,
    ],
)
async def test_what_one_client_sends_ends_nobody_else(data: bytes) -> None:
    async with open_opsd(expect=(*DOWN, "http server")) as opsd, live(opsd) as websocket:
        for leaves_at_once in (True, False):
            async with await open_stream(opsd.port) as stream:
                # A reset comes where opsd has closed before it had read everything.
                with suppress(trio.BrokenResourceError):
                    await stream.send_all(data)
                    if not leaves_at_once:
                        # Some of it is answered, some is only the beginning of something: it may wait as long as it
                        # likes.
                        with trio.move_on_after(0.1):
                            while await stream.receive_some():
                                pass
        await newest(websocket)
        assert (await get(opsd, "/api/dev/status")).status_code == 200


async def test_a_connection_ends_with_its_client() -> None:
    async with open_opsd() as opsd:
        request = f"GET /health/live HTTP/1.1\r\nHost: {HOST}:{opsd.port}\r\n\r\n".encode()
        for data in (request, LIVE, LIVE + b"\x81\x80\0\0\0\0"):
            async with trio.open_nursery() as nursery:
                visits = trio.CapacityLimiter(20)
                for _ in range(40):
                    nursery.start_soon(visit, opsd, data, visits)
            await wait_until(lambda: opsd.clients() == 0, "all are gone")
        for _ in range(MOST_CONNECTIONS + 50):
            await visit(opsd, request, visits)


async def visit(opsd: DaemonProcess, data: bytes, visits: trio.CapacityLimiter) -> None:
    """Connect, send that, read the beginning of what comes back, and leave."""
    async with visits, await open_stream(opsd.port) as stream:
        await stream.send_all(data)
        with trio.fail_after(PATIENCE):
            assert await stream.receive_some(), "closed without an answer"


async def test_an_answer_asks_nobody() -> None:
    """What is asked for is there already: the source is asked now and then, and not once for each."""
    async with open_source() as source, open_opsd(targets=f"statusd=http://{HOST}:{source.port}") as opsd:
        source.push(7)

        async def is_known() -> bool:
            status = (await get(opsd, "/api/dev/status")).json()
            return bool(status["vector"]["sessions"]["websocketConnections"] == 7)

        await wait_until(is_known, "the source is known")
        asked, begun = source.asked, trio.current_time()
        async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE, verify=NO_TLS) as client:
            for _ in range(300):
                assert (await client.get(url(opsd, "/api/dev/status"))).status_code == 200
        # By itself opsd asks once a second, and once more when a stream has ended that said nothing for a while.
        assert source.asked - asked < 20 + 2 * (trio.current_time() - begun)


async def test_tmux_runs_the_platform(
    tmux_directory: Path, redis_server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("statusd", "preflightd")
    targets = ",".join(f"{name}=unix:{tmux_directory}/{name}.sock" for name in names)
    settings = {"targets": targets, "tmux_session": "platform", "targets_token": "hunter2"}
    # What opsd is started with is what the daemons get; the harness strips their variables from the test's own.
    command = [
        *(
            shutil.which("env") or "env",
            f"STATUS_REDIS_URL={redis_server.url(2)}",
            f"PREFLIGHT_REDIS_URL={redis_server.url(0)}",
        ),
        *(f"STATUS_LISTEN_ADDR={HOST}:0", f"PREFLIGHT_LISTEN_ADDR={HOST}:0", "STATUS_NOTE=a 'b' $HOME"),
        *(sys.executable, "-m", "opsd"),
    ]
    async with open_daemon(redis_server, settings, module="opsd", expect=DOWN, healthy=False, command=command) as opsd:
        before = (await get(opsd, "/api/dev/tmux/status")).json()
        assert (before["available"], before["sessions"], before["session"]) == (True, [], None)
        assert (await get(opsd, "/api/dev/tmux/stop", "POST", headers=CHANGE)).status_code == 409
        assert (await get(opsd, "/api/dev/tmux/start", "POST")).status_code == 403

        started = await get(opsd, "/api/dev/tmux/start", "POST", headers=CHANGE)
        assert started.status_code == 200, started.text
        assert [pane["window"] for pane in started.json()["panes"]] == [*names, "logs"]
        assert (await get(opsd, "/api/dev/tmux/start", "POST", headers=CHANGE)).status_code == 409

        panes: list[dict[str, Any]] = []

        async def are_listening() -> bool:
            found = (await get(opsd, "/api/dev/tmux/status")).json()["panes"]
            if not found:
                # tmux had no time to answer: opsd gives it a few seconds.
                return False
            *panes[:], logs = found
            assert (len(panes), logs["window"]) == (2, "logs")
            return all('"ready"' in "".join(pane["lines"]) for pane in panes)

        await wait_until(are_listening, "both daemons are ready")
        for pane in panes:
            environ = environ_of(pane["pid"])
            assert not any(line.startswith(b"OPS_") for line in environ)
            assert b"STATUS_NOTE=a 'b' $HOME" in environ
            own = f"{pane['window'].removesuffix('d').upper()}_ADMIN_LISTEN_ADDR=unix:"
            assert any(line.startswith(own.encode()) for line in environ)

        async def is_counted() -> bool:
            return bool((await get(opsd, "/api/dev/status")).json()["vector"]["sessions"]["tmux"] == 1)

        await wait_until(is_counted, "the session is counted")
        stopped = await get(opsd, "/api/dev/tmux/stop", "POST", headers=CHANGE)
        assert stopped.status_code == 200

        async def is_over() -> bool:
            # What takes longer than the answer may is finished behind it.
            return (await get(opsd, "/api/dev/tmux/status")).json()["session"] is None

        await wait_until(is_over, "the session is over")
        await wait_until(lambda: all(has_ended(int(pane["pid"])) for pane in panes), "both have ended")


def environ_of(pid: int) -> list[bytes]:
    """The variables that a process was started with."""
    return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")


def has_ended(pid: int) -> bool:
    """Whether a process is gone, or waits only for its parent to take note."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].lstrip().startswith("Z")
    except (FileNotFoundError, ProcessLookupError):
        # The other one comes when it goes between the opening and the reading.
        return True


def without_tmux() -> str:
    """PATH without the folders that have tmux."""
    folders = os.environ["PATH"].split(os.pathsep)
    return os.pathsep.join(folder for folder in folders if not (Path(folder) / "tmux").exists())


async def test_without_tmux_its_panel_says_so() -> None:
    command = [shutil.which("env") or "env", f"PATH={without_tmux()}", sys.executable, "-m", "opsd"]
    settings = {"targets": "statusd=http://127.0.0.1:1"}
    async with open_daemon(NOWHERE, settings, module="opsd", expect=DOWN, healthy=False, command=command) as opsd:
        status = (await get(opsd, "/api/dev/tmux/status")).json()
        assert not status["available"]
        assert "not installed" in status["reason"]
        assert (await get(opsd, "/api/dev/tmux/start", "POST", headers=CHANGE)).status_code == 503


@pytest.mark.parametrize("there", [True, False], ids=["redis", "no redis"])
async def test_check_says_how_everything_is(redis_server: EmbeddedRedis, *, there: bool) -> None:
    environ = environment(redis_server if there else NOWHERE, {"targets": f"statusd=http://{HOST}:1"}, module="opsd")
    with trio.fail_after(PATIENCE):
        ended = await trio.run_process(
            [sys.executable, "-m", "opsd", "check"], env=environ, check=False, capture_stdout=True, capture_stderr=True
        )
    lines = ended.stdout.decode().splitlines()
    assert ended.stderr == b""
    assert ended.returncode == (0 if there else 1)
    assert f"OPS_TARGETS=statusd=http://{HOST}:1" in lines
    expected = r"redis: OK, (redis|valkey) [0-9.]+" if there else r"redis: FAILED: .*"
    assert any(re.fullmatch(expected, line) for line in lines)
    assert any(line.startswith("warning: statusd: unavailable: ") for line in lines)
    assert any(line.startswith("tmux: ") for line in lines)
