"""Which targets are a page, and which nothing; which methods they take (common/web/handshake.py)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.web.handshake import Page, Upgrade, decide
from common.web.http import Head, Response
from common.web.origin import OriginPolicy
from preflightd.route import route as preflight_route
from statusd.route import route
from tests.support.web import ANY_ORIGIN, HOST, decision, make_head, refused, upgrade_head

if TYPE_CHECKING:
    from collections.abc import Callable


# -- pages -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("target", "page"),
    [
        ("/health", Page.HEALTH),
        ("/health?x=1", Page.HEALTH),
        ("/health/live", Page.LIVE),
        ("/metrics", Page.METRICS),
        ("/metrics?x=1", Page.METRICS),
        ("http://host/metrics", Page.METRICS),
        ("HTTPS://user@host:1/metrics?x", Page.METRICS),
    ],
)
def test_pages(method: str, target: str, page: Page) -> None:
    assert decision(make_head(target, method=method)) is page
    assert decision(make_head(target, [], method=method, version="1.0")) is page


# What each target gives on statusd and preflightd, asked for plainly, with and without an upgrade. Only the exact
# bytes are a page; what a decoder or a careless proxy may take for one is nothing; the rest are names, good or bad.
SPELLINGS: Final = [
    ("/metrics", 200, 200),
    ("/metrics?x", 200, 200),
    ("http://h/metrics", 200, 200),
    ("http://h:1/metrics?x", 200, 200),
    ("/metrics/", 404, 404),
    ("/metrics/?x", 404, 404),
    ("/%6detrics", 404, 404),
    ("/%6Detrics/", 404, 404),
    ("/metric%73", 404, 404),
    ("http://h/%6detrics", 404, 404),
    ("http://h/metrics/", 404, 404),
    ("/health", 200, 200),
    ("/health/", 404, 404),
    ("/%68ealth", 404, 404),
    ("/health/live", 200, 200),
    ("/health/live/", 404, 404),
    ("/health%2flive", 404, 404),
    ("/health/liv%65", 404, 404),
    ("/", 404, 404),
    ("//", 404, 404),
    ("http://h", 404, 404),
    # Other names, as far as a run may be called so.
    ("/HEALTH", 400, 426),
    ("/Metrics", 400, 426),
    ("/metrics;x", 400, 426),
    ("/metrics%3Bx", 400, 426),
    ("/metrics.", 400, 426),
    ("//metrics", 400, 400),
    ("/./metrics", 400, 400),
    ("/../metrics", 400, 400),
    ("/%2e/metrics", 400, 400),
    ("/%2Fmetrics", 400, 400),
    ("/metrics//", 400, 400),
    ("/metrics%2F", 400, 400),
    ("/metrics%00", 400, 400),
    ("/metrics%20", 400, 400),
    ("/metrics%09", 400, 400),
    ("/metrics%3Fx", 400, 400),
    ("/metrics#x", 400, 400),
    ("/%256detrics", 400, 400),
    ("/health/../metrics", 400, 400),
    ("metrics", 400, 400),
    ("http:/metrics", 400, 400),
    ("ftp://h/metrics", 400, 400),
]


@pytest.mark.parametrize(("target", "on_statusd", "on_preflightd"), SPELLINGS)
def test_only_its_exact_bytes_are_a_page(target: str, on_statusd: int, on_preflightd: int) -> None:
    for rule, status in ((route, on_statusd), (partial(preflight_route, db=0), on_preflightd)):
        for head, upgraded in ((make_head(target), False), (upgrade_head(target), True)):
            match decide(head, route=rule, origins=ANY_ORIGIN, metrics_enabled=True):
                case Page():
                    assert status == 200
                case Upgrade():
                    assert (upgraded, status) == (True, 426)
                case Response() as response:
                    assert response.status == status


@given(st.binary(max_size=12), st.sampled_from([b"/metrics", b"/health", b"/health/live"]), st.data())
def test_no_other_spelling_is_a_page(junk: bytes, page: bytes, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(page)))
    target = page[:position] + junk + page[position:]
    head = Head("GET", target, "1.1", ((b"host", b"h"),))
    for rule in (route, partial(preflight_route, db=0)):
        if isinstance(decide(head, route=rule, origins=ANY_ORIGIN, metrics_enabled=True), Page):
            assert target.partition(b"?")[0] in {b"/metrics", b"/health", b"/health/live"}


@pytest.mark.parametrize(
    ("target", "origin", "allowed"),
    [
        ("http://status.example.net/run:log", "http://status.example.net", True),
        ("http://user@status.example.net/run:log", "http://status.example.net", True),
        ("http://status.example.net?/run:log", "http://status.example.net", None),
        ("http://elsewhere.example/run:log", f"http://{HOST}", False),
    ],
)
def test_the_host_of_an_absolute_target_counts_more_than_the_header(
    target: str, origin: str, allowed: bool | None
) -> None:
    made = decision(upgrade_head(target, origin=origin), origins=OriginPolicy(["other.example"]))
    if allowed is None:
        assert isinstance(made, Response)
        assert made.status == 404
    else:
        assert isinstance(made, Upgrade) is allowed


def test_a_page_is_a_page_whatever_the_request_wants_to_become() -> None:
    assert decision(upgrade_head("/health")) is Page.HEALTH


# -- refused: the path -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", [upgrade_head, make_head])
@pytest.mark.parametrize("target", ["/", "/?gap=1", "http://host", "http://host/"])
def test_nothing_is_at_the_root(head: Callable[[str], Head], target: str) -> None:
    reason, answer = refused(head(target))
    assert (answer.status, answer.phrase, reason) == (404, "Not Found", "not_found")
    assert answer.line == "there is nothing here"


def test_metrics_are_not_found_where_they_are_disabled() -> None:
    reason, answer = refused(make_head("/metrics"), metrics=False)
    assert (answer.status, reason, answer.line) == (404, "not_found", "there is nothing here")
    assert decision(make_head("/health"), metrics=False) is Page.HEALTH


BAD_PATHS: Final = [
    ("/run", "the path must be /<runid>:<channel>"),
    ("/healthy", "the path must be /<runid>:<channel>"),
    ("/Health", "the path must be /<runid>:<channel>"),
    ("/health/ready", "the path must be /<runid>:<channel>"),
    ("/health//", "the path must be /<runid>:<channel>"),
    ("/metrics/all", "the path must be /<runid>:<channel>"),
    ("//metrics", "the path must be /<runid>:<channel>"),
    ("/run%253Alog", "the path must be /<runid>:<channel>"),
    ("/%", "the path must be /<runid>:<channel>"),
    ("/:log", "the run id is empty"),
    ("/:", "the run id is empty"),
    ("/run:", "the channel is empty"),
    ("/run:/", "the channel is empty"),
    ("/run:log:more", "the channel may only have the characters A-Za-z0-9_.-"),
    ("/run:l;og", "the channel may only have the characters A-Za-z0-9_.-"),
    ("/run:log//", "the channel may only have the characters A-Za-z0-9_.-"),
    ("/run:log%2F", "the channel may only have the characters A-Za-z0-9_.-"),
    ("/run:log%3Fgap=1", "the channel may only have the characters A-Za-z0-9_.-"),
    ("/run:log%0A", "the channel may only have the characters A-Za-z0-9_.-"),
    ("/run:*", "the channel may only have the characters A-Za-z0-9_.-"),
    ("/run:log#top", "the channel may only have the characters A-Za-z0-9_.-"),
    ("//run:log", "the run id may only have the characters A-Za-z0-9_.;-"),
    ("/a/run:log", "the run id may only have the characters A-Za-z0-9_.;-"),
    ("/../run:log", "the run id may only have the characters A-Za-z0-9_.;-"),
    ("/run%20:log", "the run id may only have the characters A-Za-z0-9_.;-"),
    ("/run+:log", "the run id may only have the characters A-Za-z0-9_.;-"),
    ("/run%253B:log", "the run id may only have the characters A-Za-z0-9_.;-"),
    ("/run%00:log", "the run id may only have the characters A-Za-z0-9_.;-"),
    ("/run%0d%0aX:log", "the run id may only have the characters A-Za-z0-9_.;-"),
    ("/run%zz:log", "the run id may only have the characters A-Za-z0-9_.;-"),
    ("/*:log", "the run id may only have the characters A-Za-z0-9_.;-"),
    (f"/{'r' * 257}:log", "the run id is longer than 256 characters"),
    (f"/run:{'c' * 257}", "the channel is longer than 256 characters"),
    (f"/{'%72' * 257}:log", "the run id is longer than 256 characters"),
    ("/r%C3%A4n:log", "the path has characters that no name has"),
    ("/run:%FF", "the path has characters that no name has"),
    ("*", "the path does not begin with a slash"),
    ("run:log", "the path does not begin with a slash"),
    ("ws://host/run:log", "the path does not begin with a slash"),
]


@pytest.mark.parametrize("head", [upgrade_head, make_head])
@pytest.mark.parametrize(("target", "line"), BAD_PATHS)
def test_bad_paths(head: Callable[[str], Head], target: str, line: str) -> None:
    reason, answer = refused(head(target))
    assert (answer.status, answer.phrase, reason, answer.line) == (400, "Bad Request", "bad_path", line)


@pytest.mark.parametrize("target", ["/.:log", "/..:log", "/%2e%2E:log", "/run:.", "/run:.."])
def test_the_directories_are_bad_paths(target: str) -> None:
    reason, answer = refused(upgrade_head(target))
    assert (answer.status, reason) == (400, "bad_path")


# -- refused: the method -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "target", "allowed"),
    [
        ("POST", "/run:log", "GET"),
        ("HEAD", "/run:log", "GET"),
        ("OPTIONS", "/run:log", "GET"),
        ("get", "/run:log", "GET"),
        ("BREW", "/run:log", "GET"),
        ("HEAD", "/", "GET"),
        ("POST", "/health", "GET, HEAD"),
        ("DELETE", "/health/live", "GET, HEAD"),
        ("PUT", "/metrics", "GET, HEAD"),
    ],
)
def test_other_methods(method: str, target: str, allowed: str) -> None:
    reason, answer = refused(make_head(target, method=method))
    assert (answer.status, answer.phrase, reason) == (405, "Method Not Allowed", "method")
    assert (answer.headers["allow"], answer.line) == ([allowed], f"{method} is not possible here")
