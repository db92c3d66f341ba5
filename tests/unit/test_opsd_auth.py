"""Who may do what in opsd: every decision on a request's head."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from common.secret import Secret
from opsd.auth import (
    COOKIE,
    LOGINS,
    MOST_REVOKED,
    REREAD,
    SESSION,
    Guard,
    Refusal,
    Request,
    is_loopback,
    parse_authority,
    same_origin,
)

if TYPE_CHECKING:
    from pathlib import Path

OUR_HOST = {"host": "localhost:9003"}
CHANGE = {**OUR_HOST, "x-ops-request": "1"}


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def guard(token: str | None = None, wall: Clock | None = None, clock: Clock | None = None) -> Guard:
    secret = None if token is None else Secret.literal(token, "OPS_TOKEN")
    return Guard(secret, wall=wall or Clock(), clock=clock or Clock())


def request(
    headers: dict[str, str], *, method: str = "GET", remote: str | None = "127.0.0.1", websocket: bool = False
) -> Request:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    return Request.parse(method, "/api/dev/status", raw, remote, websocket=websocket)


def status(refusal: Refusal | None) -> int | None:
    return None if refusal is None else refusal.status


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("localhost", ("localhost", None)),
        ("LocalHost:9003", ("localhost", 9003)),
        ("[::1]:9003", ("[::1]", 9003)),
        ("a_b.example.gov", ("a_b.example.gov", None)),
        ("", None),
        ("localhost:", None),
        ("localhost:99999999", None),
        ("a b", None),
        ("evil;script-src *", None),
        ("user@host", None),
        ("::1", None),
        ("host/path", None),
    ],
)
def test_an_authority_is_a_host_and_perhaps_a_port(text: str, parsed: tuple[str, int | None] | None) -> None:
    assert parse_authority(text) == parsed


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST.", "127.0.0.1", "127.9.9.9", "[::1]", "::1", "::ffff:127.0.0.1"]
)
def test_loopback_hosts(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", [None, "", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1", "0.0.0.0", "2130706433"]
)
def test_other_hosts(host: str | None) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(
    ("origin", "authority", "same"),
    [
        ("http://localhost:9003", ("localhost", 9003), True),
        ("http://LOCALHOST:9003", ("localhost", 9003), True),
        ("https://ops.example.gov", ("ops.example.gov", None), True),
        ("https://ops.example.gov", ("ops.example.gov", 443), True),
        ("http://ops.example.gov", ("ops.example.gov", 80), True),
        ("http://[::1]:9003", ("[::1]", 9003), True),
        ("http://localhost:9004", ("localhost", 9003), False),
        ("http://127.0.0.1:9003", ("localhost", 9003), False),
        ("http://localhost:9003.evil.example", ("localhost", 9003), False),
        ("https://ops.example.gov", ("ops.example.gov", 9003), False),
        ("null", ("localhost", 9003), False),
        ("", ("localhost", 9003), False),
        ("file://localhost:9003", ("localhost", 9003), False),
        ("http://localhost:9003/", ("localhost", 9003), False),
        ("http://user@localhost:9003", ("localhost", 9003), False),
        ("http://[", ("localhost", 9003), False),
    ],
)
def test_an_origin_is_ours_when_host_and_port_are(origin: str, authority: tuple[str, int | None], same: bool) -> None:
    assert same_origin(origin, authority) is same


@pytest.mark.parametrize(
    ("host", "without_token", "with_token"),
    [
        ("localhost:9003", None, None),
        ("127.0.0.1:1", None, None),
        ("[::1]:9003", None, None),
        ("evil.example:9003", 421, None),
        ("localhost.evil.example", 421, None),
        ("bad host", 400, 400),
        ("", 400, 400),
    ],
)
def test_without_a_token_only_names_of_this_machine(
    host: str, without_token: int | None, with_token: int | None
) -> None:
    assert status(guard().refuse_host(request({"host": host}))) == without_token
    assert status(guard("secret").refuse_host(request({"host": host}))) == with_token


def test_two_host_headers_are_one_too_many() -> None:
    head = Request.parse("GET", "/", [(b"Host", b"localhost"), (b"host", b"localhost")], None, websocket=False)
    assert status(guard().refuse_host(head)) == 400


@pytest.mark.parametrize(
    ("headers", "known"),
    [
        ({}, False),
        ({"authorization": "Bearer sesame"}, True),
        ({"authorization": "bearer   sesame "}, True),
        ({"authorization": "Basic sesame"}, False),
        ({"authorization": "sesame"}, False),
        ({"authorization": "Bearer "}, False),
        ({"authorization": "Bearer sesam"}, False),
        ({"authorization": "Bearer sesame2"}, False),
        ({"x-tes-dev-token": "sesame"}, True),
        ({"x-tes-dev-token": "Sesame"}, False),
        ({"x-tes-dev-token": ""}, False),
        ({"x-tes-dev-token": "wrong", "authorization": "Bearer sesame"}, True),
        ({"cookie": f"{COOKIE}=sesame"}, False),
        ({"cookie": f"{COOKIE}=9999999999.aa.bb"}, False),
    ],
)
def test_the_token_in_either_header(headers: dict[str, str], known: bool) -> None:
    head = request({**OUR_HOST, **headers})
    assert guard("sesame").knows(head) is known
    assert status(guard("sesame").refuse_read(head)) == (None if known else 401)
    assert guard().knows(head)


def test_a_token_beyond_ascii_is_compared_as_utf8() -> None:
    sent = "sésame".encode().decode("latin-1")
    assert guard("sésame").knows(request({**OUR_HOST, "authorization": f"Bearer {sent}"}))
    assert not guard("sésame").knows(request({**OUR_HOST, "authorization": "Bearer sésame"}))


def test_a_websocket_needs_an_origin_of_ours_or_none() -> None:
    def refused(origin: str | None) -> int | None:
        headers = OUR_HOST if origin is None else {**OUR_HOST, "origin": origin}
        return status(guard().refuse_read(request(headers, websocket=True)))

    assert refused(None) is None
    assert refused("http://localhost:9003") is None
    assert refused("http://evil.example") == 403
    assert refused("null") == 403


@pytest.mark.parametrize(
    ("headers", "remote", "refused"),
    [
        (CHANGE, "127.0.0.1", None),
        (CHANGE, "::1", None),
        ({**CHANGE, "origin": "http://localhost:9003"}, "127.0.0.1", None),
        ({**CHANGE, "origin": "http://localhost:9003", "sec-fetch-site": "same-origin"}, "127.0.0.1", None),
        (OUR_HOST, "127.0.0.1", 403),
        ({**OUR_HOST, "x-ops-request": "0"}, "127.0.0.1", 403),
        ({**CHANGE, "origin": "http://evil.example"}, "127.0.0.1", 403),
        ({**CHANGE, "origin": "null"}, "127.0.0.1", 403),
        ({**CHANGE, "sec-fetch-site": "cross-site"}, "127.0.0.1", 403),
        ({**CHANGE, "sec-fetch-site": "same-site"}, "127.0.0.1", 403),
        ({**CHANGE, "x-forwarded-for": "10.0.0.1"}, "127.0.0.1", 403),
        (CHANGE, "10.0.0.1", 403),
        (CHANGE, None, 403),
    ],
)
def test_a_change_without_a_token_comes_from_this_machine_and_our_page(
    headers: dict[str, str], remote: str | None, refused: int | None
) -> None:
    assert status(guard().refuse_change(request(headers, method="POST", remote=remote))) == refused


@pytest.mark.parametrize(
    ("headers", "refused"),
    [
        ({**CHANGE, "authorization": "Bearer sesame"}, None),
        (CHANGE, 401),
        ({**OUR_HOST, "authorization": "Bearer sesame"}, 403),
        ({**CHANGE, "authorization": "Bearer sesame", "origin": "http://evil.example"}, 403),
        ({**CHANGE, "authorization": "Bearer wrong"}, 401),
    ],
)
def test_a_change_with_a_token_needs_it_from_anywhere(headers: dict[str, str], refused: int | None) -> None:
    assert status(guard("sesame").refuse_change(request(headers, method="POST", remote="10.0.0.1"))) == refused


def test_a_login_needs_no_token_but_no_foreign_page_either() -> None:
    assert guard("sesame").refuse_change(request(OUR_HOST, method="POST"), login=True) is None
    foreign = request({**OUR_HOST, "origin": "http://evil.example"}, method="POST")
    assert status(guard("sesame").refuse_change(foreign, login=True)) == 403


def session_of(cookie: str) -> dict[str, str]:
    return {**OUR_HOST, "cookie": f"other=1; {cookie.partition(';')[0]}"}


def test_a_cookie_stands_for_the_token_until_it_ends() -> None:
    wall = Clock()
    doorman = guard("sesame", wall=wall)
    cookie = doorman.new_cookie(request(OUR_HOST))
    assert {"HttpOnly", "SameSite=Strict", "Path=/", f"Max-Age={SESSION}"} <= set(cookie.split("; "))
    assert "Secure" not in cookie
    assert "sesame" not in cookie
    head = request(session_of(cookie))
    assert doorman.knows(head)
    # A new process knows it too: it is a proof, not a memory.
    assert guard("sesame", wall=wall).knows(head)
    assert not guard("another token", wall=wall).knows(head)
    wall.now += SESSION - 1
    assert doorman.knows(head)
    wall.now += 1
    assert not doorman.knows(head)


def test_a_cookie_for_a_page_behind_tls_is_sent_over_tls_only() -> None:
    head = request({"host": "ops.example.gov", "origin": "https://ops.example.gov"})
    assert "; Secure" in guard("sesame").new_cookie(head)


@pytest.mark.parametrize("change", ["longer", "proof", "name"])
def test_a_cookie_that_was_tampered_with_is_none(change: str) -> None:
    doorman = guard("sesame")
    value = doorman.new_cookie(request(OUR_HOST)).partition(";")[0].removeprefix(f"{COOKIE}=")
    expires, name, proof = value.split(".")
    forged = {
        "longer": f"{int(expires) + 1}.{name}.{proof}",
        "proof": f"{expires}.{name}.{proof[:-1]}{'0' if proof[-1] != '0' else '1'}",
        "name": f"{expires}.{'0' * 32}.{proof}",
    }
    assert doorman.knows(request({**OUR_HOST, "cookie": f"{COOKIE}={value}"}))
    assert not doorman.knows(request({**OUR_HOST, "cookie": f"{COOKIE}={forged[change]}"}))


@pytest.mark.parametrize("cookie", ["", "=", ";;;", COOKIE, f"{COOKIE}=", f"{COOKIE}=..", f"{COOKIE}=é.é.é", "a=b; c"])
def test_cookies_that_are_nonsense_are_none(cookie: str) -> None:
    assert not guard("sesame").knows(request({**OUR_HOST, "cookie": cookie}))


def test_after_the_logout_a_cookie_is_none_but_others_are() -> None:
    doorman = guard("sesame")
    mine, other = (doorman.new_cookie(request(OUR_HOST)) for _ in range(2))
    removal = doorman.end_session(request(session_of(mine)))
    assert "Max-Age=0" in removal
    assert not doorman.knows(request(session_of(mine)))
    assert doorman.knows(request(session_of(other)))
    assert "Max-Age=0" in doorman.end_session(request(OUR_HOST))


def test_logouts_are_remembered_within_bounds() -> None:
    wall = Clock()
    doorman = guard("sesame", wall=wall)
    first = doorman.new_cookie(request(OUR_HOST))
    doorman.end_session(request(session_of(first)))
    wall.now += SESSION
    doorman.end_session(request(session_of(doorman.new_cookie(request(OUR_HOST)))))
    assert len(doorman._revoked) == 1
    assert MOST_REVOKED >= 1000


def test_logins_are_limited_by_the_second() -> None:
    clock = Clock()
    doorman = guard("sesame", clock=clock)
    assert [doorman.admit_login() for _ in range(LOGINS + 2)] == [True] * LOGINS + [False] * 2
    clock.now += 0.999
    assert not doorman.admit_login()
    clock.now += 0.001
    assert doorman.admit_login()


def test_a_rotated_token_counts_at_once_and_its_sessions_end(tmp_path: Path) -> None:
    clock, file = Clock(), tmp_path / "token"
    file.write_text("old\n")
    doorman = Guard(Secret.file(file, "OPS_TOKEN_FILE"), wall=Clock(), clock=clock)
    old = request({**OUR_HOST, "authorization": "Bearer old"})
    session = request(session_of(doorman.new_cookie(request(OUR_HOST))))
    assert doorman.knows(old)
    assert doorman.knows(session)
    file.write_text("new\n")
    clock.now += REREAD
    assert not doorman.knows(old)
    assert not doorman.knows(session)
    assert doorman.knows(request({**OUR_HOST, "authorization": "Bearer new"}))


def test_while_the_token_file_is_unreadable_nobody_passes(tmp_path: Path) -> None:
    clock, file = Clock(), tmp_path / "token"
    file.write_text("sesame")
    doorman = Guard(Secret.file(file, "OPS_TOKEN_FILE"), wall=Clock(), clock=clock)
    head = request({**OUR_HOST, "authorization": "Bearer sesame"})
    session = request(session_of(doorman.new_cookie(request(OUR_HOST))))
    file.unlink()
    clock.now += REREAD
    assert not doorman.knows(head)
    assert not doorman.knows(session)
    assert not doorman.is_token(b"")
    file.write_text("sesame")
    clock.now += REREAD
    assert doorman.knows(head)
    assert doorman.knows(session)
