"""The terminal client's words: addresses, escapes, endings."""

from __future__ import annotations

import errno
import socket
import ssl
import unicodedata
from datetime import UTC, datetime

import pytest

from common.watch.words import (
    closing_words,
    escaped,
    failure_words,
    is_untrusted_certificate,
    one_line,
    refusal_is_final,
    refusal_words,
    retry_after,
    socket_url,
)

NOW = datetime(2024, 5, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("base", "path", "query", "expected"),
    [
        ("ws://localhost:9002", "run:wepp", "", "ws://localhost:9002/run%3Awepp"),
        ("ws://localhost:9002/", "run:wepp", "gap=1", "ws://localhost:9002/run%3Awepp?gap=1"),
        ("ws://h", "batch;;a;;_base:wepp", "", "ws://h/batch%3B%3Ba%3B%3B_base%3Awepp"),
        ("http://h:80", "r:c", "", "ws://h:80/r%3Ac"),
        ("HTTPS://h/weppcloud/status/", "r:c", "", "wss://h/weppcloud/status/r%3Ac"),
        (" wss://[::1]:9002 ", "r:c", "", "wss://[::1]:9002/r%3Ac"),
        ("ws://h", "a/b?c#d%20é:c", "", "ws://h/a%2Fb%3Fc%23d%2520%C3%A9%3Ac"),
    ],
)
def test_the_path_is_percent_encoded_below_the_base(base: str, path: str, query: str, expected: str) -> None:
    assert socket_url(base, path, query) == expected


@pytest.mark.parametrize(
    ("base", "complaint"),
    [
        ("localhost:9002", "is not a ws"),
        ("run:channel", "is not a ws"),
        ("", "is not a ws"),
        ("ftp://h", "is not a ws"),
        ("ws://", "is not a ws"),
        ("ws://:9002", "is not a ws"),
        ("ws://h:99999", "is not a ws"),
        ("ws://h:zero", "is not a ws"),
        ("ws://h:0", "is not a ws"),
        ("ws://[::1", "is not a ws"),
        ("ws://user:secret@h", "a user name or a password"),
        ("ws://h?token=1", "no '\\?'"),
        ("ws://h#x", "no '#'"),
        ("\x1b[31mws", "is not a ws"),
    ],
)
def test_a_base_that_is_no_socket_url_is_refused_in_one_clean_line(base: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint) as caught:
        socket_url(base, "r:c")
    message = str(caught.value)
    assert "secret" not in message
    assert "\n" not in message
    assert "\x1b" not in message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain, with ünïcode ✓ and a \t tab\nand a newline", "plain, with ünïcode ✓ and a \t tab\nand a newline"),
        ("\x1b[2J\x07", "\\u001b[2J\\u0007"),
        ("a\rb\x7f\x85\x9b", "a\\u000db\\u007f\\u0085\\u009b"),
        ("\x00", "\\u0000"),
        ("\u202egnp.exe \u2066x\u2069", "\\u202egnp.exe \\u2066x\\u2069"),
        ("\u2028\ud800", "\\u2028\\ud800"),
        ("\U0001f469\u200d\U0001f52c 5\xa0m\u2009s", "\U0001f469\u200d\U0001f52c 5\xa0m\u2009s"),
    ],
)
def test_what_could_act_on_a_terminal_is_spelled_out(text: str, expected: str) -> None:
    assert escaped(text) == expected


def test_no_control_character_at_all_survives_on_one_line() -> None:
    everything = "".join(map(chr, range(0x110000)))
    left = one_line(everything)
    categories = {unicodedata.category(character) for character in left.replace("\t", "")}
    assert not {"Cc", "Cs", "Zl", "Zp"} & categories
    assert not set("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069") & set(left)
    left.encode()


@pytest.mark.parametrize(
    ("code", "reason", "hangup", "expected"),
    [
        (1000, None, False, "the server closed the connection [1000]"),
        (1001, None, True, "hangup: the server is going away (a restart or a shutdown) [1001]"),
        (1008, None, True, "hangup: the server had no answer from us in time [1008]"),
        (1013, "redis_unavailable", True, "hangup: Redis is unavailable to the server: redis_unavailable [1013]"),
        (1006, None, False, "the connection broke without a goodbye, or we read too slowly [1006]"),
        (4321, "odd\x1b", False, "the server closed the connection: odd\\u001b [4321]"),
    ],
)
def test_a_close_code_is_told_in_words(code: int, reason: str | None, hangup: bool, expected: str) -> None:
    assert closing_words(code, reason, hangup=hangup) == expected


def test_every_close_code_of_the_contract_has_words_of_its_own() -> None:
    unknown = closing_words(4999, None, hangup=False).replace("[4999]", "")
    for code in (1001, 1002, 1007, 1008, 1009, 1011, 1013):
        assert closing_words(code, None, hangup=False).replace(f"[{code}]", "") != unknown


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (400, b"bad run id\n", "the server refused with 400: bad run id"),
        (404, None, "the server refused with 404"),
        (502, b"<html>\n<body>\x1b[2J\xff" + b"x" * 900, None),
    ],
)
def test_a_refusal_is_one_clean_line(status: int, body: bytes | None, expected: str | None) -> None:
    words = refusal_words(status, body)
    if expected is not None:
        assert words == expected
    assert "\n" not in words
    assert "\x1b" not in words
    assert len(words) < 260


@pytest.mark.parametrize(
    ("status", "final"),
    [
        (200, True), (301, True), (400, True), (401, True), (403, True), (404, True), (405, True), (426, True),
        (408, False), (425, False), (429, False), (500, False), (502, False), (503, False), (504, False),
    ],
)  # fmt: skip
def test_only_a_refusal_that_can_get_better_is_asked_again(status: int, final: bool) -> None:
    assert refusal_is_final(status) is final


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], 0),
        ([(b"content-type", b"text/plain")], 0),
        ([(b"Retry-After", b" 7 ")], 7),
        ([(b"retry-after", b"Wed, 01 May 2024 12:01:30 GMT")], 90),
        ([(b"retry-after", b"Wed, 01 May 2024 11:00:00 GMT")], 0),
        ([(b"retry-after", b"Wed, 01 May 2024 12:01:30")], 0),
        ([(b"retry-after", b"soon")], 0),
        ([(b"retry-after", b"-5")], 0),
        ([(b"retry-after", b"1e9")], 0),
        ([(b"retry-after", b"9" * 400)], 0),
        ([(b"retry-after", b"")], 0),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(headers: list[tuple[bytes, bytes]], expected: float) -> None:
    assert retry_after(headers, NOW) == expected


def chained(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


def test_a_failure_is_told_by_its_innermost_cause() -> None:
    refused = ConnectionRefusedError(errno.ECONNREFUSED, "Error connecting to ('127.0.0.1', 9002): Connection refused")
    attempts = ExceptionGroup("all attempts", [refused])
    assert failure_words(chained(OSError("all attempts to connect to h:9002 failed"), attempts)) == "Connection refused"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (TimeoutError(), "TimeoutError"),
        (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
        (ssl.SSLError(1, "wrong version number"), "wrong version number"),
        (RuntimeError("two\nlines"), "two\\nlines"),
    ],
)
def test_a_failure_is_told_in_its_own_words(error: Exception, expected: str) -> None:
    assert failure_words(error) == expected


def test_an_untrusted_certificate_is_recognised_below_other_errors() -> None:
    untrusted = ssl.SSLCertVerificationError(1, "self-signed certificate")
    assert is_untrusted_certificate(chained(RuntimeError(), untrusted))
    assert not is_untrusted_certificate(ConnectionRefusedError(111, "Connection refused"))
