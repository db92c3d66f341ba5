"""Which heads opsd's server takes, and what it answers to the others (opsd/heads.py)."""

from __future__ import annotations

import base64
from typing import Final

import h11
import pytest

from opsd.heads import LARGEST_HEAD, Heads, tokens, values, wants_websocket

HOST: Final = b"Host: opsd\r\n"
KEY: Final = base64.b64encode(b"sixteen bytes ok")
SHAKE: Final = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
KEYED: Final = b"Sec-WebSocket-Key: " + KEY + b"\r\n"


def head(*lines: bytes, first: bytes = b"GET / HTTP/1.1", host: bytes = HOST) -> bytes:
    """A whole head, its empty line included."""
    return first + b"\r\n" + host + b"".join(lines) + b"\r\n"


def read(data: bytes) -> h11.Request:
    """The request that a head is read as."""
    heads = Heads()
    heads.receive_data(data)
    event = heads.next_event()
    assert isinstance(event, h11.Request)
    assert heads.complaint is None
    return event


def refusal(data: bytes) -> tuple[int, str]:
    """The status and the words with which a head is refused."""
    heads = Heads()
    heads.receive_data(data)
    with pytest.raises(h11.RemoteProtocolError) as refused:
        heads.next_event()
    return refused.value.error_status_hint, str(refused.value)


def padded(size: int) -> bytes:
    """A head of exactly so many bytes."""
    empty = head(b"X: \r\n")
    return head(b"X: " + b"x" * (size - len(empty)) + b"\r\n")


@pytest.mark.parametrize(
    "data",
    [
        head(),
        head(first=b"POST /x HTTP/1.1"),
        head(b"Content-Length: 5\r\n", first=b"POST / HTTP/1.1"),
        head(b"Transfer-Encoding: chunked\r\n", first=b"POST / HTTP/1.1"),
        head(first=b"GET / HTTP/1.0"),
        head(b"Content-Length: 5\r\n", first=b"POST / HTTP/1.0"),
        head(SHAKE, KEYED),
        head(SHAKE, KEYED, b"Content-Length: 0\r\n"),
        head(b"Upgrade: h2c\r\nConnection: Upgrade\r\n"),
        head(b"Upgrade: websocket\r\n"),
        head(SHAKE, first=b"POST / HTTP/1.1"),
        padded(LARGEST_HEAD),
    ],
    ids=lambda data: data[:60].decode(),
)
def test_heads_that_are_served(data: bytes) -> None:
    assert dict(read(data).headers)[b"host"] == b"opsd"


@pytest.mark.parametrize(
    ("data", "status", "words"),
    [
        (padded(LARGEST_HEAD + 1), 431, "more than 16384 bytes"),
        (b"PRI * HTTP/2.0\r\nHost: opsd\r\n\r\nSM\r\n\r\n", 505, "only HTTP/1.1"),
        (head(first=b"GET / HTTP/1.2"), 505, "only HTTP/1.1"),
        (
            head(b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", first=b"POST / HTTP/1.1"),
            400,
            "Transfer-Encoding with Content-Length",
        ),
        (head(b"Transfer-Encoding: chunked\r\n", first=b"POST / HTTP/1.0"), 400, "or in HTTP/1.0"),
        (head(SHAKE, KEYED, first=b"GET / HTTP/1.0"), 400, "a WebSocket needs HTTP/1.1"),
        (head(SHAKE, KEYED, b"Content-Length: 1\r\n"), 400, "a handshake has no body"),
        (head(SHAKE, KEYED, b"Transfer-Encoding: chunked\r\n"), 400, "a handshake has no body"),
        (head(SHAKE.replace(b"13", b"8"), KEYED), 426, "only WebSocket version 13"),
        (head(SHAKE, KEYED, b"Sec-WebSocket-Version: 13\r\n"), 426, "only WebSocket version 13"),
        (head(SHAKE), 400, "Sec-WebSocket-Key must be"),
        (head(SHAKE, KEYED, KEYED), 400, "Sec-WebSocket-Key must be"),
        (head(SHAKE, b"Sec-WebSocket-Key: c2hvcnQ=\r\n"), 400, "Sec-WebSocket-Key must be"),
        (head(SHAKE, b"Sec-WebSocket-Key: no base64!\r\n"), 400, "Sec-WebSocket-Key must be"),
    ],
    ids=lambda value: value[:40].decode() if isinstance(value, bytes) else str(value),
)
def test_heads_that_are_refused_say_why(data: bytes, status: int, words: str) -> None:
    found, said = refusal(data)
    assert found == status
    assert words in said


def test_a_refusal_has_the_headers_that_mend_it_and_is_final() -> None:
    heads = Heads()
    heads.receive_data(head(SHAKE.replace(b"13", b"7"), KEYED))
    for _ in range(2):
        with pytest.raises(h11.RemoteProtocolError):
            heads.next_event()
    assert heads.complaint is not None
    assert heads.complaint.headers == ((b"sec-websocket-version", b"13"), (b"upgrade", b"websocket"))


def test_a_head_that_comes_in_pieces_is_waited_for() -> None:
    heads, data = Heads(), head(SHAKE, KEYED)
    for index in range(len(data) - 1):
        heads.receive_data(data[index : index + 1])
        assert heads.next_event() is h11.NEED_DATA
    heads.receive_data(data[-1:])
    assert isinstance(heads.next_event(), h11.Request)


def test_what_follows_a_head_does_not_count_for_its_size() -> None:
    heads = Heads()
    heads.receive_data(head(b"Content-Length: 40000\r\n", first=b"POST / HTTP/1.1") + b"x" * 40_000)
    assert isinstance(heads.next_event(), h11.Request)
    body = heads.next_event()
    assert isinstance(body, h11.Data)
    assert len(body.data) == 40_000


def test_a_handshake_leaves_in_one_form_with_nothing_to_negotiate() -> None:
    request = read(
        head(
            b"Connection: keep-alive, Upgrade\r\nUpgrade: h2c, WebSocket\r\nSec-WebSocket-Version: 13\r\n",
            KEYED,
            b"Sec-WebSocket-Extensions: permessage-deflate\r\nSec-WebSocket-Protocol: chat\r\nCookie: a=b\r\n",
        )
    )
    assert list(request.headers) == [
        (b"host", b"opsd"),
        (b"sec-websocket-version", b"13"),
        (b"sec-websocket-key", KEY),
        (b"cookie", b"a=b"),
        (b"connection", b"Upgrade"),
        (b"upgrade", b"websocket"),
    ]
    assert wants_websocket(request)


def test_a_header_that_comes_twice_is_a_longer_list() -> None:
    request = read(head(b"Accept: A , b\r\naccept: C\r\n"))
    assert values(request, b"accept") == [b"A , b", b"C"]
    assert tokens(request, b"accept") == [b"a", b"b", b"c"]
