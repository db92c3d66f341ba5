"""The variables of preflightd: its own defaults, and the variables that only it has."""

from __future__ import annotations

import attrs
import pytest

from common.config import ConfigError, ListenAddress, Loaded, Settings, describe, load, rows
from common.redis.url import RedisURL
from preflightd.settings import PreflightSettings
from statusd.settings import StatusSettings


def load_preflight(**variables: str) -> Loaded[PreflightSettings]:
    """What `PREFLIGHT_<name>=<value>` gives."""
    return load(PreflightSettings, {f"PREFLIGHT_{name}": value for name, value in variables.items()})


def test_without_variables_it_has_its_own_defaults() -> None:
    loaded = load(PreflightSettings, {})
    assert loaded == Loaded(PreflightSettings(), ())
    assert loaded.settings.listen_addr == ListenAddress(None, 9001)
    assert loaded.settings.redis_url == RedisURL(db=0)
    assert loaded.settings.redis_request_timeout == 0.5
    assert loaded.settings.resync_interval == 30.0


def test_everything_else_has_the_shared_defaults() -> None:
    own = {"listen_addr", "redis_url", "redis_request_timeout", "resync_interval", "checklist", "push", "max_hash"}
    shared = {name: value for name, value in attrs.asdict(Settings(), recurse=False).items() if name not in own}
    mine = attrs.asdict(PreflightSettings(), recurse=False)
    assert {name: mine[name] for name in shared} == shared
    assert mine.keys() == shared.keys() | own


def test_it_has_the_variables_of_statusd_and_its_own() -> None:
    preflight = {row.variable.removeprefix("PREFLIGHT_") for row in rows(PreflightSettings)}
    status = {row.variable.removeprefix("STATUS_") for row in rows(StatusSettings)}
    assert preflight - status == {"RESYNC_INTERVAL", "CHECKLIST", "PUSH", "MAX_HASH"}
    assert status <= preflight
    assert all(row.doc and "\n" not in row.doc for row in rows(PreflightSettings))


@pytest.mark.parametrize(
    ("variable", "default"),
    [
        ("LISTEN_ADDR", ":9001"),
        ("REDIS_URL", "redis://localhost:6379/0"),
        ("REDIS_REQUEST_TIMEOUT", "500ms"),
        ("RESYNC_INTERVAL", "30s"),
    ],
)
def test_its_own_defaults_are_documented_and_shown(variable: str, default: str) -> None:
    documented = {row.variable: row.default for row in rows(PreflightSettings)}
    assert documented[f"PREFLIGHT_{variable}"] == default
    assert describe(PreflightSettings())[f"PREFLIGHT_{variable}"] == default


@pytest.mark.parametrize(
    ("text", "seconds", "shown"),
    [("5s", 5.0, "5s"), ("0", 0.0, "0s"), ("0s", 0.0, "0s"), (" 1m30s ", 90.0, "1m30s"), ("250ms", 0.25, "250ms")],
)
def test_the_resync_interval_is_a_duration_and_0_is_off(text: str, seconds: float, shown: str) -> None:
    loaded = load_preflight(RESYNC_INTERVAL=text)
    assert loaded == Loaded(PreflightSettings(resync_interval=seconds), ())
    assert describe(loaded.settings)["PREFLIGHT_RESYNC_INTERVAL"] == shown


@pytest.mark.parametrize("text", ["30", "-30s", "off", "30 s", "1d", "inf"])
def test_a_bad_resync_interval_warns_and_gives_way_to_the_default(text: str) -> None:
    loaded = load_preflight(RESYNC_INTERVAL=text)
    assert loaded.settings == PreflightSettings()
    (warning,) = loaded.warnings
    assert warning.startswith(f"PREFLIGHT_RESYNC_INTERVAL={text!r} is not ")
    assert warning.endswith("; using the default, 30s")


@pytest.mark.parametrize(("text", "size"), [("8MB", 8 << 20), ("100 kb", 102_400), ("1000", 1000)])
def test_the_largest_hash_is_a_size(text: str, size: int) -> None:
    assert PreflightSettings().max_hash == 8 << 20
    assert load_preflight(MAX_HASH=text) == Loaded(PreflightSettings(max_hash=size), ())


@pytest.mark.parametrize("text", ["0", "-1", "8T", "none"])
def test_a_bad_largest_hash_warns_and_gives_way_to_the_default(text: str) -> None:
    loaded = load_preflight(MAX_HASH=text)
    assert loaded.settings == PreflightSettings()
    (warning,) = loaded.warnings
    assert warning.startswith(f"PREFLIGHT_MAX_HASH={text!r} is not ")


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({"PREFLIGHT_REDIS_URL": "redis://a"}, RedisURL(host="a", db=0)),
        ({"PREFLIGHT_REDIS_URL": "redis://a/7"}, RedisURL(host="a", db=7)),
        ({"REDIS_URL": "redis://b"}, RedisURL(host="b", db=0)),
        ({"REDIS_HOST": "c", "REDIS_PORT": "6380"}, RedisURL(host="c", port=6380, db=0)),
        ({"STATUS_REDIS_URL": "redis://d/2"}, RedisURL(db=0)),
    ],
)
def test_a_redis_url_without_a_database_gets_number_0(environ: dict[str, str], url: RedisURL) -> None:
    loaded = load(PreflightSettings, environ)
    assert loaded.settings.redis_url == url
    assert loaded.warnings == ()


@pytest.mark.parametrize(
    ("environ", "warned"),
    [
        ({"REDIS_URL": "redis://shared/2"}, True),
        ({"REDIS_URL": "unix:///run/redis.sock?db=2"}, True),
        ({"REDIS_URL": "redis://shared/0"}, False),
        ({"REDIS_URL": "redis://shared"}, False),
        ({"PREFLIGHT_REDIS_URL": "redis://own/2"}, False),
        ({"PREFLIGHT_REDIS_URL": "redis://own", "REDIS_URL": "redis://shared/2"}, False),
    ],
)
def test_a_shared_url_that_moves_it_to_another_database_warns(environ: dict[str, str], warned: bool) -> None:
    warnings = load(PreflightSettings, environ).warnings
    told = "REDIS_URL names database 2, not preflightd's own 0; PREFLIGHT_REDIS_URL goes before it"
    assert warnings == ((told,) if warned else ())
    assert load(StatusSettings, environ).warnings == (), "messages come to every database"


def test_a_redis_url_that_cannot_be_parsed_is_fatal() -> None:
    with pytest.raises(ConfigError, match=r"^PREFLIGHT_REDIS_URL is not a usable Redis URL: "):
        load_preflight(REDIS_URL="redis://h/zero")


def test_an_unknown_variable_warns_with_the_nearest_name() -> None:
    (warning,) = load_preflight(RESYNC_INTERVALL="5s").warnings
    assert warning.startswith("PREFLIGHT_RESYNC_INTERVALL is not a known variable and is ignored")
    assert warning.endswith("; the nearest known name is PREFLIGHT_RESYNC_INTERVAL")
    assert load(PreflightSettings, {"STATUS_RESYNC_INTERVAL": "5s"}) == Loaded(PreflightSettings(), ())


def test_statusd_does_not_know_the_resync() -> None:
    (warning,) = load(StatusSettings, {"STATUS_RESYNC_INTERVAL": "5s"}).warnings
    assert warning.startswith("STATUS_RESYNC_INTERVAL is not a known variable and is ignored")
