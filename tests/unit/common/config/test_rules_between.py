"""The rules between settings: each warning whole, and the last value on each side of each limit."""

from __future__ import annotations

import pytest

from common.config import ConfigError, load
from statusd.settings import StatusSettings

BACKGROUND = "browsers wake background pages only once a minute"
DIAGNOSTICS = "the platform's diagnostics page gives up without a ping for 20s"
LOST = "one lost ping ends a healthy client"


def warnings(**variables: str) -> list[str]:
    return list(load(StatusSettings, {f"STATUS_{name}": value for name, value in variables.items()}).warnings)


@pytest.mark.parametrize(
    ("ping", "pong", "said"),
    [
        ("5s", "60s", []),
        ("5s", "59999ms", [f"STATUS_PONG_TIMEOUT=59.999s is below 1m: {BACKGROUND}"]),
        ("19999ms", "1m", []),
        ("20s", "1m", [f"STATUS_PING_INTERVAL=20s is 20s or more: {DIAGNOSTICS}"]),
        ("35s", "70s", [f"STATUS_PING_INTERVAL=35s is 20s or more: {DIAGNOSTICS}"]),
        (
            "35s",
            "69s",
            [
                f"STATUS_PONG_TIMEOUT=1m9s is below two intervals of STATUS_PING_INTERVAL=35s: {LOST}",
                f"STATUS_PING_INTERVAL=35s is 20s or more: {DIAGNOSTICS}",
            ],
        ),
        (
            "5s",
            "9s",
            [
                f"STATUS_PONG_TIMEOUT=9s is below 1m: {BACKGROUND}",
                f"STATUS_PONG_TIMEOUT=9s is below two intervals of STATUS_PING_INTERVAL=5s: {LOST}",
            ],
        ),
        ("4500ms", "9s", [f"STATUS_PONG_TIMEOUT=9s is below 1m: {BACKGROUND}"]),
    ],
)
def test_a_heartbeat_that_ends_healthy_clients_is_told_of(ping: str, pong: str, said: list[str]) -> None:
    assert warnings(PING_INTERVAL=ping, PONG_TIMEOUT=pong) == said


@pytest.mark.parametrize(("address", "shown"), [(":9102", ":9102"), ("10.0.0.1:9102", "10.0.0.1:9102")])
def test_an_operators_listener_for_all_needs_a_token(address: str, shown: str) -> None:
    with pytest.raises(ConfigError) as refused:
        warnings(ADMIN_LISTEN_ADDR=address)
    assert str(refused.value) == (
        f"STATUS_ADMIN_LISTEN_ADDR={shown} can be reached from other machines: "
        "set STATUS_ADMIN_TOKEN or STATUS_ADMIN_TOKEN_FILE"
    )
    assert warnings(ADMIN_LISTEN_ADDR=address, ADMIN_TOKEN="t") == []


@pytest.mark.parametrize("address", ["127.0.0.1:9102", "[::1]:9102", "unix:/run/admin.sock"])
def test_one_for_this_machine_needs_none(address: str) -> None:
    assert warnings(ADMIN_LISTEN_ADDR=address) == []


def test_a_password_beside_that_of_the_url_is_not_used() -> None:
    url = {"STATUS_REDIS_URL": "redis://:own@h/2"}
    loaded = load(StatusSettings, {**url, "STATUS_REDIS_PASSWORD": "other"})
    assert loaded.settings.redis_password is None
    assert loaded.warnings == ("STATUS_REDIS_PASSWORD is not used: the Redis URL has a password",)
    loaded = load(StatusSettings, {**url, "REDIS_PASSWORD": "everybody's"})
    assert (loaded.settings.redis_password, loaded.warnings) == (None, ()), "it need not concern this daemon"
    loaded = load(StatusSettings, {"STATUS_REDIS_PASSWORD": "own"})
    assert loaded.settings.redis_password is not None
    assert (loaded.settings.redis_password.read(), loaded.warnings) == ("own", ())


@pytest.mark.parametrize(("base", "longest", "used"), [("2s", "1s", 2.0), ("2s", "2s", 2.0), ("2s", "3s", 3.0)])
def test_the_longest_wait_is_no_shorter_than_the_first(base: str, longest: str, used: float) -> None:
    loaded = load(StatusSettings, {"STATUS_REDIS_RETRY_BASE": base, "STATUS_REDIS_RETRY_MAX": longest})
    assert (loaded.settings.redis_retry_base, loaded.settings.redis_retry_max) == (2.0, used)
    said = ["STATUS_REDIS_RETRY_MAX=1s is below STATUS_REDIS_RETRY_BASE=2s; using 2s"] if longest == "1s" else []
    assert list(loaded.warnings) == said


@pytest.mark.parametrize(("spread", "used"), [("14s", 14.0), ("15s", 15.0), ("16s", 15.0)])
def test_hang_ups_are_spread_within_the_drain(spread: str, used: float) -> None:
    loaded = load(StatusSettings, {"STATUS_DRAIN_SPREAD": spread})
    assert (loaded.settings.drain_spread, loaded.settings.drain_timeout) == (used, 15.0)
    said = ["STATUS_DRAIN_SPREAD=16s is above STATUS_DRAIN_TIMEOUT=15s; using 15s"] if spread == "16s" else []
    assert list(loaded.warnings) == said
