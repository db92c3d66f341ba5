"""Redis URLs: redis-py's parser for the address, with the checks that it leaves out.

Pure. No error says any part of the URL: an unescaped character can move a piece of the password into any other part.
"""

from __future__ import annotations

import re
from typing import Final, Literal
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import attrs
from redis.asyncio.connection import parse_url

Scheme = Literal["redis", "rediss", "unix"]

_SCHEMES: Final[dict[str, Scheme]] = {"redis": "redis", "rediss": "rediss", "unix": "unix"}
_CERT_REQS: Final = {"none": False, "optional": True, "required": True}
_FLAGS: Final = dict.fromkeys(("1", "t", "true", "y", "yes", "on"), True) | dict.fromkeys(
    ("0", "f", "false", "n", "no", "off"), False
)
_COMMON_OPTIONS: Final = frozenset({"db", "username", "password"})
_TLS_OPTIONS: Final = frozenset(
    {"ssl_cert_reqs", "ssl_check_hostname", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "skip_verify"}
)
_BAD_HOST_CHARACTERS: Final = re.compile(r"[\s/\\,?#@\[\]]")


@attrs.frozen(kw_only=True)
class TLSOptions:
    """How a `rediss://` link checks the server, and which certificate it shows. Files are paths of PEM files."""

    verify: bool = True
    check_hostname: bool = True
    """Never true without `verify`."""
    ca_file: str | None = None
    """None is the system's certificate authorities."""
    cert_file: str | None = None
    key_file: str | None = None
    """None with a `cert_file` means that the file holds both."""


@attrs.frozen(kw_only=True)
class RedisURL:
    """Where a Redis server is and how to speak to it."""

    scheme: Scheme = "redis"
    host: str = "localhost"
    """A name or an address, IPv6 without brackets; without meaning for `unix`."""
    port: int = 6379
    path: str = ""
    """The socket's absolute path, for `unix`."""
    db: int
    username: str | None = None
    password: str | None = attrs.field(default=None, repr=False)
    tls: TLSOptions | None = None
    """Given exactly when the scheme is `rediss`."""
    ignored: tuple[str, ...] = ()
    """Names of the query's options that have no meaning here."""

    def masked(self) -> str:
        """The URL as an operator would write it, its password as `***`: fit for logs."""
        user = "" if self.username is None else quote(self.username, safe="")
        secret = "" if self.password is None else ":***"
        login = f"{user}{secret}@" if user or secret else ""
        if self.scheme == "unix":
            return f"unix://{login}{quote(self.path)}?db={self.db}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        options = _tls_query(self.tls) if self.tls else ""
        return f"{self.scheme}://{login}{host}:{self.port}/{self.db}{options}"


def parse_redis_url(text: str, default_db: int) -> RedisURL:
    """The value of a `redis://`, `rediss://` or `unix://` URL; `default_db` where it names no database.

    Raises ValueError, whose message quotes nothing of the URL.
    """
    if not text.isprintable() or " " in text:
        raise ValueError("a URL has no spaces and no control characters")
    name, separator, rest = text.partition("://")
    scheme = _SCHEMES.get(name.lower())
    if scheme is None or not separator:
        raise ValueError("the URL must start with redis://, rediss:// or unix://")
    location, _, query = rest.partition("?")
    authority, slash, path = location.partition("/")
    if "#" in rest or "@" in path or "@" in query:
        raise ValueError("a / ? # or @ in a user name, password or path must be written %2F %3F %23 %40")
    options = _options(query)
    understood = _COMMON_OPTIONS | _TLS_OPTIONS if scheme == "rediss" else _COMMON_OPTIONS
    address = _unix(authority, slash + path, options) if scheme == "unix" else _inet(scheme, authority, path, options)
    return attrs.evolve(
        address,
        scheme=scheme,
        db=default_db if address.db < 0 else address.db,
        username=_utf8(address.username or options.get("username")),
        password=_utf8(address.password or options.get("password")),
        tls=_tls(options) if scheme == "rediss" else None,
        ignored=tuple(option for option in options if option not in understood),
    )


def _inet(scheme: Scheme, authority: str, path: str, options: dict[str, str]) -> RedisURL:
    """Address and login of a TCP URL; the database is -1 where the URL names none."""
    parsed = _parse(f"{scheme}://{authority}")
    if _BAD_HOST_CHARACTERS.search(parsed.host) or not parsed.host.isprintable():
        raise ValueError("the host is neither a name nor an address")
    db = _database(options.get("db"))
    if path:
        in_path = _number(unquote(path).removesuffix("/"))
        if db not in (-1, in_path):
            raise ValueError("the URL names two databases")
        db = in_path
    return attrs.evolve(parsed, db=db)


def _unix(authority: str, path: str, options: dict[str, str]) -> RedisURL:
    """Path and login of a unix URL; the database is -1 where the URL names none."""
    login, at, host = authority.rpartition("@")
    decoded = unquote(path)
    if host or len(decoded) < 2 or decoded.endswith("/") or not decoded.isprintable():
        raise ValueError("a unix URL needs the socket's absolute path: unix:///run/redis/redis.sock?db=2")
    return attrs.evolve(_parse(f"unix://{login}{at}{path}"), db=_database(options.get("db")))


def _parse(url: str) -> RedisURL:
    """What redis-py reads from a URL without query, the database left out."""
    try:
        port = urlsplit(url).port
        parsed = parse_url(url)
    except ValueError:
        raise ValueError("the host or port can't be read: a port is 1 to 65535, an IPv6 address is [::1]") from None
    if port == 0:
        raise ValueError("the port must be 1 to 65535")
    return RedisURL(
        host=parsed.get("host", "localhost"),
        port=parsed.get("port", 6379),
        path=parsed.get("path", ""),
        db=-1,
        username=parsed.get("username"),
        password=parsed.get("password"),
    )


def _options(query: str) -> dict[str, str]:
    options: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in options and name in _COMMON_OPTIONS | _TLS_OPTIONS:
            raise ValueError(f"the option {name} is given twice")
        options[name] = value
    return options


def _database(text: str | None) -> int:
    return _number(text) if text else -1


def _number(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ValueError("the database must be one number: redis://host:6379/2, or ?db=2")
    return int(text)


def _tls(options: dict[str, str]) -> TLSOptions:
    reqs = options.get("ssl_cert_reqs", "").lower().removeprefix("cert_")
    if reqs and reqs not in _CERT_REQS:
        raise ValueError("ssl_cert_reqs must be none, optional or required")
    skip = _flag(options, "skip_verify", default=False)
    if skip and _CERT_REQS.get(reqs, False):
        raise ValueError("skip_verify and ssl_cert_reqs contradict each other")
    verify = not skip and _CERT_REQS.get(reqs, True)
    cert_file, key_file = options.get("ssl_certfile") or None, options.get("ssl_keyfile") or None
    if key_file and not cert_file:
        raise ValueError("ssl_keyfile needs ssl_certfile")
    return TLSOptions(
        verify=verify,
        check_hostname=_flag(options, "ssl_check_hostname", default=True) and verify,
        ca_file=options.get("ssl_ca_certs") or None,
        cert_file=cert_file,
        key_file=key_file,
    )


def _flag(options: dict[str, str], name: str, *, default: bool) -> bool:
    text = options.get(name, "").lower()
    if text and text not in _FLAGS:
        raise ValueError(f"{name} must be true or false")
    return _FLAGS.get(text, default)


def _utf8(text: str | None) -> str | None:
    # urllib decodes bytes that are not UTF-8 to U+FFFD: another user, another password.
    if text and "\ufffd" in text:
        raise ValueError("the percent-encoded user name or password is not UTF-8")
    return text or None


def _tls_query(tls: TLSOptions) -> str:
    """The options that differ from the defaults, as a query."""
    pairs = {
        "ssl_cert_reqs": None if tls.verify else "none",
        "ssl_check_hostname": "false" if tls.verify and not tls.check_hostname else None,
        "ssl_ca_certs": tls.ca_file,
        "ssl_certfile": tls.cert_file,
        "ssl_keyfile": tls.key_file,
    }
    query = "&".join(f"{name}={quote(value)}" for name, value in pairs.items() if value)
    return f"?{query}" if query else ""
