"""What every test can ask for, and how chance is kept out of the suite.

Property tests run the same examples every time (Hypothesis profile `repeatable`); `--hypothesis-profile=random` draws
new ones, and a failure prints the line that reproduces it. `verdict` asks only whether a property holds (`make
mutation`).

Tests that speak to a redis-server have the mark `redis`: `-m redis` runs them alone, on another server. With
pytest-xdist's `--dist loadgroup` those that are `sensitive` run one after the other.
"""

from __future__ import annotations

import gc
import os
import subprocess
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import HealthCheck, Phase, settings

from common import embedded
from common.embedded import EmbeddedRedis, EmbeddedRedisError, find_redis_server, open_embedded_redis
from tests.support import needs, ports
from tests.support.inherited import let_signals_through

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator, Iterator
    from pathlib import Path

_SPEAK_TO_REDIS: Final = frozenset({"redis_program", "redis_server"})

# No deadline per example and none for drawing them: on a busy machine they would fail at random.
_UNHURRIED: Final = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("repeatable", _UNHURRIED, derandomize=True, print_blob=True)
settings.register_profile("random", _UNHURRIED, print_blob=True)
settings.register_profile(
    "verdict", _UNHURRIED, derandomize=True, database=None, phases=(Phase.explicit, Phase.generate)
)
settings.load_profile("repeatable")


def pytest_configure() -> None:
    """Whoever runs the suite may ignore signals that the daemons of tests are to heed."""
    let_signals_through()


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say what the run's chance and its redis-server are."""
    profile = config.getoption("--hypothesis-profile", None) or "repeatable (fixed seed)"
    try:
        program = find_redis_server()
        server = f"{program}, {_version(program)}"
    except EmbeddedRedisError as error:
        server = str(error)
    return [f"hypothesis profile: {profile}", f"redis-server: {server}"]


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep the tests out of the collector's sight: a third of the time of finding them went into looking at them."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


@pytest.hookimpl(tryfirst=True)  # before `-m` selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what asks for a redis-server, directly or through another fixture; one worker has all that is sensitive."""
    for item in items:
        if item.get_closest_marker("sensitive") is not None:
            item.add_marker(pytest.mark.xdist_group("sensitive"))
        if isinstance(item, pytest.Function) and not _SPEAK_TO_REDIS.isdisjoint(item.fixturenames):
            item.add_marker("redis")


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call() -> Generator[None, object, object]:
    """Let a test that skips itself inside a nursery say why: pytest-trio skips it without its reason."""
    try:
        return (yield)
    except pytest.skip.Exception as skipped:
        error: BaseException | None = skipped.__context__
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            (error,) = error.exceptions
        if not isinstance(error, pytest.skip.Exception):
            raise
        # What a daemon of the test has said by then is no part of the reason.
        vars(error).pop("__notes__", None)
        raise error from None


@pytest.fixture(scope="session", autouse=True)
def _own_ports() -> Iterator[None]:
    """A server that comes back to its port must not find another worker's there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedded, "_PORTS", ports.share(os.environ))
        yield


@pytest.fixture(scope="session")
def redis_program() -> Path:
    """The redis-server program, for tests that call `open_embedded_redis` themselves."""
    try:
        return find_redis_server()
    except EmbeddedRedisError as error:
        needs.missing(str(error), "apt-get install redis-server")


@pytest.fixture
async def redis_server(redis_program: Path) -> AsyncIterator[EmbeddedRedis]:
    """A redis-server of the test's own, empty, on a free port, with keyspace notifications `Kghx`."""
    async with open_embedded_redis(program=redis_program) as redis:
        yield redis


def _version(program: Path) -> str:
    """What it says of itself."""
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    return " ".join(said.split()[:3]) or "which says no version"
