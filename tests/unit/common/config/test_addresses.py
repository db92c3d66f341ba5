"""Listen addresses, networks and origin patterns."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from common.config.addresses import (
    NO_ORIGIN,
    ListenAddress,
    UnixAddress,
    format_networks,
    parse_admin_address,
    parse_host,
    parse_listen_address,
    parse_networks,
    parse_origin_pattern,
)
from common.web.forwarded import is_trusted, parse_address
from common.web.origin import OriginPolicy

RANGES = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "127.0.0.0/8", "::1"]


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        (":9002", None, 9002),
        (":0", None, 0),
        ("127.0.0.1:9002", "127.0.0.1", 9002),
        ("0.0.0.0:65535", "0.0.0.0", 65535),
        ("localhost:1", "localhost", 1),
        ("status-1.example.gov:1", "status-1.example.gov", 1),
        ("[::1]:9002", "::1", 9002),
        ("[::]:9002", "::", 9002),
        ("[fe80::1%eth0]:9002", "fe80::1%eth0", 9002),
    ],
)
def test_a_listen_address_is_host_and_port(text: str, host: str | None, port: int) -> None:
    address = parse_listen_address(text)
    assert (address.host, address.port) == (host, port)
    assert str(address) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "9002",
        "localhost",
        "localhost:",
        ":http",
        ":-1",
        ":65536",
        ":9 002",
        ":٩",
        "::1:9002",
        "[::1]",
        "[]:1",
        "[127.0.0.1]:1",
        "[nonsense]:1",
        "[::1:1",
        "256.1.1.1:1",
        "1.2.3:1",
        "a b:1",
        "-a:1",
        "a..b:1",
        "http://h:1",
        "*:1",
    ],
)
def test_what_is_no_listen_address(text: str) -> None:
    with pytest.raises(ValueError, match=r"^not "):
        parse_listen_address(text)


@pytest.mark.parametrize(
    ("text", "loopback"),
    [
        ("127.0.0.1:1", True),
        ("127.8.8.8:1", True),
        ("[::1]:1", True),
        ("[::ffff:127.0.0.1]:1", True),
        ("localhost:1", True),
        ("LOCALHOST.:1", True),
        (":1", False),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("10.0.0.1:1", False),
        ("[::ffff:10.0.0.1]:1", False),
        ("status.example.gov:1", False),
        ("localhost.example.gov:1", False),
    ],
)
def test_loopback_is_what_only_this_machine_reaches(text: str, loopback: bool) -> None:
    assert parse_listen_address(text).is_loopback is loopback


@pytest.mark.parametrize(
    ("text", "address", "shown"),
    [
        ("unix:/run/admin.sock", UnixAddress("/run/admin.sock"), "unix:/run/admin.sock"),
        ("unix:///run/admin.sock", UnixAddress("/run/admin.sock"), "unix:/run/admin.sock"),
        ("127.0.0.1:9102", ListenAddress("127.0.0.1", 9102), "127.0.0.1:9102"),
    ],
)
def test_the_admin_listener_is_a_socket_or_an_address(text: str, address: object, shown: str) -> None:
    assert parse_admin_address(text) == address
    assert str(address) == shown


def test_the_admin_listener_is_off_without_a_value() -> None:
    assert parse_admin_address("") is None


@pytest.mark.parametrize(
    "text", ["unix:", "unix:admin.sock", "unix:/", "unix:/run/", "unix:/a\nb", "/run/admin.sock", "9102"]
)
def test_what_is_no_admin_address(text: str) -> None:
    with pytest.raises(ValueError, match=r"^not "):
        parse_admin_address(text)


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("redis", "redis"),
        ("redis_1", "redis_1"),
        ("::1", "::1"),
        ("[::1]", "::1"),
        ("10.0.0.1", "10.0.0.1"),
        ("h.", "h."),
    ],
)
def test_a_host_is_a_name_or_an_address(text: str, host: str) -> None:
    assert parse_host(text) == host


@pytest.mark.parametrize(
    "text", ["", "redis:6379", "redis://h", "h/0", "a,b", "1.2.3.4.5", "[redis]", "/run/redis.sock"]
)
def test_what_is_no_host(text: str) -> None:
    with pytest.raises(ValueError, match=r"^not "):
        parse_host(text)


@pytest.mark.parametrize("text", ["redis:6379", "[redis]", "[10.0.0.1]"])
def test_what_has_colons_or_brackets_is_told_how_an_address_is_written(text: str) -> None:
    with pytest.raises(ValueError, match=r"^not an address: IPv6 is written \[::1\]$"):
        parse_host(text)


@pytest.mark.parametrize(
    ("text", "networks", "shown"),
    [
        ("127.0.0.0/8,::1", ["127.0.0.0/8", "::1/128"], "127.0.0.0/8,::1"),
        (" 10.1.2.3/8 , ", ["10.0.0.0/8"], "10.0.0.0/8"),
        ("10.1.2.3", ["10.1.2.3/32"], "10.1.2.3"),
        ("fd00::/8", ["fd00::/8"], "fd00::/8"),
        ("0.0.0.0/0", ["0.0.0.0/0"], "0.0.0.0/0"),
        ("none", [], "none"),
        ("NONE", [], "none"),
        ("private", RANGES, ",".join(RANGES)),
        ("Private, 203.0.113.0/24", [*RANGES, "203.0.113.0/24"], ",".join([*RANGES, "203.0.113.0/24"])),
        ("127.0.0.0/8,private,::1", ["127.0.0.0/8", *[r for r in RANGES if r != "127.0.0.0/8"]], None),
    ],
)
def test_networks(text: str, networks: list[str], shown: str | None) -> None:
    parsed = parse_networks(text)
    assert parsed == tuple(map(ip_network, networks))
    assert shown is None or format_networks(parsed) == shown
    assert parse_networks(format_networks(parsed)) == parsed


@pytest.mark.parametrize(
    ("address", "inside"),
    [
        ("10.0.0.0", True),
        ("10.255.255.255", True),
        ("11.0.0.0", False),
        ("172.15.255.255", False),
        ("172.17.0.1", True),
        ("172.31.255.255", True),
        ("172.32.0.0", False),
        ("192.168.1.1", True),
        ("192.169.0.0", False),
        ("127.0.0.1", True),
        ("::1", True),
        ("::2", False),
        ("fc00::1", True),
        ("fdff:ffff::1", True),
        ("fe00::1", False),
        # Neither the Internet nor what RFC 1918 names: link-local, shared (RFC 6598), documentation.
        ("169.254.0.1", False),
        ("fe80::1", False),
        ("100.64.0.1", False),
        ("192.0.2.1", False),
        ("::ffff:172.17.0.1", True),
        ("::ffff:192.0.2.1", False),
    ],
)
def test_who_is_private(address: str, inside: bool) -> None:
    assert is_trusted(parse_address(address), parse_networks("private")) is inside


@pytest.mark.parametrize(
    "text", ["", ",", "10.0.0.0/33", "proxy", "10.0.0", "10.0.0.0/8;::1", "none,::1", "::1/129", "*"]
)
def test_what_are_no_networks(text: str) -> None:
    with pytest.raises(ValueError, match=r"^not a list of networks such as 127.0.0.0/8,::1$"):
        parse_networks(text)


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("example.gov", "https://example.gov"),
        ("*.example.gov", "https://app.example.gov"),
        ("https://App.example.gov", "https://app.example.gov"),
        ("https://app.example.gov/", "https://app.example.gov"),
        ("http://localhost:8080", "http://localhost:8080"),
        ("http://localhost:1", "http://localhost:1"),
        ("http://localhost:65535", "http://localhost:65535"),
        ("[::1]:8080", "http://[::1]:8080"),
        ("[::1]", "http://[::1]:8080"),
        ("::1", "http://[::1]:8080"),
        ("2001:DB8:0::1", "https://[2001:db8::1]"),
        ("127.0.0.1", "http://127.0.0.1:8080"),
        ("chrome-extension://abcdef", "chrome-extension://abcdef"),
        ("*", "https://anything.example"),
    ],
)
def test_a_good_pattern_lets_its_origin_in(text: str, origin: str) -> None:
    assert OriginPolicy([parse_origin_pattern(text)]).allows(origin, "status.internal")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "https://",
        "https://a.gov/path",
        "a.gov/path",
        "a.gov?x",
        "a b",
        "a.gov b.gov",
        "a.gov:port",
        "a.gov:*",
        "a.gov:0",
        "a.gov:65536",
        "*://a.gov",
        "::1/64",
        "https://::1",
        "[::1",
        "[:::1]",
        "[127.0.0.1]x",
        "user@a.gov",
        "größe.example",
        "a.gov;b.gov",
        "'a.gov'",
        "https:a.gov",
    ],
)
def test_what_is_no_origin_pattern(text: str) -> None:
    with pytest.raises(ValueError, match=r"^not \[scheme://\]host\[:port\] .*, names in ASCII\)$"):
        parse_origin_pattern(text)


def test_the_pattern_of_nobody_lets_only_the_own_host_in() -> None:
    policy = OriginPolicy([NO_ORIGIN])
    assert not policy.disabled
    assert not policy.allows("https://app.example.gov", "status.example.gov")
    assert policy.allows("https://status.example.gov", "status.example.gov")
