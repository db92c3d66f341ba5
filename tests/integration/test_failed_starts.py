"""Starts of statusd that fail or have to wait, and what `check` says beforehand (SPEC 2 and 6)."""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING

import pytest

from common.embedded import open_embedded_redis
from common.version import version
from tests.support.client import handshake
from tests.support.daemon import environment, open_daemon, run_to_end
from tests.support.raw import HOST, ask, connect, fetch, open_redis, wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import trio

    from common.embedded import EmbeddedRedis

pytestmark = pytest.mark.integration

QUIET = {"ping_interval": "1h", "pong_timeout": "3h", "hangup": "all"}
IMPATIENT = {"redis_retry_base": "20ms", "redis_retry_max": "50ms"}
SECRET = "hunter2hunter2"


# -- starts that fail -------------------------------------------------------------------------------------------------


async def test_a_taken_port_is_one_clear_line() -> None:
    with socket.socket() as other:
        other.bind((HOST, 0))
        other.listen()
        address = f"{HOST}:{other.getsockname()[1]}"
        ended = await run_to_end(environ=environment() | {"STATUS_LISTEN_ADDR": address})
    [error] = ended.said("warn", "error")
    assert (ended.code, error["msg"], error["address"], ended.stderr) == (2, "can't listen", address, "")
    assert "in use" in error["error"].lower()


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"STATUS_REDIS_URL": f"redis://:{SECRET}@localhost/two"}, ["STATUS_REDIS_URL"]),
        ({"REDIS_URL": f"http://:{SECRET}@localhost"}, ["REDIS_URL"]),
        ({"STATUS_REDIS_PASSWORD_FILE": "empty"}, ["STATUS_REDIS_PASSWORD_FILE", "empty"]),
        ({"REDIS_PASSWORD_FILE": "missing"}, ["REDIS_PASSWORD_FILE", "missing", "No such file"]),
        ({"STATUS_LISTEN_ADDR": f"redis://:{SECRET}@localhost:9002"}, ["STATUS_LISTEN_ADDR", "not an address"]),
        ({"STATUS_LISTEN_ADDR": "9002"}, ["STATUS_LISTEN_ADDR='9002'", "not host:port"]),
    ],
    ids=["database", "scheme", "empty-secret", "missing-secret", "address", "port-alone"],
)
async def test_a_bad_configuration_is_one_clear_line_and_no_secret(
    tmp_path: Path, variables: Mapping[str, str], words: list[str]
) -> None:
    (tmp_path / "empty").write_text("\n")
    given = {name: str(tmp_path / value) if name.endswith("_FILE") else value for name, value in variables.items()}
    ended = await run_to_end(environ=environment() | given)
    [line] = ended.lines
    assert (ended.code, line["level"], line["msg"], ended.stderr) == (2, "error", "bad configuration", "")
    assert all(word in line["error"] for word in words), line["error"]
    assert SECRET not in ended.stdout


async def test_without_redis_at_start_it_gives_up_after_the_retries(redis_server: EmbeddedRedis) -> None:
    await redis_server.kill()
    ended = await run_to_end(environ=environment(redis_server, IMPATIENT | {"redis_max_retries": "4"}))
    assert (ended.code, ended.stderr) == (1, "")
    retries = [line for line in ended.lines if line["msg"] == "redis unavailable, retrying"]
    assert [line["attempt"] for line in retries] == [1, 2, 3]
    [error] = ended.said("error")
    assert error["msg"] == "redis unavailable at start"
    assert "4 attempts" in error["error"]
    assert "connection refused" in error["error"]
    assert (ended.lines[-1]["msg"], ended.lines[-1]["code"]) == ("stopped", 1)


@pytest.mark.parametrize(
    ("password", "words"),
    [(None, ["NOAUTH", "set the Redis password"]), (SECRET, ["WRONGPASS", "check user name and password"])],
)
async def test_refused_credentials_at_start_end_it_at_once_and_say_what_to_mend(
    redis_program: Path, password: str | None, words: list[str]
) -> None:
    async with open_embedded_redis(password="right", program=redis_program) as redis:
        url = f"redis://{HOST}:{redis.port}/2"
        given = environment(url, {} if password is None else {"redis_password": password})
        ended = await run_to_end(environ=given)
        [error] = ended.said("error")
        assert (ended.code, error["msg"], ended.stderr) == (1, "redis unavailable at start", "")
        assert all(word in error["error"] for word in words), error["error"]
        assert [line["msg"] for line in ended.lines].count("redis connecting") == 1
        assert "redis unavailable, retrying" not in ended.stdout
        assert SECRET not in ended.stdout

        checked = await run_to_end("check", environ=given)
        assert (checked.code, SECRET in checked.stdout) == (1, False)
        assert words[0] in checked.stdout


@pytest.mark.sensitive
async def test_until_redis_is_there_the_port_is_bound_and_says_what_it_waits_for(
    redis_server: EmbeddedRedis, nursery: trio.Nursery
) -> None:
    await redis_server.kill()
    settings = QUIET | IMPATIENT | {"redis_max_retries": "0", "redis_request_timeout": "3s"}
    async with open_daemon(redis_server, settings, healthy=False, expect=["redis unavailable, retrying"]) as daemon:
        health, live = await fetch(daemon.port, "/health"), await fetch(daemon.port, "/health/live")
        assert (health.status, health.body, live.status) == (503, b"redis is unavailable\n", 200)
        refused = await ask(daemon.port, handshake("/run:log"))
        assert (refused.status, int(refused.headers["retry-after"]) > 0) == (503, True)
        await daemon.wait_said("redis unavailable, retrying", 10)  # as long as it takes
        assert daemon.said("ready") == []
        await redis_server.start()

        async def healthy() -> bool:
            return await daemon.health() == 200

        await wait_until(healthy, "healthy once Redis is there")
        client = await connect(nursery, daemon.port, "/run:log")
        async with open_redis(redis_server) as redis:
            await redis.publish("run:log", ["at last"])
        assert await client.receive(1) == [b'{"type":"status","data":"at last"}']
        messages = [line["msg"] for line in daemon.lines]
        assert messages.index("listening") < messages.index("redis connecting")


async def test_a_signal_before_redis_was_there_ends_it_with_0(redis_server: EmbeddedRedis) -> None:
    await redis_server.kill()
    settings = {"redis_max_retries": "0"}
    async with open_daemon(redis_server, settings, healthy=False, expect=["redis unavailable, retrying"]) as daemon:
        await daemon.wait_said("redis unavailable, retrying")
        daemon.signal()
        assert await daemon.wait_exit() == 0


# -- check ------------------------------------------------------------------------------------------------------------


async def test_check_shows_the_configuration_masked_and_whether_redis_answers(
    redis_program: Path, tmp_path: Path
) -> None:
    secret_file = tmp_path / "token"
    secret_file.write_text("tok3n-of-the-operator\n")
    settings = {"ping_interval": "7s", "admin_token_file": str(secret_file), "pong_timeout": "soon", "pign": "1"}
    async with open_embedded_redis(password=SECRET, program=redis_program) as redis:
        good = await run_to_end("check", environ=environment(redis, settings))
        assert (good.code, good.stderr) == (0, "")
        lines = good.stdout.splitlines()
        assert "STATUS_PING_INTERVAL=7s" in lines
        assert "STATUS_PONG_TIMEOUT=1m5s" in lines
        assert f"STATUS_REDIS_URL=redis://:***@{HOST}:{redis.port}/2" in lines
        assert re.fullmatch(r"redis: OK, (redis|valkey) [0-9.]+", lines[-1])
        warnings = [line for line in lines if line.startswith("warning: ")]
        assert len(warnings) == 2
        assert "STATUS_PONG_TIMEOUT" in warnings[0]
        assert "STATUS_PIGN" in warnings[1]
        assert "STATUS_PING" in warnings[1]
        url = redis.url(2)
    wrong = await run_to_end("check", environ=environment("redis://localhost/two"))
    assert (wrong.code, wrong.stdout, wrong.stderr.count("\n")) == (2, "", 1)
    assert "STATUS_REDIS_URL" in wrong.stderr
    bad = await run_to_end("check", environ=environment(url, settings))
    assert (bad.code, bad.stderr) == (1, "")
    assert bad.stdout.splitlines()[-1].startswith("redis: FAILED: ")
    assert "connection refused" in bad.stdout
    for output in (good.stdout, bad.stdout):
        assert SECRET not in output
        assert "tok3n" not in output


async def test_the_log_of_a_start_masks_secrets(redis_program: Path) -> None:
    async with (
        open_embedded_redis(password=SECRET, program=redis_program) as redis,
        open_daemon(redis, {"admin_token": "tok3n-of-the-operator"}) as daemon,
    ):
        [starting] = daemon.said("starting")
        assert starting["version"] == version()
        assert starting["settings"]["STATUS_PING_INTERVAL"] == "5s"
        text = str(daemon.lines)
        assert "***" in text
        assert SECRET not in text
        assert "tok3n" not in text
