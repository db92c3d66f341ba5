"""The parser: the same bytes whole, byte by byte, with more behind them, and split anywhere."""

from __future__ import annotations

import resource
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import AuthenticationError, BusyLoadingError, NoPermissionError, ResponseError

from common.redis.errors import ProtocolError
from common.redis.resp import PushNotification, RespParser, encode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

CASES: dict[str, tuple[bytes, object]] = {
    "simple string": (b"+OK\r\n", b"OK"),
    "empty simple string": (b"+\r\n", b""),
    "byte string": (b"$5\r\nhello\r\n", b"hello"),
    "byte string with line ends": (b"$4\r\n\r\n\r\n\r\n", b"\r\n\r\n"),
    "empty byte string": (b"$0\r\n\r\n", b""),
    "null byte string": (b"$-1\r\n", None),
    "integer": (b":-42\r\n", -42),
    "null": (b"_\r\n", None),
    "true": (b"#t\r\n", True),
    "false": (b"#f\r\n", False),
    "double": (b",1.5\r\n", 1.5),
    "verbatim string": (b"=7\r\ntxt:abc\r\n", b"abc"),
    "array": (b"*2\r\n:1\r\n$1\r\na\r\n", [1, b"a"]),
    "empty array": (b"*0\r\n", []),
    "nested array": (b"*2\r\n*1\r\n:1\r\n*0\r\n", [[1], []]),
    "map": (b"%2\r\n+a\r\n:1\r\n+b\r\n#f\r\n", {b"a": 1, b"b": False}),
    "push": (b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n", [b"message", b"c", b"hi"]),
    "array of falses": (b"*2\r\n#f\r\n#f\r\n", [False, False]),
}

BROKEN: dict[str, bytes] = {
    "unknown type byte": b"@1\r\n",
    "an HTTP server": b"HTTP/1.1 400 Bad Request\r\n",
    "negative length": b"$-5\r\n",
    "length out of range": b"*99999999999999999999999\r\n",
    "not an integer": b":abc\r\n",
    "not a boolean": b"#x\r\n",
}


def collect(parser: RespParser, chunks: Iterable[bytes], seen: list[object]) -> None:
    for chunk in chunks:
        parser.feed(chunk)
        for value in parser.values():
            seen.append(value)  # noqa: PERF402 - what came before an error counts


def parse(*chunks: bytes, parser: RespParser | None = None) -> list[object]:
    values: list[object] = []
    collect(parser or RespParser(), chunks, values)
    return values


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("how", ["whole", "byte by byte", "with trailing data", "with the start of the next"])
def test_every_type_is_read_however_its_bytes_arrive(case: str, how: str) -> None:
    data, expected = CASES[case]
    after: list[object] = []
    match how:
        case "whole":
            values = parse(data)
        case "byte by byte":
            values = parse(*(data[i : i + 1] for i in range(len(data))))
        case "with trailing data":
            values, after = parse(data + b":7\r\n"), [7]
        case _:
            values, after = parse(data + b"$3\r\nab", b"c\r\n"), [b"abc"]
    assert values == [expected, *after]
    assert type(values[0]) is (PushNotification if case == "push" else type(expected))


@given(names=st.lists(st.sampled_from(sorted(CASES)), min_size=1), data=st.data())
def test_a_stream_split_anywhere_gives_the_same_values(names: list[str], data: st.DataObject) -> None:
    stream = b"".join(CASES[name][0] for name in names)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)))))
    chunks = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    parser = RespParser()
    values = parse(*chunks, parser=parser)
    assert values == [CASES[name][1] for name in names]
    assert parser.unfinished == 0


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (b"-ERR no\r\n", ResponseError),
        (b"-WRONGTYPE Operation\r\n", ResponseError),
        (b"-NOPERM this user\r\n", NoPermissionError),
        (b"-NOAUTH Authentication required.\r\n", AuthenticationError),
        (b"-WRONGPASS invalid\r\n", AuthenticationError),
        (b"-LOADING Redis is loading\r\n", BusyLoadingError),
        (b"-\xff\xfe\r\n", ResponseError),
        (b"-\r\n", ResponseError),
    ],
)
def test_an_error_reply_is_a_value_with_its_text_and_does_not_spend_the_parser(line: bytes, kind: type) -> None:
    error, after = parse(line + b"+OK\r\n")
    assert type(error) is kind
    assert str(error) == line[1:-2].decode("utf-8", "replace")
    assert after == b"OK"


@pytest.mark.parametrize("case", BROKEN)
@pytest.mark.parametrize("size", [1, 1000])
def test_broken_bytes_spend_the_parser_after_the_values_before_them(case: str, size: int) -> None:
    parser = RespParser()
    data = b"+OK\r\n" + BROKEN[case]
    seen: list[object] = []
    with pytest.raises(ProtocolError, match="not a Redis reply"):
        collect(parser, [data[i : i + size] for i in range(0, len(data), size)], seen)
    assert seen == [b"OK"]
    with pytest.raises(ProtocolError, match="not a Redis reply"):
        collect(parser, [b"+OK\r\n"], seen)
    assert seen == [b"OK"]


def test_more_elements_than_memory_holds_are_no_reply() -> None:
    parser = RespParser()
    with limited_memory(1 << 30), pytest.raises(ProtocolError, match="not a Redis reply"):
        parse(b"*4294967290\r\n:1\r\n", parser=parser)


@contextmanager
def limited_memory(more: int) -> Iterator[None]:
    """Let this process have so many bytes more than it has, however many the machine has."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


@pytest.mark.parametrize(
    ("opening", "element"),
    [(b"$100000\r\n", b"x" * 100), (b"*100000\r\n", b"$93\r\n" + b"x" * 93 + b"\r\n"), (b"+", b"x" * 100)],
    ids=["byte string", "array whose elements are complete", "line without end"],
)
def test_a_reply_that_does_not_end_is_given_up_at_the_limit(opening: bytes, element: bytes) -> None:
    parser = RespParser(reply_limit=5000)
    elements = (5000 - len(opening)) // len(element)
    assert parse(opening, *[element] * elements, parser=parser) == []
    with pytest.raises(ProtocolError, match="larger than 5000 bytes"):
        parse(element, parser=parser)


def test_the_limit_is_for_one_reply_not_for_a_connection() -> None:
    parser = RespParser(reply_limit=1000)
    for _ in range(1000):
        assert parse(b"$900\r\n" + b"x" * 500, b"x" * 400 + b"\r\n", parser=parser) == [b"x" * 900]


def test_twenty_megabytes_in_one_message_pass() -> None:
    payload = b"x" * (20 << 20)
    data = b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$%d\r\n%b\r\n" % (len(payload), payload)
    assert parse(*(data[i : i + 65536] for i in range(0, len(data), 65536))) == [[b"message", b"c", payload]]


@pytest.mark.parametrize(
    ("args", "encoded"),
    [
        (("PING",), b"*1\r\n$4\r\nPING\r\n"),
        (("SELECT", 2), b"*2\r\n$6\r\nSELECT\r\n$1\r\n2\r\n"),
        (("SUBSCRIBE", b"a;;b\xff:x"), b"*2\r\n$9\r\nSUBSCRIBE\r\n$7\r\na;;b\xff:x\r\n"),
        (("X", "é", ""), b"*3\r\n$1\r\nX\r\n$2\r\n\xc3\xa9\r\n$0\r\n\r\n"),
    ],
)
def test_commands_are_arrays_of_byte_strings(args: tuple[bytes | str | int, ...], encoded: bytes) -> None:
    assert encode(*args) == encoded


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"@1\r\n", "not a Redis reply: Protocol error"),
        (b"%1\r\n*1\r\n:1\r\n:2\r\n", "not a Redis reply: a map whose key is an array or a map"),
        (b"*99999999999999999999999\r\n", "not a Redis reply: Bad multi-bulk length"),
    ],
    ids=["unknown type", "key", "length"],
)
def test_what_is_wrong_is_said_and_said_again(data: bytes, text: str) -> None:
    parser = RespParser()
    said = []
    for chunk in (data, b"+OK\r\n"):
        with pytest.raises(ProtocolError) as error:
            parse(chunk, parser=parser)
        said.append(str(error.value))
    assert said[0].startswith(text)
    assert said[1] == said[0]


def test_the_limit_is_told_and_one_byte_below_it_passes() -> None:
    parser = RespParser(reply_limit=100)
    assert parse(b"$500\r\n" + b"x" * 94, parser=parser) == []
    assert parser.unfinished == 100
    for _ in range(2):
        with pytest.raises(ProtocolError, match=r"^a reply larger than 100 bytes$"):
            parse(b"x", parser=parser)


def test_what_is_unfinished_is_counted_from_the_last_whole_value_on() -> None:
    parser = RespParser()
    assert parser.unfinished == 0
    parser.feed(b"+OK\r\n+O")
    assert parser.unfinished == 7
    assert list(parser.values()) == [b"OK"]
    assert 2 <= parser.unfinished <= 7, "hiredis keeps what it has read for a while"
    parser.feed(b"K\r\n")
    assert list(parser.values()) == [b"OK"]
    assert parser.unfinished == 0


def test_more_elements_than_memory_holds_are_called_so() -> None:
    parser = RespParser()
    with (
        limited_memory(1 << 30),
        pytest.raises(ProtocolError, match=r"^not a Redis reply: it declares more elements than memory can hold$"),
    ):
        parse(b"*4294967290\r\n:1\r\n", parser=parser)


def test_a_command_may_have_arguments_of_each_kind() -> None:
    assert encode("GET", b"k\xff", 5) == b"*3\r\n$3\r\nGET\r\n$2\r\nk\xff\r\n$1\r\n5\r\n"


def test_an_error_reply_is_one_of_our_errors() -> None:
    refused, busy = parse(b"-NOPERM this user\r\n-LOADING Redis is loading\r\n")
    assert (type(refused), str(refused)) == (NoPermissionError, "NOPERM this user")
    assert (type(busy), str(busy)) == (BusyLoadingError, "LOADING Redis is loading")
