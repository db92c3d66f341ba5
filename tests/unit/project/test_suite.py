"""What the suite itself promises: each worker has its own ports and whole groups, and a skip in CI is a failure."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import MockClock

from common import embedded
from tests.conftest import pytest_collection_modifyitems
from tests.support import needs, ports
from tests.support.daemon import ROOT
from tests.support.raw import PATIENCE

if TYPE_CHECKING:
    from pathlib import Path


NAMERS = ("bench", "tools", "deploy", "fuzz", "docs", ".ci", ".github", "README.md", "CONTRIBUTING.md", "Makefile")
"""What names tests by their files, and starts them or sends a reader to them."""

SKIPPING = """
import pytest, trio

@pytest.mark.trio
async def test_in_a_nursery():
    async with trio.open_nursery(), trio.open_nursery():
        pytest.skip("here: no moon")

def test_outside():
    pytest.skip("there: no sun")
"""


def test_a_file_of_tests_that_is_named_somewhere_is_there() -> None:
    named: dict[str, str] = {}
    for top in NAMERS:
        for path in (ROOT / top, *(ROOT / top).rglob("*")):
            if path.is_file() and path.suffix != ".pyc":
                text = path.read_bytes().decode(errors="replace")
                named |= dict.fromkeys(re.findall(r"\btests/[\w/]+\.py\b", text), path.relative_to(ROOT).as_posix())
    assert "tests/unit/common/serving/test_conformance.py" in named
    assert {name: by for name, by in named.items() if not (ROOT / name).exists()} == {}


@pytest.mark.parametrize("workers", [1, 2, 3, 8])
def test_every_worker_has_ports_of_its_own(workers: int) -> None:
    shares = [
        ports.share({"PYTEST_XDIST_WORKER_COUNT": str(workers), "PYTEST_XDIST_WORKER": f"gw{number}"})
        for number in range(workers)
    ]
    taken = [port for share in shares for port in share]
    assert len(set(taken)) == len(taken)
    assert set(taken) <= set(ports.ALL)
    assert all(len(share) >= 1000 for share in shares)


def test_without_workers_all_ports_are_there() -> None:
    assert ports.share({}) == ports.ALL


def test_no_two_are_given_one_port_although_it_is_not_bound_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    few = range(ports.ALL.start, ports.ALL.start + 100)
    monkeypatch.setattr(ports, "share", lambda _environ: few)
    monkeypatch.setattr(ports, "_given", set(few[5:]))
    given = {ports.free_port() for _ in range(3)}
    assert (len(given), given <= set(few[:5])) == (3, True)


def test_a_private_server_takes_its_port_from_this_workers_share() -> None:
    assert embedded.free_ports(1)[0] in ports.share(os.environ)


@pytest.mark.parametrize(("environ", "outcome"), [({}, pytest.skip.Exception), ({"CI": "true"}, pytest.fail.Exception)])
def test_what_is_missing_is_said_in_one_line_and_fails_in_ci(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], outcome: type[BaseException]
) -> None:
    monkeypatch.delenv("CI", raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(outcome, match=r"^no tmux on PATH: apt-get install tmux$"):
        needs.program("tmux")


async def test_a_unit_test_has_no_real_time() -> None:
    assert isinstance(trio.lowlevel.current_clock(), MockClock)


async def test_a_clock_that_is_asked_for_is_had(mock_clock: MockClock) -> None:
    assert trio.lowlevel.current_clock() is mock_clock


@pytest.mark.real_time
async def test_a_unit_test_that_waits_for_the_kernel_has_real_time() -> None:
    assert not isinstance(trio.lowlevel.current_clock(), MockClock)


@pytest.mark.xdist_group("packaging")
def test_a_group_of_tests_stays_on_one_worker(request: pytest.FixtureRequest) -> None:
    grouped = bool(getattr(request.config.option, "loadgroup", False))
    assert request.node.nodeid.endswith("@packaging") is grouped, "pytest-xdist does not know of the group"


def test_who_skips_inside_a_nursery_says_why(tmp_path: Path) -> None:
    test = tmp_path / "test_skipping.py"
    test.write_text(SKIPPING)
    options = ("-c", "pyproject.toml", "-p", "no:cacheprovider", "-p", "tests.conftest")
    command = [sys.executable, "-m", "pytest", *options, str(test)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stdout
    assert "SKIPPED" in done.stdout
    assert "here: no moon" in done.stdout
    assert "there: no sun" in done.stdout


def test_a_program_that_is_there_is_its_path() -> None:
    assert needs.program("sh") == shutil.which("sh")


@pytest.mark.parametrize(("fixture", "speaks"), [("redis_server", True), ("redis_program", True), ("nursery", False)])
def test_whoever_asks_for_a_redis_server_has_its_mark(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, fixture: str, speaks: bool
) -> None:
    asking = request.node
    assert asking.get_closest_marker("redis") is None
    monkeypatch.setattr(asking, "fixturenames", [*asking.fixturenames, fixture])
    pytest_collection_modifyitems([asking])
    assert (asking.get_closest_marker("redis") is not None) is speaks
