"""What opsd can be told, each variable in one line (SPEC 7), and the rules between them."""

# ruff: noqa: RUF009 - each call makes an attribute's description for attrs; no instance shares a mutable default

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar, Final, TypeVar

import attrs

from common.config import ConfigError, DaemonSettings, fields
from common.config.shared import LISTEN_ADDR_DOC, REDIS_URL_DOC, named
from common.config.values import format_duration, split_list
from common.config.variables import Environment, Variable, quoted, variable
from common.daemons import PREFLIGHT, STATUS, WATCHED
from common.secret import SecretError
from opsd.sources.target import AdminTarget, SourceEndpoint, parse_endpoint, parse_target, parse_url

if TYPE_CHECKING:
    from typing import Self

    from common.config import IPNetwork, ListenAddress
    from common.redis.url import RedisURL
    from common.secret import Secret

S = TypeVar("S", bound="OpsSettings")

DEFAULT_TARGETS: Final = ",".join(f"{known.name}=http://127.0.0.1:{known.admin_port}" for known in WATCHED)
DEFAULT_REGION: Final = "us-east-1"
LONGEST_TIMEOUT: Final = 5.0
"""Seconds that any source may take to answer, whatever is configured."""
LONGEST_HISTORY: Final = 31 * 86400.0
"""Seconds: a month of samples is half a million entries of the Redis stream."""

_SESSION: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_REGION: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class _Targets(Variable[tuple[AdminTarget, ...]]):
    def default_value(self) -> tuple[AdminTarget, ...]:
        return tuple(map(parse_target, split_list(self.default)))

    def read(self, environment: Environment, attribute: str) -> tuple[AdminTarget, ...]:
        name = environment.name(attribute)
        text = environment.get(name)
        if text is None:
            return self.default_value()
        targets: dict[str, AdminTarget] = {}
        for item in [] if text.lower() == "none" else split_list(text):
            try:
                target = parse_target(item)
            except ValueError as reason:
                environment.warn(f"{name}: {quoted(item)} is {reason}; this target is left out")
                continue
            if target.name in targets:
                environment.warn(f"{name}: {target.name} is there twice; the first is used")
            targets.setdefault(target.name, target)
        return tuple(targets.values())

    def show(self, value: tuple[AdminTarget, ...]) -> str:
        return ",".join(map(str, value)) or "none"


def _session(text: str) -> str:
    if not _SESSION.fullmatch(text):
        raise ValueError("not a session's name of letters, digits, _ and -, at most 64")
    return text


def _region(text: str) -> str:
    if not _REGION.fullmatch(text):
        raise ValueError("not a region's name of letters, digits, _ . and -, at most 64")
    return text


def _websocket_url(text: str) -> str | None:
    return parse_url(text, ("ws", "wss")) if text else None


def _outside(text: str) -> SourceEndpoint | None:
    return parse_endpoint(text) if text else None


def _optional(value: object) -> str:
    return "" if value is None else str(value)


@attrs.frozen(kw_only=True)
class OpsSettings(DaemonSettings):
    """The variables with the prefix `OPS_`. Durations are seconds."""

    prefix: ClassVar[str] = "OPS_"

    listen_addr: ListenAddress = fields.listen_address(
        "127.0.0.1:9003", f"{LISTEN_ADDR_DOC}; beyond loopback it needs TOKEN"
    )
    token: Secret | None = fields.secret("the token that every call of the API asks for")
    trusted_proxies: tuple[IPNetwork, ...] = fields.networks(
        "127.0.0.0/8,::1", "networks whose X-Forwarded-For is believed, or `none`"
    )
    redis_url: RedisURL = fields.redis_url("redis://localhost:6379/3", REDIS_URL_DOC)
    targets: tuple[AdminTarget, ...] = variable(
        _Targets(
            default=DEFAULT_TARGETS,
            doc="the daemons' operator's listeners: a list of name=http://host:port or name=unix:/path, or `none`",
        )
    )
    targets_token: Secret | None = fields.secret("the token that the daemons' operator's listeners ask for")
    workers_url: SourceEndpoint | None = fields.plain(
        "", "an outside worker telemetry API that has /workers/status", _outside, _optional
    )
    workers_timeout: float = fields.duration("5s", "how long any source may take to answer; 5s at most")
    status_ws_url: str | None = fields.plain(
        "",
        f"where a browser finds statusd, ws://host:port; empty: the page's own host, port {STATUS.port}",
        _websocket_url,
        _optional,
    )
    preflight_ws_url: str | None = fields.plain(
        "",
        f"where a browser finds preflightd, ws://host:port; empty: the page's own host, port {PREFLIGHT.port}",
        _websocket_url,
        _optional,
    )
    primary_region: str = fields.plain(
        DEFAULT_REGION,
        "the region that is shown; when unset TES_PRIMARY_REGION, then PRIMARY_REGION",
        _region,
        otherwise=("TES_PRIMARY_REGION", "PRIMARY_REGION"),
    )
    tmux_session: str = fields.plain("run-status", "the tmux session that is started and stopped", _session)
    history: float = fields.duration("24h", "how long samples are kept in Redis; 744h at most")
    alert_webhook: Secret | None = fields.secret(
        "the URL that changes of the traffic mode, of the telemetry and of the sources are posted to"
    )
    metrics_enabled: bool = fields.boolean("false", "serve /metrics: the vector and opsd's own process for Prometheus")

    def adjusted(self, environment: Environment) -> Self:
        """Refuse a page that anybody can reach without a token; put ranges in order; drop a bad webhook."""
        if not self.listen_addr.is_loopback and self.token is None:
            name, token = environment.name("listen_addr"), environment.name("token")
            address = self.listen_addr
            raise ConfigError(f"{name}={address} can be reached from other machines: set {token} or {token}_FILE")
        settings = super().adjusted(environment)
        if self.workers_timeout > LONGEST_TIMEOUT:
            _warn_of_excess(environment, "workers_timeout", self.workers_timeout, LONGEST_TIMEOUT)
            settings = attrs.evolve(settings, workers_timeout=LONGEST_TIMEOUT)
        if self.history > LONGEST_HISTORY:
            _warn_of_excess(environment, "history", self.history, LONGEST_HISTORY)
            settings = attrs.evolve(settings, history=LONGEST_HISTORY)
        return _with_usable_webhook(settings, environment)


def parse_webhook(text: str) -> str:
    """An `http` or `https` URL as it is; a query may be part of it, and what it says may be a secret."""
    parse_url(text.partition("?")[0], ("http", "https"))
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("not a URL: it has characters that must be percent-encoded")
    return text


def _with_usable_webhook(settings: S, environment: Environment) -> S:
    if settings.alert_webhook is None:
        return settings
    try:
        parse_webhook(settings.alert_webhook.read())
    except SecretError as error:
        raise ConfigError(str(error)) from None
    except ValueError as reason:
        environment.warn(f"{settings.alert_webhook.variable} is {reason}; no alerts are posted")
        return attrs.evolve(settings, alert_webhook=None)
    return settings


def _warn_of_excess(environment: Environment, attribute: str, value: float, most: float) -> None:
    environment.warn(f"{named(environment, attribute, value)} is above {format_duration(most)}, which is used")
