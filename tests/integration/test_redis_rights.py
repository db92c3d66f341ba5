"""Each daemon with exactly the rights that its document gives it: it serves, and `check` says what it lacks."""

from __future__ import annotations

import random
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import pytest
import trio

from common.config import load
from opsd.history import History, make_history_link
from opsd.keys import keys_of
from opsd.settings import OpsSettings
from opsd.vector import Directions, Meta, Others, RequestFlow, Sessions, Status, Vector
from tests.support.daemon import environment, open_daemon, run_to_end
from tests.support.logbook import Logbook
from tests.support.preflight import wait_true
from tests.support.raw import HOST, PATIENCE, connect, open_redis, wait_until

if TYPE_CHECKING:
    from common.embedded import EmbeddedRedis
    from tests.support.raw import RedisConnection

pytestmark = pytest.mark.integration

DOCUMENT: Final = Path(__file__).parents[2] / "docs/configuration.md"
DATABASES: Final = {"statusd": 2, "preflightd": 0, "opsd": 3}
OPTIONAL: Final = {"+config|get"}
UNTRIED: Final = {"+unsubscribe"}
"""What `check` can't try: its refusal is no answer that anything depends on."""


@attrs.frozen
class Rights:
    """One line of the document."""

    daemon: str
    words: tuple[str, ...]

    @property
    def commands(self) -> list[str]:
        """The commands that are allowed."""
        return [word for word in self.words if word.startswith("+")]

    async def grant(self, redis: RedisConnection, *without: str) -> None:
        """Make the user, with all of it but `without`."""
        words = [word for word in self.words if word not in without]
        assert await redis.call("ACL", "SETUSER", self.daemon, *words) == b"OK"

    def url(self, redis: EmbeddedRedis) -> str:
        """The user's URL."""
        return f"redis://{self.daemon}:PASSWORD@{HOST}:{redis.port}/{DATABASES[self.daemon]}"


def documented() -> dict[str, Rights]:
    """The lines that an operator would copy."""
    found = re.findall(r"^ {4}redis-cli ACL SETUSER (.*)$", DOCUMENT.read_text(), re.MULTILINE)
    lines = [shlex.split(line) for line in found]
    return {daemon: Rights(daemon, tuple(words)) for daemon, *words in lines}


RIGHTS: Final = documented()


def test_every_daemon_has_a_line_and_none_is_wider_than_it_looks() -> None:
    assert set(RIGHTS) == set(DATABASES)
    for rights in RIGHTS.values():
        assert rights.words[:3] == ("reset", "on", ">PASSWORD")
        assert not [word for word in rights.words if "@" in word and not word.startswith("&")]


async def test_statusd_serves_with_it(redis_server: EmbeddedRedis, nursery: trio.Nursery) -> None:
    rights = RIGHTS["statusd"]
    async with open_redis(redis_server) as redis:
        await rights.grant(redis)
        async with open_daemon(rights.url(redis_server)) as daemon:
            client = await connect(nursery, daemon.port, "/batch;;name;;_base:log")
            assert await redis.publish("batch;;name;;_base:log", ["1"]) == [1]
            assert await client.receive(1) == [b'{"type":"status","data":"1"}']
            await client.leave()

            async def given_back() -> bool:
                return await redis.subscribers("batch;;name;;_base:log") == 0

            await wait_until(given_back, "unsubscribed")
            assert await daemon.health() == 200


@pytest.mark.parametrize("may_look", [True, False], ids=["as it is", "without the optional right"])
async def test_preflightd_serves_with_it(redis_server: EmbeddedRedis, nursery: trio.Nursery, may_look: bool) -> None:
    rights = RIGHTS["preflightd"]
    async with open_redis(redis_server) as redis:
        await rights.grant(redis, *(() if may_look else OPTIONAL))
        expect = set() if may_look else {"keyspace notifications"}
        settings = {"resync_interval": "0"}
        async with open_daemon(rights.url(redis_server), settings, expect=expect, module="preflightd") as daemon:
            client = await connect(nursery, daemon.port, "/batch;;name;;_base")
            await client.receive(1)
            await redis.call("HSET", "batch;;name;;_base", "timestamps:build_channels", 1)
            await wait_true(redis, {"batch;;name;;_base": [client]})
            if not may_look:
                (line,) = await daemon.wait_said("keyspace notifications")
                assert "can't tell" in line["warning"]


async def test_opsd_keeps_its_history_with_it(redis_server: EmbeddedRedis) -> None:
    rights = RIGHTS["opsd"]
    async with open_redis(redis_server) as redis:
        await rights.grant(redis)
    environ = {
        "OPS_REDIS_URL": rights.url(redis_server),
        "OPS_TARGETS": "none",
        "OPS_REDIS_CONNECT_TIMEOUT": "1m",
        "OPS_REDIS_REQUEST_TIMEOUT": "1m",
    }
    settings = load(OpsSettings, environ).settings
    logbook = Logbook()
    link = make_history_link(settings, logbook.log, random.Random())
    history = History(link, keys_of(settings), settings.history, logbook.log)
    vector = Vector(Sessions(websocket_connections=5), Directions("r", "normal", RequestFlow(avg_latency=1)), Others(0))
    async with trio.open_nursery() as nursery:
        with trio.fail_after(PATIENCE):
            await nursery.start(link.run)
            await history.record(Status("2026-01-15T12:34:56.789Z", vector, Meta()), 1.0)
            assert [point["connections"] for point in await history.query(60, 300)] == [5]
            await history.keep("what was told")
            assert await history.recall() == "what was told"
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("rights", RIGHTS.values(), ids=RIGHTS.keys())
async def test_check_is_content_with_it(redis_server: EmbeddedRedis, rights: Rights) -> None:
    async with open_redis(redis_server) as redis:
        info = await redis.call("INFO", "server")
        assert isinstance(info, bytes)
        # Valkey's redis_version is that of the Redis it is compatible with.
        own = {name.decode(): version.decode() for name, version in re.findall(rb"(\w+)_version:(\S+)", info)}
        server = f"valkey {own['valkey']}" if "valkey" in own else f"redis {own['redis']}"
        await rights.grant(redis)
        environ = environment(rights.url(redis_server), module=rights.daemon)
        checked = await run_to_end("check", environ=environ, module=rights.daemon)
        assert f"redis: OK, {server}\n" in checked.stdout
        assert "can't tell" not in checked.stdout
        assert checked.code == 0
        # It has changed nothing.
        assert await redis.call("SELECT", DATABASES[rights.daemon]) == b"OK"
        assert await redis.call("DBSIZE") == 0


@pytest.mark.parametrize(
    ("rights", "command"),
    [(rights, word) for rights in RIGHTS.values() for word in rights.commands if word not in OPTIONAL | UNTRIED],
    ids=lambda value: value.daemon if isinstance(value, Rights) else value,
)
async def test_none_of_them_can_be_done_without_and_check_says_which(
    redis_server: EmbeddedRedis, rights: Rights, command: str
) -> None:
    async with open_redis(redis_server) as redis:
        await rights.grant(redis, command)
    environ = environment(rights.url(redis_server), module=rights.daemon)
    checked = await run_to_end("check", environ=environ, module=rights.daemon)
    assert checked.code == 1
    (line,) = [line for line in checked.stdout.splitlines() if line.startswith("redis: FAILED: ")]
    assert re.search(rf"NOPERM.*'{command[1:]}'", line), line


@pytest.mark.parametrize(("daemon", "pattern"), [("statusd", "&*"), ("preflightd", "~*")])
async def test_names_that_are_not_all_allowed_are_a_warning(
    redis_server: EmbeddedRedis, daemon: str, pattern: str
) -> None:
    """The runs' own names may be: `check` can't know them."""
    rights = RIGHTS[daemon]
    async with open_redis(redis_server) as redis:
        await rights.grant(redis, pattern)
    checked = await run_to_end("check", environ=environment(rights.url(redis_server), module=daemon), module=daemon)
    assert checked.code == 0
    assert "warning: can't tell whether everything may be used that serving needs: NOPERM" in checked.stdout
