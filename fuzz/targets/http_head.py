"""The HTTP head: any bytes, in any pieces, are a head or a refusal, and the same one."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

import attrs
import trio
from hypothesis import strategies as st
from trio.testing import MockClock

from common.web.http import HEAD_LIMIT, BadHead, Head, Response, read_head
from fuzz.pieces import CUTS, cut, damaged
from fuzz.target import FuzzTarget, holds_for
from tests.support.web import Ending, ScriptedStream, read_answer

_WITHIN: Final = 10.0
_TOKENS: Final = st.text("abcXYZ019!#$%&'*+-.^_`|~", min_size=1, max_size=12)
_VALUES: Final = st.text([chr(code) for code in range(0x21, 0x7F)], max_size=20)
_TARGETS: Final = st.text("abc019/:;.%?&=_-~", max_size=30).map("/".__add__)


@st.composite
def _heads(draw: st.DrawFn) -> tuple[bytes, Head]:
    """The bytes of a good head, and the head."""
    method, target = draw(st.sampled_from(["GET", "HEAD", "POST", "brew"]) | _TOKENS), draw(_TARGETS)
    names = draw(st.lists(_TOKENS.map("x-".__add__), max_size=5))
    fields = [("Host", "h"), *((name, draw(_VALUES)) for name in names)]
    padding = draw(st.sampled_from(["", " ", "  ", "\t"]))
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}:{padding}{value}{padding}" for name, value in fields), "", ""]
    end = draw(st.sampled_from(["\r\n", "\n"]))
    headers = tuple((name.lower().encode(), value.encode()) for name, value in fields)
    return end.join(lines).encode(), Head(method, target.encode(), "1.1", headers)


HEADS: Final = _heads()
_GOOD: Final = HEADS.map(lambda head: head[0])
_JUNK: Final = st.lists(
    st.sampled_from([b"GET / HTTP/1.1\r\nHost: h\r\n", b"GET", b" ", b"/r", b" HTTP/1.1", b"\r\n", b"\n", b"\r", b":"])
    | st.sampled_from([b"Host: h", b"X: y", b"Content-Length: 3", b"Transfer-Encoding: chunked", b"\x00", b"\t"])
    | st.binary(max_size=10)
    | st.builds(lambda letter, size: letter * size, st.binary(min_size=1, max_size=2), st.sampled_from([4000, 9000])),
    max_size=12,
).map(b"".join)
_ENDINGS: Final[st.SearchStrategy[Ending]] = st.sampled_from(["eof", "reset", "silence"])


def outcome(chunks: list[bytes], ending: Ending) -> Head | Response | None:
    """What becomes of these chunks: a head, an answer, or None for nobody to answer."""

    async def read() -> Head | Response | None:
        try:
            return await read_head(ScriptedStream(chunks, ending), within=_WITHIN)
        except BadHead as bad:
            return bad.response

    return trio.run(read, clock=MockClock(autojump_threshold=0))


def _assert_consistent(whole: Head | Response | None, pieces: Head | Response | None, size: int) -> None:
    if isinstance(whole, Head) and isinstance(pieces, Head):
        assert attrs.evolve(whole, trailing=b"") == attrs.evolve(pieces, trailing=b"")
        longer, shorter = sorted([whole.trailing, pieces.trailing], key=len, reverse=True)
        assert longer.startswith(shorter)
        return
    if isinstance(whole, Response) and isinstance(pieces, Response):
        for response in (whole, pieces):
            assert read_answer(response.encode()).line
        statuses = {whole.status, pieces.status}
        if size > HEAD_LIMIT:
            # Too large and malformed: which one is seen first depends on how much comes at once.
            assert statuses <= {HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE}
        else:
            assert (whole.status, whole.reason) == (pieces.status, pieces.reason)
            assert statuses <= {HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_TIMEOUT}
        return
    assert whole is pieces is None


@holds_for(damaged(_GOOD) | _JUNK | st.binary(max_size=200), CUTS, _ENDINGS)
def the_outcome_does_not_depend_on_the_pieces(data: bytes, cuts: list[float] | None, ending: Ending) -> None:
    """A head or a refusal with one line that says why."""
    pieces = cut(data, cuts) if cuts is None and len(data) < 2000 else cut(data, cuts or [])
    _assert_consistent(outcome([data] if data else [], ending), outcome(pieces, ending), len(data))


@holds_for(HEADS, st.binary(max_size=50), CUTS)
def a_good_head_is_read_as_it_was_written(drawn: tuple[bytes, Head], trailing: bytes, cuts: list[float] | None) -> None:
    """With the beginning of what follows it."""
    data, expected = drawn
    head = outcome(cut(data + trailing, cuts), "silence")
    assert isinstance(head, Head)
    assert attrs.evolve(head, trailing=b"") == expected
    assert trailing.startswith(head.trailing)


TARGET: Final = FuzzTarget(
    "http_head", (the_outcome_does_not_depend_on_the_pieces, a_good_head_is_read_as_it_was_written)
)
