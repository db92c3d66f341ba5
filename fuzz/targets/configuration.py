"""Configuration values: any text is a value or a warning, shown values are read back, and no secret is told."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

import attrs
from hypothesis import assume
from hypothesis import strategies as st

from common.config import ConfigError, Settings, describe, load, rows
from common.config.addresses import (
    format_networks,
    parse_admin_address,
    parse_listen_address,
    parse_networks,
    parse_origin_pattern,
)
from common.config.values import (
    format_bool,
    format_duration,
    format_size,
    parse_bool,
    parse_count,
    parse_duration,
    parse_level,
    parse_size,
)
from common.redis.url import parse_redis_url
from fuzz.pieces import damaged
from fuzz.target import FuzzTarget, holds_for
from preflightd.settings import PreflightSettings
from statusd.settings import StatusSettings

if TYPE_CHECKING:
    from collections.abc import Callable

_SECRET: Final = "hunter2"  # noqa: S105 - what must not be told
_EXAMPLES: Final = [
    *("0", "5s", "1m30s", "250ms", "1.5h", "2562047h", "1us", "65536", "64KB", "1 mb", "-1", "1e3"),
    *("true", "No", "warning", "DEBUG", "all", "none", "drain, pong_timeout"),
    *(
        ":9001",
        "[::1]:0",
        "localhost:65536",
        "unix:/run/a.sock",
        "unix:a",
        "10.0.0.0/8,::1",
        "127.0.0.1",
        "::ffff:0:0/96",
    ),
    *("*.example.gov", "https://a.gov:8443", "http://*", "a.gov/", "*"),
    *(
        "redis://u:p@h:6380/2",
        "rediss://h?ssl_cert_reqs=none",
        "unix:///run/r?db=2",
        "redis://[::1]/0",
        "redis://h/two",
        "redis+sentinel://u:p@a,[::1]:1/m/2?sentinel_username=s&sentinel_password=w",
        "rediss+cluster://a,b:7001/0?pubsub=both",
    ),
]
_RANDOM: Final = st.text(st.characters(exclude_characters="\0"), max_size=20)
TEXTS: Final = (
    st.sampled_from(_EXAMPLES)
    | damaged(st.sampled_from(_EXAMPLES).map(str.encode)).map(lambda data: data.decode(errors="replace"))
    | damaged(st.lists(st.sampled_from(_EXAMPLES), max_size=3).map(",".join).map(str.encode)).map(
        # Bytes that are not UTF-8 come out of the environment as half surrogates.
        lambda data: data.replace(b"\0", b"").decode(errors="surrogateescape")
    )
    | _RANDOM
)

_KINDS: Final[dict[str, tuple[Callable[[str], object], Callable[..., str]]]] = {
    "duration": (parse_duration, format_duration),
    "size": (parse_size, format_size),
    "count": (partial(parse_count, minimum=0, maximum=10**9), str),
    "boolean": (parse_bool, format_bool),
    "level": (parse_level, str),
    "listen address": (parse_listen_address, str),
    "admin address": (parse_admin_address, lambda address: "" if address is None else str(address)),
    "networks": (parse_networks, format_networks),
    "origin": (parse_origin_pattern, str),
}


@holds_for(st.sampled_from(sorted(_KINDS)), TEXTS)
def a_value_is_read_back_as_it_is_shown(kind: str, text: str) -> None:
    """A parser refuses with a ValueError of one line, or the value's own notation means the same value."""
    parse, show = _KINDS[kind]
    try:
        value = parse(text.strip())
    except ValueError as reason:
        assert str(reason).startswith(("not ", "neither ", "longer "))
        assert str(reason).isprintable()
    else:
        assert parse(show(value)) == value
        assert show(parse(show(value))) == show(value)
        assert show(value).isprintable()


@holds_for(TEXTS, st.integers(0, 15))
def a_redis_url_is_a_value_or_refused(text: str, db: int) -> None:
    """What it is shown as leads to the same place."""
    try:
        url = parse_redis_url(text, db)
    except ValueError as reason:
        assert str(reason).isprintable()
        return
    assert url.db >= 0
    again = parse_redis_url(url.masked(), 0)
    again = attrs.evolve(again, password=url.password, sentinel_password=url.sentinel_password)
    assert again == attrs.evolve(url, ignored=())
    assert len(set(url.hosts)) == len(url.hosts)
    assert (url.topology == "sentinel") == bool(url.master)


_SCHEMES: Final = ["redis", "rediss", "unix", "http", "redis+sentinel", "rediss+cluster"]
_LOGINS: Final = st.text("ab:@/?#%[] ", max_size=6)


@holds_for(st.sampled_from(_SCHEMES), _LOGINS, _LOGINS, TEXTS)
def no_part_of_a_redis_password_is_told(scheme: str, before: str, after: str, rest: str) -> None:
    """Wherever characters that should have been escaped move it."""
    text = f"{scheme}://{before}:{_SECRET}{after}@{rest}"
    try:
        url = parse_redis_url(text, 0)
    except ValueError as reason:
        assert _SECRET not in str(reason)
    else:
        assert _SECRET in (url.password or "")
        assert all(_SECRET in (server.password or "") for server in [url.node("h", 1)])
        assert _SECRET not in "".join(f"{sentinel.masked()}{sentinel!r}" for sentinel in url.sentinels())
        assert _SECRET not in url.masked()
        assert _SECRET not in repr(attrs.evolve(url, ignored=()))


_CLASSES: Final[list[type[Settings]]] = [StatusSettings, PreflightSettings]
_NAMES: Final = sorted(
    {
        row.variable.removeprefix(settings.prefix)
        for settings in _CLASSES
        for row in rows(settings)
        if not row.variable.endswith("_FILE")
    }
)


_UNKNOWN: Final = st.text("ABCXYZ_019az.-", max_size=20)


@st.composite
def environments(draw: st.DrawFn) -> tuple[type[Settings], dict[str, str]]:
    """A settings class and an environment with some of its variables, some that it does not know, and plain ones."""
    settings = draw(st.sampled_from(_CLASSES))
    ours = draw(st.dictionaries(st.sampled_from(_NAMES) | _UNKNOWN, TEXTS, max_size=6))
    plain = draw(st.dictionaries(st.sampled_from(["REDIS_URL", "REDIS_HOST", "REDIS_PORT"]), TEXTS, max_size=2))
    named = {settings.prefix + name: value for name, value in ours.items() if not name.endswith("_FILE")}
    return settings, {**named, **plain}


@holds_for(environments())
def an_environment_gives_settings_or_one_reason(drawn: tuple[type[Settings], dict[str, str]]) -> None:
    """A bad value never passes without a line, and what `check` prints, set as variables, means the same."""
    settings_class, environ = drawn
    try:
        loaded = load(settings_class, environ)
    except ConfigError as reason:
        assert str(reason).isprintable()
        return
    assert all(warning.isprintable() for warning in loaded.warnings)
    shown = describe(loaded.settings)
    assert all(value.isprintable() for value in shown.values())
    secret = {f"{settings_class.prefix}{name}" for name in ("REDIS_PASSWORD", "ADMIN_TOKEN")}
    again = {name: environ.get(name, "") if name in secret else value for name, value in shown.items()}
    assume(loaded.settings.redis_url.password is None)
    url = loaded.settings.redis_url
    # A URL's host is read in lower case, REDIS_HOST as it is: to the resolver they are one.
    expected = attrs.evolve(loaded.settings, redis_url=attrs.evolve(url, host=url.host.lower(), ignored=()))
    assert load(settings_class, again).settings == expected


@holds_for(
    st.sampled_from(_CLASSES),
    st.sampled_from(_NAMES),
    st.sampled_from(
        ["redis://{}@h", "http://u:{}@h:1/0", "//{}@", "rediss://:{}@", "redis://h?password={}", "x//:{}@h"]
    ),
    TEXTS,
)
def a_url_with_a_password_in_the_wrong_variable_is_not_told(
    settings_class: type[Settings], name: str, pattern: str, text: str
) -> None:
    """Operators mix up variables; the log must not keep the result. (What begins with `unix:` is a path like any.)"""
    assume(not text.strip().startswith("unix:"))
    environ = {settings_class.prefix + name: text + pattern.format(_SECRET)}
    try:
        loaded = load(settings_class, environ)
    except ConfigError as reason:
        assert _SECRET not in str(reason)
        return
    assert _SECRET not in str(loaded.warnings)
    assert _SECRET not in str(describe(loaded.settings))


TARGET: Final = FuzzTarget(
    "configuration",
    (
        a_value_is_read_back_as_it_is_shown,
        a_redis_url_is_a_value_or_refused,
        no_part_of_a_redis_password_is_told,
        an_environment_gives_settings_or_one_reason,
        a_url_with_a_password_in_the_wrong_variable_is_not_told,
    ),
)
