"""The checklist of any hash is that of the oracle, and does not depend on what it must not depend on."""

from __future__ import annotations

import json
from typing import Final

from hypothesis import assume
from hypothesis import strategies as st

from common.web.frames import text_frame
from fuzz.target import FuzzTarget, holds_for
from preflightd.checklist import packaged
from preflightd.evaluate import BadInputError, evaluated
from tests.support.checklist_oracle import (
    LARGEST,
    SMALLEST,
    expected_checklist,
    expected_json,
    expected_last_modified,
    expected_locks,
    number,
)

_RESULTS: Final = {"observed", "debris", "watar"}
_MODEL: Final = {"wepp", "ag_fields", "geneva", *_RESULTS}
_AFTER_WEPP: Final = {
    *(_MODEL - {"geneva"}),
    *("omni_scenarios", "omni_contrasts", "run_path_ce", "roads", "rusle", "dss_export"),
}
_FLOW: Final = "postfire_debris_flow"
_ROWS: Final = {
    f"timestamps:{stamp}": rows
    for stamp, rows in {
        "fetch_dem": {_FLOW},
        "build_channels": {"channels", "outlet", "subcatchments", _FLOW},
        "set_outlet": {"outlet", _FLOW},
        "find_outlet": {"outlet", _FLOW},
        "build_subcatchments": {_FLOW},
        "abstract_watershed": {"subcatchments", "landuse", "soils", "climate", "ag_fields", _FLOW},
        "build_landuse": {"landuse", "soils", _FLOW, *_MODEL},
        "build_rangeland_cover": {"rangeland_cover", "soils", _FLOW},
        "build_soils": {"soils", _FLOW, *_MODEL},
        "init_sbs_map": {"geneva", _FLOW},
        "build_polaris": {_FLOW},
        "build_rusle": {"rusle", "wepp", _FLOW},
        "build_climate": {"climate", "rap_ts", "openet_ts", "rusle", _FLOW, *_MODEL},
        "build_rap_ts": {"rap_ts"},
        "build_openet_ts": {"openet_ts"},
        "run_wepp_hillslopes": {"ag_fields"},
        "run_wepp_watershed": _AFTER_WEPP,
        "run_wepp": _AFTER_WEPP,
        "run_ag_fields": {"ag_fields"},
        "run_observed": {"observed"},
        "run_debris": {"debris"},
        "run_watar": {"watar", "dss_export"},
        "run_omni_scenarios": {"omni_scenarios", "omni_contrasts"},
        "run_omni_contrasts": {"omni_contrasts"},
        "run_path_ce": {"run_path_ce"},
        "run_roads": {"roads"},
        "run_rhem": {"rhem"},
        "run_geneva": {"geneva"},
        "run_postfire_debris_flow": {_FLOW},
        "dss_export": {"dss_export"},
    }.items()
}
"""Each timestamp of the table, and the rows that name it."""

_OTHER_FIELDS: Final = ["attrs:has_sbs", "last_modified", "locked:wepp", "locked:a:b", "locked:", "timestamps:x"]
_PREFIXES: Final = ["", "timestamps:", "locked:", "attrs:"]

# Few numbers, so that equal ones and every order come up; then the edges of what an integer is.
_NUMBERS: Final = (
    st.integers(-1, 4)
    | st.sampled_from([SMALLEST - 1, SMALLEST, SMALLEST + 1, LARGEST - 1, LARGEST, LARGEST + 1])
    | st.integers(-(10**20), 10**20)
)
_SPELLINGS: Final = st.sampled_from(["{}", "{}", "{}", "+{}", "0{}", " {}", "{} ", "{}\n", "{}.0", "{}_0", "--{}"])
_VALUES: Final = (
    st.builds(str.format, _SPELLINGS, _NUMBERS)
    | st.sampled_from(["", "true", "false", "True", "true ", "\N{FULLWIDTH DIGIT FIVE}", "1_000", "+", "-"])
    | st.text(max_size=5)
)
_TEXT_HASHES: Final = st.builds(
    lambda known, others: known | {prefix + name: value for (prefix, name), value in others.items()},
    st.fixed_dictionaries({}, optional=dict.fromkeys([*_ROWS, *_OTHER_FIELDS], _VALUES)),
    st.dictionaries(st.tuples(st.sampled_from(_PREFIXES), st.text(max_size=5)), _VALUES, max_size=4),
)
_ODD_FIELDS: Final = st.dictionaries(
    st.builds(lambda prefix, name: prefix.encode() + name, st.sampled_from(_PREFIXES), st.binary(max_size=4)),
    st.binary(max_size=5) | st.just(b"true"),
    max_size=4,
)
HASHES: Final = st.builds(
    lambda texts, odd: {_bytes(field): _bytes(value) for field, value in texts.items()} | odd, _TEXT_HASHES, _ODD_FIELDS
)
"""Run hashes, most of them nearly sensible."""


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


@holds_for(HASHES)
def agrees_with_the_oracle(fields: dict[bytes, bytes]) -> None:
    """All three parts, and the frame byte for byte."""
    snapshot = packaged().evaluate(fields)
    assert dict(snapshot.checklist) == expected_checklist(fields)
    assert dict(snapshot.lock_statuses) == expected_locks(fields)
    assert snapshot.last_modified == expected_last_modified(fields)
    assert snapshot.frame() == text_frame(expected_json(fields).encode())


@holds_for(HASHES.flatmap(lambda fields: st.tuples(st.just(fields), st.permutations(list(fields)))))
def order_of_fields_is_irrelevant(drawn: tuple[dict[bytes, bytes], list[bytes]]) -> None:
    """Redis gives the fields of a hash in any order."""
    fields, order = drawn
    shuffled = {field: fields[field] for field in order}
    assert packaged().evaluate(shuffled) == packaged().evaluate(fields)
    assert packaged().evaluate(shuffled).frame() == packaged().evaluate(fields).frame()


@holds_for(HASHES, st.binary(max_size=20) | st.sampled_from([b"timestamps", b"locked", b"attrs:has_sb", b"Locked:a"]))
def an_unrelated_field_changes_nothing(fields: dict[bytes, bytes], field: bytes) -> None:
    """Whatever its value is."""
    related = field in {b"attrs:has_sbs", b"last_modified"} or field.startswith((b"timestamps:", b"locked:"))
    assume(not related)
    without = {name: value for name, value in fields.items() if name != field}
    for value in (b"", b"true", b"9", b"\xff"):
        assert packaged().evaluate({**without, field: value}) == packaged().evaluate(without)


@holds_for(HASHES)
def one_more_for_every_timestamp_changes_no_boolean(fields: dict[bytes, bytes]) -> None:
    """Only differences count, but for the row that wants integers above 0. The largest integer has no successor."""
    before = {field: value for field, value in fields.items() if number(value) != LARGEST}
    after = {
        field: value if (stamp := number(value)) is None else b"%d" % (stamp + 1)
        for field, value in before.items()
        if field.startswith(b"timestamps:")
    }
    later = packaged().evaluate({**before, **after})
    relative = dict(later.checklist), dict(packaged().evaluate(before).checklist)
    for answers in relative:
        del answers[_FLOW]
    assert relative[0] == relative[1]
    assert later.lock_statuses == packaged().evaluate(before).lock_statuses


@holds_for(HASHES, st.sampled_from(sorted(_ROWS)), st.integers(-1, 5))
def a_new_timestamp_touches_only_rows_that_name_it(fields: dict[bytes, bytes], field: str, value: int) -> None:
    """A step that was run again never changes the rows, locks or attributes that have nothing to do with it."""
    changed = {**fields, field.encode(): b"%d" % value}
    before, after = dict(packaged().evaluate(fields).checklist), dict(packaged().evaluate(changed).checklist)
    assert {key for key in packaged().rules if before[key] != after[key]} <= _ROWS[field]
    assert packaged().evaluate(changed).lock_statuses == packaged().evaluate(fields).lock_statuses


@holds_for(_TEXT_HASHES)
def the_command_says_the_same(texts: dict[str, str]) -> None:
    """`evaluate` on the command line, from JSON to JSON."""
    fields = {_bytes(field): _bytes(value) for field, value in texts.items()}
    answer = json.loads(evaluated(json.dumps(texts), packaged()))
    told = json.loads(expected_json(fields))
    assert answer == {name: told.get(name) for name in ("checklist", "lock_statuses", "last_modified")}
    assert evaluated(json.dumps(texts, ensure_ascii=False), packaged()) == evaluated(
        json.dumps(texts, indent=2), packaged()
    )


@holds_for(
    st.text()
    | st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    ).map(json.dumps)
)
def the_command_takes_objects_of_strings_and_refuses_the_rest_in_a_line(text: str) -> None:
    """Any text has an answer or a reason."""
    try:
        answer = evaluated(text, packaged())
    except BadInputError as reason:
        assert str(reason).startswith("not ")
        assert str(reason).isprintable()
    else:
        assert list(json.loads(answer)) == ["checklist", "lock_statuses", "last_modified"]
        assert all(isinstance(value, str) for value in json.loads(text).values())


TARGET: Final = FuzzTarget(
    "checklist",
    (
        agrees_with_the_oracle,
        order_of_fields_is_irrelevant,
        an_unrelated_field_changes_nothing,
        one_more_for_every_timestamp_changes_no_boolean,
        a_new_timestamp_touches_only_rows_that_name_it,
        the_command_says_the_same,
        the_command_takes_objects_of_strings_and_refuses_the_rest_in_a_line,
    ),
)
