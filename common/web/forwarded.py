"""The client's address behind trusted proxies (SPEC 1). Pure."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from common.config import IPNetwork

IPAddress = IPv4Address | IPv6Address


def parse_address(text: str) -> IPAddress | None:
    """An address as a socket or a header writes it (a port, brackets or a zone are ignored), or None."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def share_of(address: IPAddress) -> IPAddress:
    """Whom `address` stands for where places or tries are counted: an IPv6 host has a /64 to choose its own from."""
    return address if isinstance(address, IPv4Address) else IPv6Address(int(address) >> 64 << 64)


def is_trusted(address: IPAddress | None, trusted: Iterable[IPNetwork]) -> bool:
    """Whether `address` lies in one of the networks."""
    return address is not None and any(address.version == net.version and address in net for net in trusted)


def client_address(
    peer: IPAddress | None, forwarded_for: Sequence[str], trusted: Sequence[IPNetwork]
) -> IPAddress | None:
    """The last untrusted address of the chain, read from the end that is ours.

    `peer` is the socket's other end (None for a unix socket), `forwarded_for` the `X-Forwarded-For` values in order.
    What stands before an entry that is no address can't be believed, so the search ends there.
    """
    address = peer
    hops = [hop for value in forwarded_for for hop in value.split(",") if hop.strip()]
    while hops and is_trusted(address, trusted):
        hop = parse_address(hops.pop())
        if hop is None:
            break
        address = hop
    return address
