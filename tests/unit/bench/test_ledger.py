"""Who got what: a message lost, repeated, late or altered is never missed, and only the measured ones are timed."""

from __future__ import annotations

import pytest

from bench.ledger import Cursor, DeliveryLedger, Faults


def _frame(number: int) -> bytes:
    return b'\x81\x21{"type":"status","data":"frame%d"}' % number


_FOUR = [_frame(number) for number in range(4)]


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
    ledger, cursor, faultless = DeliveryLedger(_FOUR, measured_from=0), Cursor(), Cursor()
    for number in range(4):
        assert ledger.take(faultless, _frame(number), now=0, queued=0)
    for number in received:
        assert ledger.take(cursor, _frame(number), now=0, queued=0)
    faults = ledger.close([cursor, faultless])
    assert faults == Faults(lost=lost, repeated=repeated, unexpected=0, ended=0)
    assert faults.total == lost + repeated


def test_a_client_whose_connection_ended_has_lost_the_rest() -> None:
    ledger, cursor = DeliveryLedger(_FOUR, measured_from=0), Cursor()
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
    ledger, cursor = DeliveryLedger(_FOUR, measured_from=0), Cursor()
    assert not ledger.take(cursor, frame, now=0, queued=0)
    assert cursor.next == 0


def test_only_messages_of_the_measured_window_are_timed() -> None:
    ledger, cursor = DeliveryLedger(_FOUR, measured_from=2), Cursor()
    for number in range(4):
        ledger.written_at[number] = 100 * number
        ledger.take(cursor, _frame(number), now=100 * number + 10 + number, queued=number)
    assert list(ledger.latency) == [12, 13]
    assert list(ledger.queued) == [2, 3]


@pytest.mark.parametrize(
    ("received", "lost", "repeated", "told"),
    [
        ([0, 1, 2, 3], 0, 0, 4),
        ([3], 0, 0, 4),
        ([1, 3], 0, 0, 4),
        ([], 4, 0, 0),
        ([0, 2], 1, 0, 3),
        ([0, 3, 3], 0, 1, 5),
        ([0, 3, 2], 0, 1, 5),
    ],
)
def test_a_coalesced_frame_stands_for_the_writes_before_it_and_the_last_must_come(
    received: list[int], lost: int, repeated: int, told: int
) -> None:
    ledger, cursor = DeliveryLedger(_FOUR, measured_from=0, coalesced=True), Cursor()
    for number in received:
        assert ledger.take(cursor, _frame(number), now=0, queued=0)
    assert ledger.close([cursor]) == Faults(lost=lost, repeated=repeated, unexpected=0, ended=0)
    assert (ledger.delivered, len(ledger.latency)) == (len(received), told)


def test_a_coalesced_write_waits_until_the_frame_that_tells_of_it() -> None:
    ledger, cursor = DeliveryLedger(_FOUR, measured_from=1, coalesced=True), Cursor()
    ledger.written_at[:] = ledger.written_at.__class__("q", [0, 100, 200, 300])
    ledger.take(cursor, _frame(2), now=210, queued=1)
    ledger.take(cursor, _frame(3), now=350, queued=2)
    assert list(ledger.latency) == [110, 10, 50]
    assert list(ledger.queued) == [1, 1, 2]
    assert ledger.delivered == 2


def test_two_writes_with_one_frame_could_not_be_told_apart() -> None:
    with pytest.raises(ValueError, match="same frame"):
        DeliveryLedger([_frame(0), _frame(1), _frame(0)], measured_from=0)


def test_with_several_channels_each_client_must_get_every_message_of_its_own_and_no_other() -> None:
    ledger, first, second = DeliveryLedger(_FOUR), Cursor(next=0, step=2), Cursor(next=1, step=2)
    assert ledger.take(first, _FOUR[0], now=0, queued=0)
    assert not ledger.take(first, _FOUR[1], now=0, queued=0)
    assert ledger.take(second, _FOUR[3], now=0, queued=0)
    assert ledger.close([first, second]) == Faults(lost=2)


@pytest.mark.parametrize("size", [1, 7, 35, 36, 71, 1000])
def test_a_burst_is_accounted_for_however_it_is_cut(size: int) -> None:
    ledger, cursor, script = DeliveryLedger(_FOUR, bulk=True), Cursor(), b"".join(_FOUR)
    rest = b""
    for begin in range(0, len(script), size):
        rest += script[begin : begin + size]
        rest = rest[ledger.take_run(cursor, rest) :]
    assert (rest, cursor.next, ledger.delivered) == (b"", 4, 4)
    assert ledger.close([cursor]).total == 0


@pytest.mark.parametrize("data", [_FOUR[1], _FOUR[0][:-1] + b"!", b'\x81\x0f{"type":"ping"}', b"".join(_FOUR) + b"!"])
def test_in_a_burst_anything_but_what_is_due_is_left_for_a_closer_look(data: bytes) -> None:
    ledger, cursor = DeliveryLedger(_FOUR, bulk=True), Cursor()
    assert ledger.take_run(cursor, data) == 0
    assert (cursor.next, ledger.delivered) == (0, 0)
