"""Listen addresses, networks and origin patterns: text <-> values.

Pure: nothing here resolves a name. Parsers raise ValueError with a reason, like those of `values`.
"""

from __future__ import annotations

import itertools
import re
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, Final

import attrs

from common.config.values import split_list

if TYPE_CHECKING:
    from collections.abc import Iterable

IPNetwork = IPv4Network | IPv6Network

PRIVATE: Final[tuple[IPNetwork, ...]] = tuple(
    map(ip_network, ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "127.0.0.0/8", "::1/128"])
)
"""Where nobody is who came over the Internet (RFC 1918, RFC 4193), loopback included: a proxy in a bridge network."""

NO_ORIGIN: Final = "none.invalid"
"""Stands for a list without one good pattern, since an empty list would let every origin in. RFC 6761 keeps `.invalid`
free: no page has such an origin."""

_NAME: Final = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)*\.?"
)
_ORIGIN: Final = re.compile(
    r"(?:(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://)?"
    r"(?:[A-Za-z0-9_.*-]+|\[(?P<address>[0-9A-Fa-f:.]+)\])"
    r"(?::(?P<port>[0-9]{1,5}))?"
)


@attrs.frozen
class ListenAddress:
    """A TCP address to listen on; `str` gives the operator's notation back."""

    host: str | None
    """A name or an address, IPv6 without brackets; None is all interfaces, IPv4 and IPv6."""
    port: int
    """0 lets the kernel choose."""

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it. No name but `localhost` is known to be so."""
        if self.host is None or not _is_address(self.host):
            return self.host is not None and self.host.lower().rstrip(".") == "localhost"
        address = ip_address(self.host)
        mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
        return (mapped or address).is_loopback

    def __str__(self) -> str:
        host = self.host or ""
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"


@attrs.frozen
class UnixAddress:
    """A Unix socket to listen on: an absolute path. `str` gives the operator's notation back."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


def parse_listen_address(text: str) -> ListenAddress:
    """`host:port`, `[::1]:port`, or `:port` for all interfaces."""
    host, colon, port = text.rpartition(":")
    if not colon or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
        raise ValueError("not host:port or :port, with a port from 0 to 65535")
    if not host:
        return ListenAddress(None, int(port))
    return ListenAddress(parse_host(host, brackets=True), int(port))


def parse_host(text: str, *, brackets: bool = False) -> str:
    """A host name, an IPv4 address or an IPv6 address, which has or (unless `brackets`) may have brackets."""
    inner = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if ":" in inner or inner != text:
        if (brackets and inner == text) or not _is_address(inner) or ":" not in inner:
            raise ValueError("not an address: IPv6 is written [::1]")
        return inner
    # Four numbers that are no IPv4 address would be looked up as a name.
    if not _NAME.fullmatch(inner) or (re.fullmatch(r"[0-9.]+", inner) and not _is_address(inner)):
        raise ValueError("not a host name or address")
    return inner


def parse_admin_address(text: str) -> ListenAddress | UnixAddress | None:
    """`unix:/path`, or a listen address; nothing is None."""
    if not text:
        return None
    if not text.startswith("unix:"):
        return parse_listen_address(text)
    path = text.removeprefix("unix:").removeprefix("//")
    if not path.startswith("/") or path.endswith("/") or not path.isprintable():
        raise ValueError("not unix: with an absolute path, such as unix:/run/admin.sock")
    return UnixAddress(path)


def parse_networks(text: str) -> tuple[IPNetwork, ...]:
    """A comma-separated list of networks and single addresses, or `none`; `private` stands for `PRIVATE`."""
    items = split_list(text)
    if [item.lower() for item in items] == ["none"]:
        return ()
    if not items:
        raise ValueError("not a list of networks such as 127.0.0.0/8,::1")
    networks = (PRIVATE if item.lower() == "private" else (_network(item),) for item in items)
    return tuple(dict.fromkeys(itertools.chain.from_iterable(networks)))


def format_networks(networks: Iterable[IPNetwork]) -> str:
    """The list that `parse_networks` reads, single addresses without their prefix length."""
    items = [
        str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)
        for network in networks
    ]
    return ",".join(items) or "none"


def parse_origin_pattern(text: str) -> str:
    """One pattern, `[scheme://]host[:port]` with `*` in the host; a lone trailing slash is taken away.

    An IPv6 address by itself needs no brackets; it gets them.
    """
    pattern = text.removesuffix("/")
    if ":" in pattern and _is_address(pattern):
        return f"[{pattern}]"
    match = _ORIGIN.fullmatch(pattern)
    if (
        match is None
        or not 0 < int(match["port"] or 80) <= 65535
        or (match["address"] is not None and not _is_address(match["address"]))
    ):
        raise ValueError("not [scheme://]host[:port] with * in the host only (no path, no spaces, names in ASCII)")
    return pattern


def _network(text: str) -> IPNetwork:
    try:
        return ip_network(text, strict=False)
    except ValueError:
        raise ValueError("not a list of networks such as 127.0.0.0/8,::1") from None


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
