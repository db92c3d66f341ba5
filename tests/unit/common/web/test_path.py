"""Request targets: decoded once, split once, and names that are names."""

from __future__ import annotations

import string
from typing import Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from common.web.path import NAME_LIMIT, BadPath, Name, parse_target
from statusd.route import CHANNEL, RUN_ID

RUN_ID_CHARACTERS: Final = string.ascii_letters + string.digits + "_.;-"
CHANNEL_CHARACTERS: Final = string.ascii_letters + string.digits + "_.-"


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/", "/", {}),
        ("/run:log", "/run:log", {}),
        ("/run", "/run", {}),
        ("/batch;;name;;_base:log", "/batch;;name;;_base:log", {}),
        # Percent-decoded once.
        ("/batch%3B%3bname:log", "/batch;;name:log", {}),
        ("/%72un%3Alog", "/run:log", {}),
        ("/run%253Alog", "/run%3Alog", {}),
        ("/run%2Flog", "/run/log", {}),
        ("/run%3Flog", "/run?log", {}),
        ("/run%zz", "/run%zz", {}),
        ("/run%", "/run%", {}),
        ("/run%00", "/run\x00", {}),
        ("/%2e%2e:log", "/..:log", {}),
        # One trailing slash is tolerated, as it is written.
        ("/run:log/", "/run:log", {}),
        ("/run:log//", "/run:log/", {}),
        ("/run:log%2F", "/run:log/", {}),
        ("/health/", "/health", {}),
        ("/health/live/", "/health/live", {}),
        ("//run:log", "//run:log", {}),
        # The query.
        ("/run:log?gap=1", "/run:log", {"gap": "1"}),
        ("/run:log/?gap=1", "/run:log", {"gap": "1"}),
        ("/run:log?", "/run:log", {}),
        ("/run:log??gap=1", "/run:log", {"?gap": "1"}),
        ("/run:log?gap", "/run:log", {}),
        ("/run:log?g%61p=%31", "/run:log", {"gap": "1"}),
        ("/run:log?a=1&gap=1&b=2", "/run:log", {"a": "1", "gap": "1", "b": "2"}),
        ("/run:log?a=/x/", "/run:log", {"a": "/x/"}),
        ("/run:log?%ff=%zz;&&", "/run:log", {"\ufffd": "%zz;"}),
        ("/?gap=1", "/", {"gap": "1"}),
        # Absolute form.
        ("http://host/run:log", "/run:log", {}),
        ("HTTP://host:9002/run:log/?gap=1", "/run:log", {"gap": "1"}),
        ("https://user@host/run%3Alog", "/run:log", {}),
        ("http://host", "/", {}),
        ("http://host/", "/", {}),
        ("http://[::1]:9002/run:log", "/run:log", {}),
    ],
)
def test_what_a_target_says(target: str, path: str, query: dict[str, str]) -> None:
    parsed = parse_target(target.encode("latin-1"))
    assert (parsed.path, dict(parsed.query)) == (path, query)


@pytest.mark.parametrize(("query", "options"), [("gap=1", {"gap": "1"}), ("next=/run:log", {"next": "/run:log"})])
def test_the_authority_of_an_absolute_target_ends_at_its_query(query: str, options: dict[str, str]) -> None:
    parsed = parse_target(f"http://host?{query}".encode())
    assert (parsed.path, dict(parsed.query)) == ("/", options)


@pytest.mark.parametrize("target", ["*", "run:log", "host:9002", "", "?gap=1", "ftp://host/run:log", "%2Frun:log"])
def test_a_path_begins_with_a_slash(target: str) -> None:
    with pytest.raises(BadPath, match=r"^the path does not begin with a slash$"):
        parse_target(target.encode())


@pytest.mark.parametrize("target", ["/r%C3%A4n:log", "/run:%ff", "/%80", "/%E2%80%AE:log"])
def test_a_path_is_ascii_once_decoded(target: str) -> None:
    with pytest.raises(BadPath, match=r"^the path has characters that no name has$"):
        parse_target(target.encode())


@given(st.binary(max_size=60))
@example(b"http://")
@example(b"https://?/")
def test_any_target_is_a_path_or_a_bad_path(target: bytes) -> None:
    try:
        parsed = parse_target(target)
    except BadPath as error:
        assert "\n" not in str(error)  # noqa: PT017 - the target need not be bad
    else:
        assert parsed.path.startswith("/")
        assert parsed.path.isascii()


@given(st.text(RUN_ID_CHARACTERS + ":", min_size=1), st.booleans(), st.sampled_from(["", "/", "?gap=1", "/?x=/"]))
def test_encoding_a_name_changes_nothing(name: str, upper: bool, end: str) -> None:
    encoded = "".join(f"%{ord(character):02{'X' if upper else 'x'}}" for character in name)
    assert parse_target(f"/{encoded}{end}".encode()).path == f"/{name}"


# -- names -------------------------------------------------------------------------------------------------------------

NAMES: Final = [(RUN_ID, RUN_ID_CHARACTERS), (CHANNEL, CHANNEL_CHARACTERS)]
EVERY: Final = [chr(code) for code in range(256)] + list("äЖ\u0661\uff10\u212a\u017f\u2028\U0001f600")


@pytest.mark.parametrize(("name", "characters"), NAMES)
def test_exactly_the_characters_of_the_contract_make_a_name(name: Name, characters: str) -> None:
    for character in EVERY:
        value = f"a{character}"
        if character in characters:
            assert name.check(value) == value
        else:
            with pytest.raises(BadPath, match=f"^the {name.kind} may only have the characters "):
                name.check(value)


@pytest.mark.parametrize("name", [RUN_ID, CHANNEL])
@pytest.mark.parametrize("value", ["a", "-", "_", "...", ".a", "a.", "..a", "0", "A" * 256, "." * 256])
def test_names_in_order(name: Name, value: str) -> None:
    assert name.check(value) == value


@pytest.mark.parametrize("name", [RUN_ID, CHANNEL])
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", "is empty"),
        ("a" * 257, "is longer than 256 characters"),
        ("/" * 257, "is longer than 256 characters"),
        ("a b", "may only have the characters"),
        ("a\n", "may only have the characters"),
        ("\na", "may only have the characters"),
        ("a/b", "may only have the characters"),
        ("a%3B", "may only have the characters"),
        ("*", "may only have the characters"),
    ],
)
def test_names_that_are_none(name: Name, value: str, reason: str) -> None:
    assert NAME_LIMIT == 256
    with pytest.raises(BadPath, match=f"^the {name.kind} {reason}"):
        name.check(value)


@pytest.mark.parametrize("name", [RUN_ID, CHANNEL])
@pytest.mark.parametrize("value", [".", ".."])
def test_the_directories_are_no_names_and_the_reason_says_so(name: Name, value: str) -> None:
    with pytest.raises(BadPath) as refusal:
        name.check(value)
    # Its characters are all good, so a reason that lists the good ones helps nobody.
    assert "characters" not in str(refusal.value)
    assert str(refusal.value).startswith(f"the {name.kind} ")
