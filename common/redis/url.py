"""Redis URLs: redis-py's parser for an address, with the checks that it leaves out, and lists of hosts beside it.

Pure. No error says any part of the URL: an unescaped character can move a piece of the password into any other part.

    redis://, rediss://    [user:pass@]host[:6379][/db]                                   one server
    unix://                [user:pass@]/path[?db=]                                        one server
    redis+sentinel://      [user:pass@]sentinel[:26379],…/master[/db][?sentinel_password=]   whom the sentinels name
    redis+cluster://       [user:pass@]node[:6379],…[?pubsub=]                            all nodes of a cluster

`rediss+…` is the same with TLS, for every server and sentinel. The login is the servers'; sentinels have their own.
"""

from __future__ import annotations

import re
from typing import Final, Literal, get_args
from urllib.parse import quote, unquote, urlsplit

import attrs
from redis.asyncio.connection import parse_url

from common.redis.url_options import (
    CLUSTER_OPTIONS,
    COMMON_OPTIONS,
    SENTINEL_OPTIONS,
    TLS_OPTIONS,
    TLSOptions,
    read_options,
    read_tls,
    tls_pairs,
    utf8,
    write_options,
)

__all__ = ["MASK", "PubSub", "RedisURL", "TLSOptions", "Topology", "parse_redis_url"]

Scheme = Literal["redis", "rediss", "unix"]
Topology = Literal["single", "sentinel", "cluster"]
PubSub = Literal["classic", "sharded", "both"]

MASK: Final = "***"
"""What stands for a password where it is shown."""

_SCHEMES: Final[dict[str, tuple[Scheme, Topology]]] = {
    "redis": ("redis", "single"),
    "rediss": ("rediss", "single"),
    "unix": ("unix", "single"),
    "redis+sentinel": ("redis", "sentinel"),
    "rediss+sentinel": ("rediss", "sentinel"),
    "redis+cluster": ("redis", "cluster"),
    "rediss+cluster": ("rediss", "cluster"),
}
_PUBSUB: Final[dict[str, PubSub]] = {word: word for word in get_args(PubSub)}
_PORTS: Final[dict[Topology, int]] = {"single": 6379, "sentinel": 26379, "cluster": 6379}
_OPTIONS: Final[dict[Topology, frozenset[str]]] = {
    "single": COMMON_OPTIONS,
    "sentinel": COMMON_OPTIONS | SENTINEL_OPTIONS,
    "cluster": COMMON_OPTIONS | CLUSTER_OPTIONS,
}
_BAD_HOST_CHARACTERS: Final = re.compile(r"[\s/\\,?#@\[\]]")


@attrs.frozen(kw_only=True)
class RedisURL:
    """Where Redis is and how to speak to it: one server, the sentinels that know it, or nodes of a cluster."""

    scheme: Scheme = "redis"
    """The way to each server: TCP, TLS, or a Unix socket, which only a single server has."""
    topology: Topology = "single"
    host: str = "localhost"
    """A name or an address, IPv6 without brackets; without meaning for `unix`. Of several, the first."""
    port: int = 6379
    further: tuple[tuple[str, int], ...] = ()
    """Hosts and ports beyond the first: of sentinels, or of a cluster's nodes."""
    path: str = ""
    """The socket's absolute path, for `unix`."""
    db: int
    """A cluster has 0 only."""
    username: str | None = None
    password: str | None = attrs.field(default=None, repr=False)
    tls: TLSOptions | None = None
    """Given exactly when the scheme is `rediss`."""
    master: str = ""
    """The name that the sentinels know the servers by; given exactly when there are sentinels."""
    sentinel_username: str | None = None
    sentinel_password: str | None = attrs.field(default=None, repr=False)
    pubsub: PubSub = "classic"
    """How messages are published in a cluster: by PUBLISH, by SPUBLISH, or by either."""
    ignored: tuple[str, ...] = ()
    """Names of the query's options that have no meaning here."""

    @property
    def hosts(self) -> tuple[tuple[str, int], ...]:
        """All hosts with their ports, at least one, in the order in which the URL has them."""
        return ((self.host, self.port), *self.further)

    def node(self, host: str, port: int) -> RedisURL:
        """The URL of one server behind this one, to which the same login and TLS lead."""
        return attrs.evolve(
            self,
            topology="single",
            host=host,
            port=port,
            further=(),
            master="",
            sentinel_username=None,
            sentinel_password=None,
            pubsub="classic",
        )

    def sentinels(self) -> tuple[RedisURL, ...]:
        """The URL of each sentinel, with the sentinels' login; they have no databases."""
        login = attrs.evolve(self, username=self.sentinel_username, password=self.sentinel_password, db=0)
        return tuple(login.node(host, port) for host, port in self.hosts)

    def masked(self) -> str:
        """The URL as an operator would write it, its passwords as `***`: fit for logs."""
        user = "" if self.username is None else quote(self.username, safe="")
        secret = "" if self.password is None else f":{MASK}"
        login = f"{user}{secret}@" if user or secret else ""
        if self.scheme == "unix":
            return f"unix://{login}{quote(self.path)}?db={self.db}"
        scheme = self.scheme if self.topology == "single" else f"{self.scheme}+{self.topology}"
        hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        master = f"/{quote(self.master, safe='')}" if self.topology == "sentinel" else ""
        options = tls_pairs(self.tls) | {
            "sentinel_username": self.sentinel_username,
            "sentinel_password": None if self.sentinel_password is None else MASK,
            "pubsub": None if self.pubsub == "classic" else self.pubsub,
        }
        return f"{scheme}://{login}{hosts}{master}/{self.db}{write_options(options)}"


def parse_redis_url(text: str, default_db: int) -> RedisURL:
    """The value of a URL of one of the forms above; `default_db` where it names no database, and is no cluster's.

    Raises ValueError, whose message quotes nothing of the URL.
    """
    if not text.isprintable() or " " in text:
        raise ValueError("a URL has no spaces and no control characters")
    name, separator, rest = text.partition("://")
    if name.lower() not in _SCHEMES or not separator:
        raise ValueError(
            "the URL must start with redis://, rediss:// or unix://, or with redis+sentinel:// or redis+cluster:// "
            "(with TLS: rediss+)"
        )
    scheme, topology = _SCHEMES[name.lower()]
    location, _, query = rest.partition("?")
    authority, slash, path = location.partition("/")
    if "#" in rest or "@" in path or "@" in query:
        raise ValueError("a / ? # or @ in a user name, password or path must be written %2F %3F %23 %40")
    options = read_options(query)
    if "pubsub" in options and topology != "cluster":
        raise ValueError("the option pubsub is for a cluster: redis+cluster://")
    if scheme == "unix":
        address = _unix(authority, slash + path, options)
    elif topology == "single":
        address = _inet(scheme, authority, path, options)
    else:
        address = _listed(scheme, topology, authority, path, options)
    understood = _OPTIONS[topology] | TLS_OPTIONS if scheme == "rediss" else _OPTIONS[topology]
    return attrs.evolve(
        address,
        scheme=scheme,
        topology=topology,
        db=default_db if address.db < 0 else address.db,
        username=utf8(address.username or options.get("username")),
        password=utf8(address.password or options.get("password")),
        tls=read_tls(options) if scheme == "rediss" else None,
        ignored=tuple(option for option in options if option not in understood),
    )


def _inet(scheme: Scheme, authority: str, path: str, options: dict[str, str]) -> RedisURL:
    """Address and login of one server's URL; the database is -1 where the URL names none."""
    return attrs.evolve(_parse(f"{scheme}://{authority}", _PORTS["single"]), db=_database(path, options))


def _listed(scheme: Scheme, topology: Topology, authority: str, path: str, options: dict[str, str]) -> RedisURL:
    """Addresses and login of a URL with several hosts; the database is -1 where sentinels' URL names none."""
    # urlsplit takes a list of IPv6 addresses for a broken one.
    login, at, names = authority.rpartition("@")
    hosts: list[tuple[str, int]] = []
    for name in names.split(","):
        if not name or name.startswith(":"):
            raise ValueError("each host must be named: host1,host2:port,[::1]:port")
        parsed = _parse(f"{scheme}://{name}", _PORTS[topology])
        hosts.append((parsed.host, parsed.port))
    (host, port), *further = dict.fromkeys(hosts)
    address = attrs.evolve(
        _parse(f"{scheme}://{login}{at}", _PORTS[topology]), host=host, port=port, further=tuple(further)
    )
    if topology == "cluster":
        if _database(path, options) > 0:
            raise ValueError("a cluster has database 0 only")
        return attrs.evolve(address, db=0, pubsub=_choice(options.get("pubsub")))
    master, _, db = path.partition("/")
    return attrs.evolve(
        address,
        db=_database(db, options),
        master=_master(unquote(master)),
        sentinel_username=utf8(options.get("sentinel_username")),
        sentinel_password=utf8(options.get("sentinel_password")),
    )


def _unix(authority: str, path: str, options: dict[str, str]) -> RedisURL:
    """Path and login of a unix URL; the database is -1 where the URL names none."""
    login, at, host = authority.rpartition("@")
    decoded = unquote(path)
    if host or len(decoded) < 2 or decoded.endswith("/") or not decoded.isprintable():
        raise ValueError("a unix URL needs the socket's absolute path: unix:///run/redis/redis.sock?db=2")
    return attrs.evolve(_parse(f"unix://{login}{at}{path}", _PORTS["single"]), db=_database("", options))


def _parse(url: str, default_port: int) -> RedisURL:
    """What redis-py reads from a URL of one host without query, the database left out."""
    try:
        port = urlsplit(url).port
        parsed = parse_url(url)
    except ValueError:
        raise ValueError("the host or port can't be read: a port is 1 to 65535, an IPv6 address is [::1]") from None
    if port == 0:
        raise ValueError("the port must be 1 to 65535")
    host = parsed.get("host", "localhost")
    if _BAD_HOST_CHARACTERS.search(host) or not host.isprintable():
        raise ValueError("the host is neither a name nor an address")
    return RedisURL(
        host=host,
        port=parsed.get("port", default_port),
        path=parsed.get("path", ""),
        db=-1,
        username=parsed.get("username"),
        password=parsed.get("password"),
    )


def _master(name: str) -> str:
    if not re.fullmatch(r"\S{1,128}", name) or not name.isprintable() or "\ufffd" in name:
        raise ValueError("a sentinel URL names its master: redis+sentinel://host1,host2/mymaster")
    return name


def _choice(text: str | None) -> PubSub:
    if text and text not in _PUBSUB:
        raise ValueError(f"pubsub must be {', '.join(_PUBSUB)}")
    return _PUBSUB[text or "classic"]


def _database(path: str, options: dict[str, str]) -> int:
    """The database that a path or an option names, -1 where none does."""
    text = options.get("db")
    db = _number(text) if text else -1
    if path:
        in_path = _number(unquote(path).removesuffix("/"))
        if db not in (-1, in_path):
            raise ValueError("the URL names two databases")
        db = in_path
    return db


def _number(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ValueError("the database must be one number: redis://host:6379/2, or ?db=2")
    return int(text)
