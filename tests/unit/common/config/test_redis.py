"""Where Redis is and with which password, as variables say it in more than one way."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

import pytest

from common.config import ConfigError, DaemonSettings, Loaded, describe, load
from common.redis.url import RedisURL
from common.secret import Secret
from opsd.settings import OpsSettings
from preflightd.settings import PreflightSettings
from statusd.settings import StatusSettings

if TYPE_CHECKING:
    from pathlib import Path


def load_status(**variables: str) -> Loaded[StatusSettings]:
    """What `STATUS_<name>=<value>` gives; plain names go through `load`."""
    return load(StatusSettings, {f"STATUS_{name}": value for name, value in variables.items()})


# --- Redis: where it is


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({}, RedisURL(db=2)),
        ({"STATUS_REDIS_URL": "redis://a/5", "REDIS_URL": "redis://b", "REDIS_HOST": "c"}, RedisURL(host="a", db=5)),
        ({"STATUS_REDIS_URL": "redis://a"}, RedisURL(host="a", db=2)),
        ({"STATUS_REDIS_URL": " ", "REDIS_URL": "redis://b/", "REDIS_HOST": "c"}, RedisURL(host="b", db=2)),
        ({"REDIS_URL": "redis://b/0"}, RedisURL(host="b", db=0)),
        ({"REDIS_HOST": "c", "REDIS_PORT": "6380"}, RedisURL(host="c", port=6380, db=2)),
        ({"REDIS_HOST": "::1"}, RedisURL(host="::1", db=2)),
        ({"REDIS_PORT": "6380"}, RedisURL(port=6380, db=2)),
        ({"REDIS_PORT": "tcp://10.0.0.5:6379"}, RedisURL(db=2)),
        ({"REDIS_HOST": "c", "REDIS_PORT": "tcp://10.0.0.5:6379"}, RedisURL(host="c", db=2)),
        ({"REDIS_URL": "redis://b/0", "REDIS_HOST": "?", "REDIS_PORT": "x"}, RedisURL(host="b", db=0)),
        ({"STATUS_REDIS_URL": "unix:///run/r"}, RedisURL(scheme="unix", path="/run/r", db=2)),
        (
            {"REDIS_URL": "redis+sentinel://s/m"},
            RedisURL(topology="sentinel", host="s", port=26379, master="m", db=2),
        ),
        (
            {"REDIS_URL": "redis+cluster://a?pubsub=both"},
            RedisURL(topology="cluster", host="a", db=0, pubsub="both"),
        ),
    ],
)
def test_the_first_source_of_the_redis_url_wins(environ: dict[str, str], url: RedisURL) -> None:
    loaded = load(StatusSettings, environ)
    assert loaded.settings.redis_url == url
    assert loaded.warnings == ()


@pytest.mark.parametrize(
    ("environ", "variable", "default"),
    [
        ({"REDIS_HOST": "h:6380"}, "REDIS_HOST='h:6380'", "localhost"),
        ({"REDIS_HOST": "redis://:hunter2@h"}, "REDIS_HOST='redis://***'", "localhost"),
        ({"REDIS_PORT": "x"}, "REDIS_PORT='x'", "6379"),
        ({"REDIS_PORT": "0"}, "REDIS_PORT='0'", "6379"),
        ({"REDIS_PORT": "65536"}, "REDIS_PORT='65536'", "6379"),
    ],
)
def test_a_bad_host_or_port_warns(environ: dict[str, str], variable: str, default: str) -> None:
    loaded = load(StatusSettings, environ)
    assert loaded.settings == StatusSettings()
    (warning,) = loaded.warnings
    assert warning.startswith(f"{variable} is not ")
    assert warning.endswith(f"; using the default, {default}")


@pytest.mark.parametrize("variable", ["STATUS_REDIS_URL", "REDIS_URL"])
@pytest.mark.parametrize(
    "url", ["redis://:hunter2@h/two", "redis://:hunter2@h:x", "localhost:6379", "redis://:hunter2", "redis://h/1/2"]
)
def test_a_redis_url_that_cannot_be_parsed_is_fatal(variable: str, url: str) -> None:
    with pytest.raises(ConfigError, match=f"^{variable} is not a usable Redis URL: .+") as raised:
        load(StatusSettings, {variable: url})
    assert "hunter2" not in "".join(traceback.format_exception(raised.value))
    assert "\n" not in str(raised.value)


def test_how_messages_are_published_concerns_statusd_alone() -> None:
    classes: list[type[DaemonSettings]] = [PreflightSettings, OpsSettings]
    for settings in classes:
        name = f"{settings.prefix}REDIS_URL"
        with pytest.raises(ConfigError, match=f"^{name}: the option pubsub is statusd's; .* hears no messages$"):
            load(settings, {name: "redis+cluster://h?pubsub=sharded"})
        assert load(settings, {name: "redis+cluster://h?pubsub=classic"}).settings.redis_url.db == 0


def test_url_options_without_effect_are_named() -> None:
    loaded = load_status(REDIS_URL="redis://h/0?read_timeout=3s&a%0Ab=1")
    assert loaded.warnings == (r"STATUS_REDIS_URL: options that have no effect here: read_timeout, a\u000ab",)


# --- Redis: the password


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text("from the file\n")
    return path


PASSWORD_SOURCES = ["STATUS_REDIS_PASSWORD_FILE", "REDIS_PASSWORD_FILE", "STATUS_REDIS_PASSWORD", "REDIS_PASSWORD"]


@pytest.mark.parametrize("first", range(len(PASSWORD_SOURCES)))
def test_the_first_source_of_the_password_wins(first: int, password_file: Path) -> None:
    texts = {name: str(password_file) if name.endswith("_FILE") else f"text of {name}" for name in PASSWORD_SOURCES}
    winner = PASSWORD_SOURCES[first]
    secret = load(StatusSettings, {name: texts[name] for name in PASSWORD_SOURCES[first:]}).settings.redis_password
    assert secret is not None
    assert secret.variable == winner
    assert secret.read() == ("from the file" if winner.endswith("_FILE") else texts[winner])


@pytest.mark.parametrize("name", ["STATUS_REDIS_PASSWORD", "REDIS_PASSWORD"])
def test_a_password_given_twice_warns_and_the_file_wins(name: str, password_file: Path) -> None:
    loaded = load(StatusSettings, {name: "hunter2", f"{name}_FILE": str(password_file)})
    assert loaded.settings.redis_password == Secret.file(password_file, f"{name}_FILE")
    assert loaded.warnings == (f"{name} and {name}_FILE are both set; the file is used",)


def test_a_prefixed_password_overrides_a_plain_one_without_a_word(password_file: Path) -> None:
    path = str(password_file)
    assert load(StatusSettings, {"STATUS_REDIS_PASSWORD": "a", "REDIS_PASSWORD": "b"}).warnings == ()
    assert load(StatusSettings, {"STATUS_REDIS_PASSWORD_FILE": path, "REDIS_PASSWORD_FILE": "/none"}).warnings == ()
    assert load(StatusSettings, {"STATUS_REDIS_PASSWORD_FILE": path, "REDIS_PASSWORD": "b"}).warnings == ()


def test_a_plain_file_that_overrides_a_prefixed_password_says_so(password_file: Path) -> None:
    loaded = load(StatusSettings, {"STATUS_REDIS_PASSWORD": "hunter2", "REDIS_PASSWORD_FILE": str(password_file)})
    assert loaded.settings.redis_password == Secret.file(password_file, "REDIS_PASSWORD_FILE")
    assert loaded.warnings == ("STATUS_REDIS_PASSWORD and REDIS_PASSWORD_FILE are both set; the file is used",)


@pytest.mark.parametrize("blank", ["", " ", "\t"])
def test_a_blank_source_of_the_password_is_passed_over(blank: str, password_file: Path) -> None:
    for first, name in enumerate(PASSWORD_SOURCES):
        environ = dict.fromkeys(PASSWORD_SOURCES[:first], blank) | {name: str(password_file)}
        secret = load(StatusSettings, environ).settings.redis_password
        assert secret is not None
        assert secret.variable == name
    assert load(StatusSettings, dict.fromkeys(PASSWORD_SOURCES, blank)) == Loaded(StatusSettings(), ())


@pytest.mark.parametrize("variable", ["STATUS_REDIS_PASSWORD_FILE", "REDIS_PASSWORD_FILE", "STATUS_ADMIN_TOKEN_FILE"])
def test_a_bad_secret_file_is_fatal_and_says_which(variable: str, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    for path, reason in ((empty, "is empty"), (tmp_path / "none", "can't be read: .+"), (tmp_path, "is not a .+ file")):
        with pytest.raises(ConfigError, match=f"^{variable}: file {path} {reason}$"):
            load(StatusSettings, {variable: str(path)})


def test_a_password_in_the_url_comes_first() -> None:
    loaded = load(StatusSettings, {"STATUS_REDIS_URL": "redis://:a@h", "STATUS_REDIS_PASSWORD_FILE": "/none"})
    assert loaded.settings.redis_url.password == "a"
    assert loaded.settings.redis_password is None
    assert loaded.warnings == ("STATUS_REDIS_PASSWORD_FILE is not used: the Redis URL has a password",)
    assert load(StatusSettings, {"REDIS_URL": "redis://:a@h", "REDIS_PASSWORD": "b"}).warnings == ()


def test_sentinels_have_a_password_of_their_own() -> None:
    url = "redis+sentinel://:servers@s/m"
    environ = {"STATUS_REDIS_URL": url, "STATUS_SENTINEL_PASSWORD": "own"}
    loaded = load(StatusSettings, environ)
    assert loaded.settings.sentinel_password is not None
    assert (loaded.settings.sentinel_password.read(), loaded.warnings) == ("own", ())
    assert loaded.settings.redis_url.sentinel_password is None, "the servers' is not theirs"
    shared = load(StatusSettings, {"STATUS_REDIS_URL": url, "SENTINEL_PASSWORD": "everybody's"})
    assert shared.settings.sentinel_password is not None
    assert shared.settings.sentinel_password.read() == "everybody's"
    assert "hunter2" not in str(describe(load(StatusSettings, {**environ, "SENTINEL_PASSWORD": "hunter2"}).settings))


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("redis://h", "names no sentinels"),
        ("redis+cluster://h", "names no sentinels"),
        ("redis+sentinel://s/m?sentinel_password=a", "has a password for the sentinels"),
    ],
)
def test_a_password_of_sentinels_that_is_no_use_is_told(url: str, why: str) -> None:
    loaded = load(StatusSettings, {"STATUS_REDIS_URL": url, "STATUS_SENTINEL_PASSWORD_FILE": "/none"})
    assert loaded.settings.sentinel_password is None
    assert loaded.warnings == (f"STATUS_SENTINEL_PASSWORD_FILE is not used: the Redis URL {why}",)
    assert load(StatusSettings, {"REDIS_URL": url, "SENTINEL_PASSWORD": "b"}).warnings == ()
