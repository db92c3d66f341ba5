"""Autobahn 6: text is UTF-8, across fragments and writes, and a fault is told at its first octet (section 8.1).

The strings are those of Markus Kuhn's decoder stress test.
"""

from __future__ import annotations

from typing import Final

from tests.conformance.case import INVALID_TEXT, LIVES, Case, End, case, chops, fragments
from tests.support.client import TEXT, frame

_GREETING: Final = "Hello-µ@ßöäüàá-UTF-8!!".encode()
_KOSME: Final = "κόσμε".encode()
_SURROGATE: Final = b"\xed\xa0\x80"
_TOO_HIGH: Final = b"\xf4\x90\x80\x80"
"""U+110000, told at its second octet: none that begins with these two is a character."""
_BROKEN: Final = _KOSME + _SURROGATE + b"edited"


def _octets(text: bytes) -> tuple[bytes, ...]:
    """A fragment for each octet, all in one write."""
    return (b"".join(fragments(TEXT, chops(text))),)


_BASIC: Final = [
    case("6.1.1", "an empty text", frame(TEXT)),
    case("6.1.2", "three empty fragments", *fragments(TEXT, [b"", b"", b""])),
    case("6.1.3", "an empty fragment before and behind", *fragments(TEXT, [b"", b"middle frame payload", b""])),
    case("6.2.1", "a text with characters of two octets", frame(TEXT, _GREETING)),
    case("6.2.2", "the same, cut between characters", *fragments(TEXT, [_GREETING[:12], _GREETING[12:]])),
    case("6.2.3", "the same, a fragment for each octet", *_octets(_GREETING)),
    case("6.2.4", "Greek, a fragment for each octet", *_octets(_KOSME)),
    case("6.3.1", "a surrogate within a text", frame(TEXT, _BROKEN), end=INVALID_TEXT),
    case("6.3.2", "the same, a fragment for each octet", *_octets(_BROKEN), end=INVALID_TEXT),
]

_HEAD: Final = frame(TEXT, _KOSME + _TOO_HIGH + b"edited", mask=b"\0\0\0\0")
_AT: Final = len(_HEAD) - len(_KOSME + _TOO_HIGH + b"edited") + len(_KOSME)
_FAIL_FAST: Final = [
    # The last fragment, or the rest of the frame, is never sent: the fault is known before.
    case("6.4.1", "told within a message", *fragments(TEXT, [_KOSME, _TOO_HIGH, b"edited"])[:2], end=INVALID_TEXT),
    case(
        "6.4.2",
        "told at the octet",
        *fragments(TEXT, [_KOSME + _TOO_HIGH[:1], _TOO_HIGH[1:2], _TOO_HIGH[2:]])[:2],
        end=INVALID_TEXT,
    ),
    case("6.4.3", "told within a frame", _HEAD[:_AT], _HEAD[_AT : _AT + 4], end=INVALID_TEXT),
    case("6.4.4", "told at the octet of a frame", _HEAD[: _AT + 1], _HEAD[_AT + 1 : _AT + 2], end=INVALID_TEXT),
]


def _texts(section: str, what: str, texts: list[bytes], end: End | list[End] = LIVES) -> list[Case]:
    """Single texts, each in one frame."""
    ends = end if isinstance(end, list) else [end] * len(texts)
    return [
        case(f"{section}.{number}", f"{what}: {text[:12].hex(' ')}", frame(TEXT, text), end=ends[number - 1])
        for number, text in enumerate(texts, 1)
    ]


def _each_with_space(octets: range) -> bytes:
    return b"".join(bytes((octet, 0x20)) for octet in octets)


_SPLIT: Final = [
    case("6.5.1", "Greek in one write", frame(TEXT, _KOSME)),
    case("6.5.2", "in writes of one octet", *chops(frame(TEXT, _KOSME))),
    case("6.5.3", "in writes of two", *chops(frame(TEXT, _KOSME), 2)),
    case("6.5.4", "in writes of three", *chops(frame(TEXT, _KOSME), 3)),
    case("6.5.5", "in two fragments, cut in a character", *fragments(TEXT, [_KOSME[:3], _KOSME[3:]])),
]

# 0xCE, 0xCEBA, 0xCEBAE1, ...: whole where a character has just ended.
_PREFIXES: Final = [_KOSME[:size] for size in range(1, len(_KOSME) + 1)]
_WHOLE: Final = {_KOSME[: len("κόσμε"[:count].encode())] for count in range(6)}

_UNFINISHED: Final = [
    bytes.fromhex(octets)
    for octets in (
        "c0",
        "e0 80",
        "f0 80 80",
        "f8 80 80 80",
        "fc 80 80 80 80",
        "df",
        "ef bf",
        "f7 bf bf",
        "fb bf bf bf",
        "fd bf bf bf bf",
    )
]
_CONTINUATIONS: Final = bytes(range(0x80, 0xC0))
_NONCHARACTERS: Final = [chr(plane << 16 | last).encode() for plane in range(17) for last in (0xFFFE, 0xFFFF)]


def _surrogate(code: int) -> bytes:
    return chr(code).encode("utf-8", "surrogatepass")


_HIGH: Final = (0xD800, 0xDB7F, 0xDB80, 0xDBFF)
_LOW: Final = (0xDC00, 0xDF80, 0xDFFF)
_PAIRS: Final = [_surrogate(high) + _surrogate(low) for high in _HIGH for low in (0xDC00, 0xDFFF)]


def _hex(*texts: str) -> list[bytes]:
    return list(map(bytes.fromhex, texts))


CASES: Final = [
    *_BASIC,
    *_FAIL_FAST,
    *_SPLIT,
    *_texts("6.6", "a prefix", _PREFIXES, [LIVES if text in _WHOLE else INVALID_TEXT for text in _PREFIXES]),
    *_texts("6.7", "the first of a length", _hex("00", "c280", "e0a080", "f0908080")),
    *_texts("6.8", "of five and six octets", _hex("f888808080", "fc8480808080"), INVALID_TEXT),
    *_texts("6.9", "the last of a length", _hex("7f", "dfbf", "efbfbf", "f48fbfbf")),
    *_texts("6.10", "beyond Unicode", _hex("f7bfbfbf", "fbbfbfbfbf", "fdbfbfbfbfbf"), INVALID_TEXT),
    *_texts("6.11", "a boundary", _hex("ed9fbf", "ee8080", "efbfbd", "f48fbfbf"), LIVES),
    case("6.11.5", "beyond the last boundary", frame(TEXT, _TOO_HIGH), end=INVALID_TEXT),
    *_texts(
        "6.12",
        "continuation octets",
        [*_hex("80", "bf", "80bf", "80bf80", "80bf80bf", "80bf80bf80", "80bf80bf80bf"), _CONTINUATIONS],
        INVALID_TEXT,
    ),
    *_texts(
        "6.13",
        "lonely first octets",
        [
            _each_with_space(octets)
            for octets in (
                range(0xC0, 0xE0),
                range(0xE0, 0xF0),
                range(0xF0, 0xF8),
                range(0xF8, 0xFC),
                range(0xFC, 0xFE),
            )
        ],
        INVALID_TEXT,
    ),
    *_texts("6.14", "without its last octet", _UNFINISHED, INVALID_TEXT),
    *_texts("6.15", "all of those", [b"".join(_UNFINISHED)], INVALID_TEXT),
    *_texts("6.16", "impossible octets", _hex("fe", "ff", "fefeffff"), INVALID_TEXT),
    *_texts(
        "6.17", "an overlong slash", _hex("c0af", "e080af", "f08080af", "f8808080af", "fc80808080af"), INVALID_TEXT
    ),
    *_texts(
        "6.18", "the last overlong", _hex("c1bf", "e09fbf", "f08fbfbf", "f887bfbfbf", "fc83bfbfbfbf"), INVALID_TEXT
    ),
    *_texts("6.19", "an overlong NUL", _hex("c080", "e08080", "f0808080", "f880808080", "fc8080808080"), INVALID_TEXT),
    *_texts("6.20", "a surrogate", [_surrogate(code) for code in (*_HIGH, *_LOW)], INVALID_TEXT),
    *_texts("6.21", "a pair of surrogates", _PAIRS, INVALID_TEXT),
    *_texts("6.22", "a noncharacter", _NONCHARACTERS),
    *_texts("6.23", "a special", [chr(code).encode() for code in range(0xFFF9, 0x10000)]),
]
