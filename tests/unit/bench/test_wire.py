"""The load generator's side of RFC 6455, checked with wsproto, which shares no code with it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto import ConnectionType, WSConnection
from wsproto.connection import Connection
from wsproto.events import AcceptConnection, BytesMessage, Ping, Pong, Request, TextMessage

from bench import wire

_PATH = "/batch;;name;;_base:wepp"


def _accepted() -> bytes:
    server = WSConnection(ConnectionType.SERVER)
    server.receive_data(wire.handshake_request("127.0.0.1:9002", _PATH))
    (request,) = server.events()
    assert isinstance(request, Request)
    assert (request.host, request.target) == ("127.0.0.1:9002", _PATH)
    return server.send(AcceptConnection())


def test_a_handshake_is_taken_as_an_independent_server_gives_it_whole_and_byte_by_byte() -> None:
    answer = _accepted()
    assert wire.split_handshake(answer + b"\x81\x00") == b"\x81\x00"
    assert all(wire.split_handshake(answer[:size]) is None for size in range(len(answer)))


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n\r\n", "503"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "accept"),
        (b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: bm8=\r\n\r\n", "accept"),
        (b"nonsense\r\n\r\n", "nonsense"),
    ],
)
def test_a_handshake_that_is_not_a_correct_101_is_an_error(answer: bytes, reason: str) -> None:
    with pytest.raises(wire.HandshakeError, match=reason):
        wire.split_handshake(answer)


@given(st.text(alphabet="abc{}:é", max_size=40), st.binary(max_size=125))
def test_masked_frames_are_read_by_an_independent_server(text: str, payload: bytes) -> None:
    server = Connection(ConnectionType.SERVER)
    server.receive_data(wire.masked_frame(wire.TEXT, text.encode()) + wire.masked_frame(wire.PONG, payload))
    message, pong = server.events()
    assert isinstance(message, TextMessage)
    assert message.data == text
    assert isinstance(pong, Pong)
    assert bytes(pong.payload) == payload


def test_a_frame_too_long_for_a_load_client_is_an_error() -> None:
    with pytest.raises(ValueError, match="126"):
        wire.masked_frame(wire.TEXT, bytes(126))


@given(
    st.lists(st.one_of(st.binary(max_size=10), st.sampled_from([bytes(125), bytes(126), bytes(65535), bytes(65536)]))),
    st.binary(max_size=5),
)
def test_frames_of_an_independent_server_are_cut_at_their_ends(payloads: list[bytes], ping: bytes) -> None:
    server = Connection(ConnectionType.SERVER)
    data = b"".join(server.send(BytesMessage(data=payload)) for payload in payloads) + server.send(Ping(payload=ping))
    cut, start = [], 0
    while end := wire.frame_end(data, start):
        cut.append(data[start:end])
        start = end
    assert start == len(data)
    assert [frame[len(frame) - len(payload) :] for frame, payload in zip(cut, payloads, strict=False)] == payloads
    assert cut[-1] == bytes((wire.FIN | wire.PING, len(ping))) + ping
    assert len(cut) == len(payloads) + 1


@given(st.one_of(st.text(alphabet="abcé", max_size=200), st.sampled_from(["x" * 65535, "x" * 65536])))
def test_the_frame_expected_is_the_one_that_an_independent_server_sends(text: str) -> None:
    assert wire.server_text(text.encode()) == Connection(ConnectionType.SERVER).send(TextMessage(data=text))


@pytest.mark.parametrize("length", [0, 1, 125, 126, 300, 65536])
def test_an_incomplete_frame_is_none_wherever_it_is_cut(length: int) -> None:
    earlier = b"\x81\x02hi"
    frame = Connection(ConnectionType.SERVER).send(BytesMessage(data=bytes(length)))
    sizes = {*range(min(len(frame), 20)), len(frame) - 1}
    assert all(wire.frame_end(earlier + frame[:size], len(earlier)) is None for size in sizes)
    assert wire.frame_end(earlier + frame, len(earlier)) == len(earlier + frame)
