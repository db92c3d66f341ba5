"""The kinds of variable: each function makes one attribute of a settings class (see `variables`).

`duration("5s", "…")` and its like are one variable, one parser; `plain` makes what has no function here. The Redis URL,
the secrets and the origins have rules of their own about where a value comes from and what a bad one means.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

import attrs

from common.config.addresses import (
    NO_ORIGIN,
    ListenAddress,
    format_networks,
    parse_admin_address,
    parse_host,
    parse_listen_address,
    parse_networks,
    parse_origin_pattern,
)
from common.config.values import (
    format_bool,
    format_choices,
    format_duration,
    format_size,
    parse_bool,
    parse_choices,
    parse_count,
    parse_duration,
    parse_level,
    parse_positive_duration,
    parse_size,
    split_list,
)
from common.config.variables import ConfigError, Environment, Variable, VariableRow, bad_value, quoted, variable
from common.quote import quote
from common.redis.tls import TLSFilesError, ssl_context
from common.redis.url import RedisURL, parse_redis_url
from common.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable

    from common.config.addresses import IPNetwork, UnixAddress

T = TypeVar("T")

LARGEST_COUNT: Final = 1_000_000_000
_INJECTED_PORT: Final = re.compile(r"(tcp|udp|sctp)://.*", re.IGNORECASE)
"""REDIS_PORT as Kubernetes sets it where a Service is called `redis`: no port, and no mistake of the operator's."""


def duration(default: str, doc: str, *, zero: bool = False) -> float:
    """Seconds; more than zero unless `zero` is accepted."""
    return plain(default, doc, parse_duration if zero else parse_positive_duration, format_duration)


def size(default: str, doc: str) -> int:
    """Bytes, more than zero."""
    return plain(default, doc, parse_size, format_size)


def count(default: str, doc: str, *, minimum: int = 0, maximum: int = LARGEST_COUNT) -> int:
    """A whole number."""
    return plain(default, doc, partial(parse_count, minimum=minimum, maximum=maximum))


def boolean(default: str, doc: str) -> bool:
    """True or false."""
    return plain(default, doc, parse_bool, format_bool)


def level(default: str, doc: str) -> str:
    """A log level."""
    return plain(default, doc, parse_level)


def choices(default: str, doc: str, words: tuple[str, ...]) -> frozenset[str]:
    """Some of `words`."""
    return plain(default, doc, partial(parse_choices, choices=words), partial(format_choices, choices=words))


def listen_address(default: str, doc: str) -> ListenAddress:
    """Where a daemon listens. A bad one is fatal: the default may be reached by more than was meant."""
    return variable(_ListenAddress(default=default, doc=doc))


def admin_address(doc: str) -> ListenAddress | UnixAddress | None:
    """Where the operator's listener is, if anywhere."""
    return plain("", doc, parse_admin_address, lambda address: str(address or ""))


def networks(default: str, doc: str) -> tuple[IPNetwork, ...]:
    """A list of networks."""
    return plain(default, doc, parse_networks, format_networks)


def origins(doc: str) -> tuple[str, ...]:
    """Origin patterns. Empty only when the variable is unset: a typo never switches the check off."""
    return variable(_Origins(default="", doc=doc))


def redis_url(default: str, doc: str, *, database_matters: bool = False, messages: bool = False) -> RedisURL:
    """The Redis URL: the prefixed variable, REDIS_URL, REDIS_HOST and REDIS_PORT, `default`, whichever is set first.

    A URL without a database number gets that of `default`. The TLS files that it names must be usable.
    If `database_matters`, a REDIS_URL with another one warns: who shares it may not have meant that.
    Unless `messages`, the URL may not say how messages are published in a cluster: the daemon hears none.
    """
    return variable(_RedisURL(default=default, doc=doc, database_matters=database_matters, messages=messages))


def secret(doc: str, *, unprefixed: bool = False) -> Secret | None:
    """A secret: `…_FILE`, else the variable itself.

    If `unprefixed`, both are looked for without the daemon's prefix too, after those with it; but files go first.
    """
    return variable(_Secret(default="", doc=doc, unprefixed=unprefixed))


def plain(
    default: str,
    doc: str,
    parse: Callable[[str], T],
    show: Callable[[T], str] = str,
    *,
    otherwise: tuple[str, ...] = (),
) -> T:
    """One variable, one parser, which takes `default` too and raises ValueError; `show` undoes it.

    While the variable is not set, those that `otherwise` names, without a prefix, are looked at in order.
    """
    return variable(_Plain(default=default, doc=doc, parse=parse, format=show, otherwise=otherwise))


@attrs.frozen(kw_only=True)
class _Plain(Variable[T]):
    """One variable, one parser; a bad value warns and gives way to the default."""

    parse: Callable[[str], T]
    format: Callable[[T], str]
    otherwise: tuple[str, ...]

    def default_value(self) -> T:
        return self.parse(self.default)

    def read(self, environment: Environment, attribute: str) -> T:
        for name in (environment.name(attribute), *self.otherwise):
            text = environment.get(name)
            if text is not None:
                try:
                    return self.parse(text)
                except ValueError as reason:
                    environment.warn(bad_value(name, text, reason, f"the default, {self.default or 'none'}"))
                    break
        return self.default_value()

    def show(self, value: T) -> str:
        return self.format(value)


class _ListenAddress(Variable[ListenAddress]):
    def default_value(self) -> ListenAddress:
        return parse_listen_address(self.default)

    def read(self, environment: Environment, attribute: str) -> ListenAddress:
        name = environment.name(attribute)
        text = environment.get(name)
        try:
            return self.default_value() if text is None else parse_listen_address(text)
        except ValueError as reason:
            raise ConfigError(f"{name}={quoted(text or '')} is {reason}") from None

    def show(self, value: ListenAddress) -> str:
        return str(value)


class _Origins(Variable[tuple[str, ...]]):
    def default_value(self) -> tuple[str, ...]:
        return ()

    def read(self, environment: Environment, attribute: str) -> tuple[str, ...]:
        name = environment.name(attribute)
        text = environment.get(name)
        if text is None:
            return ()
        patterns: list[str] = []
        for item in split_list(text):
            try:
                patterns.append(parse_origin_pattern(item))
            except ValueError as reason:
                environment.warn(f"{name}: {quoted(item)} is {reason}; this pattern is left out")
        if not patterns:
            environment.warn(
                f"{name}={quoted(text)} has no usable pattern; only pages of the daemon's own host may connect"
            )
        return tuple(patterns) or (NO_ORIGIN,)

    def show(self, value: tuple[str, ...]) -> str:
        return ",".join(value)


@attrs.frozen(kw_only=True)
class _RedisURL(Variable[RedisURL]):
    database_matters: bool
    messages: bool

    def default_value(self) -> RedisURL:
        return parse_redis_url(self.default, 0)

    def read(self, environment: Environment, attribute: str) -> RedisURL:
        default = self.default_value()
        for name in (environment.name(attribute), "REDIS_URL"):
            text = environment.get(name)
            if text is not None:
                url = self._parse(environment, name, text, default.db)
                if self.database_matters and name == "REDIS_URL" and url.db != default.db:
                    # It is meant for every service of the host, each of which may have a database of its own.
                    environment.warn(
                        f"{name} names database {url.db}, not {environment.daemon}'s own {default.db}; "
                        f"{environment.name(attribute)} goes before it"
                    )
                return url
        return attrs.evolve(default, host=self._host(environment, default), port=self._port(environment, default))

    def show(self, value: RedisURL) -> str:
        return value.masked()

    def _parse(self, environment: Environment, name: str, text: str, default_db: int) -> RedisURL:
        try:
            url = parse_redis_url(text, default_db)
        except ValueError as reason:
            raise ConfigError(f"{name} is not a usable Redis URL: {reason}") from None
        if url.pubsub != "classic" and not self.messages:
            raise ConfigError(f"{name}: the option pubsub is statusd's; {environment.daemon} hears no messages")
        if url.tls is not None:
            try:
                ssl_context(url.tls)
            except TLSFilesError as reason:
                raise ConfigError(f"{name}: {reason}") from None
        if url.ignored:
            environment.warn(f"{name}: options that have no effect here: {', '.join(map(quote, url.ignored))}")
        return url

    def _host(self, environment: Environment, default: RedisURL) -> str:
        text = environment.get("REDIS_HOST")
        if text is not None:
            try:
                return parse_host(text)
            except ValueError as reason:
                environment.warn(bad_value("REDIS_HOST", text, reason, f"the default, {default.host}"))
        return default.host

    def _port(self, environment: Environment, default: RedisURL) -> int:
        text = environment.get("REDIS_PORT")
        if text is not None and not _INJECTED_PORT.fullmatch(text):
            try:
                return parse_count(text, minimum=1, maximum=65535)
            except ValueError as reason:
                environment.warn(bad_value("REDIS_PORT", text, reason, f"the default, {default.port}"))
        return default.port


@attrs.frozen(kw_only=True)
class _Secret(Variable[Secret | None]):
    unprefixed: bool

    def default_value(self) -> None:
        return None

    def read(self, environment: Environment, attribute: str) -> Secret | None:
        names = [environment.name(attribute)]
        if self.unprefixed:
            names.append(attribute.upper())
        files = {f"{name}_FILE": environment.get(f"{name}_FILE") for name in names}
        found = [name for name, value in {**files, **{name: environment.get(name) for name in names}}.items() if value]
        if not found:
            return None
        used, *others = found
        for other in others:
            # What is meant for every service of the host need not concern this one, unless it is two ways of one name.
            if other.startswith(environment.prefix) or used == f"{other}_FILE":
                environment.warn(f"{other} and {used} are both set; the file is used")
        path = files.get(used)
        return Secret.literal(environment.get(used) or "", used) if path is None else Secret.file(path, used)

    def show(self, value: Secret | None) -> str:
        return "" if value is None else value.describe()

    def rows(self, variable: str) -> tuple[VariableRow, ...]:
        return (
            VariableRow(f"{variable}_FILE", "", f"a file that holds {variable}; it wins over the variable"),
            VariableRow(variable, "", self.doc),
        )
