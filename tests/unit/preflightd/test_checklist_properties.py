"""The checklist against the oracle: every row in every small world, so that no combination is left to chance.

What must hold of any hash at all is in `fuzz/targets/checklist.py`, which `test_fuzz.py` runs.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Final

import pytest

from common.web.frames import text_frame
from preflightd.checklist import packaged
from preflightd.evaluator import integer
from tests.support.checklist_oracle import (
    LARGEST,
    SMALLEST,
    expected_checklist,
    expected_json,
    expected_last_modified,
    expected_locks,
    number,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

ROWS: Final[dict[str, list[str]]] = {
    "outlet": ["set_outlet", "find_outlet", "build_channels"],
    "subcatchments": ["abstract_watershed", "build_channels"],
    "landuse": ["build_landuse", "abstract_watershed"],
    "soils": ["build_soils", "abstract_watershed", "build_landuse", "build_rangeland_cover"],
    "climate": ["build_climate", "abstract_watershed"],
    "rap_ts": ["build_rap_ts", "build_climate"],
    "openet_ts": ["build_openet_ts", "build_climate"],
    "omni_scenarios": ["run_omni_scenarios", "run_wepp_watershed", "run_wepp"],
    "omni_contrasts": ["run_omni_contrasts", "run_omni_scenarios", "run_wepp_watershed", "run_wepp"],
    "roads": ["run_roads", "run_wepp_watershed", "run_wepp"],
    "rusle": ["build_rusle", "build_climate", "run_wepp_watershed", "run_wepp"],
    "run_path_ce": ["run_path_ce", "run_wepp_watershed", "run_wepp"],
    "dss_export": ["dss_export", "run_watar", "run_wepp_watershed", "run_wepp"],
}
"""The timestamps that each comparing row looks at; the model's results and those below have worlds of their own."""

VALUES: Final = [None, b"", b"x", b"-1", b"1", b"2", b"10"]
"""None is a field that is missing. As texts 2 is larger than 10."""

FEWER_VALUES: Final = [None, b"", b"x", b"1", b"2"]


def worlds(stamps: list[str], values: list[bytes | None]) -> Iterator[dict[bytes, bytes]]:
    """Every hash that has some of these values in these timestamps."""
    fields = [f"timestamps:{stamp}".encode() for stamp in stamps]
    for combination in product(values, repeat=len(fields)):
        yield {field: value for field, value in zip(fields, combination, strict=True) if value is not None}


def assert_as_expected(fields: dict[bytes, bytes]) -> None:
    snapshot = packaged().evaluate(fields)
    assert dict(snapshot.checklist) == expected_checklist(fields), fields
    assert snapshot.last_modified == expected_last_modified(fields), fields


@pytest.mark.parametrize("key", ROWS)
def test_a_row_is_as_the_oracle_has_it_in_every_small_world(key: str) -> None:
    answers = set()
    for fields in worlds(ROWS[key], VALUES if len(ROWS[key]) < 5 else FEWER_VALUES):
        assert_as_expected(fields)
        answers.add(dict(packaged().evaluate(fields).checklist)[key])
    assert answers == {False, True}


@pytest.mark.parametrize(
    ("key", "stamp"),
    [("observed", "run_observed"), ("debris", "run_debris"), ("watar", "run_watar"), ("wepp", "build_rusle")],
)
def test_a_result_of_the_model_is_as_the_oracle_has_it_in_every_small_world(key: str, stamp: str) -> None:
    answers = set()
    for model in worlds(["build_landuse", "build_soils", "build_climate"], [None, b"x", b"1", b"2"]):
        for wepp in worlds([stamp, "run_wepp_watershed", "run_wepp"], [None, b"", b"1", b"2", b"3"]):
            fields = model | wepp
            answer = dict(packaged().evaluate(fields).checklist)[key]
            assert answer == expected_checklist(fields)[key], fields
            answers.add(answer)
    assert answers == {False, True}


def test_fields_for_agriculture_are_as_the_oracle_has_them_in_every_small_world() -> None:
    answers = set()
    for runs in worlds(["run_ag_fields", "run_wepp_hillslopes", "run_wepp_watershed", "run_wepp"], FEWER_VALUES):
        for watershed in (None, 1, 2):
            older = dict.fromkeys((b"timestamps:build_landuse", b"timestamps:build_soils"), b"1")
            older[b"timestamps:build_climate"] = b"1"
            if watershed is not None:
                older[b"timestamps:abstract_watershed"] = b"%d" % watershed
            assert_as_expected(runs | older)
            answers.add(dict(packaged().evaluate(runs | older).checklist)["ag_fields"])
    assert answers == {False, True}


@pytest.mark.parametrize("burnt", [b"true", b"false", b"True", None])
def test_geneva_is_as_the_oracle_has_it_in_every_small_world(burnt: bytes | None) -> None:
    answers = set()
    stamps = ["run_geneva", "build_landuse", "build_soils", "build_climate", "init_sbs_map"]
    for fields in worlds(stamps, [None, b"x", b"1", b"2"]):
        if burnt is not None:
            fields[b"attrs:has_sbs"] = burnt
        assert_as_expected(fields)
        answers.add(dict(packaged().evaluate(fields).checklist)["geneva"])
    assert answers == {False, True}


BEFORE_THE_FLOW: Final = [
    *("fetch_dem", "build_channels", "set_outlet", "find_outlet", "build_subcatchments", "abstract_watershed"),
    *("build_landuse", "build_rangeland_cover", "build_soils", "init_sbs_map", "build_polaris", "build_rusle"),
    "build_climate",
]


@pytest.mark.parametrize("stamp", BEFORE_THE_FLOW)
def test_the_debris_flow_is_as_the_oracle_has_it_whatever_came_before(stamp: str) -> None:
    answers = set()
    others = [other for other in BEFORE_THE_FLOW if other != stamp]
    flows = [None, b"", b"x", b"-1", b"0", b"1", b"2"]
    for flow, before, other in product(flows, [*VALUES, b"0"], [None, b"1", b"3"]):
        fields = {b"timestamps:run_postfire_debris_flow": flow, f"timestamps:{stamp}".encode(): before}
        fields |= {f"timestamps:{name}".encode(): other for name in others}
        given = {field: value for field, value in fields.items() if value is not None}
        assert_as_expected(given)
        answers.add(dict(packaged().evaluate(given).checklist)["postfire_debris_flow"])
    assert answers == {False, True}


def test_the_worlds_are_of_every_row_that_compares() -> None:
    not_comparing = {"sbs_map", "channels", "rangeland_cover", "rhem"}
    others = {"wepp", "observed", "debris", "watar", "ag_fields", "geneva", "postfire_debris_flow"}
    assert {*ROWS, *others} == packaged().rules.keys() - not_comparing


def test_every_pair_of_small_numbers_and_texts_is_compared_as_the_oracle_does() -> None:
    texts = [
        b"",
        b"+",
        b"-",
        b"+5",
        b"5",
        b" 5",
        b"5 ",
        b"05",
        b"-5",
        b"+-5",
        b"1_000",
        b"1000",
        b"\xef\xbc\x95",
        b"5\n",
    ]
    edges = [b"%d" % (edge + step) for edge in (SMALLEST, 0, LARGEST) for step in (-1, 0, 1)]
    for landuse, watershed in product([*texts, *edges], repeat=2):
        assert_as_expected({b"timestamps:build_landuse": landuse, b"timestamps:abstract_watershed": watershed})


def test_every_text_of_three_letters_is_an_integer_or_none_as_the_oracle_has_it() -> None:
    letters = [b"", *(bytes([letter]) for letter in b"+-059 _.\n\x00\xb2")]
    for text in map(b"".join, product(letters, repeat=3)):
        assert integer(text) == number(text), text


def test_every_set_of_two_odd_locks_is_as_the_oracle_has_it() -> None:
    names = [b"", b"a", b"b", b":", b"a:b", b"\xff", b"\xfe", b"\xc3\xa9", b'"', b"\\", b"\n", b"\x1f", b"\x7f"]
    values = [b"true", b"false", b""]
    for (one, other), (mine, yours) in product(product(names, repeat=2), product(values, repeat=2)):
        fields = {b"locked:" + one: mine, b"locked:" + other: yours}
        snapshot = packaged().evaluate(fields)
        assert dict(snapshot.lock_statuses) == expected_locks(fields), fields
        assert snapshot.frame() == text_frame(expected_json(fields).encode()), fields
