"""What is quoted of strangers: short, harmless to terminals, honest about what was left out, and without secrets."""

from __future__ import annotations

import json
import sys
import unicodedata
from typing import Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from common.quote import LIMIT, quote, quote_url

ANY_TEXT: Final = st.text(st.characters(exclude_categories=[]))
NASTY: Final = (
    "\x00\x1b[2J\x07\n\r\t\x7f\x85\x9b"
    "\u00ad\u200b\u200e\u200f\u2028\u2029\u202a\u202e\u2066\u2069\ufeff\ud800\U000e0041"
)
IN_FULL: Final = 1 << 24
CANARY: Final = "hunter2"


def unsafe(text: str) -> list[str]:
    """The characters of `text` that no log may have raw, told from Unicode's own tables."""
    return [
        character
        for character in text
        if unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}
        or unicodedata.bidirectional(character) in {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
        or character in "\u061c\u200b\u200c\u200d\u200e\u200f\u2060\ufeff\u00ad"
    ]


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("", ""),
        ("GET /run:log", "GET /run:log"),
        ("größe 日本語 😀 \\ \" '", "größe 日本語 😀 \\ \" '"),
        ("a\nb\r\tc\x00\x1b", "a\\u000ab\\u000d\\u0009c\\u0000\\u001b"),
        ("\x7f\x80\x9f\xa0", "\\u007f\\u0080\\u009f\\u00a0"),
        ("\u2028\u2029\u200e\u200f", "\\u2028\\u2029\\u200e\\u200f"),
        ("\u202a\u202e\u2066\u2069\ufeff", "\\u202a\\u202e\\u2066\\u2069\\ufeff"),
        ("\ud800x\udfff", "\\ud800x\\udfff"),
        ("\U000e0041", "\\U000e0041"),
        (b"plain", "plain"),
        ("größe".encode(), "größe"),
        (b"\xff\xc3(\x00", "\\xff\\xc3(\\u0000"),
        ("\u202e".encode(), "\\u202e"),
    ],
)  # fmt: skip
def test_escapes(said: str | bytes, shown: str) -> None:
    assert quote(said) == shown


@pytest.mark.parametrize(
    ("said", "limit", "shown"),
    [
        ("a" * 40, 40, "a" * 40),
        ("a" * 41, 40, "a" * 23 + "… (41 characters)"),
        ("a" * 16384, 40, "a" * 20 + "… (16384 characters)"),
        (b"a" * 16384, 40, "a" * 25 + "… (16384 bytes)"),
        # Short enough, but not once it is escaped; and no escape is cut in two.
        ("\x1b" * 40, 40, "\\u001b" * 3 + "… (40 characters)"),
        (b"\xff" * 40, 40, "\\xff" * 7 + "… (40 bytes)"),
        ("😀".encode() * 40, 40, "😀" * 40),
        ("😀".encode() * 41, 40, "😀" * 27 + "… (164 bytes)"),
        ("日" * 100, 40, "日" * 22 + "… (100 characters)"),
        ("日".encode() * 100, 40, "日" * 27 + "… (300 bytes)"),
    ],
)
def test_what_is_cut_says_how_long_it_was(said: str | bytes, limit: int, shown: str) -> None:
    assert quote(said, limit) == shown


@given(ANY_TEXT | ANY_TEXT.map(lambda text: text * 300) | st.binary(), st.integers(40, 300))
@example(NASTY * 20, LIMIT)
def test_a_quotation_is_short_safe_and_stays_as_it_is(said: str | bytes, limit: int) -> None:
    shown = quote(said, limit)
    assert len(shown) <= limit
    assert unsafe(shown) == []
    assert quote(shown, limit) == shown
    shown.encode()


@given(ANY_TEXT)
def test_short_harmless_text_is_quoted_as_it_is(text: str) -> None:
    clean = "".join(
        character for character in text if unicodedata.category(character) in {"Ll", "Lu", "Nd", "Po", "Zs"}
    )
    assert quote(clean[:LIMIT]) == clean[:LIMIT]


@given(st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"], exclude_characters='\\"')))
def test_escapes_tell_what_was_there(text: str) -> None:
    assert json.loads(f'"{quote(text, IN_FULL)}"') == text


def test_every_code_point_that_is_unsafe_is_escaped() -> None:
    everything = "".join(map(chr, range(sys.maxunicode + 1)))
    assert unsafe(quote(everything, IN_FULL)) == []


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (b"/run:log", "/run:log"),
        ("/batch;;name;;_base:log", "/batch;;name;;_base:log"),
        ("/%3Brun", "/%3Brun"),
        (f"/run:log?token={CANARY}", "/run:log"),
        (f"/run:log#access_token={CANARY}", "/run:log"),
        (f"/run:log%3Ftoken={CANARY}", "/run:log"),
        (f"/run:log%23{CANARY}", "/run:log"),
        (f"http://{CANARY}@host/run", "http://***@host/run"),
        (f"https://user:{CANARY}@host:1/run", "https://***@host:1/run"),
        (f"https://user:{CANARY}@{CANARY}@host/run", "https://***@host/run"),
        (f"https://user%3A{CANARY}%40host/run", "https://***@host/run"),
        (f"https://user:{CANARY}/x@host/run", "https://***@host/run"),
        (f"user:{CANARY}@host:443", "***@host:443"),
        (f"//user:{CANARY}@host/run", "***@host/run"),
        (f"/run;jsessionid={CANARY}/x;v=1", "/run;jsessionid=***/x;v=***"),
        (f"/run;token%3d{CANARY}", "/run;token%3d***"),
        ("https://app.example.gov", "https://app.example.gov"),
        ("null", "null"),
        ("/\u202e\x9b", "/\\u202e\\u009b"),
        (b"/\xff", "/\\xff"),
    ],
)
def test_urls_are_quoted_without_their_secrets(said: str | bytes, shown: str) -> None:
    assert quote_url(said) == shown


@given(ANY_TEXT, ANY_TEXT)
def test_no_secret_place_of_a_url_is_quoted(before: str, after: str) -> None:
    for text in (f"{before}?{CANARY}{after}", f"{before}{CANARY}@{after}", f"{before}#{after}{CANARY}"):
        assert CANARY not in quote_url(text, IN_FULL)
