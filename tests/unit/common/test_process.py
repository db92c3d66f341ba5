"""The process around a daemon (common/process.py): a private Redis, the operator's listener, and the exit code."""

from __future__ import annotations

import argparse
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import attrs
import pytest
import trio

from common import process
from common.admin.access import Access
from common.admin.telemetry_source import Local
from common.config import ListenAddress, UnixAddress, load
from common.embedded import EmbeddedRedisError
from common.exits import Exit
from common.notify import Notifier
from common.process import ProcessParts
from common.redis.url import RedisURL
from common.secret import Secret
from common.start import Listeners, Start, StartError
from common.tracing import NO_TRACES, Tracer
from common.workers.fleet_telemetry import Workers
from statusd.daemon import STATUSD
from statusd.settings import StatusSettings
from tests.support.logbook import Logbook

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from trio.testing import MockClock


SECRET = Secret.literal("x", "STATUS_REDIS_PASSWORD")


@attrs.define
class Admin:
    """Of the operator's sockets, what the process hands on."""

    address: ListenAddress | UnixAddress
    sockets: tuple[object, ...] = ()
    names: tuple[str, ...] = ("unix:/run/admin.sock",)


@attrs.define
class Bench:
    """What the process puts together, as its parts see it."""

    logbook: Logbook = attrs.field(factory=Logbook)
    environ: dict[str, str] = attrs.field(factory=dict)
    served: list[StatusSettings] = attrs.field(factory=list)
    operators: list[dict[str, Any]] = attrs.field(factory=list)
    left: list[str] = attrs.field(factory=list)
    code: int = Exit.OK

    async def run(
        self, settings: StatusSettings | None = None, *, embedded: bool = False, admin: Admin | None = None
    ) -> int:
        """The exit code of a process that has these settings."""
        notifier = Notifier(None, None, self.logbook.log)
        parts = ProcessParts(Listeners([], kept=False), admin, notifier, NO_TRACES)  # type: ignore[arg-type]
        serve: Any = process._serve
        given = settings or StatusSettings()
        code: int = await serve(STATUSD, given, self.environ, parts, self.logbook.log, embedded, trio.Event())
        return code


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A process whose daemon drains at once, with `bench.code`; its operator's listener only notes what it is given."""
    made = Bench()

    class Service:
        def __init__(
            self, _daemon: object, settings: StatusSettings, _log: object, *, tracer: Tracer, kept: bool
        ) -> None:
            assert (tracer, kept) == (NO_TRACES, False)
            made.served.append(settings)
            self.ready = trio.Event()
            self.fleet = self
            self.report: Callable[[], None] = lambda: None

        async def run(self, _listeners: object, _stop: trio.Event) -> int:
            await trio.sleep(1)
            made.left.append("daemon")
            return made.code

    class Operator:
        def __init__(self, **given: Any) -> None:
            made.operators.append(given)

        async def run(self, _sockets: object) -> None:
            try:
                await trio.sleep_forever()
            finally:
                made.left.append("operator")

    monkeypatch.setattr(process, "DaemonService", Service)
    monkeypatch.setattr("common.admin.server.AdminServer", Operator)
    return made


@pytest.mark.parametrize("code", [Exit.OK, Exit.FAILED])
async def test_the_code_is_the_daemons_own(autojump_clock: MockClock, bench: Bench, code: int) -> None:
    bench.code = code
    assert await bench.run() == code
    assert [line["msg"] for line in bench.logbook.lines] == ["starting", "origin check disabled", "listening"]
    assert bench.logbook.said("origin check disabled")[0]["hint"].startswith("set STATUS_ALLOWED_ORIGINS")


async def test_origins_that_are_given_are_no_warning(autojump_clock: MockClock, bench: Bench) -> None:
    await bench.run(load(StatusSettings, {"STATUS_ALLOWED_ORIGINS": "*.example.org"}).settings)
    assert bench.logbook.at_least("warn") == []


async def test_a_private_redis_is_what_the_daemon_and_its_workers_are_given(
    autojump_clock: MockClock, bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Redis:
        def url(self, db: int) -> str:
            return f"redis://127.0.0.1:7001/{db}"

    @asynccontextmanager
    async def opened() -> AsyncIterator[Redis]:
        yield Redis()
        bench.left.append("redis")

    monkeypatch.setattr(process, "open_embedded_redis", opened)
    bench.environ["STATUS_REDIS_URL"] = "redis://elsewhere/5"
    elsewhere = RedisURL(host="elsewhere", port=6379, db=5)
    assert await bench.run(StatusSettings(redis_url=elsewhere, redis_password=SECRET), embedded=True) == 0
    [settings] = bench.served
    assert (settings.redis_url.host, settings.redis_url.port, settings.redis_url.db) == ("127.0.0.1", 7001, 5)
    assert settings.redis_password is None
    assert bench.environ["STATUS_REDIS_URL"] == "redis://127.0.0.1:7001/5"
    assert bench.left == ["daemon", "redis"]
    assert capsys.readouterr().err == "publish to redis://127.0.0.1:7001/5\n"


async def test_without_a_private_redis_nothing_is_served(
    autojump_clock: MockClock, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Missing:
        async def __aenter__(self) -> None:
            raise EmbeddedRedisError("no redis-server found")

        async def __aexit__(self, *_: object) -> None:
            raise AssertionError("it was never there")

    monkeypatch.setattr(process, "open_embedded_redis", Missing)
    assert await bench.run(embedded=True) == Exit.BAD_CONFIGURATION
    [line] = bench.logbook.lines
    assert (line["level"], line["msg"], line["error"]) == ("error", "no private redis", "no redis-server found")
    assert bench.served == []


async def test_the_operator_looks_on_until_the_daemon_has_drained(autojump_clock: MockClock, bench: Bench) -> None:
    address = ListenAddress("127.0.0.1", 9102)
    bench.code = Exit.FAILED
    assert await bench.run(admin=Admin(address)) == Exit.FAILED
    assert bench.left == ["daemon", "operator"]
    [given] = bench.operators
    assert given["access"] == Access(address, None, StatusSettings().trusted_proxies)
    assert bench.logbook.said("listening")[0]["admin"] == ["unix:/run/admin.sock"]


async def test_the_operator_names_a_channel_as_a_client_does(autojump_clock: MockClock, bench: Bench) -> None:
    await bench.run(admin=Admin(UnixAddress("/run/admin.sock")))
    assert bench.operators[0]["channel_of"]("r:c") == b"r:c"
    with pytest.raises(ValueError, match="channel"):
        bench.operators[0]["channel_of"]("no-channel")


# -- from a good configuration to the event loop -----------------------------------------------------------------------


class Loop:
    """In place of the part of the process that has an event loop: notes what it is given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.parts: list[ProcessParts] = []
        self.names: list[str] = []
        self.environ: dict[str, str] = {}
        monkeypatch.setattr(process, "prepare", lambda _start: None)
        monkeypatch.setattr(process, "_serve", self.serve)

    async def serve(
        self,
        _daemon: object,
        _settings: object,
        environ: dict[str, str],
        parts: ProcessParts,
        _log: object,
        _embedded: bool,
        stop: trio.Event,
    ) -> int:
        await trio.lowlevel.checkpoint()
        assert not stop.is_set()
        self.environ = environ
        self.parts.append(parts)
        self.names = [] if parts.admin is None else parts.admin.names
        return Exit.FAILED


def starting(environ: dict[str, str], logbook: Logbook) -> Start[StatusSettings]:
    """statusd on a free port."""
    settings = load(StatusSettings, environ).settings
    settings = attrs.evolve(settings, listen_addr=ListenAddress("127.0.0.1", 0))
    return Start(settings=settings, warnings=(), environ=environ, options=argparse.Namespace(), log=logbook.log)


@pytest.mark.parametrize("workers", [1, 3])
def test_the_loop_has_all_sockets_and_the_code_is_its_own(
    workers: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    loop = Loop(monkeypatch)
    environ = {"STATUS_WORKERS": str(workers), "STATUS_ADMIN_LISTEN_ADDR": "127.0.0.1:0", "NOTIFY_SOCKET": "/x"}
    start = starting(environ, Logbook())
    start = attrs.evolve(start, settings=attrs.evolve(start.settings, admin_listen_addr=UnixAddress("admin.sock")))
    assert process.serve_process(STATUSD, start, embedded=False) == Exit.FAILED
    [parts] = loop.parts
    assert parts.tracer is NO_TRACES
    assert loop.names == ["unix:admin.sock"]
    assert "NOTIFY_SOCKET" not in loop.environ, "it is not for workers"
    assert [sock.fileno() for sock in parts.listeners.sockets] == [-1], "closed with the process"
    assert not (tmp_path / "admin.sock").exists()


@pytest.mark.parametrize("workers", [1, 3])
def test_traces_that_can_not_be_sent_end_a_start_before_the_port_is_taken(
    workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = Loop(monkeypatch)
    monkeypatch.setattr("common.start.installed", lambda: False)
    monkeypatch.setattr(process, "listening", lambda _start: pytest.fail("the port was taken"))
    environ = {"STATUS_WORKERS": str(workers), "STATUS_TRACES_ENABLED": "true"}
    with pytest.raises(StartError, match="can't send traces"):
        process.serve_process(STATUSD, starting(environ, Logbook()), embedded=False)
    assert loop.parts == []


def test_an_operators_address_that_can_not_be_had_ends_a_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    loop = Loop(monkeypatch)
    start = starting({}, Logbook())
    address = UnixAddress("none/admin.sock")
    with pytest.raises(StartError, match="can't listen") as raised:
        process.serve_process(
            STATUSD,
            attrs.evolve(start, settings=attrs.evolve(start.settings, admin_listen_addr=address)),
            embedded=False,
        )
    assert raised.value.fields == {"address": "unix:none/admin.sock", "error": "No such file or directory"}
    assert loop.parts == []


# -- what the operator's listener asks ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("workers", "kind"), [(1, Local), (2, Workers)])
async def test_the_operator_asks_whoever_serves(
    workers: int, kind: type, autojump_clock: MockClock, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Parent:
        def __init__(self, *_: object) -> None:
            self.ready = trio.Event()

        async def run(self, _stop: trio.Event) -> int:
            await trio.lowlevel.checkpoint()
            return Exit.OK

    monkeypatch.setattr("common.workers.supervisor.Supervisor", Parent)
    assert await bench.run(StatusSettings(workers=workers), admin=Admin(UnixAddress("/run/admin.sock"))) == Exit.OK
    source: Any = bench.operators[0]["source"]
    assert (type(source), source.about.daemon) == (kind, "statusd")
