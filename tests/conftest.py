"""What every test can ask for, and how chance is kept out of the suite.

Property tests run the same examples every time (Hypothesis profile `repeatable`); `--hypothesis-profile=random` draws
new ones, and a failure prints the line that reproduces it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from common.embedded import EmbeddedRedis, EmbeddedRedisError, find_redis_server, open_embedded_redis

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

# No deadline per example: on a busy machine it would fail at random.
settings.register_profile("repeatable", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("random", deadline=None, print_blob=True)
settings.load_profile("repeatable")


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say what the run's chance and its redis-server are."""
    profile = config.getoption("--hypothesis-profile", None) or "repeatable (fixed seed)"
    try:
        server = str(find_redis_server())
    except EmbeddedRedisError as error:
        server = str(error)
    return [f"hypothesis profile: {profile}", f"redis-server: {server}"]


@pytest.fixture(scope="session")
def redis_program() -> Path:
    """The redis-server program, for tests that call `open_embedded_redis` themselves.

    Without one on this machine the test is skipped with the reason; in CI (`CI` is set) that is a failure.
    """
    try:
        return find_redis_server()
    except EmbeddedRedisError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture
async def redis_server(redis_program: Path) -> AsyncIterator[EmbeddedRedis]:
    """A redis-server of the test's own, empty, on a free port, with keyspace notifications `Kh`."""
    async with open_embedded_redis(program=redis_program) as redis:
        yield redis
