"""From what the generator saw to the figures, the doubts and the table."""

from __future__ import annotations

import json

import attrs
import pytest

from bench.fanout import Options, parse_options
from bench.feed import status_feed
from bench.ledger import Faults
from bench.load import Load, LoadResult
from bench.report import Generator, Run, format_table, make_report, marks, summarize
from bench.stats import Percentiles, Spread

_MS = 1_000_000
_NO_FAULTS = Faults(lost=0, repeated=0, unexpected=0, ended=0)


def _result(*, cpu: float = 2.0, latency: int = 4, faults: Faults = _NO_FAULTS) -> LoadResult:
    return LoadResult(
        faults=faults,
        delivered=100_000,
        window=20.0,
        latency=[latency * _MS] * 10,
        queued=[_MS] * 10,
        publish_lag=[0] * 10,
        cpu={"target": cpu, "redis": 0.5},
        generator_cpu=4.0,
        machine_cpu=cpu + 0.5 + 4.0 + 1.0,
    )


def _run(target: str, number: int, *, cpu: float = 2.0, latency: int = 4, faults: Faults = _NO_FAULTS) -> Run:
    return summarize(target, number, _result(cpu=cpu, latency=latency, faults=faults))


def test_cpu_is_divided_by_the_messages_delivered_and_shares_by_the_window() -> None:
    run = _run("statusd", 1)
    assert (run.cpu_us.target, run.cpu_us.redis, run.cpu_us.total) == pytest.approx((20, 5, 25))
    assert run.latency_ms == Percentiles(4, 4, 4, 4)
    assert (run.generator.cpu, run.generator.foreign_cpu) == pytest.approx((0.2, 0.05))
    assert run.marks == []


def test_foreign_cpu_is_not_negative_when_the_clocks_tick_apart() -> None:
    result = attrs.evolve(_result(), machine_cpu=6.4)
    assert summarize("statusd", 1, result).generator.foreign_cpu == 0


@pytest.mark.parametrize(
    ("cpu", "foreign", "lag", "queued", "expected"),
    [
        (0.80, 0.25, 5.0, 2.0, []),
        (0.81, 0.00, 0.0, 0.0, ["generator-bound: it used 81% of a core"]),
        (0.10, 0.26, 0.0, 0.0, ["disturbed: other processes used 26% of a core"]),
        (0.10, 0.00, 5.1, 0.0, ["generator-lagged: it published 5.1 ms late (p99)"]),
        (0.10, 0.00, 0.0, 2.1, ["generator-bound: 2.1 ms (p99) of the latency may be its own"]),
    ],
)
def test_a_run_is_marked_only_when_the_generator_or_others_may_have_bent_it(
    cpu: float, foreign: float, lag: float, queued: float, expected: list[str]
) -> None:
    generator = Generator(cpu, foreign, Percentiles(0, 0, lag, 99), Percentiles(0, 0, queued, 99))
    assert marks(generator, Percentiles(1, 2, 4, 99)) == expected


def test_the_first_target_is_compared_with_each_other_round_by_round() -> None:
    runs = [
        _run("statusd", 1, cpu=2, latency=2),
        _run("peer", 1, cpu=4.5, latency=4),
        _run("statusd", 2, cpu=2, latency=6),
        _run("peer", 2, cpu=9.5, latency=8),
    ]
    report = make_report("fanout", runs, parameters={}, machine={})
    assert report.subject == "statusd"
    assert list(report.ratios) == ["peer"]
    assert report.ratios["peer"].cpu_total == Spread(0.375, 0.25, 0.5)
    assert report.ratios["peer"].latency_p99 == Spread(0.625, 0.5, 0.75)
    assert report.targets["peer"].cpu_us_total == Spread(75, 50, 100)


def test_the_report_is_json_and_its_table_names_targets_doubts_and_faults() -> None:
    faulty = Faults(lost=3, repeated=1, unexpected=0, ended=0)
    doubted = attrs.evolve(_run("peer", 1, cpu=4.5), marks=["disturbed: by a test"])
    report = make_report("fanout", [_run("statusd", 1, faults=faulty), doubted], parameters={}, machine={})
    document = json.loads(json.dumps(attrs.asdict(report)))
    assert document["targets"]["statusd"]["faults"] == 4
    assert document["targets"]["peer"]["marked_runs"] == 1
    table = format_table(report)
    assert "25.00 [25.00 25.00]" in table
    assert "0.50 [0.50 0.50]" in table
    assert "1 of 2 runs marked: disturbed" in table
    assert "FAULTS of statusd in round 1: 3 messages lost, 1 repeated or late" in table


def test_a_report_needs_runs() -> None:
    with pytest.raises(ValueError, match="no runs"):
        make_report("fanout", [], parameters={}, machine={})


@pytest.mark.parametrize(
    ("warmup", "seconds", "rate", "unmeasured", "total"),
    [(2, 20, 10, 20, 220), (0, 20, 10, 0, 200), (0.5, 1.5, 2, 1, 4), (0, 0.01, 1, 0, 1)],
)
def test_a_load_is_a_whole_number_of_messages_and_at_least_one_is_measured(
    warmup: float, seconds: float, rate: float, unmeasured: int, total: int
) -> None:
    load = Load(
        server=("127.0.0.1", 1),
        redis=("127.0.0.1", 2),
        feed=status_feed("run:channel", 100),
        clients=1,
        rate=rate,
        warmup=warmup,
        seconds=seconds,
        grace=0,
    )
    assert (load.unmeasured, load.total) == (unmeasured, total)


def test_without_arguments_the_row_is_the_one_that_goals_are_set_for() -> None:
    assert parse_options([]) == Options(
        subject="statusd",
        against=["trio_websocket"],
        clients=300,
        rate=10,
        size=100,
        seconds=20,
        warmup=2,
        grace=5,
        repeat=3,
    )


def test_a_target_can_be_measured_alone() -> None:
    options = parse_options(["--subject", "trio_websocket", "--against", "none"])
    assert [target.name for target in options.targets()] == ["trio_websocket"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--against", "statusd"],
        ["--against", "trio_websocket", "--against", "trio_websocket"],
        ["--against", "unheard_of"],
        ["--clients", "0"],
        ["--rate", "-1"],
        ["--repeat", "0"],
        ["--warmup", "-1"],
        ["--size", "7"],
        ["--rate", "1e9"],
    ],
)
def test_options_that_make_no_sense_end_with_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_options(arguments)
    assert ended.value.code == 2
    assert "error:" in capsys.readouterr().err
