"""Durations, sizes, counts, booleans, levels and lists, as operators write them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.config.values import (
    format_bool,
    format_choices,
    format_duration,
    format_size,
    parse_bool,
    parse_choices,
    parse_count,
    parse_duration,
    parse_level,
    parse_positive_duration,
    parse_size,
    split_list,
)

if TYPE_CHECKING:
    from collections.abc import Callable

REASONS = ("ham", "spam", "eggs")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("0s", 0.0),
        ("0h0m", 0.0),
        ("1ns", 1e-9),
        ("1us", 1e-6),
        ("1\N{MICRO SIGN}s", 1e-6),
        ("1\N{GREEK SMALL LETTER MU}s", 1e-6),
        ("250ms", 0.25),
        ("5s", 5.0),
        ("1m30s", 90.0),
        ("90m", 5400.0),
        ("2h", 7200.0),
        ("1.5h", 5400.0),
        (".5s", 0.5),
        ("1.s", 1.0),
        ("0.1s", 0.1),
        ("1h2m3s4ms5us6ns", 3723.004005006),
        ("1s1s", 2.0),
        ("1ms1h", 3600.001),
        ("0.5ns", 0.0),
        ("2562047h", 2562047 * 3600.0),
    ],
)
def test_a_duration_is_read_as_go_reads_it(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "5.0",
        "00",
        "s",
        ".s",
        "-5s",
        "+5s",
        "5 s",
        "1m 30s",
        "5S",
        "5sec",
        "5d",
        "1e3s",
        "1,5s",
        "٥s",
        "５s",
        "inf",
        "nan",
        "infs",
        "1_0s",
        "1s0",
        "2562048h",
        "1" * 41 + "h",
        "9" * 5000 + "s",
        "1s\n",
    ],
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match=r"^(not a duration such as 250ms, 5s or 1m30s|longer than 292 years)$"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["0", "0s", "0.1ns"])
def test_most_durations_may_not_be_zero(text: str) -> None:
    with pytest.raises(ValueError, match=r"^not longer than zero$"):
        parse_positive_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0s"),
        (65.0, "1m5s"),
        (60.0, "1m"),
        (3600.0, "1h"),
        (86400.0, "24h"),
        (5400.0, "1h30m"),
        (3605.0, "1h5s"),
        (1.5, "1.5s"),
        (0.25, "250ms"),
        (0.0015, "1.5ms"),
        (0.00001, "10µs"),
        (0.000000001, "1ns"),
        (61.05, "1m1.05s"),
    ],
)
def test_a_duration_is_written_as_go_writes_it_without_zero_parts(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.integers(0, (1 << 63) - 1))
def test_durations_round_trip(nanoseconds: int) -> None:
    seconds = parse_duration(f"{nanoseconds}ns")
    assert seconds == nanoseconds / 1_000_000_000
    assert seconds > 9.2e9 or parse_duration(format_duration(seconds)) == seconds


@given(st.lists(st.tuples(st.integers(0, 9999), st.sampled_from(["ns", "us", "ms", "s", "m", "h"])), min_size=1))
def test_a_sequence_is_the_sum_of_its_parts(parts: list[tuple[int, str]]) -> None:
    units = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
    text = "".join(f"{count}{unit}" for count, unit in parts)
    assert parse_duration(text) == sum(count * units[unit] for count, unit in parts) / 10**9


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1),
        ("65536", 65536),
        ("100B", 100),
        ("64KB", 65536),
        ("64kb", 65536),
        ("64 Kb", 65536),
        ("1MB", 1 << 20),
        ("1GB", 1 << 30),
        ("1GiB", 1 << 30),
        ("1 g", 1 << 30),
        ("64KiB", 65536),
        ("64K", 65536),
        ("2m", 2 << 20),
        ("1 \tmb", 1 << 20),
        ("007", 7),
    ],
)
def test_a_size_is_bytes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "KB", "1TB", "1iB", "1Bi", "1.5MB", "-1", "+1", "1e3", "1_000", "٦٤", "64KB64KB", "9" * 19, "1\nMB"]
)
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match=r"^not a size such as 65536, 64KB, 1MB or 1GB$"):
        parse_size(text)


@pytest.mark.parametrize("text", ["0", "0MB"])
def test_no_limit_in_bytes_is_zero(text: str) -> None:
    with pytest.raises(ValueError, match=r"^not larger than zero$"):
        parse_size(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [(1, "1"), (1000, "1000"), (65536, "64KB"), (1 << 20, "1MB"), (1 << 30, "1GB"), (1 << 40, "1024GB")],
)
def test_a_size_is_written_in_its_largest_exact_unit(size: int, text: str) -> None:
    assert format_size(size) == text


@given(st.integers(1, 10**18 - 1))
def test_sizes_round_trip(size: int) -> None:
    assert parse_size(str(size)) == parse_size(format_size(size)) == size


@given(st.integers(1, 10**9), st.sampled_from([("B", 1), ("KB", 1024), ("MB", 1024**2)]), st.sampled_from(["", " "]))
def test_units_are_1024_based(number: int, unit: tuple[str, int], space: str) -> None:
    assert parse_size(f"{number}{space}{unit[0]}") == parse_size(f"{number}{unit[0].lower()}") == number * unit[1]


@pytest.mark.parametrize(("text", "count"), [("0", 0), ("5", 5), ("010", 10), ("100", 100)])
def test_a_count_is_a_whole_number(text: str, count: int) -> None:
    assert parse_count(text, 0, 100) == count


@pytest.mark.parametrize("text", ["", "-1", "+1", "1.0", "1e2", "٥", "1_0", "five", "101", "9" * 5000, " 1", "0x1"])
def test_what_is_no_count(text: str) -> None:
    with pytest.raises(ValueError, match=r"^not a whole number from 0 to 100$"):
        parse_count(text, 0, 100)


def test_a_count_has_a_minimum() -> None:
    assert parse_count("1", 1, 9) == 1
    with pytest.raises(ValueError, match=r"^not a whole number from 1 to 9$"):
        parse_count("0", 1, 9)


@pytest.mark.parametrize("value", [True, False])
def test_booleans_in_any_case(value: bool) -> None:
    for word in ("1", "t", "true", "yes", "on") if value else ("0", "f", "false", "no", "off"):
        assert parse_bool(word) is parse_bool(word.upper()) is parse_bool(word.title()) is value
    assert format_bool(value) == ("true" if value else "false")


@pytest.mark.parametrize("text", ["", "y", "2", "enabled", "truee", "１"])
def test_what_is_no_boolean(text: str) -> None:
    with pytest.raises(ValueError, match=r"^neither true nor false$"):
        parse_bool(text)


@pytest.mark.parametrize(
    ("text", "level"),
    [("debug", "debug"), ("INFO", "info"), ("warn", "warn"), ("Warning", "warn"), ("error", "error")],
)
def test_levels_in_any_case(text: str, level: str) -> None:
    assert parse_level(text) == level


@pytest.mark.parametrize("text", ["", "trace", "critical", "10", "warnings"])
def test_what_is_no_level(text: str) -> None:
    with pytest.raises(ValueError, match=r"^not one of debug, info, warn, error$"):
        parse_level(text)


@pytest.mark.parametrize(
    ("text", "chosen", "shown"),
    [
        ("all", {"ham", "spam", "eggs"}, "all"),
        ("ALL", {"ham", "spam", "eggs"}, "all"),
        ("none", set(), "none"),
        ("spam", {"spam"}, "spam"),
        ("Eggs , ham,,ham,", {"ham", "eggs"}, "ham,eggs"),
        ("eggs,spam,ham", {"ham", "spam", "eggs"}, "all"),
    ],
)
def test_choices_are_all_none_or_a_list(text: str, chosen: set[str], shown: str) -> None:
    assert parse_choices(text, REASONS) == chosen
    assert format_choices(chosen, REASONS) == shown


@pytest.mark.parametrize("text", ["", ",", "bacon", "ham,bacon", "all,ham", "none,ham", "ham spam", "all,all"])
def test_what_is_no_choice(text: str) -> None:
    with pytest.raises(ValueError, match=r"^neither all, none nor a list out of ham, spam, eggs$"):
        parse_choices(text, REASONS)


def test_a_list_is_split_at_commas_and_trimmed() -> None:
    assert split_list(" a, b c ,,\td,") == ["a", "b c", "d"]
    assert split_list(" , ") == []


@given(st.text(alphabet="0123456789.hmsnuµKMB -+e_", max_size=20))
@pytest.mark.parametrize("parse", [parse_duration, parse_size, parse_bool, parse_level])
def test_any_text_is_a_value_or_a_value_error(parse: Callable[[str], object], text: str) -> None:
    try:
        reason = None if parse(text) is not None else "no value"
    except ValueError as error:
        reason = str(error)
    assert reason is None or reason.startswith(("not ", "neither ", "longer "))


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.999999999, "999.999999ms"), (1.0, "1s"), (1.000000001, "1.000000001s"), (0.001, "1ms")]
)
def test_a_second_is_written_in_seconds_and_less_in_parts_of_it(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
