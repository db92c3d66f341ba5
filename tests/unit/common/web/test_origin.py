"""Which pages may open a socket, pattern by pattern."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from common.web.origin import OriginPolicy, is_own

OWN = "status.example.net"


def allows(patterns: list[str], origin: str | None, host: str | None = OWN) -> bool:
    return OriginPolicy(patterns).allows(origin, host)


@pytest.mark.parametrize("origin", [None, "https://evil.example", "null", "", "garbage", "http://[", "http://a:b"])
def test_without_patterns_every_origin_passes(origin: str | None) -> None:
    policy = OriginPolicy([])
    assert policy.disabled
    assert policy.allows(origin, OWN)


def test_with_patterns_a_request_without_an_origin_is_no_browsers_and_passes() -> None:
    assert not OriginPolicy(["example.gov"]).disabled
    assert allows(["example.gov"], None)


@pytest.mark.parametrize(
    ("pattern", "origin", "allowed"),
    [
        # Hosts, in any case, with any scheme and port.
        ("example.gov", "https://example.gov", True),
        ("example.gov", "http://example.gov", True),
        ("example.gov", "https://example.gov:8443", True),
        ("example.gov", "HTTPS://EXAMPLE.GOV", True),
        ("Example.GOV", "https://example.gov", True),
        ("example.gov", "https://www.example.gov", False),
        ("example.gov", "https://example.gov.evil.net", False),
        ("example.gov", "https://evil-example.gov", False),
        ("example.gov", "https://exampleXgov", False),
        ("example.gov", "https://example.gov@evil.net", False),
        ("example.gov", "https://evil.net/example.gov", False),
        ("example.gov", "https://evil.net#example.gov", False),
        ("example.gov", "https://evil.net?example.gov", False),
        ("example.gov", "https://example.gov\n.evil.net", False),
        # Wildcards stand for any run of characters, dots included.
        ("*.example.gov", "https://app.example.gov", True),
        ("*.example.gov", "https://a.b.example.gov", True),
        ("*.EXAMPLE.gov", "https://APP.example.GOV", True),
        ("*.example.gov", "https://example.gov", False),
        ("*.example.gov", "https://evilexample.gov", False),
        ("*.example.gov", "https://app.example.gov.evil.net", False),
        ("app-*.example.gov", "https://app-7.example.gov", True),
        ("app-*.example.gov", "https://app.example.gov", False),
        ("app.*", "https://app.example.gov", True),
        ("*", "https://anything.example", True),
        # A pattern's dots and brackets are themselves.
        ("a.c", "https://abc", False),
        ("a+", "https://aa", False),
        # A scheme must match if the pattern has one.
        ("https://example.gov", "https://example.gov", True),
        ("https://example.gov", "https://example.gov:8443", True),
        ("https://example.gov", "http://example.gov", False),
        ("HTTPS://example.gov", "https://example.gov", True),
        ("https://*.example.gov", "https://app.example.gov", True),
        ("https://*.example.gov", "http://app.example.gov", False),
        ("https://*", "https://anything.example", True),
        ("https://*", "http://anything.example", False),
        ("http://example.gov", "chrome-extension://example.gov", False),
        # And so must a port; an origin leaves its scheme's own port out.
        ("example.gov:8443", "https://example.gov:8443", True),
        ("example.gov:8443", "https://example.gov", False),
        ("example.gov:8443", "https://example.gov:844", False),
        ("example.gov:443", "https://example.gov", True),
        ("example.gov:443", "http://example.gov", False),
        ("example.gov:80", "http://example.gov", True),
        ("http://localhost:*", "http://localhost:5173", False),
        ("https://example.gov:443", "https://example.gov", True),
        ("https://*.example.gov:8443", "https://app.example.gov:8443", True),
        ("*:8443", "https://anything.example:8443", True),
        ("*:8443", "https://anything.example", False),
        # Addresses.
        ("127.0.0.1", "http://127.0.0.1:8080", True),
        ("[::1]", "http://[::1]", True),
        ("[::1]", "http://[::1]:8080", True),
        ("[::1]:8080", "http://[::1]:8080", True),
        ("[::1]:8080", "http://[::1]", False),
        ("http://[2001:DB8::1]:80", "http://[2001:db8::1]", True),
        ("[::1]", "http://[::2]", False),
        ("::1", "http://[::1]:8080", True),
        ("::1", "http://[::2]", False),
        ("2001:db8:0::1", "http://[2001:DB8::0:1]", True),
        ("http://[::ffff:192.0.2.1]", "http://[::ffff:c000:201]", True),
        ("127.0.0.1", "http://127.0.0.1.evil.net", False),
        # Names are as browsers write them: a trailing dot is another origin, other alphabets are in Punycode.
        ("example.gov", "https://example.gov.", False),
        ("example.gov.", "https://example.gov.", True),
        ("xn--grn-hoa.example", "https://xn--grn-hoa.example", True),
        ("xn--grn-hoa.example", "https://gr\xfcn.example", False),
        ("*", "https://gr\xfcn.example", False),
        # Ports are numbers from 1 to 65535, without zeros before them.
        ("example.gov", "https://example.gov:65535", True),
        ("example.gov", "https://example.gov:65536", False),
        ("example.gov", "https://example.gov:0", False),
        ("example.gov:443", "https://example.gov:0443", False),
        ("example.gov", "https://example.gov:", False),
        ("example.gov", "https://example.gov:4 43", False),
        # An origin has no user, no path, no query.
        ("example.gov", "https://user@example.gov", False),
        ("example.gov", "https://user:password@example.gov", False),
        ("example.gov", "https://example.gov/", False),
        ("example.gov", "https://example.gov\\evil.net", False),
        ("example.gov", "https://%65xample.gov", False),
        ("example.gov", "example.gov", False),
        ("example.gov", "//example.gov", False),
        # Of the shell's wildcards only the star is meant.
        ("exampl?.gov", "https://example.gov", False),
        ("[a-z]xample.gov", "https://example.gov", False),
    ],
)
def test_patterns(pattern: str, origin: str, allowed: bool) -> None:
    assert allows([pattern], origin) is allowed
    assert allows(["other.example", pattern], origin) is allowed
    assert allows([f"  {pattern} "], origin) is allowed


@pytest.mark.parametrize(
    ("origin", "host", "allowed"),
    [
        ("https://status.example.net", "status.example.net", True),
        ("https://STATUS.example.net", "Status.Example.NET", True),
        ("http://status.example.net", "status.example.net", True),
        ("https://status.example.net", "status.example.net:443", True),
        ("https://status.example.net:443", "status.example.net", True),
        ("http://localhost:9002", "localhost:9002", True),
        ("http://[::1]:9002", "[::1]:9002", True),
        ("http://127.0.0.1:9002", "127.0.0.1:9002", True),
        ("http://localhost:5173", "localhost:9002", False),
        ("https://status.example.net:8443", "status.example.net", False),
        ("https://status.example.net", "status.example.net:80", False),
        ("https://evil.net", "status.example.net", False),
        ("https://status.example.net.evil.net", "status.example.net", False),
        ("https://status.example.net", "", False),
        ("https://status.example.net", None, False),
        ("https://status.example.net", "status.example.net:port", False),
        ("https://status.example.net", "[", False),
        ("null", "null", False),
        ("null", "", False),
        ("", "", False),
    ],
)
def test_the_requests_own_host_passes(origin: str, host: str | None, allowed: bool) -> None:
    assert allows(["other.example"], origin, host) is allowed


@pytest.mark.parametrize("origin", ["null", "", "garbage", "file://", "about:blank", "://", "//", "*"])
def test_an_origin_without_a_host_passes_a_bare_star_only(origin: str) -> None:
    assert not allows(["*.example.gov", "https://*", "?", "*:443"], origin)
    assert allows(["*"], origin)


@pytest.mark.parametrize("odd", [*map(chr, range(0x21)), "\x7f", "\x80", "\x85", "\xa0", "\xad"])
def test_an_origin_with_a_tab_or_its_like_never_matches(odd: str) -> None:
    # Python's own parser of URLs takes some of them out before it looks.
    origins = [
        "https://exam{}ple.gov",
        "https://example.gov{}",
        "{}https://example.gov",
        "ht{}tps://example.gov",
        "https:/{}/example.gov",
        "https://example.gov:4{}43",
        "https://example.gov{}https://example.gov",
    ]
    for origin in origins:
        said = origin.format(odd)
        assert not allows(["example.gov", "*.gov", "*", "https://*"], said, "example.gov")


@pytest.mark.parametrize(
    ("origin", "host", "own"),
    [
        ("http://127.0.0.1:9102", "127.0.0.1:9102", True),
        ("http://[::1]:9102", "[0:0::1]:9102", True),
        ("https://ops.example.gov", "ops.example.gov", True),
        ("https://ops.example.gov", "ops.example.gov:443", True),
        ("http://127.0.0.1:9003", "127.0.0.1:9102", False),
        ("http://localhost:9102", "127.0.0.1:9102", False),
        ("null", "null", False),
        ("", "", False),
        ("https://ops.example.gov", None, False),
    ],
)
def test_whose_page_it_is(origin: str, host: str | None, own: bool) -> None:
    assert is_own(origin, host) is own


@pytest.mark.parametrize("origin", ["http://[", "http://[::1", "http://example.gov:port", "http://example.gov:99999"])
def test_an_origin_that_is_none_is_refused(origin: str) -> None:
    assert not allows(["example.gov", "*.gov"], origin)


@given(st.text(st.characters(max_codepoint=255)), st.text(st.characters(max_codepoint=255)))
@example("http://\u00b5\u00bd", "\u00bd")
@example("http://a:\u00b2", "a:\u00b2")
def test_whatever_comes_is_decided(origin: str, host: str) -> None:
    assert isinstance(allows(["*.example.gov", "https://a:1"], origin, host), bool)


@pytest.mark.sensitive
@pytest.mark.parametrize("pattern", ["*.*.example.gov", "*.*.*.*.example.gov"])
def test_no_origin_makes_the_patterns_work_long(pattern: str) -> None:
    # Where each wildcard tries every rest of the host, a host four times as long takes 16 times as long or more, and
    # the event loop waits for seconds.
    policy = OriginPolicy([pattern])

    def least(size: int) -> float:
        """Seconds of CPU that a host of so many dots takes, whatever else comes between."""
        seconds = []
        for _ in range(15):
            start = time.thread_time()
            assert not policy.allows(f"https://{'.' * size}", OWN)
            seconds.append(time.thread_time() - start)
        return min(seconds)

    # The longer one first: were it slow, the test would be slow only once.
    longer, shorter = least(400), least(100)
    assert longer < 10 * shorter
