"""What statusd and preflightd can be told, each variable in one line (SPEC 2), and the rules between them.

What opsd can be told as well is in `shared`.
"""

# ruff: noqa: RUF009 - each call makes an attribute's description for attrs; no instance shares a mutable default

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

import attrs

from common.config import fields
from common.config.addresses import ListenAddress
from common.config.shared import DaemonSettings, named
from common.config.values import format_duration
from common.config.variables import ConfigError
from common.disconnect import HANGUPS

if TYPE_CHECKING:
    from typing import Self

    from common.config.addresses import IPNetwork, UnixAddress
    from common.config.variables import Environment
    from common.secret import Secret

HANGUP_DOC: Final = f"the ends that send a hangup frame: all, none, or a list of {', '.join(HANGUPS)}"

S = TypeVar("S", bound="Settings")

SHORTEST_PONG_TIMEOUT: Final = 60.0
"""Seconds: browsers let the timers of a page in the background run once a minute."""

LONGEST_PING_INTERVAL: Final = 20.0
"""Seconds: the platform's diagnostics page gives up on a connection without a ping for so long."""


@attrs.frozen(kw_only=True)
class Settings(DaemonSettings):
    """The settings of a daemon that serves WebSockets. Durations are seconds, sizes bytes.

    A daemon's own class gives `prefix`, and its own `listen_addr`, `redis_url` and `redis_request_timeout`.
    """

    ping_interval: float = fields.duration("5s", "how often every client is pinged")
    pong_timeout: float = fields.duration("65s", "a client that is silent for this long is disconnected")
    write_timeout: float = fields.duration("2s", "a client that takes nothing for this long is disconnected")
    max_backlog: int = fields.size("1MB", "bytes that may be queued for one client")
    max_payload: int = fields.size("8MB", "the largest message that is forwarded")
    max_message_size: int = fields.size("64KB", "the largest message accepted from a client")
    max_connections: int = fields.count("0", "open sockets, shared out over the workers; 0 is no limit")
    max_connections_per_address: int = fields.count(
        "0", "open sockets of one client address (IPv6: of a /64); 0 is no limit"
    )
    trusted_proxies: tuple[IPNetwork, ...] = fields.networks(
        "127.0.0.0/8,::1",
        "networks whose X-Forwarded-For is believed, or `none`; `private` is all of RFC 1918, fc00::/7 and loopback",
    )
    handshake_timeout: float = fields.duration("10s", "bounds the whole HTTP request head")
    redis_max_retries: int = fields.count("5", "failed attempts in one outage before clients are told; 0 is no limit")
    allowed_origins: tuple[str, ...] = fields.origins(
        "comma-separated patterns such as *.example.gov, which pages may connect; empty: all"
    )
    metrics_enabled: bool = fields.boolean("false", "serve /metrics")
    traces_enabled: bool = fields.boolean(
        "false",
        "send OpenTelemetry traces, with the extra otel; OTEL_EXPORTER_OTLP_ENDPOINT and its like say where to",
    )
    drain_timeout: float = fields.duration("15s", "how long the end of the process waits for its clients", zero=True)
    drain_spread: float = fields.duration("0s", "spreads the hang-ups over this time, DRAIN_TIMEOUT at most", zero=True)
    drain_delay: float = fields.duration(
        "0s",
        "how long /health says 503 before the first goodbye, so that proxies see it; not part of DRAIN_TIMEOUT",
        zero=True,
    )
    hangup: frozenset[str] = fields.choices("all", HANGUP_DOC, HANGUPS)
    admin_listen_addr: ListenAddress | UnixAddress | None = fields.admin_address(
        "the operator's listener, host:port or unix:/path; empty: off; beyond loopback it needs ADMIN_TOKEN"
    )
    admin_token: Secret | None = fields.secret("the token that the operator's listener asks for")
    workers: int = fields.count("1", "processes that share the port", minimum=1, maximum=1024)

    def adjusted(self, environment: Environment) -> Self:
        """Refuse an unguarded admin listener, warn of timeouts that end healthy clients, put ranges in order."""
        _check_admin(self, environment)
        _check_heartbeat(self, environment)
        return _with_drain_in_time(super().adjusted(environment), environment)


def _check_admin(settings: Settings, environment: Environment) -> None:
    address = settings.admin_listen_addr
    if isinstance(address, ListenAddress) and not address.is_loopback and settings.admin_token is None:
        name, token = environment.name("admin_listen_addr"), environment.name("admin_token")
        raise ConfigError(f"{name}={address} can be reached from other machines: set {token} or {token}_FILE")


def _check_heartbeat(settings: Settings, environment: Environment) -> None:
    pong = named(environment, "pong_timeout", settings.pong_timeout)
    ping = named(environment, "ping_interval", settings.ping_interval)
    if settings.pong_timeout < SHORTEST_PONG_TIMEOUT:
        environment.warn(f"{pong} is below 1m: browsers wake background pages only once a minute")
    if settings.pong_timeout < 2 * settings.ping_interval:
        environment.warn(f"{pong} is below two intervals of {ping}: one lost ping ends a healthy client")
    if settings.ping_interval >= LONGEST_PING_INTERVAL:
        environment.warn(f"{ping} is 20s or more: the platform's diagnostics page gives up without a ping for 20s")


def _with_drain_in_time(settings: S, environment: Environment) -> S:
    spread, timeout = settings.drain_spread, settings.drain_timeout
    if spread <= timeout:
        return settings
    names = named(environment, "drain_spread", spread), named(environment, "drain_timeout", timeout)
    environment.warn(f"{names[0]} is above {names[1]}; using {format_duration(timeout)}")
    return attrs.evolve(settings, drain_spread=timeout)
