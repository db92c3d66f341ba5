"""Autobahn 12 and 13: permessage-deflate (RFC 7692), which these daemons do not speak.

An offer is passed over (the 101 names no extension), so that a compressed frame has a reserved bit set which nothing
gives a meaning (RFC 6455, section 5.2), and the conversation fails. Nothing is inflated.
"""

from __future__ import annotations

import json
import zlib
from typing import Final

from tests.conformance.case import PROTOCOL_ERROR, Case, case, chops
from tests.support.client import BINARY, CONTINUATION, PING, TEXT, frame

COMPRESSED: Final = 4
"""RSV1."""

EXTENSIONS: Final = "Sec-WebSocket-Extensions"
_OFFER: Final = {EXTENSIONS: "permessage-deflate; client_max_window_bits"}

OFFERS: Final = (
    "permessage-deflate",
    "permessage-deflate; server_no_context_takeover",
    "permessage-deflate; client_no_context_takeover; server_no_context_takeover",
    "permessage-deflate; server_max_window_bits=9",
    "permessage-deflate; server_max_window_bits=15; client_max_window_bits",
    "permessage-deflate; server_no_context_takeover; server_max_window_bits=9, permessage-deflate",
    "x-webkit-deflate-frame, permessage-deflate; client_max_window_bits=15",
)


def deflated(payload: bytes) -> bytes:
    """A message's payload as RFC 7692, section 7.2.1, compresses it."""
    packer = zlib.compressobj(wbits=-15)
    data = packer.compress(payload) + packer.flush(zlib.Z_SYNC_FLUSH)
    return data.removesuffix(b"\0\0\xff\xff")


_JSON: Final = json.dumps({"type": "pong", "words": ["status", "of", "a", "run"] * 8}).encode()
_SIZES: Final = (16, 64, 256, 1024, 4096, 8192, 16384, 32768, 65536, 131072)


def _messages(section: str, name: str, opcode: int) -> list[Case]:
    return [
        case(
            f"{section}.{number}",
            f"compressed {name} of {size} bytes",
            frame(opcode, deflated((_JSON * (size // len(_JSON) + 1))[:size]), reserved=COMPRESSED),
            end=PROTOCOL_ERROR,
            headers=_OFFER,
        )
        for number, size in enumerate(_SIZES, 1)
    ]


_PART: Final = deflated(_JSON)
_BOMB: Final = deflated(bytes(10 << 20))

CASES: Final = [
    *_messages("12.1", "text", TEXT),
    *_messages("12.2", "binary", BINARY),
    *(
        case(
            f"13.{number}.{kind}",
            f"{what}, offered: {offer}",
            frame(TEXT, payload, reserved=reserved),
            headers={EXTENSIONS: offer},
            **outcome,  # type: ignore[arg-type]
        )
        for number, offer in enumerate(OFFERS, 1)
        for kind, what, payload, reserved, outcome in (
            (1, "a plain text", _JSON, 0, {}),
            (2, "a compressed text", deflated(_JSON), COMPRESSED, {"end": PROTOCOL_ERROR}),
        )
    ),
    case("13.8.1", "compressed without an offer", frame(TEXT, _PART, reserved=COMPRESSED), end=PROTOCOL_ERROR),
    case("13.8.2", "10 MB of zeros, compressed", frame(BINARY, _BOMB, reserved=COMPRESSED), end=PROTOCOL_ERROR),
    case("13.8.3", "told at the frame's first octets", frame(TEXT, _PART, reserved=COMPRESSED)[:6], end=PROTOCOL_ERROR),
    case("13.8.4", "octet by octet", *chops(frame(TEXT, _PART, reserved=COMPRESSED)), end=PROTOCOL_ERROR),
    case(
        "13.8.5",
        "in fragments",
        frame(TEXT, _PART[:5], fin=False, reserved=COMPRESSED),
        frame(CONTINUATION, _PART[5:]),
        end=PROTOCOL_ERROR,
    ),
    case(
        "13.8.6",
        "the bit in a later fragment",
        frame(TEXT, b"x", fin=False),
        frame(CONTINUATION, b"y", reserved=COMPRESSED),
        end=PROTOCOL_ERROR,
    ),
    case("13.8.7", "a compressed ping", frame(PING, _PART[:100], reserved=COMPRESSED), end=PROTOCOL_ERROR),
    case("13.8.8", "deflated bytes in a plain binary", frame(BINARY, _BOMB[:1000])),
]
