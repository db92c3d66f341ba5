"""Who may do what in opsd: every decision on a request's head."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from common.config.addresses import parse_networks
from common.guesses import BURST
from common.secret import Secret
from common.web.forwarded import parse_address
from opsd.auth import (
    COOKIE,
    GUESS_EVERY,
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
        ("http://[0:0::1]:9003", ("[::1]", 9003), True),
        # What no browser sends: a parser of URLs would drop or pass over it.
        ("http://localhost:90\t03", ("localhost", 9003), False),
        ("http://local\thost:9003", ("localhost", 9003), False),
        ("\x01http://localhost:9003", ("localhost", 9003), False),
        ("http://localhost:9003?", ("localhost", 9003), False),
        ("http://localhost:9003#", ("localhost", 9003), False),
        ("http://localhost:09003", ("localhost", 9003), False),
        ("capacitor://localhost", ("localhost", None), False),
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


def test_a_change_of_two_origins_or_for_no_host_is_of_no_page_of_ours() -> None:
    headers = [(name.encode(), value.encode()) for name, value in CHANGE.items()]
    ours = (b"origin", b"http://localhost:9003")
    two = Request.parse("POST", "/api/dev/tmux/stop", [*headers, ours, ours], "127.0.0.1", websocket=False)
    assert status(guard().refuse_change(two)) == 403
    hostless = Request.parse("POST", "/api/dev/tmux/stop", headers[1:], "127.0.0.1", websocket=False)
    assert status(guard().refuse_change(hostless)) == 403


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


def test_of_too_many_logouts_the_latest_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opsd.auth.MOST_REVOKED", 2)
    doorman = guard("sesame")
    cookies = [doorman.new_cookie(request(OUR_HOST)) for _ in range(3)]
    for cookie in cookies:
        doorman.end_session(request(session_of(cookie)))
    assert [doorman.knows(request(session_of(cookie))) for cookie in cookies] == [True, False, False]


def bearer(token: str) -> dict[str, str]:
    return {**OUR_HOST, "authorization": f"Bearer {token}"}


def test_who_guesses_is_not_listened_to_for_a_while_and_everybody_else_is() -> None:
    clock = Clock()
    heard: list[object] = []
    doorman = Guard(Secret.literal("sesame", "OPS_TOKEN"), wall=Clock(), clock=clock, on_guess=heard.append)
    cookie = session_of(doorman.new_cookie(request(OUR_HOST)))
    guesses = [doorman.refuse_unknown(request(bearer(f"guess {n}"), remote="192.0.2.1")) for n in range(BURST + 5)]
    assert [status(refusal) for refusal in guesses] == [401] * BURST + [429] * 5
    assert heard == [parse_address("192.0.2.1")] * (BURST + 5)
    # The token itself, from there: it would tell who guesses that it is right.
    refusal = doorman.refuse_unknown(request(bearer("sesame"), remote="192.0.2.1"))
    assert refusal is not None
    assert (refusal.status, refusal.headers) == (429, (("Retry-After", "2"),))
    # A session is no guess; neither is asking without a token.
    assert doorman.knows(request(cookie, remote="192.0.2.1"))
    assert status(doorman.refuse_unknown(request(OUR_HOST, remote="192.0.2.1"))) == 401
    for remote in ("192.0.2.2", "2001:db8::1", None):
        assert doorman.knows(request(bearer("sesame"), remote=remote))
    clock.now += GUESS_EVERY
    assert doorman.knows(request(bearer("sesame"), remote="192.0.2.1"))


def test_a_login_and_both_headers_are_guesses_alike() -> None:
    doorman = guard("sesame")
    head = request({**bearer("wrong"), "x-tes-dev-token": "wrong too"}, remote="192.0.2.1")
    for _ in range(BURST // 2):
        assert status(doorman.refuse_unknown(head)) == 401
    assert status(doorman.refuse_tokens(head, [b"sesame"])) == 429
    assert doorman.refuse_tokens(request(OUR_HOST, remote="192.0.2.2"), [b"sesame"]) is None


def test_behind_a_trusted_proxy_the_client_is_who_it_says() -> None:
    trusted = parse_networks("127.0.0.0/8,10.0.0.0/8")
    doorman = Guard(Secret.literal("sesame", "OPS_TOKEN"), wall=Clock(), clock=Clock(), trusted=trusted)

    def asked(token: str, *forwarded: str, remote: str = "127.0.0.1") -> int | None:
        raw = [(b"host", b"localhost:9003"), (b"authorization", f"Bearer {token}".encode())]
        raw += [(b"x-forwarded-for", value.encode()) for value in forwarded]
        return status(doorman.refuse_unknown(Request.parse("GET", "/api/", raw, remote, websocket=False)))

    for n in range(BURST):
        # What a client says of itself stands before what the proxies add, on the same line or the next.
        assert asked("wrong", f"203.0.113.{n}, 192.0.2.1, 10.0.0.1") == 401
    assert asked("sesame", "192.0.2.1") == 429
    assert asked("sesame", "203.0.113.1", "192.0.2.1") == 429
    assert asked("sesame", "192.0.2.2") is None
    # Nobody else's word is taken.
    assert asked("sesame", "192.0.2.2", remote="192.0.2.1") == 429


def test_all_addresses_of_a_network_of_ipv6_are_one() -> None:
    doorman = guard("sesame")
    for n in range(BURST):
        assert not doorman.knows(request(bearer("wrong"), remote=f"2001:db8:0:1::{n + 1:x}"))
    assert status(doorman.refuse_unknown(request(bearer("sesame"), remote="2001:db8:0:1:ffff::"))) == 429
    assert doorman.knows(request(bearer("sesame"), remote="2001:db8:0:2::1"))


def test_whom_a_request_is_counted_to() -> None:
    doorman = Guard(None, wall=Clock(), clock=Clock(), trusted=parse_networks("127.0.0.0/8,::1"))
    assert doorman.share(request(OUR_HOST)) is None
    assert doorman.share(request({**OUR_HOST, "x-forwarded-for": "192.0.2.1"})) == parse_address("192.0.2.1")
    assert doorman.share(request(OUR_HOST, remote="2001:db8::1:2:3")) == parse_address("2001:db8::")
    assert doorman.share(request(OUR_HOST, remote=None)) is None


def test_while_the_tokens_file_is_away_nothing_is_a_guess(tmp_path: Path) -> None:
    file, clock = tmp_path / "token", Clock()
    file.write_text("sesame")
    doorman = Guard(Secret.file(file, "OPS_TOKEN_FILE"), wall=Clock(), clock=clock)
    file.unlink()
    assert [status(doorman.refuse_unknown(request(bearer("sesame")))) for _ in range(2 * BURST)] == [401] * 20
    file.write_text("sesame")
    clock.now += REREAD
    assert doorman.knows(request(bearer("sesame")))


@pytest.mark.parametrize("token", [None, "sesame"])
@pytest.mark.parametrize(
    ("headers", "websocket", "refused"),
    [
        ({}, False, False),
        ({"sec-fetch-site": "none"}, False, False),
        ({"sec-fetch-site": "same-origin"}, False, False),
        ({"sec-fetch-site": "cross-site"}, False, True),
        ({"sec-fetch-site": "same-site"}, False, True),
        ({"origin": "http://localhost:9003"}, False, False),
        ({"origin": "http://localhost:8000"}, False, True),
        ({"origin": "null"}, False, True),
        ({}, True, False),
        ({"sec-fetch-site": "cross-site"}, True, True),
        ({"origin": "http://localhost:9003", "sec-fetch-site": "cross-site"}, True, False),
        ({"origin": "http://evil.example", "sec-fetch-site": "same-origin"}, True, True),
    ],
)
def test_a_foreign_page_reads_nothing(
    token: str | None, headers: dict[str, str], *, websocket: bool, refused: bool
) -> None:
    head = request({**bearer("sesame"), **headers}, websocket=websocket)
    assert status(guard(token).refuse_read(head)) == (403 if refused else None)


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
    assert not doorman.knows(request({**OUR_HOST, "x-tes-dev-token": " "}))
    file.write_text("sesame")
    clock.now += REREAD
    assert doorman.knows(head)
    assert doorman.knows(session)
