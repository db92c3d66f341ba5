"""The client's address: whose word about it is believed, and how far back."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.web.forwarded import client_address, is_trusted, parse_address

TRUSTED: Final = tuple(map(ip_network, ["127.0.0.0/8", "::1/128", "10.0.0.0/8", "fd00::/8"]))


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        (" 192.0.2.1\t", "192.0.2.1"),
        ("192.0.2.1:50000", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:50000", "2001:db8::1"),
        ("::1", "::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("[fe80::1%eth0]:80", "fe80::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("[::ffff:192.0.2.1]:80", "192.0.2.1"),
        ("::ffff:c000:201", "192.0.2.1"),
        ("", None),
        (" ", None),
        (":", None),
        (":80", None),
        ("[]", None),
        ("unknown", None),
        ("_hidden", None),
        ("localhost", None),
        ("192.0.2", None),
        ("192.0.2.256", None),
        ("192.0.2.01", None),
        ("192.0.2.1/32", None),
        ("1.2.3.4.5", None),
        ("2001:db8:::1", None),
        ("12345::", None),
        ("[2001:db8::1", "2001:db8::1"),
        ('"192.0.2.1"', None),
        ("for=192.0.2.1", None),
        ("192.0.2.1 192.0.2.2", None),
        ("\u0661.2.3.4", None),
    ],
)
def test_addresses_as_sockets_and_headers_write_them(text: str, address: str | None) -> None:
    assert parse_address(text) == (None if address is None else ip_address(address))


@pytest.mark.parametrize(
    ("address", "trusted"),
    [
        ("127.0.0.1", True),
        ("127.255.255.255", True),
        ("128.0.0.1", False),
        ("10.1.2.3", True),
        ("::1", True),
        ("::2", False),
        ("fdff::1", True),
        ("::ffff:10.1.2.3", True),
        ("::ffff:192.0.2.1", False),
        ("0.0.0.1", False),
        ("unknown", False),
    ],
)
def test_whom_to_trust(address: str, trusted: bool) -> None:
    assert is_trusted(parse_address(address), TRUSTED) is trusted
    assert not is_trusted(parse_address(address), ())


CHAINS: Final = [
    pytest.param("192.0.2.1", [], "192.0.2.1", id="no proxy"),
    pytest.param("127.0.0.1", [], "127.0.0.1", id="a proxy that says nothing"),
    pytest.param("192.0.2.1", ["198.51.100.7"], "192.0.2.1", id="an untrusted peer's word is not believed"),
    pytest.param("127.0.0.1", ["198.51.100.7"], "198.51.100.7", id="one proxy"),
    pytest.param("::1", ["198.51.100.7"], "198.51.100.7", id="one proxy on IPv6"),
    pytest.param("127.0.0.1", ["1.1.1.1, 198.51.100.7"], "198.51.100.7", id="a forged first entry"),
    pytest.param("127.0.0.1", ["127.0.0.1, 198.51.100.7"], "198.51.100.7", id="a forged trusted entry"),
    pytest.param("127.0.0.1", ["198.51.100.7, 10.0.0.5"], "198.51.100.7", id="two proxies"),
    pytest.param("127.0.0.1", ["1.1.1.1,198.51.100.7,10.0.0.5,fd00::2"], "198.51.100.7", id="three proxies, forged"),
    pytest.param("127.0.0.1", ["198.51.100.7", "10.0.0.5"], "198.51.100.7", id="two headers"),
    pytest.param("127.0.0.1", ["10.0.0.5", "198.51.100.7"], "198.51.100.7", id="headers keep their order"),
    pytest.param("127.0.0.1", ["10.0.0.9, 10.0.0.5"], "10.0.0.9", id="all trusted: the first"),
    pytest.param("127.0.0.1", ["2001:db8::7"], "2001:db8::7", id="IPv6"),
    pytest.param("127.0.0.1", ["[2001:db8::7]:4711, [fd00::2]:80"], "2001:db8::7", id="IPv6 with ports"),
    pytest.param("127.0.0.1", ["198.51.100.7:4711, 10.0.0.5:80"], "198.51.100.7", id="IPv4 with ports"),
    pytest.param("127.0.0.1", ["::ffff:198.51.100.7, ::ffff:10.0.0.5"], "198.51.100.7", id="mapped addresses"),
    pytest.param("127.0.0.1", ["unknown"], "127.0.0.1", id="unknown"),
    pytest.param("127.0.0.1", ["198.51.100.7, unknown"], "127.0.0.1", id="nothing before a bad entry is believed"),
    pytest.param("127.0.0.1", ["198.51.100.7, junk, 10.0.0.5"], "10.0.0.5", id="nothing before junk is believed"),
    pytest.param("127.0.0.1", ["junk, 198.51.100.7"], "198.51.100.7", id="junk before the client is the client's"),
    pytest.param("127.0.0.1", [""], "127.0.0.1", id="an empty header"),
    pytest.param("127.0.0.1", [", , ,"], "127.0.0.1", id="commas"),
]


@pytest.mark.parametrize(("peer", "forwarded", "client"), CHAINS)
def test_the_last_untrusted_address_of_the_chain(peer: str, forwarded: list[str], client: str) -> None:
    assert client_address(ip_address(peer), forwarded, TRUSTED) == ip_address(client)


def test_a_mapped_peer_is_the_proxy_it_maps_to() -> None:
    # A dual-stack socket names its IPv4 clients so.
    assert client_address(parse_address("::ffff:127.0.0.1"), ["198.51.100.7"], TRUSTED) == ip_address("198.51.100.7")


def test_a_socket_without_an_address_has_nobody_to_believe() -> None:
    assert client_address(None, ["198.51.100.7"], TRUSTED) is None


def test_nobody_is_believed_when_nobody_is_trusted() -> None:
    assert client_address(ip_address("127.0.0.1"), ["198.51.100.7"], ()) == ip_address("127.0.0.1")


@given(st.lists(st.text(st.characters(max_codepoint=255))), st.ip_addresses())
def test_what_an_untrusted_peer_sends_never_matters(forwarded: list[str], peer: object) -> None:
    address = parse_address(str(peer))
    assert client_address(address, forwarded, ()) == address


@given(st.text(st.characters(max_codepoint=255)))
def test_what_stands_before_the_proxys_entry_never_matters(forged: str) -> None:
    client = ip_address("198.51.100.7")
    assert client_address(ip_address("10.0.0.5"), [forged, f"{client}"], TRUSTED) == client
    assert client_address(ip_address("10.0.0.5"), [f"{forged},{client}"], TRUSTED) == client
