"""What the bench can compare on this machine, and why the rest is missing."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from bench import targets
from bench.targets import (
    FANOUT_TARGETS,
    PREFLIGHT_TARGETS,
    BenchTarget,
    find_compiler,
    missing_module,
    missing_program,
)

if TYPE_CHECKING:
    from collections.abc import Callable

_URL = "redis://127.0.0.1:6379/2"


def machine_with(*programs: str) -> Callable[[str], str | None]:
    """A PATH on which these programs are, and no others."""
    return lambda name: f"/usr/bin/{name}" if name in programs else None


def test_the_daemon_comes_first_then_the_peers_and_the_limit_last() -> None:
    assert list(FANOUT_TARGETS) == ["statusd", "websockets", "tornado", "node_ws", "trio_websocket", "limit"]
    assert list(PREFLIGHT_TARGETS) == ["preflightd", "websockets_preflight"]
    for targets_of_a_daemon in (FANOUT_TARGETS, PREFLIGHT_TARGETS):
        assert all(target.name == name for name, target in targets_of_a_daemon.items())


@pytest.mark.parametrize(
    ("programs", "reason"),
    [
        (("node", "npm"), None),
        (("npm",), "node is not on PATH"),
        (("node",), "npm is not on PATH"),
        ((), "node is not on PATH"),
    ],
)
def test_a_missing_program_is_the_reason(programs: tuple[str, ...], reason: str | None) -> None:
    assert missing_program("node", "npm", which=machine_with(*programs)) == reason


def test_a_missing_package_is_the_reason() -> None:
    found = {"tornado": None, "redis": object()}
    assert missing_module("redis", "tornado", find=found.get) == "the Python package tornado is not installed"
    assert missing_module("redis", find=found.get) is None


@pytest.mark.parametrize(
    ("programs", "compiler"),
    [
        (("clang", "gcc", "cc"), "/usr/bin/cc"),
        (("clang", "gcc"), "/usr/bin/gcc"),
        (("clang",), "/usr/bin/clang"),
        (("node",), None),
    ],
)
def test_any_c_compiler_will_do(programs: tuple[str, ...], compiler: str | None) -> None:
    assert find_compiler(machine_with(*programs)) == compiler


def test_what_runs_on_a_machine_without_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert FANOUT_TARGETS["node_ws"].missing() == "node is not on PATH"
    limit = FANOUT_TARGETS["limit"]
    assert limit.missing() is None
    assert limit.describe() == "limit (python loop)"
    assert limit.command(9002, _URL)[:3] == [sys.executable, "-m", "bench.peers.limit.loop"]


def test_the_limit_is_the_compiled_program_where_there_is_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "find_compiler", lambda: "/usr/bin/cc")
    limit = FANOUT_TARGETS["limit"]
    program, *arguments = limit.command(9002, _URL)
    assert "/bench/peers/limit/build/limit-" in program
    assert arguments == ["--port", "9002", "--redis", _URL]
    assert limit.describe() == "limit"


def test_every_peer_is_told_its_port_and_redis_in_the_same_way() -> None:
    for name, target in [*FANOUT_TARGETS.items(), *PREFLIGHT_TARGETS.items()]:
        if name not in ("statusd", "preflightd"):
            assert target.command(9002, _URL)[-4:] == ["--port", "9002", "--redis", _URL]


@pytest.mark.parametrize(
    ("target", "prefix"),
    [(FANOUT_TARGETS["statusd"], "STATUS_"), (PREFLIGHT_TARGETS["preflightd"], "PREFLIGHT_")],
)
def test_a_daemon_gets_its_settings_under_its_own_prefix(target: BenchTarget, prefix: str) -> None:
    assert target.settings({"WORKERS": "2"}) == {f"{prefix}WORKERS": "2"}
    assert target.environment(9002, _URL)[f"{prefix}REDIS_URL"] == _URL


def test_a_peer_takes_no_settings() -> None:
    assert FANOUT_TARGETS["tornado"].settings({"WORKERS": "2"}) == {}


def test_a_target_is_described_by_its_name_alone_when_nothing_stands_in_for_it() -> None:
    assert FANOUT_TARGETS["statusd"].describe() == "statusd"
