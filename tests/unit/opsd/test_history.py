"""Samples: how they are written, thinned out, and what happens without Redis."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import pytest
import trio

from common.config import load
from opsd.history import MOST_POINTS, History, HistoryUnavailableError, Sample, downsample, make_history_link
from opsd.settings import OpsSettings
from tests.support.logbook import Logbook
from tests.support.opsd_board import KEYS, open_board

if TYPE_CHECKING:
    from trio.testing import MockClock

    from opsd.vector import Mode


def sample(at: float, connections: float = 1.0, error_rate: float = 0.0, mode: Mode = "normal") -> Sample:
    return Sample(at, connections, 2 * connections, 3 * connections, error_rate, mode)


@pytest.mark.parametrize("figure", [0.0, 1.0, 0.1234567, 123456.7, 1e7])
def test_what_is_written_can_be_read_back(figure: float) -> None:
    given = Sample(5.0, figure, figure / 2, figure / 4, 0.25, "degraded")
    read = Sample.decoded(5.0, given.encoded().encode())
    assert read is not None
    assert read.connections == pytest.approx(figure, rel=1e-6)
    assert (read.at, read.error_rate, read.mode) == (5.0, 0.25, "degraded")


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"1,2,3,4",
        b"1,2,3,4,fine",
        b"1,2,3,normal",
        b"1,2,3,nan,normal",
        b"-1,2,3,4,normal",
        b"\xff",
        b"a,b,c,d,normal",
    ],
)
def test_what_somebody_else_wrote_is_no_sample(value: bytes) -> None:
    assert Sample.decoded(0.0, value) is None


def test_a_sample_in_json() -> None:
    assert Sample(1736944496.789, 2, 1.23456, 4, 0.5, "degraded").document() == {
        "time": "2025-01-15T12:34:56.789Z",
        "connections": 2,
        "messagesPerSecond": 1.235,
        "latency": 4,
        "errorRate": 0.5,
        "mode": "degraded",
    }


def test_few_samples_stay_as_they_are() -> None:
    samples = [sample(float(at), at) for at in range(0, 100, 5)]
    found = downsample(samples, 0.0, 100.0, 100)
    assert [(point.mean, point.low, point.high) for point in found] == [(one, one, one) for one in samples]


def test_of_many_the_mean_and_the_worst_remain() -> None:
    samples = [sample(0.0, 2), sample(4.0, 4, 0.6, "isolated"), sample(9.0, 6, 0.2, "degraded"), sample(10.0, 8)]
    first, last = downsample(samples, 0.0, 20.0, 2)
    assert (first.mean, last.mean) == (sample(9.0, 4, 0.6, "isolated"), sample(10.0, 8))


def test_peaks_survive() -> None:
    samples = [sample(float(at), 100 if at == 300 else 1, 0.5 if at == 700 else 0.01) for at in range(1000)]
    (point,) = downsample(samples, 0.0, 1000.0, 1)
    document = point.document()
    assert document["connections"] == pytest.approx(1.099)
    assert document["min"] == {"connections": 1, "messagesPerSecond": 2, "latency": 3, "errorRate": 0.01}
    assert document["max"] == {"connections": 100, "messagesPerSecond": 200, "latency": 300, "errorRate": 0.5}
    assert document["errorRate"] == 0.5


def test_stretches_without_samples_are_left_out_and_so_is_what_lies_outside() -> None:
    samples = [sample(-1.0), sample(0.0), sample(95.0), sample(100.0), sample(101.0)]
    assert [point.mean.at for point in downsample(samples, 0.0, 100.0, 10)] == [0.0, 100.0]
    assert downsample([], 0.0, 100.0, 10) == []


@pytest.mark.parametrize("points", [1, 7, 300])
def test_there_are_never_more_points_than_asked_for(points: int) -> None:
    samples = [sample(at / 10) for at in range(10_000)]
    assert len(downsample(samples, 0.0, 1000.0, points)) == points


async def test_without_redis_there_is_no_history_and_nothing_else_suffers(autojump_clock: MockClock) -> None:
    settings = load(OpsSettings, {"OPS_REDIS_URL": "unix:///nonexistent.sock", "OPS_TARGETS": "none"}).settings
    logbook = Logbook()
    history = History(make_history_link(settings, logbook.log, Random(0)), KEYS, 60.0, logbook.log)
    async with open_board([]) as (board, _), trio.open_nursery() as nursery:
        nursery.start_soon(history.run, board)
        await trio.sleep(120)
        assert not history.online
        with pytest.raises(HistoryUnavailableError):
            await history.query(60, 300)
        assert board.version > 110
        # The link says it, at a pace that slows down; the recorder does not say it again.
        assert len(logbook.at_least("warning", "error")) < 20
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("minutes", "points"), [(0, 1), (-1, 1), (1, 0), (1, MOST_POINTS + 1), (10**9, 1)])
async def test_numbers_out_of_range_are_refused(minutes: int, points: int) -> None:
    settings = load(OpsSettings, {}).settings
    history = History(make_history_link(settings, Logbook().log, Random(0)), KEYS, 60.0, Logbook().log)
    with pytest.raises(ValueError, match="minutes are 1 to"):
        await history.query(minutes, points)
