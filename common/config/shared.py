"""What every daemon can be told: where it listens, its Redis, its log (SPEC 2), and the rules between those."""

# ruff: noqa: RUF009 - each call makes an attribute's description for attrs; no instance shares a mutable default

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

import attrs

from common.config import fields
from common.config.values import format_duration
from common.config.variables import Configuration

if TYPE_CHECKING:
    from typing import Self

    from common.config.addresses import ListenAddress
    from common.config.variables import Environment
    from common.redis.url import RedisURL
    from common.secret import Secret

LISTEN_ADDR_DOC: Final = "host:port to listen on; `:port` is all interfaces, IPv4 and IPv6"
REDIS_URL_DOC: Final = (
    "redis://, rediss:// (TLS), unix://, redis+sentinel:// or redis+cluster:// (with TLS: rediss+); when unset "
    "REDIS_URL, then REDIS_HOST and REDIS_PORT; without a database number the daemon's own"
)
REDIS_REQUEST_TIMEOUT_DOC: Final = "bounds every request to Redis, never the wait for the next message"

S = TypeVar("S", bound="DaemonSettings")


@attrs.frozen(kw_only=True)
class DaemonSettings(Configuration):
    """The settings that all daemons have. Durations are seconds.

    A daemon's own class gives `prefix`, and its own `listen_addr`, `redis_url` and perhaps `redis_request_timeout`.
    """

    listen_addr: ListenAddress = fields.listen_address(":9000", LISTEN_ADDR_DOC)
    redis_url: RedisURL = fields.redis_url("redis://localhost:6379/0", REDIS_URL_DOC)
    redis_password: Secret | None = fields.secret(
        "the Redis password, where the URL has none; a file wins, then the prefix: "
        "when unset REDIS_PASSWORD_FILE, then REDIS_PASSWORD",
        unprefixed=True,
    )
    sentinel_password: Secret | None = fields.secret(
        "the sentinels' password, which is not Redis's, where the URL has none: "
        "when unset SENTINEL_PASSWORD_FILE, then SENTINEL_PASSWORD",
        unprefixed=True,
    )
    redis_connect_timeout: float = fields.duration(
        "5s", "bounds the opening of a connection to Redis: name, TCP, TLS, HELLO"
    )
    redis_request_timeout: float = fields.duration("1s", REDIS_REQUEST_TIMEOUT_DOC)
    redis_retry_base: float = fields.duration("1s", "the longest wait after the first failed attempt; it doubles")
    redis_retry_max: float = fields.duration("30s", "the longest wait between two attempts")
    log_level: str = fields.level("info", "debug, info, warn or error")

    def adjusted(self, environment: Environment) -> Self:
        """Leave out the passwords that the URL makes useless, put the waits in order."""
        return _with_ordered_retries(_with_useful_passwords(self, environment), environment)


def named(environment: Environment, attribute: str, seconds: float) -> str:
    """A duration as the operator has given it, for a warning: `STATUS_PING_INTERVAL=5s`."""
    return f"{environment.name(attribute)}={format_duration(seconds)}"


def _with_useful_passwords(settings: S, environment: Environment) -> S:
    url = settings.redis_url
    if url.password is not None:
        _warn_of_useless(settings.redis_password, "the Redis URL has a password", environment)
        settings = attrs.evolve(settings, redis_password=None)
    if url.topology != "sentinel" or url.sentinel_password is not None:
        why = "names no sentinels" if url.topology != "sentinel" else "has a password for the sentinels"
        _warn_of_useless(settings.sentinel_password, f"the Redis URL {why}", environment)
        settings = attrs.evolve(settings, sentinel_password=None)
    return settings


def _warn_of_useless(secret: Secret | None, why: str, environment: Environment) -> None:
    # One that is meant for every service of the host need not concern this one.
    if secret is not None and secret.variable.startswith(environment.prefix):
        environment.warn(f"{secret.variable} is not used: {why}")


def _with_ordered_retries(settings: S, environment: Environment) -> S:
    base, longest = settings.redis_retry_base, settings.redis_retry_max
    if longest >= base:
        return settings
    names = named(environment, "redis_retry_max", longest), named(environment, "redis_retry_base", base)
    environment.warn(f"{names[0]} is below {names[1]}; using {format_duration(base)}")
    return attrs.evolve(settings, redis_retry_max=base)
