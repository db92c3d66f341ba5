"""One request head in, one answer out: every head in every kind of pieces, and every way in which none comes."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from http import HTTPStatus
from itertools import pairwise
from typing import Final

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from common.web.http import HEAD_LIMIT, BadHead, Head, Response, read_head, refusal
from tests.support.web import Ending, ScriptedStream, byte_by_byte, read_answer, request_bytes

WITHIN: Final = 10.0

Outcome = Head | Response | None


async def outcome(stream: trio.abc.ReceiveStream, within: float = WITHIN) -> Outcome:
    """What `read_head` makes of a stream: a head, an answer, or None for nobody to answer."""
    try:
        return await read_head(stream, within=within)
    except BadHead as bad:
        return bad.response


async def refused(chunks: list[bytes], ending: Ending = "eof") -> Response:
    """The refusal of what these chunks bring."""
    response = await outcome(ScriptedStream(chunks, ending))
    assert isinstance(response, Response)
    return response


# -- heads that are in order ------------------------------------------------------------------------------------------

HOST_LINE: Final = b"Host: app.example.gov\r\n"
HOST_FIELD: Final = (b"host", b"app.example.gov")

HEADS: Final = [
    (b"GET / HTTP/1.1\r\n" + HOST_LINE + b"\r\n", Head("GET", b"/", "1.1", (HOST_FIELD,))),
    (
        b"GET /a%3bb:c/?gap=1 HTTP/1.1\r\n" + HOST_LINE + b"\r\n",
        Head("GET", b"/a%3bb:c/?gap=1", "1.1", (HOST_FIELD,)),
    ),
    (b"POST / HTTP/1.1\r\n" + HOST_LINE + b"\r\n", Head("POST", b"/", "1.1", (HOST_FIELD,))),
    (b"brew / HTTP/1.1\r\n" + HOST_LINE + b"\r\n", Head("brew", b"/", "1.1", (HOST_FIELD,))),
    (b"GET / HTTP/1.0\r\n\r\n", Head("GET", b"/", "1.0", ())),
    (
        b"GET http://app.example.gov/r:c HTTP/1.1\r\n" + HOST_LINE + b"\r\n",
        Head("GET", b"http://app.example.gov/r:c", "1.1", (HOST_FIELD,)),
    ),
    (
        b"GET / HTTP/1.1\r\n" + HOST_LINE + b"X-FORWARDED-FOR:  192.0.2.1 \r\nx-forwarded-for: 192.0.2.2\r\n\r\n",
        Head(
            "GET",
            b"/",
            "1.1",
            (HOST_FIELD, (b"x-forwarded-for", b"192.0.2.1"), (b"x-forwarded-for", b"192.0.2.2")),
        ),
    ),
    (
        b"GET / HTTP/1.1\r\n" + HOST_LINE + b"Content-Length: 5\r\n\r\n",
        Head("GET", b"/", "1.1", (HOST_FIELD, (b"content-length", b"5"))),
    ),
    (
        b"GET / HTTP/1.1\r\n" + HOST_LINE + b"X: caf\xe9\r\n\r\n",
        Head("GET", b"/", "1.1", (HOST_FIELD, (b"x", b"caf\xe9"))),
    ),
]


@pytest.mark.parametrize(("data", "head"), HEADS)
async def test_a_head_is_the_same_whole_and_byte_by_byte(data: bytes, head: Head) -> None:
    assert await outcome(ScriptedStream([data], "silence")) == head
    assert await outcome(ScriptedStream(byte_by_byte(data), "silence")) == head


@pytest.mark.parametrize(("data", "head"), HEADS)
@pytest.mark.parametrize(
    "trailing", [b"\x81\x80\x00\x00\x00\x00", b"GET / HTTP/1.1\r\n\r\n", b"\r\n\r\n", b"\x00" * 500]
)
async def test_bytes_that_follow_the_head_are_kept(data: bytes, head: Head, trailing: bytes) -> None:
    assert await outcome(ScriptedStream([data + trailing], "silence")) == attrs.evolve(head, trailing=trailing)


async def test_no_byte_is_read_beyond_the_chunk_that_ends_the_head() -> None:
    data, head = HEADS[0]
    stream = ScriptedStream([data, b"later"])
    assert await outcome(stream) == head
    assert await stream.receive_some() == b"later"


async def test_values_and_tokens_of_repeated_headers() -> None:
    head = await read_head(
        ScriptedStream(
            [request_bytes(headers=[("Host", "h"), ("Connection", "Keep-Alive, UPGRADE"), ("connection", " x ,, y")])]
        ),
        within=WITHIN,
    )
    assert head.values(b"connection") == ["Keep-Alive, UPGRADE", "x ,, y"]
    assert head.tokens(b"connection") >= {"keep-alive", "upgrade", "x", "y"}
    assert head.values(b"upgrade") == []
    assert head.tokens(b"upgrade") == set()


# -- heads that are not -----------------------------------------------------------------------------------------------

MALFORMED: Final = [
    pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(200)), id="a TLS hello"),
    pytest.param(b"\x00" * 64, id="NULs"),
    pytest.param(b"\r\n\r\n", id="blank lines"),
    pytest.param(b"hello\r\n\r\n", id="no request line"),
    pytest.param(b"GET /\r\n\r\n", id="HTTP/0.9"),
    pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="no Host"),
    pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", id="two Hosts"),
    pytest.param(b"GET / HTTP/11\r\nHost: a\r\n\r\n", id="no version number"),
    pytest.param(b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", id="a space in the target"),
    pytest.param(b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", id="a target that is not ASCII"),
    pytest.param(b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", id="two spaces"),
    pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n", id="a header without a colon"),
    pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n", id="a space before the colon"),
    pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n", id="NUL in a value"),
    pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 2\r\n\r\n", id="two lengths"),
    pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", id="a negative length"),
    pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", id="an unknown coding"),
]


@pytest.mark.parametrize("data", MALFORMED)
async def test_a_malformed_head_is_refused_at_once_with_a_reason(data: bytes) -> None:
    for chunks in ([data], byte_by_byte(data), [data + b"GET / HTTP/1.1\r\n"]):
        response = await refused(chunks, "silence")
        answer = read_answer(response.encode())
        assert (answer.status, answer.phrase, response.reason) == (400, "Bad Request", "malformed")
        assert answer.line.startswith("malformed request: ")


@pytest.mark.parametrize("end", range(1, len(HEADS[0][0])))
async def test_a_head_that_ends_before_its_end_is_malformed(end: int) -> None:
    response = await refused([HEADS[0][0][:end]])
    assert (response.status, response.reason) == (400, "malformed")
    assert response.body == "malformed request: the request ended in the middle of its head\n"


async def test_nobody_is_answered_who_closes_without_a_byte() -> None:
    assert await outcome(ScriptedStream([])) is None


@pytest.mark.parametrize("sent", [b"", b"G", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n"])
async def test_nobody_is_answered_whose_connection_broke(sent: bytes) -> None:
    assert await outcome(ScriptedStream([sent] if sent else [], "reset")) is None


# -- how large ---------------------------------------------------------------------------------------------------------


def head_of(size: int) -> bytes:
    """A head of exactly `size` bytes."""
    empty = request_bytes(headers=[("Host", "h"), ("X", "")])
    return request_bytes(headers=[("Host", "h"), ("X", "x" * (size - len(empty)))])


@pytest.mark.parametrize("trailing", [b"", b"\x81\x80\x00\x00\x00\x00", b"x" * 4096])
async def test_a_head_may_have_16_kb_exactly(trailing: bytes, autojump_clock: MockClock) -> None:
    data = head_of(HEAD_LIMIT)
    assert len(data) == HEAD_LIMIT == 16384
    head = await outcome(ScriptedStream([data + trailing], "silence"))
    assert isinstance(head, Head)
    assert trailing.startswith(head.trailing)
    # In pieces that end elsewhere, so that the last one has the head's end and what follows.
    head = await outcome(ScriptedStream([data[:100], data[100:] + trailing], "silence"))
    assert isinstance(head, Head)
    assert trailing.startswith(head.trailing)
    assert bool(head.trailing) == bool(trailing)
    assert isinstance(await outcome(ScriptedStream(byte_by_byte(data), "silence")), Head)


@pytest.mark.parametrize("trailing", [b"", b"\x81\x80\x00\x00\x00\x00", b"x" * 4096])
async def test_a_head_may_not_have_one_byte_more(trailing: bytes, autojump_clock: MockClock) -> None:
    data = head_of(HEAD_LIMIT + 1)
    for chunks in ([data + trailing], byte_by_byte(data)):
        response = await refused(chunks, "silence")
        answer = read_answer(response.encode())
        assert (answer.status, answer.phrase) == (431, "Request Header Fields Too Large")
        assert (response.reason, answer.line) == ("head_too_large", "the request head is over 16384 bytes")


MEGABYTE: Final = 1 << 20


@pytest.mark.parametrize(
    "flood",
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * MEGABYTE, id="one header"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * (MEGABYTE // 6), id="many headers"),
        pytest.param(b"GET /" + b"x" * MEGABYTE, id="the target"),
        pytest.param(b"G" * MEGABYTE, id="the method"),
    ],
)
async def test_a_megabyte_of_head_is_refused_before_it_is_read(flood: bytes) -> None:
    stream = ScriptedStream([flood], "silence")
    response = await outcome(stream)
    assert isinstance(response, Response)
    assert (response.status, response.reason) == (431, "head_too_large")
    assert stream.taken <= HEAD_LIMIT + 4096


# -- how long ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pause", [0.5, 1.0, 9.9])
async def test_a_head_that_dribbles_is_refused_at_the_exact_second(autojump_clock: MockClock, pause: float) -> None:
    start = autojump_clock.current_time()
    response = await outcome(ScriptedStream(byte_by_byte(HEADS[0][0]), "silence", pause=pause))
    assert autojump_clock.current_time() - start == pytest.approx(WITHIN, abs=1e-9)
    assert isinstance(response, Response)
    answer = read_answer(response.encode())
    assert (answer.status, answer.phrase, response.reason) == (408, "Request Timeout", "timeout")
    assert answer.line == "the request head was not complete within 10 seconds"


async def test_nobody_is_answered_who_says_nothing(autojump_clock: MockClock) -> None:
    start = autojump_clock.current_time()
    assert await outcome(ScriptedStream([], "silence")) is None
    assert autojump_clock.current_time() - start == pytest.approx(WITHIN, abs=1e-9)


async def test_a_head_that_dribbles_but_is_in_time_is_read(autojump_clock: MockClock) -> None:
    data, head = HEADS[0]
    stream = ScriptedStream(byte_by_byte(data), "silence", pause=WITHIN / (len(data) + 1))
    start = autojump_clock.current_time()
    assert await outcome(stream) == head
    assert WITHIN / 2 < autojump_clock.current_time() - start < WITHIN


async def test_a_cancelled_read_is_no_answer() -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await read_head(ScriptedStream([HEADS[0][0]]), within=WITHIN)
    assert scope.cancelled_caught


# -- whatever comes ----------------------------------------------------------------------------------------------------

PIECES: Final = st.sampled_from(
    [
        b"GET",
        b" ",
        b"/",
        b"/run:log",
        b" HTTP/1.1",
        b"\r\n",
        b"\n",
        b"\r",
        b"Host: h",
        b"X: y",
        b":",
        b"\x00",
        b"\xff",
        b"\t",
    ]
)
JUNK: Final = st.lists(PIECES | st.binary(max_size=20), max_size=20).map(b"".join)


@given(JUNK, st.lists(st.integers(0, 400), max_size=6))
def test_the_outcome_does_not_depend_on_the_pieces(junk: bytes, cuts: list[int]) -> None:
    data = b"GET /run:log HTTP/1.1\r\nHost: h\r\n" + junk if len(junk) % 2 else junk
    bounds = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    chunks = [data[start:stop] for start, stop in pairwise(bounds) if start < stop]

    whole = trio.run(outcome, ScriptedStream([data] if data else []), clock=MockClock(autojump_threshold=0))
    pieces = trio.run(outcome, ScriptedStream(chunks), clock=MockClock(autojump_threshold=0))
    if isinstance(whole, Head) and isinstance(pieces, Head):
        assert attrs.evolve(whole, trailing=b"") == attrs.evolve(pieces, trailing=b"")
        assert whole.trailing.startswith(pieces.trailing)
    elif isinstance(whole, Response) and isinstance(pieces, Response):
        assert (whole.status, whole.reason) == (pieces.status, pieces.reason) == (400, "malformed")
        assert read_answer(whole.encode()).line
    else:
        assert (whole, pieces, data) == (None, None, b"")


# -- answers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 400, 403, 404, 405, 408, 426, 431, 500, 503])
def test_an_answer_has_its_status_phrase_and_headers(status: int) -> None:
    answer = read_answer(Response(status, "a line\n").encode())
    assert (answer.status, answer.phrase) == (status, HTTPStatus(status).phrase)
    assert answer.body == b"a line\n"
    assert parsedate_to_datetime(answer.headers.pop("date")[0]).tzinfo is not None
    assert answer.headers == {
        "content-type": ["text/plain; charset=utf-8"],
        "content-length": ["7"],
        "cache-control": ["no-store"],
        "connection": ["close"],
    }


def test_an_answer_to_head_has_the_length_and_not_the_body() -> None:
    response = Response(200, "grün\n")
    full, head = response.encode(), response.encode(head_only=True)
    assert head.endswith(b"\r\n\r\n")
    answer = read_answer(head, method="HEAD")
    assert (answer.headers["content-length"], answer.body) == (["6"], b"")
    assert read_answer(full).body == "grün\n".encode()
    assert read_answer(full).headers.keys() == answer.headers.keys()


def test_a_page_has_its_own_type_and_bytes() -> None:
    answer = read_answer(Response(200, b"\x00\xff", content_type="application/openmetrics-text").encode())
    assert (answer.headers["content-type"], answer.body) == (["application/openmetrics-text"], b"\x00\xff")


def test_an_answer_has_one_connection_header_and_it_closes() -> None:
    answer = read_answer(
        Response(426, "x\n", headers=(("Upgrade", "websocket"), ("Connection", "Upgrade, close"))).encode()
    )
    assert (answer.headers["connection"], answer.headers["upgrade"]) == (["Upgrade, close"], ["websocket"])


def test_a_refusal_says_when_to_come_back() -> None:
    response = refusal(HTTPStatus.SERVICE_UNAVAILABLE, "draining", "the daemon is going down", retry_after=2)
    answer = read_answer(response.encode())
    assert (response.reason, answer.phrase, answer.line) == (
        "draining",
        "Service Unavailable",
        "the daemon is going down",
    )
    assert answer.headers["retry-after"] == ["2"]
    assert "retry-after" not in read_answer(refusal(HTTPStatus.NOT_FOUND, "x", "y").encode()).headers
