"""`<daemon> check` (common/check.py): what it asks of Redis, what it prints, and what fails it."""

from __future__ import annotations

import io
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from common import check as module
from common.check import check, check_redis, write_configuration
from common.config import UnixAddress, load
from common.exits import Exit
from common.redis.links import make_link
from common.redis.policy import Channels
from common.redis.url import parse_redis_url
from common.tracing import EXTRA
from preflightd.daemon import PREFLIGHTD
from preflightd.settings import PreflightSettings
from statusd.daemon import STATUSD
from statusd.settings import StatusSettings
from tests.support.scripted_group import URL as WATCHED
from tests.support.scripted_group import ScriptedGroup
from tests.support.scripted_redis import Command, Peer, ScriptedRedis, bulk, open_scripted_redis

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import trio
    from trio.testing import MockClock

    from common.daemon import Daemon

MISSING = b"-NOPERM User default has no permissions to run the '%b' command\r\n"
FOREIGN = b"-NOPERM No permissions to access a %b\r\n"


@pytest.fixture
async def redis(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ScriptedRedis]:
    """The server that `check` finds, whatever is configured."""
    async with open_scripted_redis() as scripted:
        monkeypatch.setattr(module, "make_link", partial(make_link, connect=scripted.connect))
        yield scripted


async def checked(daemon: Daemon[Any] = STATUSD, **changes: object) -> tuple[int, list[str]]:
    """The exit code and the lines of `check`."""
    out = io.StringIO()
    code = await check(daemon, attrs.evolve(daemon.settings(), **changes), out)
    return code, out.getvalue().splitlines()


def refusing(name: bytes, answer: bytes) -> Any:
    """A script that answers one command so, and all others as usual."""

    def answers(_peer: Peer, command: Command) -> bytes | None:
        return answer if command[0] == name else None

    return answers


async def test_statusd_tries_a_subscription_and_takes_it_back(autojump_clock: MockClock, redis: ScriptedRedis) -> None:
    assert await checked() == (Exit.OK, ["redis: OK"])
    assert redis.asked(b"SUBSCRIBE") == redis.asked(b"SUBSCRIBE")[:1] == [[b"SUBSCRIBE", b"check:check"]]
    assert redis.subscribers(b"check:check") == 0


async def test_preflightd_tries_a_read_too_and_says_how_redis_notifies(
    autojump_clock: MockClock, redis: ScriptedRedis
) -> None:
    code, lines = await checked(PREFLIGHTD)
    assert code == Exit.OK
    assert lines == ["redis: OK", "redis notifies of changed hashes (notify-keyspace-events='Kghx')"]
    assert redis.asked(b"SUBSCRIBE") == [[b"SUBSCRIBE", b"__keyspace@0__:check"]]
    assert redis.asked(b"HGETALL") == [[b"HGETALL", b"check"]]


async def test_notifications_that_lack_something_are_a_warning_and_no_failure(
    autojump_clock: MockClock, redis: ScriptedRedis
) -> None:
    redis.notifies = b""
    code, lines = await checked(PREFLIGHTD)
    assert code == Exit.OK
    assert lines[0] == "redis: OK"
    assert lines[1].startswith("warning: ")
    assert "redis-cli config set notify-keyspace-events" in lines[1]


async def test_it_says_which_server_that_is_without_its_control_characters(
    autojump_clock: MockClock, redis: ScriptedRedis
) -> None:
    def answers(_peer: Peer, command: Command) -> bytes | None:
        if command[0] != b"HELLO":
            return None
        fields = [bulk(b"server"), bulk(b"val\x1bkey"), bulk(b"version"), bulk(b"9.1.2"), bulk(b"proto"), b":3\r\n"]
        return b"%3\r\n" + b"".join(fields)

    redis.answers = answers
    assert await checked() == (Exit.OK, [r"redis: OK, val\u001bkey 9.1.2"])


@pytest.mark.parametrize(
    ("daemon", "command"),
    [(STATUSD, b"SUBSCRIBE"), (PREFLIGHTD, b"SUBSCRIBE"), (PREFLIGHTD, b"HGETALL")],
    ids=lambda value: value.name if hasattr(value, "name") else value.decode(),
)
async def test_a_command_that_the_user_may_not_run_fails(
    autojump_clock: MockClock, redis: ScriptedRedis, daemon: Daemon[Any], command: bytes
) -> None:
    redis.answers = refusing(command, MISSING % command.lower())
    code, [line] = await checked(daemon)
    assert code == Exit.FAILED
    assert line.startswith("redis: FAILED: ")
    assert f"permissions to run the '{command.decode().lower()}' command" in line


@pytest.mark.parametrize(("command", "what"), [(b"SUBSCRIBE", b"channel"), (b"HGETALL", b"key")])
async def test_a_name_that_the_user_may_not_use_says_nothing_of_others(
    autojump_clock: MockClock, redis: ScriptedRedis, command: bytes, what: bytes
) -> None:
    redis.answers = refusing(command, FOREIGN % what)
    code, lines = await checked(PREFLIGHTD)
    assert code == Exit.OK
    assert lines[0] == "redis: OK"
    assert lines[1].startswith("warning: can't tell whether everything may be used that serving needs: ")
    assert f"access a {what.decode()}" in lines[1]


async def test_a_redis_that_is_not_there_is_tried_once_and_its_cause_is_said(
    autojump_clock: MockClock, redis: ScriptedRedis
) -> None:
    redis.unreachable = ConnectionRefusedError(111, "Connection refused")
    code, [line] = await checked()
    assert code == Exit.FAILED
    assert line.startswith("redis: FAILED: ")
    assert "refused" in line
    assert "attempt" not in line
    assert len(redis.attempts) == 1


async def test_a_redis_that_loads_is_not_waited_for(autojump_clock: MockClock, redis: ScriptedRedis) -> None:
    redis.loading = True
    code, [line] = await checked()
    assert (code, len(redis.attempts)) == (Exit.FAILED, 1)
    assert "LOADING" in line


async def test_a_password_that_is_asked_for_is_told_in_our_words(
    autojump_clock: MockClock, redis: ScriptedRedis
) -> None:
    redis.password = b"secret"
    code, [line] = await checked()
    assert code == Exit.FAILED
    assert "set the Redis password" in line
    assert "secret" not in line


async def test_a_redis_that_does_not_answer_a_request_fails(autojump_clock: MockClock, redis: ScriptedRedis) -> None:
    redis.answers = refusing(b"SUBSCRIBE", b"")
    code, [line] = await checked()
    assert code == Exit.FAILED
    assert line.startswith("redis: FAILED: ")


async def test_an_operators_listener_that_can_not_be_had_fails_though_redis_is_well(
    autojump_clock: MockClock, redis: ScriptedRedis, tmp_path: Path
) -> None:
    path = tmp_path / "none" / "admin.sock"
    code, lines = await checked(admin_listen_addr=UnixAddress(str(path)))
    assert code == Exit.FAILED
    assert lines == [f"operator's listener: FAILED: unix:{path}: there is no directory {path.parent}", "redis: OK"]


async def test_where_traces_go_is_said_without_its_password(
    autojump_clock: MockClock, redis: ScriptedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "installed", lambda: True)
    monkeypatch.setattr(module, "endpoint", lambda: "http://me:hunter2@collector:4318/v1/traces")
    code, lines = await checked(traces_enabled=True)
    assert (code, lines[1:]) == (Exit.OK, ["redis: OK"])
    assert lines[0].startswith("traces: sent to http://")
    assert lines[0].endswith("collector:4318/v1/traces")
    assert "hunter2" not in lines[0]


async def test_traces_that_can_not_be_sent_fail_though_redis_is_well(
    autojump_clock: MockClock, redis: ScriptedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "installed", lambda: False)
    assert await checked(traces_enabled=True) == (Exit.FAILED, [f"traces: FAILED: {EXTRA}", "redis: OK"])


async def test_without_questions_of_its_own_a_daemon_is_content_with_a_connection(
    autojump_clock: MockClock, redis: ScriptedRedis
) -> None:
    out = io.StringIO()
    assert await check_redis("opsd", StatusSettings(), out, Channels.NONE)
    assert out.getvalue() == "redis: OK\n"
    assert redis.asked(b"SUBSCRIBE") == redis.asked(b"HGETALL") == []
    assert redis.asked(b"HELLO")[0][-1] == b"opsd-check"


async def test_of_a_group_under_sentinels_the_primary_is_named_and_what_each_of_them_says(
    autojump_clock: MockClock, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = ScriptedGroup(nursery)
    monkeypatch.setattr(module, "make_link", partial(make_link, connect=group.connect))
    group.vanish(("s2", 26379))
    group.sentinels[2].denied = {b"+switch-master"}
    assert await checked(redis_url=parse_redis_url(WATCHED, 2)) == (
        Exit.OK,
        [
            "redis: OK",
            "node 10.0.0.1:6379: master",
            "sentinel s1:26379: names 10.0.0.1:6379, epoch 0",
            "sentinel s2:26379: connection refused: s2:26379",
            (
                "sentinel s3:26379: names 10.0.0.1:6379, epoch 0; does not tell of failovers: "
                "NOPERM this user has no permissions to access one of the channels used as arguments"
            ),
            "warning: 1 of 3 sentinels say nothing",
        ],
    )
    for name in ("s1", "s3"):
        group.vanish((name, 26379))
    code, lines = await checked(redis_url=parse_redis_url(WATCHED, 2))
    assert code == Exit.FAILED
    assert lines[0].startswith("redis: FAILED: no sentinel names a primary for mymaster: ")


def test_the_configuration_is_shown_with_its_warnings_and_without_its_secrets() -> None:
    loaded = load(PreflightSettings, {"PREFLIGHT_REDIS_PASSWORD": "hunter2", "PREFLIGHT_PING_INTERVAL": "soon"})
    out = io.StringIO()
    write_configuration(loaded.settings, loaded.warnings, out)
    lines = out.getvalue().splitlines()
    assert "PREFLIGHT_PING_INTERVAL=5s" in lines
    assert "hunter2" not in out.getvalue()
    [warning] = [line for line in lines if line.startswith("warning: ")]
    assert "PREFLIGHT_PING_INTERVAL" in warning
    assert "soon" in warning
