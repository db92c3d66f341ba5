"""Where frames begin and end: ours as a client's library reads them, a client's as our conversation reads them."""

from __future__ import annotations

from typing import Final, TypeAlias

import trio
from hypothesis import strategies as st
from trio.testing import MockClock
from wsproto.connection import CLIENT, SERVER, Connection
from wsproto.events import TextMessage

from common.disconnect import CLIENT_CLOSED, CLIENT_GONE, INVALID_TEXT, MESSAGE_TOO_BIG, PROTOCOL_ERROR, Disconnect
from common.web.frames import text_frame
from common.web.peer import classify
from fuzz.pieces import CUTS, cut, damaged
from fuzz.target import FuzzTarget, holds_for
from tests.support.client import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, close_frame, frame
from tests.support.conversation import POLICY, conversation
from tests.support.streams import without_kernel

Told: TypeAlias = tuple[list[str], list[tuple[int, bytes]], Disconnect | None]
"""The kinds that a conversation observed, the frames that it sent, and why it ended."""

_SIZES: Final = st.sampled_from([0, 1, 2, 124, 125, 126, 127, 128, 65534, 65535, 65536, 65537])
_TEXTS: Final = st.lists(
    st.text(max_size=20) | st.builds(lambda letter, size: letter * size, st.sampled_from("x\x00\N{SNOWMAN}"), _SIZES),
    max_size=4,
)


@holds_for(_TEXTS, CUTS.filter(lambda cuts: cuts is not None))
def our_frames_are_read_by_a_client_in_any_pieces(texts: list[str], cuts: list[float]) -> None:
    """They are the frames that wsproto's own server would send."""
    data = b"".join(text_frame(text.encode()) for text in texts)
    server = Connection(SERVER)
    assert data == b"".join(server.send(TextMessage(text)) for text in texts)
    client, read = Connection(CLIENT), [""]
    for piece in cut(data, cuts):
        client.receive_data(piece)
        for event in client.events():
            assert isinstance(event, TextMessage)
            read[-1] += event.data
            if event.message_finished:
                read.append("")
    assert read == [*texts, ""]


_MASKS: Final = st.binary(min_size=4, max_size=4) | st.just(bytes(4))
_JSON: Final = st.sampled_from(
    ['{"type":"pong"}', '{"type":"init"}', '{"type": "pong"}', '{"type":"ping"}', '{"type":1}', "[]", "{", "", "\u2713"]
)
_CONTROLS: Final = st.lists(st.tuples(st.sampled_from([PING, PONG]), st.binary(max_size=125)), max_size=2)


@st.composite
def _messages(draw: st.DrawFn) -> tuple[bytes, Told]:
    """One message in some frames, with control frames between them, and what comes of it."""
    is_text = draw(st.booleans())
    data = draw(_JSON | st.text(max_size=30)).encode() if is_text else draw(st.binary(max_size=200))
    parts = cut(data, draw(st.lists(st.floats(0, 1), max_size=3))) or [b""]
    for _ in range(draw(st.integers(0, 2))):
        parts.insert(draw(st.integers(0, len(parts))), b"")
    sent, kinds, answers = b"", [], []
    for index, part in enumerate(parts):
        opcode = CONTINUATION if index else TEXT if is_text else BINARY
        sent += frame(opcode, part, fin=index == len(parts) - 1, mask=draw(_MASKS))
        if index < len(parts) - 1:
            for control, payload in draw(_CONTROLS):
                sent += frame(control, payload, mask=draw(_MASKS))
                kinds.append("control")
                answers += [(PONG, payload)] if control == PING else []
    kinds.append(classify(data.decode()) if is_text else "binary")
    return sent, (kinds, answers, None)


_CONVERSATIONS: Final = st.lists(_messages(), max_size=4)


def converse(chunks: list[bytes], *, first_is_trailing: bool) -> Told:
    """A whole conversation with a client that sends these bytes and then ends."""

    async def play() -> Told:
        trailing, rest = (chunks[:1], chunks[1:]) if first_is_trailing else ([], chunks)
        async with conversation("socket", trailing=b"".join(trailing)) as talk:
            for chunk in rest:
                await talk.client.send_raw(chunk)
                await trio.testing.wait_all_tasks_blocked()
            await _end(talk.client.stream)
            await talk.wait_over()
            assert talk.peer.error is None
            return talk.kinds, [seen[1:] for seen in talk.client.seen], talk.peer.disconnect

    # A socket, as the daemons have: on a stream that only tasks can write to, an early end cuts off the 101.
    with without_kernel():
        return trio.run(play, clock=MockClock(autojump_threshold=0))


async def _end(stream: trio.abc.Stream) -> None:
    """End the client's bytes; it goes on reading."""
    assert isinstance(stream, trio.StapledStream)
    await stream.send_stream.aclose()


@holds_for(_CONVERSATIONS, CUTS, st.booleans(), st.booleans())
def messages_are_understood_in_any_pieces(
    messages: list[tuple[bytes, Told]], cuts: list[float] | None, first_is_trailing: bool, closes: bool
) -> None:
    """Each once, in order, with what lies between their fragments."""
    data = b"".join(sent for sent, _ in messages) + (close_frame() if closes else b"")
    kinds, answers, end = converse(cut(data, cuts), first_is_trailing=first_is_trailing)
    assert kinds == [kind for _, told in messages for kind in told[0]]
    expected = [answer for _, told in messages for answer in told[1]]
    assert answers == [*expected, *([(CLOSE, b"\x03\xe8")] if closes else [])]
    assert end == (CLIENT_CLOSED if closes else CLIENT_GONE)


_JUNK: Final = st.lists(
    st.builds(
        frame,
        st.integers(0, 15),
        st.binary(max_size=130),
        fin=st.booleans(),
        reserved=st.sampled_from([0, 0, 0, 0, 4]),
        mask=st.none() | st.just(b"\x01\x02\x03\x04"),
    )
    | st.builds(close_frame, st.none() | st.integers(0, 65535), st.binary(max_size=125))
    | st.binary(max_size=10),
    max_size=5,
).map(b"".join)
_SENT: Final = _CONVERSATIONS.map(lambda messages: b"".join(sent for sent, _ in messages))
_ENDS: Final = {CLIENT_CLOSED, CLIENT_GONE, INVALID_TEXT, MESSAGE_TOO_BIG, PROTOCOL_ERROR}


@holds_for(damaged(_SENT) | _JUNK, CUTS, st.booleans())
def any_bytes_end_well_and_alike_in_any_pieces(data: bytes, cuts: list[float] | None, first_is_trailing: bool) -> None:
    """No bug is reached, and at most one close frame goes out, as the last."""
    whole = converse([data] if data else [], first_is_trailing=False)
    pieces = converse(cut(data, cuts), first_is_trailing=first_is_trailing)
    for _, answers, end in (whole, pieces):
        assert end in _ENDS
        assert all(opcode != CLOSE for opcode, _ in answers[:-1])
    if len(data) <= POLICY.max_message_size:
        # Above, how much comes at once decides whether too large or malformed is seen first.
        assert pieces == whole


TARGET: Final = FuzzTarget(
    "frames",
    (
        our_frames_are_read_by_a_client_in_any_pieces,
        messages_are_understood_in_any_pieces,
        any_bytes_end_well_and_alike_in_any_pieces,
    ),
)
