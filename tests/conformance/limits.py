"""Autobahn 9 and 10: large messages, many fragments, many messages, against MAX_MESSAGE_SIZE (SPEC 2: 64 KB).

The suite's sizes go to 16 MB; here every one over the limit ends alike, so the largest are left out.
"""

from __future__ import annotations

from typing import Final

from tests.conformance.case import LIVES, TOO_BIG, Case, End, case, chops, fragments, pong, raw
from tests.support.client import BINARY, PING, TEXT, frame

_KB: Final = 1024
_LIMIT: Final = 64 * _KB
_MASK: Final = b"\0\0\0\0"


def _sizes(section: str, name: str, opcode: int) -> list[Case]:
    return [
        case(f"{section}.1", f"{name} of 64 KB", frame(opcode, b"*" * _LIMIT)),
        case(f"{section}.2", f"{name} of 256 KB", frame(opcode, b"*" * (256 * _KB)), end=TOO_BIG),
        case(f"{section}.3", f"{name} of 1 MB", frame(opcode, b"*" * (1024 * _KB)), end=TOO_BIG),
        case(f"{section}.7", f"{name} of a byte over the limit", frame(opcode, b"*" * (_LIMIT + 1)), end=TOO_BIG),
        case(
            f"{section}.8",
            f"{name} of 2^62 bytes, declared",
            raw(0x80 | opcode, 0xFF, (1 << 62).to_bytes(8, "big") + _MASK + b"*" * (_LIMIT + 1)),
            end=TOO_BIG,
        ),
    ]


def _fragmented(section: str, name: str, opcode: int) -> list[Case]:
    """The suite's 4 MB are 128 KB here: twice the limit."""
    rows: list[Case] = []
    for number, size in enumerate((64, 256, _KB, 4 * _KB, 16 * _KB, _LIMIT), 1):
        for total, end in ((_LIMIT, _fits(size)), (2 * _LIMIT, TOO_BIG)):
            parts = fragments(opcode, chops(b"*" * total, size))
            rows.append(
                case(
                    f"{section}.{number}{'' if total == _LIMIT else 'b'}",
                    f"{name} of {total // _KB} KB in fragments of {size}",
                    b"".join(parts),
                    end=end,
                )
            )
    return rows


def _fits(fragment: int) -> End:
    """64 KB are no more fragments than a message may have (1,024), but for the smallest."""
    return LIVES if _LIMIT // fragment <= 1024 else TOO_BIG


def _chopped(section: str, name: str, opcode: int) -> list[Case]:
    return [
        case(
            f"{section}.{number}",
            f"{name} of 64 KB in writes of {size}",
            *chops(frame(opcode, b"*" * _LIMIT), size),
        )
        for number, size in enumerate((64, 128, 256, 512, _KB, 2 * _KB), 1)
    ]


def _many(section: str, name: str, opcode: int) -> list[Case]:
    """The suite's 1,000 messages are 100 here, with a ping behind the last."""
    return [
        case(
            f"{section}.{number}",
            f"100 messages of {name} of {size} bytes and a ping",
            frame(opcode, b"*" * size) * 100 + frame(PING, b"?"),
            answers=pong(b"?"),
        )
        for number, size in enumerate((0, 16, 64, 256, _KB, 4 * _KB), 1)
    ]


CASES: Final = [
    *_sizes("9.1", "text", TEXT),
    *_sizes("9.2", "binary", BINARY),
    *_fragmented("9.3", "text", TEXT),
    *_fragmented("9.4", "binary", BINARY),
    *_chopped("9.5", "text", TEXT),
    *_chopped("9.6", "binary", BINARY),
    *_many("9.7", "text", TEXT),
    *_many("9.8", "binary", BINARY),
    case("10.1.1", "64 KB in fragments of 1300", *fragments(TEXT, chops(b"*" * _LIMIT, 1300))),
]
