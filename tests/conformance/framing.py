"""Autobahn 1 to 5: framing, pings and pongs, reserved bits, opcodes, fragmentation (RFC 6455, sections 5.2 to 5.5)."""

from __future__ import annotations

from typing import Final

from tests.conformance.case import PROTOCOL_ERROR, Case, case, chops, fragments, pong
from tests.support.client import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame

_HELLO: Final = b"Hello, world!"
_SIZES: Final = (0, 125, 126, 127, 128, 65535, 65536)
_ODD: Final = b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff"
_TEXT: Final = frame(TEXT, _HELLO)
_PING: Final = frame(PING)
_TEN: Final = [b"payload-%d" % number for number in range(10)]
_PARTS: Final = (b"fragment1", b"fragment2")
_STRAY: Final = b"non-continuation payload"


def _lengths(section: str, name: str, opcode: int, octet: bytes) -> list[Case]:
    """Section 1: a message of each length that needs another encoding, and the longest in writes of 997 bytes."""
    whole = [
        case(f"{section}.{number}", f"{name} of {size} bytes", frame(opcode, octet * size))
        for number, size in enumerate(_SIZES, 1)
    ]
    chopped = chops(frame(opcode, octet * _SIZES[-1]), 997)
    return [*whole, case(f"{section}.{len(_SIZES) + 1}", f"{name} of 65536 bytes in writes of 997", *chopped)]


FRAMING: Final = [*_lengths("1.1", "text", TEXT, b"*"), *_lengths("1.2", "binary", BINARY, b"\xfe")]

PINGS: Final = [
    case("2.1", "a ping without payload", _PING, answers=pong()),
    case("2.2", "a ping with a text", frame(PING, _HELLO), answers=pong(_HELLO)),
    case("2.3", "a ping with bytes that are no text", frame(PING, _ODD), answers=pong(_ODD)),
    case("2.4", "a ping of 125 bytes", frame(PING, b"\xfe" * 125), answers=pong(b"\xfe" * 125)),
    case("2.5", "a ping of 126 bytes", frame(PING, b"\xfe" * 126), end=PROTOCOL_ERROR),
    case("2.6", "a ping of 125 bytes, octet by octet", *chops(frame(PING, b"\xfe" * 125)), answers=pong(b"\xfe" * 125)),
    case("2.7", "a pong that nobody asked for", frame(PONG)),
    case("2.8", "a pong with payload that nobody asked for", frame(PONG, b"unsolicited pong payload")),
    case("2.9", "such a pong, then a ping", frame(PONG, b"unsolicited"), frame(PING, b"ping"), answers=pong(b"ping")),
    case("2.10", "ten pings", *[frame(PING, ping) for ping in _TEN], answers=b"".join(map(pong, _TEN))),
    case(
        "2.11",
        "ten pings, octet by octet",
        *chops(b"".join(frame(PING, ping) for ping in _TEN)),
        answers=b"".join(map(pong, _TEN)),
    ),
]

_BEHIND: Final = (_TEXT, frame(TEXT, _HELLO, reserved=2), _PING)
RESERVED_BITS: Final = [
    case("3.1", "RSV3 in a text", frame(TEXT, _HELLO, reserved=1), end=PROTOCOL_ERROR),
    case("3.2", "a text, RSV2 in the next, a ping, in one write", b"".join(_BEHIND), end=PROTOCOL_ERROR),
    case(
        "3.3",
        "a text, RSV2 and RSV3 in the next, a ping, frame by frame",
        _TEXT,
        frame(TEXT, _HELLO, reserved=3),
        _PING,
        end=PROTOCOL_ERROR,
    ),
    case(
        "3.4",
        "a text, RSV1 in the next, a ping, octet by octet",
        *chops(_TEXT + frame(TEXT, _HELLO, reserved=4) + _PING),
        end=PROTOCOL_ERROR,
    ),
    case("3.5", "RSV1 and RSV3 in a binary", frame(BINARY, _ODD, reserved=5), end=PROTOCOL_ERROR),
    case("3.6", "RSV1 and RSV2 in a ping", frame(PING, _HELLO, reserved=6), end=PROTOCOL_ERROR),
    case("3.7", "every reserved bit in a close", frame(CLOSE, b"", reserved=7), end=PROTOCOL_ERROR),
]


def _opcodes(section: str, name: str, first: int) -> list[Case]:
    """Section 4: the five opcodes of a kind that are reserved."""
    plain, full, behind, full_behind, chopped = range(first, first + 5)
    return [
        case(f"{section}.1", f"{name} opcode {plain}", frame(plain), end=PROTOCOL_ERROR),
        case(f"{section}.2", f"{name} opcode {full} with payload", frame(full, _HELLO), end=PROTOCOL_ERROR),
        case(f"{section}.3", f"{name} opcode {behind} behind a text", _TEXT, frame(behind), _PING, end=PROTOCOL_ERROR),
        case(
            f"{section}.4",
            f"{name} opcode {full_behind} with payload behind a text",
            _TEXT,
            frame(full_behind, _HELLO),
            _PING,
            end=PROTOCOL_ERROR,
        ),
        case(
            f"{section}.5",
            f"{name} opcode {chopped} behind a text, octet by octet",
            *chops(_TEXT + frame(chopped, _HELLO) + _PING),
            end=PROTOCOL_ERROR,
        ),
    ]


OPCODES: Final = [*_opcodes("4.1", "data", 3), *_opcodes("4.2", "control", 11)]

_TWO: Final = fragments(TEXT, _PARTS)
_PINGED: Final = (_TWO[0], frame(PING, b"ping"), _TWO[1])
_FIVE: Final = fragments(TEXT, [b"fragment%d" % number for number in range(1, 6)])
_FIVE_PINGED: Final = (*_FIVE[:2], frame(PING, b"pong1"), *_FIVE[2:4], frame(PING, b"pong2"), _FIVE[4])
_STRAY_LAST: Final = (frame(CONTINUATION, _STRAY), _TEXT)
_STRAY_FIRST: Final = (frame(CONTINUATION, _STRAY, fin=False), _TEXT)


def _thrice(first: int, what: str, frames: tuple[bytes, ...], **outcome: object) -> list[Case]:
    """The same frames in one write, in one each, and octet by octet."""
    return [
        case(f"5.{first + number}", f"{what}, {how}", *sends, **outcome)  # type: ignore[arg-type]
        for number, (how, sends) in enumerate(
            {
                "in one write": (b"".join(frames),),
                "frame by frame": frames,
                "octet by octet": chops(b"".join(frames)),
            }.items()
        )
    ]


FRAGMENTATION: Final = [
    case("5.1", "a ping in two fragments", *fragments(PING, _PARTS), end=PROTOCOL_ERROR),
    case("5.2", "a pong in two fragments", *fragments(PONG, _PARTS), end=PROTOCOL_ERROR),
    *_thrice(3, "a text in two fragments", _TWO),
    *_thrice(6, "a ping between two fragments", _PINGED, answers=pong(b"ping")),
    *_thrice(9, "a last fragment of nothing", _STRAY_LAST, end=PROTOCOL_ERROR),
    *_thrice(12, "a fragment of nothing", _STRAY_FIRST, end=PROTOCOL_ERROR),
    case(
        "5.15",
        "two fragments, then one of nothing, then a text",
        b"".join((*_TWO, *_STRAY_FIRST)),
        end=PROTOCOL_ERROR,
    ),
    case(
        "5.16",
        "twice: a fragment of nothing, then a text in two",
        *[_STRAY_FIRST[0], *_TWO] * 2,
        end=PROTOCOL_ERROR,
    ),
    case(
        "5.17",
        "twice: a last fragment of nothing, then a text in two",
        *[_STRAY_LAST[0], *_TWO] * 2,
        end=PROTOCOL_ERROR,
    ),
    case("5.18", "both fragments are called a text", _TWO[0], frame(TEXT, _PARTS[1]), end=PROTOCOL_ERROR),
    case("5.19", "pings among five fragments", b"".join(_FIVE_PINGED), answers=pong(b"pong1") + pong(b"pong2")),
    case("5.20", "pings among five fragments, frame by frame", *_FIVE_PINGED, answers=pong(b"pong1") + pong(b"pong2")),
]

CASES: Final = [*FRAMING, *PINGS, *RESERVED_BITS, *OPCODES, *FRAGMENTATION]
