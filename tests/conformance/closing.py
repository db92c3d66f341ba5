"""Autobahn 7: the closing handshake, its codes and reasons (RFC 6455, sections 5.5.1, 7.1 and 7.4)."""

from __future__ import annotations

from typing import Final

from tests.conformance.case import (
    INVALID_TEXT,
    PROTOCOL_ERROR,
    TOO_BIG,
    Case,
    case,
    close_payload,
    echoed,
    fragments,
    pong,
)
from tests.support.client import BINARY, CLOSE, PING, TEXT, close_frame, frame

_NORMAL: Final = close_payload(1000)
_CLOSE: Final = close_frame(1000)
_PARTS: Final = fragments(TEXT, [b"fragment1", b"fragment2"])
_REASON: Final = b"*" * 123

ORDER: Final = [
    case("7.1.1", "a text, then a close", frame(TEXT, b"Hello World!"), _CLOSE, end=echoed(_NORMAL)),
    # What comes behind the close is not heard (section 5.5.1), nor is it a reason to answer twice.
    case("7.1.2", "two closes", _CLOSE * 2, end=echoed(_NORMAL)),
    case("7.1.3", "a ping behind the close", _CLOSE + frame(PING), end=echoed(_NORMAL)),
    case("7.1.4", "a text behind the close", _CLOSE + frame(TEXT, b"Hello World!"), end=echoed(_NORMAL)),
    case("7.1.5", "a close between two fragments", _PARTS[0] + _CLOSE + _PARTS[1], end=echoed(_NORMAL)),
    case(
        "7.1.6",
        "256 KB, a close and a ping: too much is said before the close",
        frame(TEXT, b"BAsd7&jh23" * 26_215) + _CLOSE + frame(PING),
        end=TOO_BIG,
    ),
]

PAYLOADS: Final = [
    case("7.3.1", "no payload", frame(CLOSE), end=echoed()),
    case("7.3.2", "a payload of one octet", frame(CLOSE, b"a"), end=PROTOCOL_ERROR),
    case("7.3.3", "a code", _CLOSE, end=echoed(_NORMAL)),
    case("7.3.4", "a code and a reason", close_frame(1000, b"Hello World!"), end=echoed(_NORMAL + b"Hello World!")),
    case("7.3.5", "a reason of 123 octets", close_frame(1000, _REASON), end=echoed(_NORMAL + _REASON)),
    case("7.3.6", "a reason of 124 octets", close_frame(1000, _REASON + b"*"), end=PROTOCOL_ERROR),
    case(
        "7.5.1",
        "a reason that is not UTF-8",
        close_frame(1000, "κόσμε".encode() + b"\xed\xa0\x80edited"),
        end=INVALID_TEXT,
    ),
    case("7.5.2", "a reason cut in a character", close_frame(1000, "κόσμε".encode()[:-1]), end=INVALID_TEXT),
    case("7.5.3", "an overlong reason", close_frame(1000, b"\xc0\xaf"), end=INVALID_TEXT),
    case(
        "7.5.4",
        "a reason with characters of four octets",
        close_frame(1000, "😀".encode() * 30),
        end=echoed(_NORMAL + "😀".encode() * 30),
    ),
]


def _codes(section: str, codes: tuple[int, ...], *, valid: bool) -> list[Case]:
    return [
        case(
            f"{section}.{number}",
            f"the {'good' if valid else 'bad'} code {code}",
            close_frame(code),
            end=echoed(close_payload(code)) if valid else PROTOCOL_ERROR,
        )
        for number, code in enumerate(codes, 1)
    ]


CODES: Final = [
    *_codes("7.7", (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999), valid=True),
    # The suite is older than IANA's registry: 1012 to 1014 are in it.
    *_codes("7.7b", (1012, 1013, 1014), valid=True),
    *_codes("7.9", (0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999), valid=False),
    *_codes("7.9b", (1, 1015, 1017, 1999, 2001), valid=False),
    *_codes("7.13", (5000, 65535), valid=False),
]

BESIDE: Final = [
    case(
        "7.14.1",
        "pings before the close are answered first",
        frame(PING, b"1") + frame(PING, b"2") + _CLOSE,
        answers=pong(b"1") + pong(b"2"),
        end=echoed(_NORMAL),
    ),
    case("7.14.2", "garbage behind the close", _CLOSE + b"\xff" * 100, end=echoed(_NORMAL)),
    case("7.14.3", "a close in fragments", frame(CLOSE, _NORMAL, fin=False), end=PROTOCOL_ERROR),
    case("7.14.4", "a close within a message of bytes", frame(BINARY, b"x", fin=False) + _CLOSE, end=echoed(_NORMAL)),
    case("7.14.5", "a close behind a breach", frame(3) + _CLOSE, end=PROTOCOL_ERROR),
]

CASES: Final = [*ORDER, *PAYLOADS, *CODES, *BESIDE]
