"""Who got what: a message lost, repeated, late or altered is never missed, and only the measured ones are timed."""

from __future__ import annotations

import pytest

from bench.ledger import LARGEST_COUNT, SMALLEST_SIZE, Cursor, Faults, Ledger, payloads

_FOUR = payloads(4, 20)


def _frame(number: int) -> bytes:
    return b'\x81\x2f{"type":"status","data":"%s"}' % _FOUR[number]


@pytest.mark.parametrize(
    ("received", "lost", "repeated"),
    [
        ([0, 1, 2, 3], 0, 0),
        ([], 4, 0),
        ([0, 1, 2], 1, 0),
        ([1, 2, 3], 1, 0),
        ([0, 3], 2, 0),
        ([0, 1, 1, 2, 3], 0, 1),
        ([0, 1, 2, 3, 3], 0, 1),
        ([0, 2, 1, 3], 1, 1),
        ([3, 2, 1, 0], 3, 3),
    ],
)
def test_each_client_must_get_every_message_once_and_in_order(received: list[int], lost: int, repeated: int) -> None:
    ledger, cursor, faultless = Ledger(_FOUR, measured_from=0), Cursor(), Cursor()
    for number in range(4):
        assert ledger.take(faultless, _frame(number), now=0, queued=0)
    for number in received:
        assert ledger.take(cursor, _frame(number), now=0, queued=0)
    faults = ledger.close([cursor, faultless])
    assert faults == Faults(lost=lost, repeated=repeated, unexpected=0, ended=0)
    assert faults.total == lost + repeated


def test_a_client_whose_connection_ended_has_lost_the_rest() -> None:
    ledger, cursor = Ledger(_FOUR, measured_from=0), Cursor()
    ledger.take(cursor, _frame(0), now=0, queued=0)
    ledger.end(cursor)
    assert ledger.close([]) == Faults(lost=3, repeated=0, unexpected=0, ended=1)


@pytest.mark.parametrize(
    "frame",
    [
        b'\x81\x0f{"type":"ping"}',
        _frame(0)[2:],
        b"\x82" + _frame(0)[1:],
        b"\x81\x7e\x00" + _frame(0)[1:],
        _frame(0) + _frame(1),
        _frame(0)[:-1],
        _frame(0) + b" ",
        _frame(0).replace(b"s", b"S", 1),
        _frame(0).replace(b":", b": "),
        b"",
    ],
)
def test_a_frame_that_differs_in_one_byte_is_not_a_payload(frame: bytes) -> None:
    ledger, cursor = Ledger(_FOUR, measured_from=0), Cursor()
    assert not ledger.take(cursor, frame, now=0, queued=0)
    assert cursor.next == 0


def test_only_messages_of_the_measured_window_are_timed() -> None:
    ledger, cursor = Ledger(_FOUR, measured_from=2), Cursor()
    for number in range(4):
        ledger.published_at[number] = 100 * number
        ledger.take(cursor, _frame(number), now=100 * number + 10 + number, queued=number)
    assert list(ledger.latency) == [12, 13]
    assert list(ledger.queued) == [2, 3]


@pytest.mark.parametrize("size", [SMALLEST_SIZE, 9, 100, 5000])
def test_payloads_are_distinct_have_the_size_asked_for_and_need_no_escape(size: int) -> None:
    made = payloads(1000, size)
    assert len(set(made)) == 1000
    assert {len(payload) for payload in made} == {size}
    assert all(payload.isascii() and payload.decode().isprintable() for payload in made)
    assert not any(character in payload for payload in made for character in (b'"', b"\\"))


@pytest.mark.parametrize(("count", "size"), [(1, SMALLEST_SIZE - 1), (LARGEST_COUNT + 1, 100)])
def test_payloads_that_could_not_be_told_apart_are_an_error(count: int, size: int) -> None:
    with pytest.raises(ValueError, match="distinct"):
        payloads(count, size)
