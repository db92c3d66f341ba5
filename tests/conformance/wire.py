"""What the suite leaves out: masks, encodings of lengths, and connections that end anywhere, by section of the RFC."""

from __future__ import annotations

import struct
from typing import Final

from tests.conformance.case import GONE, PROTOCOL_ERROR, TOO_BIG, case, close_payload, echoed, pong, raw
from tests.support.client import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, close_frame, frame

_ZEROS: Final = b"\0\0\0\0"
_HELLO: Final = b'{"type":"hello"}'
_OPEN: Final = frame(TEXT, b"half", fin=False)
_NAMES: Final = {
    CONTINUATION: "continuation",
    TEXT: "text",
    BINARY: "binary",
    CLOSE: "close",
    PING: "ping",
    PONG: "pong",
}


def _length16(opcode: int, size: int, *, sent: int | None = None) -> bytes:
    """A frame whose length is in 16 bits, whatever it is."""
    return raw(0x80 | opcode, 0xFE, struct.pack("!H", size) + _ZEROS + b"*" * (size if sent is None else sent))


def _length64(opcode: int, size: int, *, sent: int | None = None) -> bytes:
    return raw(0x80 | opcode, 0xFF, struct.pack("!Q", size) + _ZEROS + b"*" * (size if sent is None else sent))


MASKS: Final = [
    # Section 5.1: a server must end the connection upon a frame that is not masked.
    *(
        case(f"rfc-5.1.{opcode}", f"{name} without a mask", frame(opcode, b"", mask=None), end=PROTOCOL_ERROR)
        for opcode, name in _NAMES.items()
    ),
    case("rfc-5.1.1b", "a text with payload without a mask", frame(TEXT, _HELLO, mask=None), end=PROTOCOL_ERROR),
    case(
        "rfc-5.1.11",
        "a text without a mask behind a good one",
        frame(TEXT, _HELLO),
        frame(TEXT, _HELLO, mask=None),
        end=PROTOCOL_ERROR,
    ),
    case("rfc-5.1.12", "a fragment without a mask", _OPEN, frame(CONTINUATION, b"x", mask=None), end=PROTOCOL_ERROR),
    case(
        "rfc-5.1.13", "a ping without a mask within a message", _OPEN, frame(PING, b"x", mask=None), end=PROTOCOL_ERROR
    ),
    case(
        "rfc-5.1.14",
        "a close with a code without a mask",
        frame(CLOSE, close_payload(1000), mask=None),
        end=PROTOCOL_ERROR,
    ),
    # Section 5.3: any key is a key.
    *(
        case(
            f"rfc-5.3.{number}",
            f"the key {key.hex()}",
            frame(PING, b"0123456789", mask=key),
            answers=pong(b"0123456789"),
        )
        for number, key in enumerate((_ZEROS, b"\xff" * 4, b"\0\0\0\1", b"\x88\x80\x81\x89", b"\r\n\r\n"), 1)
    ),
    *(
        case(
            f"rfc-5.3.{number}",
            f"a payload of {size} octets",
            frame(PING, b"abcd"[:size]),
            answers=pong(b"abcd"[:size]),
        )
        for number, size in enumerate((1, 2, 3, 4), 6)
    ),
    case(
        "rfc-5.3.10",
        "the usual pong under a key that makes it look like a close",
        frame(TEXT, b'{"type":"pong"}', mask=b"\xf3\xa2\x74\x79"),
    ),
]

LENGTHS: Final = [
    # Section 5.2: the least number of bytes must be used.
    *(
        case(f"rfc-5.2.1.{size}", f"{size} in 16 bits", _length16(BINARY, size), end=PROTOCOL_ERROR)
        for size in (0, 1, 124, 125)
    ),
    *(
        case(f"rfc-5.2.2.{size}", f"{size} in 64 bits", _length64(BINARY, size), end=PROTOCOL_ERROR)
        for size in (0, 1, 125, 126, 127, 65534, 65535)
    ),
    case("rfc-5.2.3.1", "126 in 16 bits", _length16(BINARY, 126)),
    case("rfc-5.2.3.2", "65535 in 16 bits", _length16(BINARY, 65535)),
    case("rfc-5.2.3.3", "65536 in 64 bits", _length64(BINARY, 65536)),
    # The most significant bit must be 0.
    case("rfc-5.2.4.1", "the highest bit and nothing else", _length64(BINARY, 1 << 63, sent=10), end=PROTOCOL_ERROR),
    case("rfc-5.2.4.2", "every bit", _length64(BINARY, (1 << 64) - 1, sent=10), end=PROTOCOL_ERROR),
    case("rfc-5.2.4.3", "the highest and the lowest bit", _length64(TEXT, 1 << 63 | 1, sent=10), end=PROTOCOL_ERROR),
    case("rfc-5.2.4.4", "told at the length", raw(0x82, 0xFF, b"\x80" + bytes(7)), end=PROTOCOL_ERROR),
    # Declared lengths alone end nobody and hold nothing; what comes does.
    case(
        "rfc-5.2.5.1",
        "2^63 - 1, of which the limit came",
        _length64(BINARY, (1 << 63) - 1, sent=1 << 16),
        end=GONE,
        leaves=True,
    ),
    case(
        "rfc-5.2.5.2",
        "2^63 - 1, of which a byte more came",
        _length64(BINARY, (1 << 63) - 1, sent=(1 << 16) + 1),
        end=TOO_BIG,
    ),
    # Section 5.5: control frames have the short form only.
    *(
        case(
            f"rfc-5.5.1.{opcode}",
            f"{_NAMES[opcode]} with a length in 16 bits",
            _length16(opcode, 5),
            end=PROTOCOL_ERROR,
        )
        for opcode in (CLOSE, PING, PONG)
    ),
    *(
        case(
            f"rfc-5.5.2.{opcode}",
            f"{_NAMES[opcode]} with a length in 64 bits",
            _length64(opcode, 5),
            end=PROTOCOL_ERROR,
        )
        for opcode in (CLOSE, PING, PONG)
    ),
    *(
        case(f"rfc-5.5.3.{opcode}", f"{_NAMES[opcode]} of 126 octets", frame(opcode, b"x" * 126), end=PROTOCOL_ERROR)
        for opcode in (CLOSE, PONG)
    ),
    *(
        case(
            f"rfc-5.5.4.{opcode}",
            f"{_NAMES[opcode]} of 126 octets, told at its head",
            frame(opcode, b"x" * 126)[:2],
            end=PROTOCOL_ERROR,
        )
        for opcode in (CLOSE, PING, PONG)
    ),
    *(
        case(f"rfc-5.5.5.{opcode}", f"{_NAMES[opcode]} without FIN", frame(opcode, fin=False), end=PROTOCOL_ERROR)
        for opcode in (CLOSE, PING, PONG)
    ),
]

MIXED: Final = [
    # Section 5.4: messages do not interleave, control frames may.
    case("rfc-5.4.1", "a binary within a text", _OPEN, frame(BINARY, b"x"), end=PROTOCOL_ERROR),
    case("rfc-5.4.2", "a text within a binary", frame(BINARY, b"x", fin=False), frame(TEXT, b"x"), end=PROTOCOL_ERROR),
    case("rfc-5.4.3", "the usual pong within a message", _OPEN, frame(TEXT, b'{"type":"pong"}'), end=PROTOCOL_ERROR),
    case(
        "rfc-5.4.4",
        "a continuation behind a whole message",
        frame(TEXT, b"x"),
        frame(CONTINUATION, b"y"),
        end=PROTOCOL_ERROR,
    ),
    case("rfc-5.4.5", "a pong within a message", _OPEN, frame(PONG, b"x"), frame(CONTINUATION, b"y")),
    case(
        "rfc-5.4.6", "a message of one fragment and an empty end", frame(BINARY, b"x", fin=False), frame(CONTINUATION)
    ),
    case("rfc-5.4.7", "1,024 fragments", _OPEN + frame(CONTINUATION, fin=False) * 1022 + frame(CONTINUATION)),
    case(
        "rfc-5.4.8", "1,025 fragments", _OPEN + frame(CONTINUATION, fin=False) * 1023 + frame(CONTINUATION), end=TOO_BIG
    ),
    case("rfc-5.4.9", "an HTTP request in place of a frame", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", end=PROTOCOL_ERROR),
    case(
        "rfc-5.4.10",
        "a TLS hello in place of a frame",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        end=PROTOCOL_ERROR,
    ),
    case(
        "rfc-5.4.11",
        "a good message, pings and a breach in one write",
        frame(TEXT, _HELLO) + frame(PING, b"1") + frame(3),
        answers=pong(b"1"),
        end=PROTOCOL_ERROR,
    ),
]

_WHOLE: Final = frame(TEXT, b"x" * 200)
ENDINGS: Final = [
    # Section 7.1.5 and 7.2.1: TCP ends without a closing handshake; there is nobody who could be told.
    case("rfc-7.2.0", "at once", end=GONE, leaves=True),
    *(
        case(f"rfc-7.2.{size}", f"behind {size} octets of a frame", _WHOLE[:size], end=GONE, leaves=True)
        for size in (1, 2, 3, 4, 7, 8, 100, len(_WHOLE) - 1, len(_WHOLE))
    ),
    case("rfc-7.2.300", "within a message", _OPEN, end=GONE, leaves=True),
    case("rfc-7.2.301", "within a character", frame(TEXT, b"\xe2\x82", fin=False), end=GONE, leaves=True),
    case("rfc-7.2.302", "within a ping", frame(PING, b"12345")[:-1], end=GONE, leaves=True),
    case("rfc-7.2.303", "within a close", close_frame(1000)[:-1], end=GONE, leaves=True),
    case("rfc-7.2.304", "behind a ping", frame(PING, b"?"), answers=pong(b"?"), end=GONE, leaves=True),
    case("rfc-7.2.305", "behind a close", close_frame(1001), end=echoed(close_payload(1001)), leaves=True),
]

CASES: Final = [*MASKS, *LENGTHS, *MIXED, *ENDINGS]
