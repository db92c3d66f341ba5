"""What opsd can be told, and what it makes of mistakes."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import pytest

from common.config import ConfigError, describe, load, rows
from opsd.settings import DEFAULT_TARGETS, OpsSettings
from opsd.sources.configured import make_sources
from opsd.sources.target import AdminTarget, SourceEndpoint, parse_endpoint, parse_target, parse_url

if TYPE_CHECKING:
    from pathlib import Path


def settings(**environ: str) -> OpsSettings:
    loaded = load(OpsSettings, environ)
    assert loaded.warnings == ()
    return loaded.settings


def warnings(**environ: str) -> tuple[str, ...]:
    return load(OpsSettings, environ).warnings


def test_defaults() -> None:
    shown = describe(settings())
    assert shown["OPS_LISTEN_ADDR"] == "127.0.0.1:9003"
    assert shown["OPS_REDIS_URL"] == "redis://localhost:6379/3"
    assert shown["OPS_TARGETS"] == DEFAULT_TARGETS
    assert shown["OPS_WORKERS_TIMEOUT"] == "5s"
    assert shown["OPS_PRIMARY_REGION"] == "us-east-1"
    assert shown["OPS_TMUX_SESSION"] == "run-status"
    assert shown["OPS_HISTORY"] == "24h"
    assert shown["OPS_METRICS_ENABLED"] == "false"
    assert next(row.variable for row in rows(OpsSettings)) == "OPS_LISTEN_ADDR"


def test_what_describe_shows_can_be_read_back() -> None:
    given = settings(
        OPS_TARGETS="statusd=unix:/run/s.sock,preflightd=https://[::1]:9101/admin",
        OPS_WORKERS_URL="http://other:3003/workers/status",
        OPS_STATUS_WS_URL="wss://runs.example.gov/status/",
        OPS_HISTORY="2h",
    )
    shown = {name: value for name, value in describe(given).items() if value}
    assert settings(**shown) == given
    assert given.status_ws_url == "wss://runs.example.gov/status"
    assert given.workers_url == SourceEndpoint("http://other:3003")


@pytest.mark.parametrize(
    ("environ", "region"),
    [
        ({}, "us-east-1"),
        ({"PRIMARY_REGION": "b"}, "b"),
        ({"TES_PRIMARY_REGION": "a", "PRIMARY_REGION": "b"}, "a"),
        ({"TES_PRIMARY_REGION": " ", "PRIMARY_REGION": "b"}, "b"),
        ({"OPS_PRIMARY_REGION": "c", "TES_PRIMARY_REGION": "a"}, "c"),
    ],
)
def test_the_region_comes_from_the_first_variable_that_is_set(environ: dict[str, str], region: str) -> None:
    assert settings(**environ).primary_region == region


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("statusd=http://127.0.0.1:9102", AdminTarget("statusd", SourceEndpoint("http://127.0.0.1:9102"))),
        (" a = http://h/ ", AdminTarget("a", SourceEndpoint("http://h"))),
        ("a=http://[::1]:1/x/workers/status", AdminTarget("a", SourceEndpoint("http://[::1]:1/x"))),
        ("a=unix:/run/a.sock", AdminTarget("a", SourceEndpoint("http://localhost", "/run/a.sock"))),
        ("a=unix:///run/a.sock", AdminTarget("a", SourceEndpoint("http://localhost", "/run/a.sock"))),
    ],
)
def test_targets(text: str, target: AdminTarget) -> None:
    assert parse_target(text) == target
    assert parse_target(str(target)) == target


@pytest.mark.parametrize(
    "text",
    [
        "",
        "statusd",
        "=http://h",
        "a b=http://h",
        "workers=http://h",
        "a=ftp://h",
        "a=http://",
        "a=http://h:99999",
        "a=http://h:0",
        "a=http://h:x",
        "a=http://user:secret@h",
        "a=http://h?x=1",
        "a=http://h#x",
        "a=http://h/\r\nx",
        "a=http://h /",
        "a=http://[::1",
        "a=unix:relative",
        "a=unix:",
    ],
)
def test_what_is_no_target(text: str) -> None:
    with pytest.raises(ValueError, match=r"not|named|which"):
        parse_target(text)


def test_one_bad_target_is_left_out_and_said_and_the_others_stay() -> None:
    loaded = load(OpsSettings, {"OPS_TARGETS": "a=http://h:1,nonsense,a=http://h:2,b=http://h:3"})
    assert [str(target) for target in loaded.settings.targets] == ["a=http://h:1", "b=http://h:3"]
    assert len(loaded.warnings) == 2
    assert "'nonsense'" in loaded.warnings[0]
    assert "twice" in loaded.warnings[1]


def test_there_may_be_no_targets() -> None:
    assert settings(OPS_TARGETS="none").targets == ()


@pytest.mark.parametrize(
    ("environ", "text"),
    [
        ({"OPS_WORKERS_TIMEOUT": "9s"}, "OPS_WORKERS_TIMEOUT=9s is above 5s"),
        ({"OPS_HISTORY": "8760h"}, "OPS_HISTORY=8760h is above 744h"),
        ({"OPS_TMUX_SESSION": "a:b"}, "OPS_TMUX_SESSION='a:b' is not"),
        ({"OPS_STATUS_WS_URL": "http://h"}, "OPS_STATUS_WS_URL='http://h' is not"),
        ({"OPS_STATUS_WS_URL": "ws://h;script-src *"}, "OPS_STATUS_WS_URL="),
        ({"TES_PRIMARY_REGION": "<b>"}, "TES_PRIMARY_REGION='<b>' is not"),
        ({"OPS_TARGET": "x"}, "nearest known name is OPS_TARGETS"),
        ({"OPS_ALERT_WEBHOOK": "ftp://h/secret"}, "OPS_ALERT_WEBHOOK is not"),
        ({"OPS_ALERT_WEBHOOK": "https://h/a?secret=\xe4"}, "OPS_ALERT_WEBHOOK is not a URL: it has characters"),
        ({"OPS_REDIS_RETRY_BASE": "60s"}, "OPS_REDIS_RETRY_MAX=30s is below OPS_REDIS_RETRY_BASE=1m"),
    ],
)
def test_mistakes_are_said_and_give_way(environ: dict[str, str], text: str) -> None:
    (warning,) = warnings(**environ)
    assert text in warning
    assert "secret" not in warning
    assert load(OpsSettings, environ).settings.workers_timeout == 5.0


def test_a_webhook_that_can_not_be_read_is_fatal(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="OPS_ALERT_WEBHOOK_FILE"):
        settings(OPS_ALERT_WEBHOOK_FILE=str(tmp_path / "none"))


def test_elsewhere_than_on_loopback_a_token_is_needed() -> None:
    for address in (":9003", "0.0.0.0:9003", "192.0.2.1:9003"):
        with pytest.raises(ConfigError, match="OPS_TOKEN"):
            load(OpsSettings, {"OPS_LISTEN_ADDR": address})
    assert settings(OPS_LISTEN_ADDR=":9003", OPS_TOKEN="t").token is not None
    assert settings(OPS_LISTEN_ADDR="[::1]:9003").token is None


def test_secrets_are_masked_and_come_from_files(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("tell-nobody\n")
    given = settings(
        OPS_TOKEN_FILE=str(file), OPS_TARGETS_TOKEN="tell-nobody", OPS_ALERT_WEBHOOK="https://h/tell-nobody?x"
    )
    assert given.token is not None
    assert given.token.read() == "tell-nobody"
    assert "tell-nobody" not in repr(given) + str(describe(given))
    with pytest.raises(ConfigError, match="OPS_TARGETS_TOKEN_FILE"):
        load(OpsSettings, {"OPS_TARGETS_TOKEN_FILE": str(tmp_path / "missing")})


@pytest.mark.parametrize("text", ["ws://h/a'b", "ws://h/a b", 'ws://h/"', "ws://h:1:2", "ws://", "//h", "h:1"])
def test_what_goes_into_a_header_has_nothing_that_could_end_it(text: str) -> None:
    with pytest.raises(ValueError, match="not"):
        parse_url(text, ("ws", "wss"))


def test_every_target_and_the_outside_api_become_sources() -> None:
    sources = make_sources(settings(OPS_TARGETS="a=http://h:1,b=unix:/x", OPS_WORKERS_URL="http://w"), Random(0))
    assert [(source.name, source.outside) for source in sources] == [("a", False), ("b", False), ("workers", True)]
    assert make_sources(settings(OPS_TARGETS="none"), Random(0)) == []


def test_the_outside_api_may_be_named_with_its_path() -> None:
    assert parse_endpoint("http://h:1/workers/status") == parse_endpoint("http://h:1/") == SourceEndpoint("http://h:1")
