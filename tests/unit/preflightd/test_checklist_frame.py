"""What the frame of a run says beside its checklist: locks and the last change; and the frame itself, byte for byte."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import attrs
import pytest

from tests.support.checklist import KEYS, LARGEST, SMALLEST, evaluate, stamps
from tests.unit.common.web.test_frames import read_with_websockets, read_with_wsproto

if TYPE_CHECKING:
    from collections.abc import Mapping


# -- locks -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "name"),
    [
        (b"locked:wepp", "wepp"),
        (b"locked:omni:scenarios", "omni:scenarios"),
        (b"locked::", ":"),
        (b"locked:locked:", "locked:"),
        (b"locked: ", " "),
        (b"locked:\x00", "\x00"),
        (b"locked:a\nb", "a\nb"),
        (b'locked:"\\/', '"\\/'),
        (b"locked:<&>", "<&>"),
        ("locked:müller".encode(), "müller"),
        ("locked:\U0001f512".encode(), "\U0001f512"),
        ("locked:\u2028".encode(), "\u2028"),
        (b"locked:\xff", "\ufffd"),
        (b"locked:a\xffb", "a\ufffdb"),
        (b"locked:\xc3", "\ufffd"),
        (b"locked:\xed\xa0\x80", "\ufffd\ufffd\ufffd"),
    ],
)
@pytest.mark.parametrize("held", [True, False])
def test_a_lock_has_the_name_behind_the_first_colon(field: bytes, name: str, held: bool) -> None:
    fields = {field: b"true" if held else b"false"}
    snapshot = evaluate(fields)
    assert snapshot.lock_statuses == ((name, held),)
    assert told(fields)["lock_statuses"] == {name: held}


@pytest.mark.parametrize("field", [b"locked:", b"locked", b"Locked:x", b" locked:x", b"unlocked:x", b"lockedx:y", b""])
def test_other_fields_are_no_locks(field: bytes) -> None:
    assert evaluate({field: b"true"}).lock_statuses == ()


@pytest.mark.parametrize(
    "value", [b"", b"false", b"True", b"TRUE", b"1", b" true", b"true ", b"true\n", b"true\x00", b"\xff"]
)
def test_a_lock_is_held_only_if_the_word_is_true(value: bytes) -> None:
    assert evaluate({b"locked:x": value}).lock_statuses == (("x", False),)


@pytest.mark.parametrize(("values", "held"), [((b"true", b"x"), True), ((b"x", b"true"), True), ((b"x", b"x"), False)])
def test_names_that_look_alike_are_one_lock_that_is_held_if_any_is(values: tuple[bytes, bytes], held: bool) -> None:
    fields = {b"locked:\xff": values[0], b"locked:\xfe": values[1]}
    assert evaluate(fields).lock_statuses == (("\ufffd", held),)


def test_locks_come_in_the_order_of_their_names() -> None:
    names = [b"b", b"a", b"\xc3\xa9", b"B", b"a:1", b"10", b"9"]
    snapshot = evaluate({b"locked:" + name: b"x" for name in names})
    assert [name for name, _ in snapshot.lock_statuses] == ["10", "9", "B", "a", "a:1", "b", "é"]


# -- last_modified -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({b"last_modified": b"7"}, 7),
        ({b"last_modified": b"7", b"timestamps:a": b"9"}, 7),
        ({b"last_modified": b"-7", b"timestamps:a": b"9"}, -7),
        ({b"last_modified": b"0", b"timestamps:a": b"9"}, 0),
        ({b"last_modified": b"", b"timestamps:a": b"9"}, 9),
        ({b"last_modified": b"soon", b"timestamps:a": b"9"}, 9),
        ({b"last_modified": b"7.5", b"timestamps:a": b"9"}, 9),
        ({b"last_modified": b"12345678901234567890", b"timestamps:a": b"9"}, 9),
        ({b"timestamps:a": b"9", b"timestamps:b": b"10"}, 10),
        ({b"timestamps:a": b"-9", b"timestamps:b": b"-10"}, -9),
        ({b"timestamps:a": b"+9", b"timestamps:b": b"x"}, 9),
        ({b"timestamps:no step of the table": b"9"}, 9),
        ({b"timestamps:\xff": b"9"}, 9),
        ({b"timestamps:a": b"0"}, 0),
        ({b"timestamps:a": b"", b"timestamps:b": b"x"}, None),
        ({b"timestamps": b"9", b"Timestamps:a": b"9", b"attrs:a": b"9", b"locked:a": b"9"}, None),
        ({b"timestamps:a": str(LARGEST).encode()}, LARGEST),
        ({b"timestamps:a": str(SMALLEST).encode()}, SMALLEST),
    ],
)
def test_the_own_field_comes_before_the_largest_timestamp(fields: dict[bytes, bytes], expected: int | None) -> None:
    assert evaluate(fields).last_modified == expected
    assert told(fields).get("last_modified") == expected


# -- the frame ---------------------------------------------------------------------------------------------------------


def frame_text(fields: Mapping[bytes, bytes]) -> str:
    """The text of the frame, which two libraries read alike."""
    frame = evaluate(fields).frame()
    (text,) = read_with_wsproto(frame)
    assert read_with_websockets(frame) == [text]
    return text


def told(fields: Mapping[bytes, bytes]) -> dict[str, object]:
    """What a client reads in the frame."""
    message: dict[str, object] = json.loads(frame_text(fields))
    return message


NOTHING_DONE: Final = ",".join(f'"{key}":false' for key in KEYS)


def test_the_frame_of_a_run_without_a_hash_byte_for_byte() -> None:
    assert frame_text({}) == f'{{"type":"preflight","checklist":{{{NOTHING_DONE}}},"lock_statuses":{{}}}}'


def test_a_frame_byte_for_byte() -> None:
    fields = {
        b"locked:b\xc3\xbc": b"true",
        b"attrs:has_sbs": b"true",
        b'locked:a"\n': b"false",
        b"timestamps:run_rhem": b"+0012",
    }
    done = NOTHING_DONE.replace('"sbs_map":false', '"sbs_map":true').replace('"rhem":false', '"rhem":true')
    assert frame_text(fields) == (
        f'{{"type":"preflight","checklist":{{{done}}},"lock_statuses":{{"a\\"\\n":false,"bü":true}},"last_modified":12}}'
    )


def test_an_unknown_last_modified_is_left_out_of_the_frame_and_null_elsewhere() -> None:
    assert list(told({})) == ["type", "checklist", "lock_statuses"]
    assert list(told({b"last_modified": b"1"})) == ["type", "checklist", "lock_statuses", "last_modified"]
    assert evaluate({}).content() == {
        "checklist": dict.fromkeys(KEYS, False),
        "lock_statuses": {},
        "last_modified": None,
    }


def test_snapshots_are_equal_if_their_content_is() -> None:
    one = evaluate(stamps(build_channels=1, run_wepp=3) | {b"locked:a": b"x", b"note": b"one"})
    other = evaluate({b"note": b"two", b"locked:a": b"y", b"last_modified": b"+3"} | stamps(build_channels="?"))
    assert one == other
    assert one.frame() == other.frame()
    assert one != evaluate(stamps(build_channels=1, run_wepp=4) | {b"locked:a": b"x"})


def test_a_snapshot_is_a_frozen_value() -> None:
    snapshot = evaluate({})
    for name in ("checklist", "lock_statuses", "last_modified"):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(snapshot, name, None)
    assert hash(snapshot) == hash(evaluate({}))
