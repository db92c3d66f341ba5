"""A client's frames as wsproto's own connection reads them; the usual pong where it is a message, and nowhere else."""

from __future__ import annotations

from itertools import pairwise

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from wsproto import frame_protocol
from wsproto.connection import SERVER, Connection
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage

from common.web.parser import PONG, Breach, FrameParser, is_close, is_pong

CONTINUATION, TEXT, BINARY, CLOSE, PING, CONTROL_PONG = 0, 1, 2, 8, 9, 10


@attrs.frozen
class Frame:
    """A client's frame."""

    opcode: int
    payload: bytes
    final: bool = True
    mask: bytes = b"\x12\x34\x56\x78"

    def encode(self) -> bytes:
        size = len(self.payload)
        if size < 126:
            length = bytes([0x80 | size])
        elif size < 1 << 16:
            length = bytes([0x80 | 126]) + size.to_bytes(2, "big")
        else:
            length = bytes([0x80 | 127]) + size.to_bytes(8, "big")
        masked = bytes(byte ^ self.mask[number % 4] for number, byte in enumerate(self.payload))
        return bytes([self.final << 7 | self.opcode]) + length + self.mask + masked


USUAL = Frame(TEXT, PONG)

payloads = st.one_of(
    st.just(PONG),
    st.just(PONG[:-1]),
    st.just(b""),
    st.just(USUAL.encode()),
    st.binary(max_size=20),
    st.sampled_from([125, 126, 127, 65535, 65536]).map(lambda size: b"x" * size),
)
frames = st.one_of(
    st.just(USUAL),
    st.builds(
        Frame, st.sampled_from([CONTINUATION, TEXT, BINARY]), payloads, st.booleans(), st.binary(min_size=4, max_size=4)
    ),
    st.builds(Frame, st.sampled_from([PING, CONTROL_PONG]), st.binary(max_size=125), st.just(True)),
)


@st.composite
def reads(draw: st.DrawFn) -> list[bytes]:
    """What a client sends, as it is read: cut between frames, and anywhere else."""
    sent = draw(st.lists(frames, max_size=8))
    ends = [0]
    for frame in sent:
        ends.append(ends[-1] + len(frame.encode()))
    data = b"".join(frame.encode() for frame in sent)
    cuts = set(draw(st.lists(st.sampled_from(ends)))) | set(draw(st.lists(st.integers(0, len(data)), max_size=4)))
    return [data[start:end] for start, end in pairwise(sorted({0, len(data)} | cuts))]


def told(event: Event) -> tuple[str, object]:
    match event:
        case TextMessage() | BytesMessage():
            return type(event).__name__, (event.data, event.frame_finished, event.message_finished)
        case Ping() | Pong():
            return type(event).__name__, bytes(event.payload)
        case CloseConnection():
            return "close", event.code
    raise AssertionError(event)


def by_wsproto(chunks: list[bytes]) -> list[tuple[str, object]]:
    """The events, by wsproto alone, a close or the first breach of the protocol being the last of them."""
    ws = Connection(SERVER)
    heard = []
    for chunk in chunks:
        ws.receive_data(chunk)
        for event in ws.events():
            heard.append(told(event))
            if isinstance(event, CloseConnection):
                return heard
    return heard


NAMES = {TEXT: "TextMessage", BINARY: "BytesMessage", PING: "Ping", CONTROL_PONG: "Pong"}


def by_parser(chunks: list[bytes]) -> list[tuple[str, object]]:
    """The same by ours, the usual pong kept from it, and with a parser that lives only as long as a message."""
    parser: FrameParser | None = None
    heard: list[tuple[str, object]] = []
    for chunk in chunks:
        if parser is None and is_pong(chunk):
            heard.append(("TextMessage", (PONG.decode(), True, True)))
            continue
        parser = parser or FrameParser()
        parser.feed(chunk)
        try:
            while frame := parser.next():
                if frame.opcode == CLOSE:
                    payload = bytes(frame.payload)  # type: ignore[arg-type]
                    return [*heard, ("close", int.from_bytes(payload[:2], "big") if payload else 1005)]
                told_of = frame.payload
                if frame.opcode < CLOSE:
                    heard.append((NAMES[frame.opcode], (told_of, frame.frame_finished, frame.message_finished)))
                else:
                    heard.append((NAMES[frame.opcode], told_of))
        except Breach as breach:
            return [*heard, ("close", 1007 if breach.bad_text else 1002)]
        if parser.between_messages:
            parser = None
    return heard


@given(reads())
@example([Frame(TEXT, b"{", final=False).encode(), USUAL.encode(), Frame(CONTINUATION, b"}").encode()])
@example([Frame(BINARY, USUAL.encode()).encode()[:6], USUAL.encode()])
@example([Frame(TEXT, b"a", final=False).encode(), Frame(PING, b"").encode(), USUAL.encode()])
@example([Frame(TEXT, b"a" * 65536).encode()[:5], Frame(TEXT, b"a" * 65536).encode()[5:], USUAL.encode()])
def test_the_same_is_heard_as_by_a_whole_connection(chunks: list[bytes]) -> None:
    assert by_parser(chunks) == by_wsproto(chunks)


@given(st.lists(frames, max_size=5), st.data())
def test_the_boundary_is_where_a_message_may_begin(sent: list[Frame], data: st.DataObject) -> None:
    """At every byte. Here the frames are known, so that no parser is needed to tell."""
    encoded, clean, open_message = b"", {0}, False
    for frame in sent:
        encoded += frame.encode()
        if frame.opcode < CLOSE:
            open_message = not frame.final
        if not open_message:
            clean.add(len(encoded))
    cut = data.draw(st.integers(0, len(encoded)))
    parser = FrameParser()
    for piece, end in ((encoded[:cut], cut), (encoded[cut:], len(encoded))):
        parser.feed(piece)
        try:
            while parser.next():
                pass
        except Breach:
            return
        assert parser.between_messages == (end in clean)


def test_the_boundary_byte_by_byte() -> None:
    sent = [USUAL, Frame(TEXT, b"x" * 126, final=False), Frame(PING, b"p"), Frame(CONTINUATION, b""), USUAL]
    parser, clean = FrameParser(), []
    for number, byte in enumerate(b"".join(frame.encode() for frame in sent), 1):
        parser.feed(bytes([byte]))
        while parser.next():
            pass
        if parser.between_messages:
            clean.append(number)
    assert clean == [21, 21 + 134 + 7 + 6, 21 + 134 + 7 + 6 + 21]


def test_what_is_fed_and_not_asked_for_is_no_boundary() -> None:
    parser = FrameParser()
    parser.feed(USUAL.encode() * 2)
    assert parser.next()
    assert not parser.between_messages
    assert parser.next()
    assert parser.between_messages


CLOSES = st.one_of(st.none(), st.integers(0, 65535), st.integers(990, 1020), st.sampled_from([2999, 3000, 4999, 5000]))


def encode_close(code: int | None, reason: bytes) -> bytes:
    return Frame(CLOSE, b"" if code is None else code.to_bytes(2, "big") + reason).encode()


@given(CLOSES.filter(lambda code: code != 1014), st.binary(max_size=20))
@example(1000, b"\xff")
def test_a_close_frame_is_judged_as_by_a_whole_connection(code: int | None, reason: bytes) -> None:
    sent = [encode_close(code, reason)]
    assert by_parser(sent) == by_wsproto(sent)


def test_the_code_that_was_registered_last_is_no_breach() -> None:
    """1014 (bad gateway) is in IANA's registry, and wsproto does not know it."""
    assert 1014 not in list(frame_protocol.CloseReason)
    assert by_parser([encode_close(1014, b"bad gateway")]) == [("close", 1014)]


@pytest.mark.parametrize("payload", [b"", b"\x03\xe8", b"\x03\xe8going away", b"x" * 125])
def test_one_whole_close_frame_is_told_without_a_parser(payload: bytes) -> None:
    data = Frame(CLOSE, payload).encode()
    assert is_close(data)
    assert not is_close(data[:-1])
    assert not is_close(data + b"\x88")
    assert not is_close(Frame(PING, payload).encode())


@given(st.binary(min_size=4, max_size=4))
def test_the_usual_pong_under_any_mask(mask: bytes) -> None:
    assert is_pong(Frame(TEXT, PONG, mask=mask).encode())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        USUAL.encode()[:-1],
        USUAL.encode() + b"\x81",
        USUAL.encode() * 2,
        Frame(BINARY, PONG).encode(),
        Frame(TEXT, PONG, final=False).encode(),
        Frame(CONTINUATION, PONG).encode(),
        Frame(TEXT, b'{"type":"ping"}').encode(),
        Frame(TEXT, b'{"type": "pong"').encode(),
        b"\x81\x0f" + PONG + b"    ",
        b"\xc1" + USUAL.encode()[1:],
    ],
    ids=["nothing", "cut", "more", "two", "binary", "begun", "continued", "ping", "spaced", "unmasked", "reserved bit"],
)
def test_nothing_else_is_the_usual_pong(data: bytes) -> None:
    assert not is_pong(data)


@pytest.mark.parametrize(
    ("frame", "text", "bad_text"),
    [
        (Frame(CLOSE, b"\x03"), "a close frame of one byte", False),
        (Frame(CLOSE, b"\x03\xe7"), "a close frame with the code 999", False),
        (Frame(CLOSE, b"\x03\xed why"), "a close frame with the code 1005", False),
        (Frame(CLOSE, b"\x13\x88"), "a close frame with the code 5000", False),
        (Frame(CLOSE, b"\x03\xe8a\xff"), "a close frame whose reason is not UTF-8: invalid start byte", True),
        (Frame(CLOSE, b"\x03\xe8\xc3"), "a close frame whose reason is not UTF-8: unexpected end of data", True),
    ],
)
def test_what_is_wrong_with_a_close_frame_is_said(frame: Frame, text: str, bad_text: bool) -> None:
    parser = FrameParser()
    parser.feed(frame.encode())
    with pytest.raises(Breach) as breach:
        parser.next()
    assert (str(breach.value), breach.value.bad_text) == (text, bad_text)


@pytest.mark.parametrize(
    ("frame", "bad_text"),
    [(Frame(TEXT, b"\xff"), True), (Frame(CONTINUATION, b"x"), False), (Frame(3, b"x"), False)],
    ids=["no UTF-8", "nothing to continue", "an opcode of nobody"],
)
def test_what_wsproto_refuses_is_a_breach_in_its_words(frame: Frame, bad_text: bool) -> None:
    parser = FrameParser()
    parser.feed(frame.encode())
    with pytest.raises(Breach, match=r"\S") as breach:
        parser.next()
    assert breach.value.bad_text is bad_text
    assert str(breach.value) != "None"


@pytest.mark.parametrize("code", [1000, 1003, 1007, 1014, 3000, 4999])
def test_the_codes_at_the_ends_of_each_range_are_good(code: int) -> None:
    parser = FrameParser()
    parser.feed(Frame(CLOSE, code.to_bytes(2, "big") + "ä".encode()).encode())
    frame = parser.next()
    assert frame is not None
    assert bytes(frame.payload) == code.to_bytes(2, "big") + "ä".encode()  # type: ignore[arg-type]


def test_the_shortest_close_frame_is_six_bytes() -> None:
    assert is_close(b"\x88\x80abcd")
    assert not is_close(b"\x88\x80abc")
    assert not is_close(b"\x88\x81abcd")
    assert not is_close(b"\x88")
    assert not is_close(b"")
    # The mask bit is no part of the length.
    assert is_close(b"\x88\x00abcd")
