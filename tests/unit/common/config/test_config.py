"""The variables of statusd, each good and bad value of each, and the rules between them."""

from __future__ import annotations

from ipaddress import ip_network
from typing import TYPE_CHECKING

import attrs
import pytest

from common import disconnect
from common.config import (
    ConfigError,
    ListenAddress,
    Loaded,
    Settings,
    UnixAddress,
    describe,
    load,
    rows,
)
from common.config.addresses import NO_ORIGIN
from preflightd.settings import PreflightSettings
from statusd.settings import StatusSettings

if TYPE_CHECKING:
    from pathlib import Path

TWO_PROXIES = (ip_network("127.0.0.0/8"), ip_network("::1/128"))


def load_status(**variables: str) -> Loaded[StatusSettings]:
    """What `STATUS_<name>=<value>` gives; plain names go through `load`."""
    return load(StatusSettings, {f"STATUS_{name}": value for name, value in variables.items()})


# Variable, default as documented, default as a value, good (text, value, as shown), bad texts.
PLAIN: list[tuple[str, str, object, tuple[str, object, str], list[str]]] = [
    (
        "LISTEN_ADDR",
        ":9002",
        ListenAddress(None, 9002),
        ("[::1]:0", ListenAddress("::1", 0), "[::1]:0"),
        [],
    ),
    ("PING_INTERVAL", "5s", 5.0, ("19s", 19.0, "19s"), ["5", "0", "0s", "-5s", "inf", "soon", "5 s"]),
    ("PONG_TIMEOUT", "65s", 65.0, ("90s", 90.0, "1m30s"), ["65", "0s", "-1m"]),
    ("WRITE_TIMEOUT", "2s", 2.0, ("1500ms", 1.5, "1.5s"), ["2", "0s", "x"]),
    ("MAX_BACKLOG", "1MB", 1 << 20, ("64 kb", 65536, "64KB"), ["0", "-1", "1TB", "1.5MB", "lots"]),
    ("MAX_PAYLOAD", "8MB", 8 << 20, ("1000", 1000, "1000"), ["0", "8T", "x"]),
    ("MAX_MESSAGE_SIZE", "64KB", 65536, ("1MB", 1 << 20, "1MB"), ["0B", "64iB", "x"]),
    ("MAX_CONNECTIONS", "0", 0, ("1000", 1000, "1000"), ["-1", "1.5", "1k", "٣"]),
    ("MAX_CONNECTIONS_PER_ADDRESS", "0", 0, ("20", 20, "20"), ["-1", "many"]),
    (
        "TRUSTED_PROXIES",
        "127.0.0.0/8,::1",
        TWO_PROXIES,
        ("10.0.0.0/8, fd00::1", (ip_network("10.0.0.0/8"), ip_network("fd00::1/128")), "10.0.0.0/8,fd00::1"),
        ["proxy", "10.0.0.0/33", ",", "10.0.0.0/8,proxy"],
    ),
    ("HANDSHAKE_TIMEOUT", "10s", 10.0, ("1m", 60.0, "1m"), ["10", "0"]),
    ("REDIS_CONNECT_TIMEOUT", "5s", 5.0, ("500ms", 0.5, "500ms"), ["5", "0s"]),
    ("REDIS_REQUEST_TIMEOUT", "1s", 1.0, ("250ms", 0.25, "250ms"), ["1", "0s"]),
    ("REDIS_RETRY_BASE", "1s", 1.0, ("100ms", 0.1, "100ms"), ["1", "0s"]),
    ("REDIS_RETRY_MAX", "30s", 30.0, ("2h", 7200.0, "2h"), ["30", "0s"]),
    ("REDIS_MAX_RETRIES", "5", 5, ("0", 0, "0"), ["-1", "five", "5.0"]),
    ("METRICS_ENABLED", "false", False, ("On", True, "true"), ["maybe", "2", "y"]),
    ("TRACES_ENABLED", "false", False, ("On", True, "true"), ["maybe", "2", "y"]),
    ("LOG_LEVEL", "info", "info", ("WARNING", "warn", "warn"), ["trace", "0", "critical"]),
    ("DRAIN_TIMEOUT", "15s", 15.0, ("0", 0.0, "0s"), ["15", "-1s"]),
    ("DRAIN_DELAY", "0s", 0.0, ("5s", 5.0, "5s"), ["5", "-1s"]),
    ("DRAIN_SPREAD", "0s", 0.0, ("10s", 10.0, "10s"), ["10", "-1s"]),
    (
        "HANGUP",
        "refused_by_redis",
        frozenset({"refused_by_redis"}),
        ("Pong_Timeout, drain", frozenset({"drain", "pong_timeout"}), "drain,pong_timeout"),
        ["some", "drain,slow_consumer", "all,drain", ","],
    ),
    (
        "ADMIN_LISTEN_ADDR",
        "",
        None,
        ("unix:/run/admin.sock", UnixAddress("/run/admin.sock"), "unix:/run/admin.sock"),
        ["unix:admin.sock", "9102", ":x"],
    ),
    ("WORKERS", "1", 1, ("4", 4, "4"), ["0", "-1", "1025", "auto"]),
]
NAMES = [row[0] for row in PLAIN]
ELSEWHERE = [
    "REDIS_URL",
    "REDIS_PASSWORD_FILE",
    "REDIS_PASSWORD",
    "SENTINEL_PASSWORD_FILE",
    "SENTINEL_PASSWORD",
    "ALLOWED_ORIGINS",
    "ADMIN_TOKEN_FILE",
    "ADMIN_TOKEN",
]


def test_every_variable_is_documented_and_tested() -> None:
    documented = [row.variable for row in rows(StatusSettings)]
    assert sorted(documented) == sorted(f"STATUS_{name}" for name in [*NAMES, *ELSEWHERE])
    assert all(row.doc and "\n" not in row.doc for row in rows(StatusSettings))


@pytest.mark.parametrize("case", PLAIN, ids=NAMES)
def test_an_unset_variable_has_its_default(case: tuple[str, str, object, object, object]) -> None:
    name, text, default = case[:3]
    loaded = load_status()
    assert loaded.warnings == ()
    assert getattr(loaded.settings, name.lower()) == default
    assert next(row.default for row in rows(StatusSettings) if row.variable == f"STATUS_{name}") == text


@pytest.mark.parametrize("case", PLAIN, ids=NAMES)
def test_a_good_value_is_used_and_shown(
    case: tuple[str, str, object, tuple[str, object, str], list[str]],
) -> None:
    name, _, _, (text, value, shown), _ = case
    loaded = load_status(**{name: f" {text} "})
    assert loaded.warnings == ()
    before, after = (attrs.asdict(settings, recurse=False) for settings in (StatusSettings(), loaded.settings))
    assert after == before | {name.lower(): value}
    assert describe(loaded.settings)[f"STATUS_{name}"] == shown


@pytest.mark.parametrize(("name", "default", "bad"), [(c[0], c[1], bad) for c in PLAIN for bad in c[4]])
def test_a_bad_value_warns_and_gives_way_to_the_default(name: str, default: str, bad: str) -> None:
    loaded = load_status(**{name: bad})
    assert loaded.settings == StatusSettings()
    (warning,) = loaded.warnings
    assert warning.startswith(f"STATUS_{name}={bad!r} is n")
    assert warning.endswith(f"; using the default, {default or 'none'}")


@pytest.mark.parametrize("name", [*NAMES, *ELSEWHERE])
def test_a_blank_value_is_unset(name: str) -> None:
    for blank in ("", "  \t"):
        assert load_status(**{name: blank}) == Loaded(StatusSettings(), ())


def test_defaults_shown() -> None:
    shown = describe(StatusSettings())
    assert shown["STATUS_REDIS_URL"] == "redis://localhost:6379/2"
    assert shown["STATUS_PONG_TIMEOUT"] == "1m5s"
    assert shown["STATUS_MAX_PAYLOAD"] == "8MB"
    assert [name for name, value in shown.items() if not value] == [
        "STATUS_REDIS_PASSWORD",
        "STATUS_SENTINEL_PASSWORD",
        "STATUS_ALLOWED_ORIGINS",
        "STATUS_ADMIN_LISTEN_ADDR",
        "STATUS_ADMIN_TOKEN",
    ]


# --- Origins


@pytest.mark.parametrize(
    ("text", "patterns", "warnings"),
    [
        ("a.gov", ("a.gov",), 0),
        (" *.a.gov , https://b.gov:8443,", ("*.a.gov", "https://b.gov:8443"), 0),
        ("*", ("*",), 0),
        ("a.gov,https://b.gov/path", ("a.gov",), 1),
        ("https://b.gov/path", (NO_ORIGIN,), 2),
        ("a.gov b.gov", (NO_ORIGIN,), 2),
        (",", (NO_ORIGIN,), 1),
    ],
)
def test_a_bad_origin_pattern_never_opens_the_door(text: str, patterns: tuple[str, ...], warnings: int) -> None:
    loaded = load_status(ALLOWED_ORIGINS=text)
    assert loaded.settings.allowed_origins == patterns
    assert len(loaded.warnings) == warnings
    assert all(warning.startswith("STATUS_ALLOWED_ORIGINS") for warning in loaded.warnings)
    assert describe(loaded.settings)["STATUS_ALLOWED_ORIGINS"] == ",".join(patterns)


# --- The rules between variables

DIAGNOSTICS = "s is 20s or more: the platform's diagnostics page gives up without a ping for 20s"


@pytest.mark.parametrize(
    ("ping", "pong", "words"),
    [
        ("5s", "60s", []),
        ("19.999s", "60s", []),
        ("20s", "60s", [DIAGNOSTICS]),
        ("30s", "60s", [DIAGNOSTICS]),
        ("5s", "59s", ["STATUS_PONG_TIMEOUT=59s is below 1m"]),
        ("31s", "61s", ["STATUS_PONG_TIMEOUT=1m1s is below two intervals of STATUS_PING_INTERVAL=31s", DIAGNOSTICS]),
        ("30s", "59s", ["is below 1m", "is below two intervals", DIAGNOSTICS]),
    ],
)
def test_intervals_that_end_healthy_clients_warn(ping: str, pong: str, words: list[str]) -> None:
    loaded = load_status(PING_INTERVAL=ping, PONG_TIMEOUT=pong)
    assert len(loaded.warnings) == len(words)
    assert all(word in warning for word, warning in zip(words, loaded.warnings, strict=True))
    assert describe(loaded.settings)["STATUS_PING_INTERVAL"] == ping


def test_a_retry_maximum_below_the_base_is_the_base() -> None:
    loaded = load_status(REDIS_RETRY_BASE="5s", REDIS_RETRY_MAX="2s")
    assert loaded.settings == StatusSettings(redis_retry_base=5.0, redis_retry_max=5.0)
    assert loaded.warnings == ("STATUS_REDIS_RETRY_MAX=2s is below STATUS_REDIS_RETRY_BASE=5s; using 5s",)
    assert load_status(REDIS_RETRY_BASE="5s", REDIS_RETRY_MAX="5s").warnings == ()


def test_the_spread_is_cut_to_the_drain() -> None:
    loaded = load_status(DRAIN_SPREAD="1m", DRAIN_TIMEOUT="10s")
    assert loaded.settings == StatusSettings(drain_spread=10.0, drain_timeout=10.0)
    assert loaded.warnings == ("STATUS_DRAIN_SPREAD=1m is above STATUS_DRAIN_TIMEOUT=10s; using 10s",)
    assert load_status(DRAIN_SPREAD="15s").warnings == ()


@pytest.mark.parametrize("address", [":9102", "0.0.0.0:9102", "[::]:9102", "10.0.0.1:9102", "status.example.gov:9102"])
def test_an_admin_listener_beyond_loopback_needs_a_token(address: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load_status(ADMIN_LISTEN_ADDR=address)
    assert str(raised.value) == (
        f"STATUS_ADMIN_LISTEN_ADDR={address} can be reached from other machines: "
        "set STATUS_ADMIN_TOKEN or STATUS_ADMIN_TOKEN_FILE"
    )
    assert load_status(ADMIN_LISTEN_ADDR=address, ADMIN_TOKEN="t").warnings == ()


@pytest.mark.parametrize("address", ["127.0.0.1:9102", "[::1]:9102", "localhost:9102", "unix:/run/admin.sock"])
def test_an_admin_listener_of_this_machine_needs_no_token(address: str) -> None:
    loaded = load_status(ADMIN_LISTEN_ADDR=address)
    assert str(loaded.settings.admin_listen_addr) == address
    assert loaded.warnings == ()


@pytest.mark.parametrize(
    ("settings", "default"), [(StatusSettings, {"refused_by_redis"}), (PreflightSettings, set(disconnect.HANGUPS))]
)
def test_each_daemon_says_hangup_where_its_client_of_the_platform_needs_it(
    settings: type[Settings], default: set[str]
) -> None:
    assert load(settings, {}).settings.hangup == default


@pytest.mark.parametrize("settings", [StatusSettings, PreflightSettings])
@pytest.mark.parametrize(
    "bad",
    ["9002", ":70000", "nonsense", "::1:9002", ":", "*:9002", "host:http", "[::1]", "256.1.1.1:9002", "a\nb:1",
     "redis://:hunter2@h:1/0"],
)  # fmt: skip
def test_a_bad_listen_address_is_fatal_in_one_line(settings: type[Settings], bad: str) -> None:
    # Its default is every interface: never what was meant by somebody who named one.
    with pytest.raises(ConfigError, match=f"^{settings.prefix}LISTEN_ADDR='.+' is not .+") as raised:
        load(settings, {f"{settings.prefix}LISTEN_ADDR": bad})
    assert str(raised.value).isprintable()
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "injected"),
    [
        ("SERVICE_HOST", True),
        ("PORT", True),
        ("SERVICE_PORT", True),
        ("SERVICE_PORT_HTTP", True),
        ("PORT_9002_TCP", True),
        ("PORT_9002_TCP_ADDR", True),
        ("PORT_9002_TCP_PROTO", True),
        ("REDIS_SERVICE_HOST", True),
        ("SERVICE_HOSTS", False),
        ("PORTS", False),
        ("HOST", False),
        ("EXPORT", False),
    ],
)
def test_what_kubernetes_injects_is_no_mistake(name: str, injected: bool) -> None:
    assert (load_status(**{name: "tcp://10.0.0.5:9002"}).warnings == ()) is injected


def test_an_unknown_name_of_any_kind_is_named_in_one_short_line() -> None:
    (warning,) = load_status(**{"X\n\x1b\u202e" + "Y" * 5000: "1"}).warnings
    assert warning.isprintable()
    assert len(warning) < 300


def test_an_unknown_variable_warns() -> None:
    assert load_status(REDIS_PASWORD="hunter2").warnings == (
        "STATUS_REDIS_PASWORD is not a known variable and is ignored; the nearest known name is STATUS_REDIS_PASSWORD",
    )


# --- Secrets stay secret


def test_secrets_are_masked_everywhere(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("hunter2-file")
    environ = {
        "STATUS_REDIS_URL": "rediss://user:hunter2-url@h/2?read_timeout=hunter2-option",
        "STATUS_REDIS_PASSWORD": "hunter2-password",
        "REDIS_PASSWORD": "hunter2-plain",
        "STATUS_ADMIN_TOKEN_FILE": str(path),
        "STATUS_ADMIN_TOKEN": "hunter2-token",
        "STATUS_REDIS_PASWORD": "hunter2-typo",
        "STATUS_ADMIN_LISTEN_ADDR": "redis://:hunter2-misplaced@h:1/0",
        "STATUS_TRUSTED_PROXIES": "http://user:hunter2-misplaced@h",
        "STATUS_ALLOWED_ORIGINS": "https://user:hunter2-misplaced@h",
    }
    loaded = load(StatusSettings, environ)
    assert len(loaded.warnings) == 8
    without_url = load(StatusSettings, {name: value for name, value in environ.items() if name != "STATUS_REDIS_URL"})
    assert without_url.settings.redis_password is not None
    for result in (loaded, without_url):
        shown = f"{result!r} {result} {result.settings!r} {describe(result.settings)} {result.warnings}"
        assert "hunter2" not in shown
    assert describe(loaded.settings)["STATUS_REDIS_URL"] == "rediss://user:***@h:6379/2"
    assert describe(without_url.settings)["STATUS_REDIS_PASSWORD"] == "set"


def test_settings_are_frozen_values() -> None:
    settings = StatusSettings()
    for field in attrs.fields(StatusSettings):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(settings, field.name, None)
    assert settings == StatusSettings()
    assert isinstance(settings, Settings)
