"""What a run hash says about the project: the specification's table row by row, at its boundaries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import pytest

from common.web.frames import text_frame
from preflightd.checklist import packaged, to_json
from preflightd.evaluator import integer
from tests.support.checklist import KEYS, LARGEST, SMALLEST, Value, checked, evaluate, stamps
from tests.support.checklist_oracle import expected_json

# -- projects as they are ----------------------------------------------------------------------------------------------

PROJECTS: Final = sorted((Path(__file__).parent.parent.parent / "data").glob("*.json"))


@pytest.mark.parametrize("path", PROJECTS, ids=[path.stem for path in PROJECTS])
def test_a_captured_project_has_the_expected_answer(path: Path) -> None:
    project = json.loads(path.read_text("utf-8"))
    fields = {field.encode(): value.encode() for field, value in project["hash"].items()}
    snapshot = evaluate(fields)
    assert snapshot.content() == project["expected"]
    assert to_json(snapshot.content()) == to_json(project["expected"])
    assert snapshot.frame() == text_frame(expected_json(fields).encode())


def test_the_projects_show_every_kind() -> None:
    kinds = {path.stem for path in PROJECTS}
    assert kinds >= {
        "empty_project",
        "half_built_project",
        "finished_project",
        "burnt_project",
        "rebuilt_project",
        "locks_held",
    }


@pytest.mark.parametrize("key", KEYS)
def test_the_projects_show_every_row_both_true_and_false(key: str) -> None:
    answers = {json.loads(path.read_text("utf-8"))["expected"]["checklist"][key] for path in PROJECTS}
    assert answers == {False, True}


# -- integers ----------------------------------------------------------------------------------------------------------

INTEGERS: Final = [
    ("0", 0),
    ("5", 5),
    ("+5", 5),
    ("-5", -5),
    ("+0", 0),
    ("-0", 0),
    ("007", 7),
    ("-007", -7),
    ("0" * 40, 0),
    ("0" * 40 + "5", 5),
    ("+" + "0" * 25 + str(LARGEST), LARGEST),
    (str(LARGEST), LARGEST),
    (f"+{LARGEST}", LARGEST),
    (str(SMALLEST), SMALLEST),
    ("-" + "0" * 25 + str(LARGEST + 1), SMALLEST),
    ("1714060800", 1714060800),
]

NO_INTEGERS: Final = [
    "",
    "+",
    "-",
    "+-5",
    "--5",
    "5+",
    "5-",
    " 5",
    "5 ",
    "5\n",
    "\n5",
    "5\0",
    "\t5",
    "1_000",
    "1,000",
    "1.0",
    "5.",
    ".5",
    "1e3",
    "0x10",
    "0b1",
    "\N{FULLWIDTH DIGIT FIVE}",
    "\N{ARABIC-INDIC DIGIT FIVE}",
    "\N{SUPERSCRIPT TWO}",
    "\N{MINUS SIGN}5",
    "5\N{ZERO WIDTH SPACE}",
    "true",
    "None",
    "nan",
    "inf",
    str(LARGEST + 1),
    f"+{LARGEST + 1}",
    str(SMALLEST - 1),
    "9999999999999999999",
    "-9999999999999999999",
    "12345678901234567890",
    "10000000000000000000",
    "-12345678901234567890",
    "0" * 25 + str(LARGEST + 1),
    "9" * 5000,
]


@pytest.mark.parametrize(("text", "value"), INTEGERS, ids=[text[:50] for text, _ in INTEGERS])
def test_an_integer_is_ascii_digits_with_an_optional_sign(text: str, value: int) -> None:
    assert integer(text.encode()) == value
    assert evaluate({b"last_modified": text.encode()}).last_modified == value


@pytest.mark.parametrize("text", NO_INTEGERS, ids=[ascii(text[:50]) for text in NO_INTEGERS])
def test_nothing_else_is_an_integer(text: str) -> None:
    assert integer(text.encode()) is None
    assert evaluate({b"last_modified": text.encode()}).last_modified is None


@pytest.mark.parametrize("value", [b"\xff", b"5\xff", b"\xb2", b"\x005", None])
def test_odd_bytes_are_no_integer(value: bytes | None) -> None:
    assert integer(value) is None


@pytest.mark.parametrize("text", NO_INTEGERS, ids=[ascii(text[:50]) for text in NO_INTEGERS])
def test_what_is_no_integer_is_neither_newer_nor_older(text: str) -> None:
    assert not checked(stamps(build_landuse=text, abstract_watershed=1), "landuse")
    assert not checked(stamps(build_landuse=1, abstract_watershed=text), "landuse")
    assert not checked(stamps(build_landuse=text, abstract_watershed=text), "landuse")


# -- the table ---------------------------------------------------------------------------------------------------------


def test_the_checklist_has_the_keys_of_the_table_in_its_order() -> None:
    assert len(KEYS) == 24
    assert list(packaged().rules) == KEYS
    assert [key for key, _ in evaluate({}).checklist] == KEYS


def test_a_run_without_a_hash_has_nothing_done() -> None:
    snapshot = evaluate({})
    assert snapshot.checklist == tuple((key, False) for key in KEYS)
    assert snapshot.lock_statuses == ()
    assert snapshot.last_modified is None


@pytest.mark.parametrize(
    ("value", "is_true"),
    [("true", True), ("True", False), ("TRUE", False), ("1", False), ("false", False), ("", False)]
    + [
        (odd, False)
        for odd in (" true", "true ", "true\n", "true\0", '"true"', "t", "\N{FULLWIDTH LATIN SMALL LETTER T}rue")
    ],
)
def test_a_burn_severity_map_is_there_only_if_the_word_is_true(value: str, is_true: bool) -> None:
    assert checked({b"attrs:has_sbs": value.encode()}, "sbs_map") is is_true


def test_no_other_field_says_that_there_is_a_burn_severity_map() -> None:
    assert not checked({b"has_sbs": b"true", b"attrs:has_sbs ": b"true", b"timestamps:has_sbs": b"true"}, "sbs_map")


@pytest.mark.parametrize("value", ["", "0", "-5", "soon", "1714060800", " "])
def test_channels_are_built_if_the_field_exists_even_empty(value: str) -> None:
    assert checked(stamps(build_channels=value), "channels")


@pytest.mark.parametrize(("key", "stamp"), [("rangeland_cover", "build_rangeland_cover"), ("rhem", "run_rhem")])
@pytest.mark.parametrize(
    ("value", "done"), [("", False), (None, False), ("0", True), ("-1", True), (" ", True), ("?", True)]
)
def test_rangeland_cover_and_rhem_are_done_if_the_value_is_not_empty(
    key: str, stamp: str, value: str | None, done: bool
) -> None:
    assert checked(stamps(**{stamp: value}), key) is done


MODEL: Final = ("build_landuse", "build_soils", "build_climate", "run_wepp")
"""What the results of the model must be newer than; `run_wepp` stands for W."""

NEWER: Final = [
    ("outlet", "set_outlet", ("build_channels",)),
    ("outlet", "find_outlet", ("build_channels",)),
    ("subcatchments", "abstract_watershed", ("build_channels",)),
    ("landuse", "build_landuse", ("abstract_watershed",)),
    ("soils", "build_soils", ("abstract_watershed", "build_landuse")),
    ("soils", "build_soils", ("abstract_watershed", "build_rangeland_cover")),
    ("climate", "build_climate", ("abstract_watershed",)),
    ("rap_ts", "build_rap_ts", ("build_climate",)),
    ("openet_ts", "build_openet_ts", ("build_climate",)),
    ("wepp", "run_wepp", ("build_landuse", "build_soils", "build_climate")),
    ("wepp", "run_wepp_watershed", ("build_landuse", "build_soils", "build_climate")),
    ("observed", "run_observed", MODEL),
    ("debris", "run_debris", MODEL),
    ("watar", "run_watar", MODEL),
    ("wepp", "build_rusle", ("build_landuse", "build_soils", "build_climate")),
    ("ag_fields", "run_ag_fields", ("run_wepp", "abstract_watershed", "build_landuse", "build_soils", "build_climate")),
    ("roads", "run_roads", ("run_wepp",)),
    ("roads", "run_roads", ("run_wepp_watershed",)),
    ("rusle", "build_rusle", ("build_climate",)),
    ("geneva", "run_geneva", ("build_landuse", "build_soils", "build_climate")),
    ("run_path_ce", "run_path_ce", ("run_wepp",)),
    ("run_path_ce", "run_path_ce", ("run_wepp_watershed",)),
    ("dss_export", "dss_export", ("run_watar",)),
    ("dss_export", "dss_export", ("run_wepp_watershed",)),
    ("dss_export", "dss_export", ("run_wepp",)),
]
"""Rows that compare: the key, the timestamp, and those that it must be newer than."""

COMPARING: Final = pytest.mark.parametrize(
    ("key", "stamp", "others"), NEWER, ids=[f"{key}-{stamp}-{others[-1]}" for key, stamp, others in NEWER]
)


def test_every_row_is_among_those_that_are_tested() -> None:
    others = {"sbs_map", "channels", "rangeland_cover", "rhem", "omni_scenarios", "omni_contrasts"}
    assert {key for key, _, _ in NEWER} | others | {"postfire_debris_flow"} == set(KEYS)


@COMPARING
@pytest.mark.parametrize(
    ("value", "other", "done"),
    [
        (2, 1, True),
        (1, 1, False),
        (1, 2, False),
        (0, -1, True),
        (-1, 0, False),
        (10, 9, True),
        (9, 10, False),
        ("+2", "1", True),
        ("2", "+1", True),
        ("2", "001", True),
        ("+5", "5", False),
        ("05", "5", False),
        (LARGEST, LARGEST - 1, True),
        (LARGEST, LARGEST, False),
        (LARGEST, SMALLEST, True),
        (SMALLEST + 1, SMALLEST, True),
        (SMALLEST, SMALLEST, False),
        (LARGEST + 1, 1, False),
        (1, SMALLEST - 1, False),
        ("12345678901234567890", 1, False),
        (2, None, False),
        (2, "", False),
        (None, 1, False),
        ("", 1, False),
        (" 5", 1, False),
        ("1_000", 1, False),
        ("\N{FULLWIDTH DIGIT FIVE}", 1, False),
        (2, " 1", False),
        (2, "1_000", False),
        (2, "\N{FULLWIDTH DIGIT ONE}", False),
        (None, None, False),
        ("", "", False),
    ],
)
def test_a_step_is_done_if_it_is_newer(
    key: str, stamp: str, others: tuple[str, ...], value: Value, other: Value, done: bool
) -> None:
    assert checked(stamps(**{stamp: value}, **dict.fromkeys(others, other)), key) is done


@COMPARING
def test_a_step_is_done_only_if_it_is_newer_than_each(key: str, stamp: str, others: tuple[str, ...]) -> None:
    older = dict.fromkeys(others, 1)
    assert checked(stamps(**{stamp: 2}, **older), key)
    for other in others:
        for value in (2, 3, None, "", "x"):
            assert not checked(stamps(**{**older, stamp: 2, other: value}), key), (other, value)


@pytest.mark.parametrize(
    ("set_outlet", "find_outlet", "done"),
    [(5, 1, True), (1, 5, True), (5, "x", True), ("x", 5, True), ("", 5, True), (2, 2, False), ("x", "x", False)],
)
def test_the_later_way_to_an_outlet_counts(set_outlet: Value, find_outlet: Value, done: bool) -> None:
    fields = stamps(build_channels=2, set_outlet=set_outlet, find_outlet=find_outlet)
    assert checked(fields, "outlet") is done


@pytest.mark.parametrize(
    ("landuse", "rangeland", "done"),
    [(1, 1, True), (1, 9, True), (9, 1, True), (9, 9, False), (5, 5, False), (None, None, False), ("x", 1, True)],
)
def test_soils_are_newer_than_landuse_or_rangeland(landuse: Value, rangeland: Value, done: bool) -> None:
    fields = stamps(build_soils=5, abstract_watershed=2, build_landuse=landuse, build_rangeland_cover=rangeland)
    assert checked(fields, "soils") is done
    fields[b"timestamps:abstract_watershed"] = b"5"
    assert not checked(fields, "soils")


@pytest.mark.parametrize(
    ("on_watershed", "run_wepp", "done"),
    [
        (5, None, True),
        (None, 5, True),
        ("", 5, True),
        (5, 1, True),
        (5, "x", True),
        # The first that is not empty counts, even if the other is newer, or the only integer.
        (1, 5, False),
        ("x", 5, False),
        (" ", 5, False),
        ("0", 5, False),
        ("", "", False),
    ],
)
def test_the_first_wepp_run_that_is_not_empty_counts(on_watershed: Value, run_wepp: Value, done: bool) -> None:
    older = stamps(build_landuse=2, build_soils=2, build_climate=2)
    assert checked(older | stamps(run_wepp_watershed=on_watershed, run_wepp=run_wepp), "wepp") is done


@pytest.mark.parametrize("key", ["run_observed", "run_debris", "run_watar", "run_omni_scenarios", "run_path_ce"])
def test_what_follows_wepp_is_compared_with_the_same_run(key: str) -> None:
    row = "run_path_ce" if key == "run_path_ce" else key.removeprefix("run_")
    older = stamps(build_landuse=1, build_soils=1, build_climate=1, **{key: 5})
    assert checked(older | stamps(run_wepp_watershed=4, run_wepp=9), row)
    assert not checked(older | stamps(run_wepp_watershed=9, run_wepp=4), row)
    assert checked(older | stamps(run_wepp_watershed="", run_wepp=4), row)
    assert not checked(older | stamps(run_wepp_watershed="x", run_wepp=4), row)


@pytest.mark.parametrize(
    ("watar", "on_watershed", "run_wepp", "done"),
    [
        (1, 1, 1, True),
        (9, 1, 1, False),
        (1, 9, 1, False),
        (1, 1, 9, False),
        (1, None, None, True),
        (1, "", "x", True),
        ("x", "x", "x", False),
        (None, None, None, False),
    ],
)
def test_an_export_is_newer_than_every_run_there_was(
    watar: Value, on_watershed: Value, run_wepp: Value, done: bool
) -> None:
    fields = stamps(dss_export=5, run_watar=watar, run_wepp_watershed=on_watershed, run_wepp=run_wepp)
    assert checked(fields, "dss_export") is done


@pytest.mark.parametrize(
    ("scenarios", "wepp", "done"),
    [
        ("x", None, True),
        ("0", "", True),
        ("", None, False),
        (None, None, False),
        (5, 4, True),
        (5, 5, False),
        (5, "x", False),
        ("x", 4, False),
    ],
)
def test_scenarios_count_by_themselves_until_wepp_has_run(scenarios: Value, wepp: Value, done: bool) -> None:
    assert checked(stamps(run_omni_scenarios=scenarios, run_wepp=wepp), "omni_scenarios") is done


@pytest.mark.parametrize(
    ("contrasts", "scenarios", "wepp", "done"),
    [
        ("x", None, None, True),
        ("x", "x", "", True),
        ("", None, None, False),
        (5, 4, None, True),
        (5, 4, 5, False),
        (5, "x", 4, True),
        ("x", 4, None, False),
    ],
)
def test_contrasts_count_by_themselves_until_something_they_compare_has_run(
    contrasts: Value, scenarios: Value, wepp: Value, done: bool
) -> None:
    fields = stamps(run_omni_contrasts=contrasts, run_omni_scenarios=scenarios, run_wepp=wepp)
    assert checked(fields, "omni_contrasts") is done


def test_rusle_is_newer_than_wepp_only_where_wepp_has_run() -> None:
    assert checked(stamps(build_rusle=5, build_climate=4), "rusle")
    assert checked(stamps(build_rusle=5, build_climate=4, run_wepp=4), "rusle")
    assert not checked(stamps(build_rusle=5, build_climate=4, run_wepp=5), "rusle")
    assert not checked(stamps(build_rusle=5, build_climate=4, run_wepp_watershed="x", run_wepp=4), "rusle")
