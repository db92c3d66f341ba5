"""The commands of the documents that can be run anywhere are run: those for Redis, and what is piped into a daemon."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import attrs
import pytest
import trio

from tests.support.commands import command_lines, split
from tests.support.raw import PATIENCE, open_redis
from tools.site.documents import ROOT, documents

if TYPE_CHECKING:
    from common.embedded import EmbeddedRedis
    from tests.support.commands import Command

pytestmark = pytest.mark.integration

LINES: Final = sorted({line for path in documents() for line in command_lines(path.read_text("utf-8"), {"redis-cli"})})
PIPES: Final = [line for line in LINES if line.startswith("echo ")]


@attrs.frozen
class Question:
    """What a line asks of Redis."""

    database: int
    words: tuple[str, ...]


def question(command: Command) -> Question:
    """Of `redis-cli [-u URL | -n NUMBER] WORDS…`. Those with another port are for Sentinels (test_sentinel_rights)."""
    match command.arguments:
        case ("-u", url, *words):
            return Question(int(urlsplit(url.replace("PORT", "6379")).path.removeprefix("/")), tuple(words))
        case ("-n", number, *words):
            return Question(int(number), tuple(words))
        case words:
            return Question(0, tuple(words))


QUESTIONS: Final = sorted(
    {
        question(command)
        for line in LINES
        for command in split(line)
        if command.program == "redis-cli" and command.arguments[0] != "-p"
    },
    key=lambda one: (one.database, one.words),
)


async def test_redis_takes_every_command(redis_server: EmbeddedRedis) -> None:
    async with open_redis(redis_server) as redis:
        for asked in QUESTIONS:
            await redis.call("FLUSHALL")
            await redis.call("SELECT", asked.database)
            if asked.words[0] == "rename":
                await redis.call("SET", asked.words[1], "what is renamed")
            # An error is an answer that `call` fails with, and it names the command.
            await redis.call(*asked.words)


def test_there_are_commands_for_redis() -> None:
    assert {asked.words[0].lower() for asked in QUESTIONS} >= {"acl", "config", "hset", "publish", "pubsub", "rename"}


@pytest.mark.parametrize("line", PIPES)
async def test_what_is_piped_into_a_daemon_is_answered(line: str) -> None:
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    with trio.fail_after(PATIENCE):
        done = await trio.run_process(
            ["sh", "-c", line], cwd=ROOT, env=environment, capture_stdout=True, stderr=subprocess.STDOUT
        )
    answer = json.loads(done.stdout)
    assert answer["checklist"]["channels"] is True
    assert answer["lock_statuses"] == {"wepp.nodb": True}


def test_there_is_something_to_pipe() -> None:
    assert PIPES
