"""Heads that strangers send to make us talk: in log and answer is nothing secret, nothing that steers, nothing long."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.support.logbook import WrittenLogbook
from tests.support.service import open_service
from tests.support.web import HOST, UPGRADE, request_bytes

if TYPE_CHECKING:
    from trio.testing import MockClock

CANARY: Final = "hunter2canary"
LONG: Final = "a" * 16_000
STEERING: Final = "\x1b[2J\x9b1m\x85\xad"
"""As far as a header may carry it: h11 refuses NUL, and everything is Latin-1."""

LOGGED: Final = 1_000
"""Bytes of log lines that one request may cause, and of the answer to it."""


def head(target: str = "/run:log", *lines: str, method: str = "GET") -> bytes:
    """A request with these header lines."""
    text = "\r\n".join([f"{method} {target} HTTP/1.1", f"Host: {HOST}", *lines, "", ""])
    return text.encode("latin-1")


def upgrade(**changed: str) -> bytes:
    """A handshake with these headers besides."""
    fields = UPGRADE | {name.replace("_", "-").title(): value for name, value in changed.items()}
    return request_bytes("/run:log", fields.items())


HEADS: Final = {
    # A secret in a line that can't be parsed.
    "a space before the colon": head("/run:log", f"Cookie : session={CANARY}"),
    "no colon": head("/run:log", f"Authorization Bearer {CANARY}"),
    "a control character": head("/run:log", f"Cookie: session={CANARY}\x00"),
    "a name that is none": head("/run:log", f"Coo(kie: session={CANARY}"),
    "a folded line at the start": f"GET / HTTP/1.1\r\n session={CANARY}\r\nHost: h\r\n\r\n".encode(),
    "a header first": f"Authorization: Bearer {CANARY}\r\nGET / HTTP/1.1\r\n\r\n".encode(),
    "a secret as the length": head("/run:log", f"Content-Length: {CANARY}"),
    "a secret as the coding": head("/run:log", f"Transfer-Encoding: {CANARY}"),
    "two hosts": head("/run:log", f"Host: {CANARY}"),
    "no version": f"GET /run:log?token={CANARY}\r\n\r\n".encode(),
    "a space in the target": head(f"/run:log?token={CANARY} x"),
    "a body before the head": f"password={CANARY}&x=1\r\n\r\n".encode(),
    "not UTF-8": f"GET /\xff{CANARY} HTTP/1.1\r\nHost: h\r\n\r\n".encode("latin-1"),
    "cut off": f"GET /run:log HTTP/1.1\r\nCookie: session={CANARY}".encode(),
    # In a target.
    "a user in the target": head(f"http://user:{CANARY}@{HOST}/nothing"),
    "a user of another scheme": head(f"ftp://user:{CANARY}@{HOST}/x"),
    "a user behind two slashes": head(f"//user:{CANARY}@{HOST}/x"),
    "a user of CONNECT": head(f"user:{CANARY}@{HOST}:443", method="CONNECT"),
    "a user, encoded": head(f"http://user%3A{CANARY}%40{HOST}/x"),
    "a token in the query": head(f"/run:log?token={CANARY}"),
    "a token of no path": head(f"/?token={CANARY}"),
    "a token in the fragment": head(f"/x#access_token={CANARY}"),
    "a token in an encoded query": head(f"/run%3Ftoken={CANARY}"),
    "a token in a parameter": head(f"/run;jsessionid={CANARY}"),
    "a token with another method": head(f"/run:log?token={CANARY}", method="POST"),
    # In headers that are read.
    "a user in the origin": upgrade(origin=f"https://user:{CANARY}@evil.example"),
    "a query in the origin": upgrade(origin=f"https://evil.example/?token={CANARY}"),
    "a secret in place of an address": upgrade(origin="https://evil.example", x_forwarded_for=CANARY),
    "a zone in an address": upgrade(origin="https://evil.example", x_forwarded_for=f"fe80::1%{CANARY}"),
    "a secret as the key": upgrade(sec_websocket_key=CANARY),
    "a secret as the version": upgrade(sec_websocket_version=CANARY),
    "a cookie of a refused handshake": upgrade(origin="https://evil.example", cookie=f"session={CANARY}"),
    # Length.
    "a long path": head(f"/{LONG}"),
    "a long path, encoded": head(f"/{'%1b' * 5000}"),
    "a long method": head("/run:log", method=LONG),
    "a long method on a page": head("/health", method=LONG),
    "a long query": head(f"/?{LONG}"),
    "a long origin": upgrade(origin=f"https://{LONG}"),
    "many origins": head("/run:log", *[f"Origin: https://{n}.example" for n in range(500)]),
    "a long host": head(f"http://{LONG}/"),
    "a long line without a colon": head("/run:log", LONG),
    "a long line of NUL": head("/run:log", "\x00" * 15_000),
    "a long request line": LONG.encode() + b"\r\n\r\n",
    "a long chain of proxies": upgrade(origin="https://evil.example", x_forwarded_for="10.0.0.1," * 1500),
    "over the limit": head("/run:log", LONG, LONG),
    # What steers a terminal.
    "an origin that steers": upgrade(origin=f"https://{STEERING}"),
    "a line that steers": head("/run:log", f"X {STEERING}"),
    "a path that steers": head("/%1b%5b2J%C2%9b%E2%80%AE"),
    "bytes that steer": b"GET /\xe2\x80\xae\x9b HTTP/1.1\r\nHost: h\r\n\r\n",
}  # fmt: skip


@pytest.mark.parametrize("name", HEADS)
async def test_a_hostile_head_is_answered_in_few_harmless_words(
    name: str, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    monkeypatch.setattr("tests.support.service.Logbook", WrittenLogbook)
    async with open_service(allowed_origins="*.example.gov", trusted_proxies="192.0.2.0/24") as running:
        logbook: Any = running.logbook
        logbook.written.clear()
        client = running.arrive(transport="memory")
        await client.send_raw(HEADS[name])
        await client.wait_ended()
        written, answer = "\n".join(logbook.written), client.head + bytes(client.body)

        (refused,) = running.logbook.said("request refused")
        assert (400 <= refused["status"] < 500) == (b"HTTP/1.1 4" in answer)
        assert b"HTTP/1.1 4" in answer
        assert CANARY not in written
        assert CANARY.encode() not in answer
        assert len(written.encode()) <= LOGGED
        assert len(answer) <= LOGGED
        assert all(line.isprintable() for line in logbook.written)
        assert all(value.isprintable() and len(value) <= 256 for value in refused.values() if isinstance(value, str))
        assert answer.replace(b"\r\n", b"").rstrip(b"\n").decode().isprintable()
