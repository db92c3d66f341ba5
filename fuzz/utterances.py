"""What a client may send in the middle of a conversation: sense, nonsense, and what the server must refuse.

Each is bytes as they go over the wire, with the close codes that a server may answer it with; none if it must be borne.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from tests.support.client import BINARY, CLOSE, CONTINUATION, PING, PONG, PONG_PAYLOAD, TEXT, frame

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_MESSAGE_SIZE: Final = 64 * 1024
"""The daemon's default."""

CLOSES: Final = (1000, None, 1014, 3000, 4999)
"""Codes with which a client closes, None for a close frame without one; none that a server uses for its own ends."""

_BROKEN: Final = frozenset({1002})
_BAD_TEXT: Final = frozenset({1007})
_TOO_BIG: Final = frozenset({1009})


@attrs.frozen
class Utterance:
    """Bytes, and the close codes that they call for."""

    data: bytes
    codes: frozenset[int] = frozenset()


UTTERANCES: Final[Mapping[str, Utterance]] = {
    "init": Utterance(frame(TEXT, b'{"type":"init"}')),
    "pong": Utterance(frame(TEXT, PONG_PAYLOAD)),
    "many pongs": Utterance(frame(TEXT, PONG_PAYLOAD) * 100),
    "control ping": Utterance(frame(PING, b"are you there?")),
    "control pong": Utterance(frame(PONG)),
    "unknown type": Utterance(frame(TEXT, b'{"type":"subscribe"}')),
    "malformed JSON": Utterance(frame(TEXT, b'{"type":')),
    "JSON but no object": Utterance(frame(TEXT, b"[1,null]")),
    "deep JSON": Utterance(frame(TEXT, b"[" * 60_000)),
    "odd type": Utterance(frame(TEXT, b'{"type":["pong"]}')),
    "empty": Utterance(frame(TEXT)),
    "binary": Utterance(frame(BINARY, bytes(range(256)))),
    "as large as may be": Utterance(frame(TEXT, b"x" * MAX_MESSAGE_SIZE)),
    "fragments": Utterance(
        frame(TEXT, b'{"type":', fin=False) + frame(PING, b"between") + frame(CONTINUATION, b'"init"}')
    ),
    "too big": Utterance(frame(TEXT, b"x" * (MAX_MESSAGE_SIZE + 1)), _TOO_BIG),
    "too big in fragments": Utterance(
        frame(BINARY, b"x" * 40_000, fin=False) + frame(CONTINUATION, b"x" * 40_000), _TOO_BIG
    ),
    "fragments without end": Utterance(frame(TEXT, fin=False) + frame(CONTINUATION, fin=False) * 2_000, _TOO_BIG),
    "no mask": Utterance(frame(TEXT, b"{}", mask=None), _BROKEN),
    "reserved bit": Utterance(frame(TEXT, b"{}", reserved=4), _BROKEN),
    "unknown opcode": Utterance(frame(3, b"{}"), _BROKEN),
    "continues nothing": Utterance(frame(CONTINUATION, b"{}"), _BROKEN),
    "control in fragments": Utterance(frame(PING, fin=False), _BROKEN),
    "long control": Utterance(frame(PING, b"x" * 126), _BROKEN),
    "bad close": Utterance(frame(CLOSE, b"\x03"), _BROKEN),
    "HTTP": Utterance(b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n", _BROKEN),
    "bad UTF-8": Utterance(frame(TEXT, b"\xff\xfe"), _BAD_TEXT),
    # Whatever comes next is taken for the rest of it.
    "half a frame": Utterance(frame(TEXT, b"x" * 100)[:50], _BROKEN | _BAD_TEXT | _TOO_BIG),
}
