"""What the operator's listener is asked, and who may ask (common/admin/routes.py, access.py)."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest

from common.admin.access import Access
from common.admin.routes import AdminPage, SnapshotOf, TopicOf, decide
from common.admin.server import takes_gzip
from common.config import ListenAddress, UnixAddress
from common.secret import Secret
from common.web.http import Response
from tests.support.web import make_head

if TYPE_CHECKING:
    from pathlib import Path

LOOPBACK = ListenAddress("127.0.0.1", 9102)
ELSEWHERE = ListenAddress("0.0.0.0", 9102)
UNIX = UnixAddress("/run/admin.sock")
TOKEN = Secret.literal("s3cret", "STATUS_ADMIN_TOKEN")
OWN = [("Host", "127.0.0.1:9102")]


def asked(
    target: str,
    access: Access,
    headers: list[tuple[str, str]] | None = None,
    *,
    method: str = "GET",
) -> AdminPage | SnapshotOf | TopicOf | int:
    """What is asked, or the status of the refusal."""
    decision = decide(make_head(target, OWN if headers is None else headers, method=method), access)
    return decision.status if isinstance(decision, Response) else decision


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("target", "page"),
    [
        ("/workers/status", AdminPage.STATUS),
        ("/workers/status?at=once", AdminPage.STATUS),
        ("/events", AdminPage.EVENTS),
        ("/metrics", AdminPage.METRICS),
        ("/workers/snapshot/1", SnapshotOf("1")),
        ("/workers/snapshot/a/b", SnapshotOf("a/b")),
        ("/topics?name=run:log", TopicOf("run:log")),
        ("/topics?a=b&name=batch%3B%3Bname%3Alog&c", TopicOf("batch;;name:log")),
        ("http://localhost/topics?name=run", TopicOf("run")),
        ("/topics?name=", TopicOf("")),
    ],
)
def test_the_routes(target: str, page: AdminPage | SnapshotOf | TopicOf, method: str) -> None:
    assert asked(target, Access(LOOPBACK, None), method=method) == page


@pytest.mark.parametrize(
    ("target", "method", "status"),
    [
        ("/", "GET", 404),
        ("/health", "GET", 404),
        ("/topics", "GET", 400),
        ("/topics?", "GET", 400),
        ("/topics?name=run:log&name=run:log", "GET", 400),
        ("/topics?Name=run:log", "GET", 400),
        ("/topics?name=run:log", "POST", 405),
        ("/topics/run:log", "GET", 404),
        ("/run:log", "GET", 404),
        ("/workers", "GET", 404),
        ("/workers/snapshot", "GET", 404),
        ("/nothing", "POST", 404),
        ("/%ff", "GET", 404),
        # A page is its exact bytes: a proxy's rule is about these.
        ("/workers/status/", "GET", 404),
        ("/workers%2Fstatus", "GET", 404),
        ("/%65vents", "GET", 404),
        ("/metrics/", "GET", 404),
        ("//metrics", "GET", 404),
        ("/workers%2Fsnapshot/1", "GET", 404),
        ("*", "OPTIONS", 400),
        ("/workers/status", "POST", 405),
        ("/events", "DELETE", 405),
        ("/workers/snapshot/1", "PUT", 405),
    ],
)
def test_what_is_refused(target: str, method: str, status: int) -> None:
    assert asked(target, Access(LOOPBACK, None), method=method) == status


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.0.0.1:9102", "127.8.9.10:1", "localhost", "LocalHost:9102", "localhost.:1", "[::1]", "[::1]:80"],
)
def test_this_machine_is_served_under_its_own_names(host: str) -> None:
    assert asked("/events", Access(LOOPBACK, None), [("Host", host)]) == AdminPage.EVENTS


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:9102", "127.0.0.1.evil.example", "localhost.evil.example", "192.0.2.1", "", "[::2]"],
)
def test_a_foreign_host_is_refused_on_loopback_whatever_it_asks(host: str) -> None:
    for address in (LOOPBACK, ListenAddress("localhost", 1), ListenAddress("::1", 1)):
        assert asked("/events", Access(address, None), [("Host", host)]) == 421
        assert asked("/nothing", Access(address, TOKEN), [("Host", host)]) == 421


@pytest.mark.parametrize("target", ["http://evil.example/events", "http://evil.example:9102/events?x"])
def test_a_foreign_host_in_the_target_is_refused_too(target: str) -> None:
    assert asked(target, Access(LOOPBACK, None)) == 421
    assert asked("http://localhost/events", Access(LOOPBACK, None), [("Host", "evil.example")]) == 421
    assert asked("http://localhost:9102/events", Access(LOOPBACK, None)) == AdminPage.EVENTS


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([], None),
        ([("Sec-Fetch-Site", "same-origin")], None),
        ([("Sec-Fetch-Site", "none")], None),
        ([("Sec-Fetch-Site", "cross-site")], 403),
        ([("Sec-Fetch-Site", "same-site")], 403),
        ([("Sec-Fetch-Site", "CROSS-SITE")], 403),
        ([("Sec-Fetch-Site", "whatever")], 403),
        ([("Sec-Fetch-Site", "")], 403),
        ([("Sec-Fetch-Site", "none"), ("Sec-Fetch-Site", "cross-site")], 403),
        ([("Origin", "http://127.0.0.1:9102")], None),
        ([("Origin", "http://127.0.0.1:9103")], 403),
        ([("Origin", "http://127.0.0.1")], 403),
        ([("Origin", "http://localhost:9102")], 403),
        ([("Origin", "https://evil.example")], 403),
        ([("Origin", "null")], 403),
        ([("Origin", "")], 403),
        ([("Origin", "http://127.0.0.1:9102"), ("Origin", "https://evil.example")], 403),
        ([("Sec-Fetch-Site", "same-origin"), ("Origin", "https://evil.example")], 403),
    ],
)
@pytest.mark.parametrize("address", [LOOPBACK, UNIX])
def test_a_page_of_another_site_may_not_ask(
    headers: list[tuple[str, str]], status: int | None, address: ListenAddress | UnixAddress
) -> None:
    for target in ("/events", "/workers/status", "/metrics", "/workers/snapshot/1"):
        answer = asked(target, Access(address, None), [*OWN, *headers])
        assert (answer if isinstance(answer, int) else None) == status


def test_a_page_of_another_site_is_no_guess_at_the_token() -> None:
    headers = [*OWN, ("Sec-Fetch-Site", "cross-site"), bearer("wrong")]
    access, client = Access(LOOPBACK, TOKEN), ip_address("192.0.2.1")
    for _ in range(100):
        refused = decide(make_head("/events", headers), access, client)
        assert isinstance(refused, Response)
        assert refused.status == 403


def test_elsewhere_and_on_a_unix_socket_any_host_will_do() -> None:
    assert asked("/events", Access(UNIX, None), [("Host", "anything")]) == AdminPage.EVENTS
    assert asked("/events", Access(ELSEWHERE, TOKEN), [("Host", "statusd"), bearer("s3cret")]) == AdminPage.EVENTS


def bearer(token: str, scheme: str = "Bearer") -> tuple[str, str]:
    """A header with this token."""
    return ("Authorization", f"{scheme} {token}")


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
@pytest.mark.parametrize("address", [LOOPBACK, UNIX, ELSEWHERE])
def test_the_token_opens(address: ListenAddress | UnixAddress, scheme: str) -> None:
    assert asked("/metrics", Access(address, TOKEN), [*OWN, bearer("s3cret", scheme)]) == AdminPage.METRICS


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [bearer("")],
        [bearer("S3cret")],
        [bearer("s3cret!")],
        [bearer("s3cre")],
        [bearer("s3cret", "Basic")],
        [("Authorization", "s3cret")],
        [("Authorization", "")],
        [bearer("s3cret"), bearer("s3cret")],
        [bearer("s\xe9cret")],
    ],
)
@pytest.mark.parametrize("address", [LOOPBACK, UNIX, ELSEWHERE])
@pytest.mark.parametrize("target", ["/metrics", "/events", "/nothing", "/workers/snapshot/1"])
def test_without_the_token_nothing_is_told(
    target: str, address: ListenAddress | UnixAddress, headers: list[tuple[str, str]]
) -> None:
    decision = decide(make_head(target, [*OWN, *headers]), Access(address, TOKEN))
    assert isinstance(decision, Response)
    assert decision.status == 401
    assert ("WWW-Authenticate", "Bearer") in decision.headers


def test_a_rotated_token_needs_no_restart_and_a_lost_one_lets_nobody_in(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("old\n")
    access = Access(LOOPBACK, Secret.file(path, "STATUS_ADMIN_TOKEN_FILE"))
    assert asked("/metrics", access, [*OWN, bearer("old")]) == AdminPage.METRICS
    path.write_text("new\n")
    assert asked("/metrics", access, [*OWN, bearer("old")]) == 401
    assert asked("/metrics", access, [*OWN, bearer("new")]) == AdminPage.METRICS
    path.write_text("")
    assert asked("/metrics", access, [*OWN, bearer("")]) == 503
    path.unlink()
    assert asked("/metrics", access, [*OWN, bearer("new")]) == 503


@pytest.mark.parametrize(
    ("value", "takes"),
    [
        (None, False),
        ("gzip", True),
        ("GZip", True),
        ("br, gzip;q=0.5", True),
        ("deflate", False),
        ("gzip;q=0", False),
        ("gzip; q=0.0", False),
        ("identity", False),
    ],
)
def test_who_takes_gzip(value: str | None, takes: bool) -> None:
    headers = OWN if value is None else [*OWN, ("Accept-Encoding", value)]
    assert takes_gzip(make_head("/", headers)) is takes
