"""The private group under sentinels: how it forms, what becomes of it at each fault, and that nothing of it stays."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from common.embedded import EmbeddedRedisError
from common.embedded_group import NoTLSError, NotRunningError, RefusedError, ServerTLS, ask, fields
from common.embedded_sentinel import MASTER, open_embedded_sentinel
from tests.support.raw import HOST, PATIENCE, open_stream
from tests.support.replication import question, wait_copied

if TYPE_CHECKING:
    from collections.abc import Callable

    from common.embedded import EmbeddedRedis

pytestmark = pytest.mark.integration

CERTIFICATE = Path(__file__).parents[1] / "support" / "localhost.pem"


def exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def role(node: EmbeddedRedis) -> str:
    return fields(await question(node, "INFO", "replication"))["role"]


async def test_a_planned_failover_moves_the_part_and_a_kill_moves_it_again(redis_program: Path) -> None:
    async with open_embedded_sentinel(program=redis_program) as group:
        first, second = group.nodes
        assert await group.primary() is first
        assert [await role(node) for node in group.nodes] == ["master", "slave"]
        assert await group.votes() == [first.port] * 3

        assert await group.failover() is second
        await group.wait_synced()
        assert [await role(node) for node in group.nodes] == ["slave", "master"]

        assert await ask(second, "SET", "key", "value") == b"OK"
        await wait_copied(second, first)
        await second.kill()
        with pytest.raises(NotRunningError):
            await ask(second, "PING")
        assert await group.wait_moved(second) is first
        assert await group.replicas() == [second]
        assert await question(first, "GET", "key") == b"value"


async def test_an_old_primary_comes_back_empty_and_is_made_a_replica(redis_program: Path) -> None:
    async with open_embedded_sentinel(program=redis_program) as group:
        first, second = group.nodes
        assert await ask(first, "SET", "key", "value") == b"OK"
        await wait_copied(first, second)
        await first.kill()
        await group.wait_moved(first)
        await first.restart()
        assert (await role(first), await question(first, "GET", "key")) == ("master", None)
        await group.wait_synced()
        assert (await role(first), await question(first, "GET", "key")) == ("slave", b"value")
        assert await group.primary() is second


async def test_a_halted_primary_is_left_and_follows_when_it_runs_on(redis_program: Path) -> None:
    async with open_embedded_sentinel(program=redis_program) as group:
        first, second = group.nodes
        first.stop()
        assert await group.wait_moved(first) is second
        first.cont()
        await group.wait_synced()
        assert await role(first) == "slave"


async def test_servers_and_sentinels_have_passwords_of_their_own(redis_program: Path) -> None:
    async with open_embedded_sentinel(
        password="se cret", sentinel_password="an'other", sentinels=1, program=redis_program
    ) as group:
        hosts = f"{HOST}:{group.sentinels[0].port}"
        assert group.url(2) == f"redis+sentinel://:se%20cret@{hosts}/{MASTER}/2"
        for node in (*group.nodes, *group.sentinels):
            async with await open_stream(node.port) as stream:
                await stream.send_all(b"PING\r\n")
                with trio.fail_after(PATIENCE):
                    assert (await stream.receive_some()).startswith(b"-NOAUTH")
        assert await group.failover() is group.nodes[1]
        with pytest.raises(RefusedError, match="unknown command"):
            await ask(group.sentinels[0], "SELECT", 0)


async def test_with_tls_every_port_speaks_it_and_a_failover_works(redis_program: Path) -> None:
    context = ssl.create_default_context(cafile=CERTIFICATE)
    try:
        async with open_embedded_sentinel(
            tls=ServerTLS(CERTIFICATE, CERTIFICATE, CERTIFICATE), program=redis_program
        ) as group:
            assert group.url().startswith("rediss+sentinel://")
            assert await group.failover() is group.nodes[1]
            for node in (*group.nodes, *group.sentinels):
                stream = trio.SSLStream(
                    await open_stream(node.port), context, server_hostname="localhost", https_compatible=True
                )
                async with stream:
                    await stream.send_all(b"PING\r\n")
                    with trio.fail_after(PATIENCE):
                        assert await stream.receive_some() == b"+PONG\r\n"
    except NoTLSError as error:
        pytest.skip(f"{error}: apt-get install redis-server brings one that has it")


async def test_nothing_stays_behind_an_exception(redis_program: Path, temporary: Callable[[], list[str]]) -> None:
    pids: list[int] = []

    async def fail() -> None:
        async with open_embedded_sentinel(program=redis_program) as group:
            pids.extend(node.pid for node in (*group.nodes, *group.sentinels))
            group.nodes[0].stop()
            raise LookupError

    with pytest.raises(LookupError):
        await fail()
    assert len(pids) == 5
    assert not any(map(exists, pids))
    assert temporary() == []


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ("no", r"ended with status 3; the end of its log:\nno$"),
        (
            "'cluster-port \"1\"' Bad directive or wrong number of arguments",
            r"^\S+ is too old for this: install Redis 7 .*$",
        ),
    ],
)
async def test_a_server_that_does_not_start_says_why(tmp_path: Path, said: str, line: str) -> None:
    program = tmp_path / "old-redis"
    program.write_text(f"#!/bin/sh\ncat >&2 <<'END'\n{said}\nEND\nexit 3\n")
    program.chmod(0o755)
    with pytest.raises(EmbeddedRedisError, match=line):
        async with open_embedded_sentinel(program=program):
            pytest.fail("there is no such server")


async def test_an_error_in_the_block_is_told_what_the_servers_logged_at_last(redis_program: Path) -> None:
    ports: list[int] = []

    async def fail() -> None:
        async with open_embedded_sentinel(program=redis_program) as group:
            ports.extend(server.port for server in (*group.nodes, *group.sentinels))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        await fail()
    for port, note in zip(ports, caught.value.__notes__, strict=True):
        assert note.startswith(f"the server of port {port}; the end of its log:\n")
