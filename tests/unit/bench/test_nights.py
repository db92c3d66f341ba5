"""Two nights of the bench: what is worse beside its peers, and what is only noise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest

from bench.compare import FAILED, OK, UNREAD, main, render
from bench.ledger import Faults
from bench.nights import ITSELF, NotComparableError, RatioKey, Trend, compare, read
from bench.outcome import Outcome
from bench.report import Document, Run, report_row
from bench.rows import ROWS
from bench.store import store

KEPT: Final = json.loads((Path(__file__).parents[3] / "bench/results/latest.json").read_text("utf-8"))
CPU: Final = RatioKey("row", "statusd", "cpu_us")

Spread = tuple[float, float, float]


def night(
    figures: dict[str, dict[str, Spread]], *, rounds: int = 3, clients: int = 10, name: str = "row"
) -> dict[str, Any]:
    """A document of one row: by peer and figure, the median of the ratios, the least and the most."""
    ratios = {
        peer: {figure: dict(zip(("median", "min", "max"), spread, strict=True)) for figure, spread in found.items()}
        for peer, found in figures.items()
    }
    table = list(dict.fromkeys(figure for found in figures.values() for figure in found))
    row = {
        "name": name,
        "parameters": {"clients": clients, "rounds": rounds},
        "table": table,
        "subjects": ["statusd"],
        "targets": {"statusd": dict.fromkeys(table), **figures},
        "ratios": {"statusd": ratios},
    }
    return {"rows": [row]}


def cpu(*spreads: Spread) -> dict[str, Any]:
    return night({f"peer-{number}": {"cpu_us": spread} for number, spread in enumerate(spreads)})


def trend(last: dict[str, Any], this: dict[str, Any]) -> Trend:
    [change] = compare(read(last), read(this))
    return change.trend


@pytest.mark.parametrize(
    ("last", "this", "expected"),
    [
        ((1.0, 0.95, 1.05), (1.0, 0.95, 1.05), Trend.FINE),
        ((1.0, 0.95, 1.05), (1.19, 1.1, 1.3), Trend.FINE),
        ((1.0, 0.95, 1.05), (1.2, 1.1, 1.3), Trend.WORSE),
        ((0.1, 0.1, 0.1), (0.12, 0.12, 0.12), Trend.WORSE),
        ((1.0, 0.9, 1.3), (1.4, 1.2, 1.5), Trend.NOISE),
        ((1.0, 0.95, 1.05), (0.5, 0.4, 0.6), Trend.BETTER),
    ],
)
def test_twenty_per_cent_in_all_rounds_is_worse(last: Spread, this: Spread, expected: Trend) -> None:
    assert trend(cpu(last), cpu(this)) is expected


def test_what_is_worse_is_so_beside_every_peer() -> None:
    good, bad = (1.0, 1.0, 1.0), (1.5, 1.5, 1.5)
    assert trend(cpu(good, good), cpu(bad, good)) is Trend.FINE
    assert trend(cpu(good, good), cpu(bad, bad)) is Trend.WORSE


def test_it_is_as_much_worse_as_beside_the_peer_that_shows_it_least() -> None:
    [change] = compare(read(cpu((1, 1, 1), (2, 2, 2))), read(cpu((3, 3, 3), (3, 3, 3))))
    assert (change.peer, change.last, change.this, change.factor) == ("peer-1", 2, 3, 1.5)


def test_rounds_must_be_apart_beside_every_peer() -> None:
    last, this = cpu((1, 1, 1), (1, 0.5, 2)), cpu((1.5, 1.5, 1.5), (1.5, 1.5, 1.5))
    assert trend(last, this) is Trend.NOISE


@pytest.mark.parametrize(
    ("figure", "rounds", "expected"),
    [
        ("cpu_us", 1, Trend.WORSE),
        ("client_kb", 1, Trend.WORSE),
        ("core_percent", 1, Trend.WORSE),
        ("p99_ms", 1, Trend.NOISE),
        ("in_s", 1, Trend.NOISE),
        ("p99_ms", 2, Trend.WORSE),
        ("deliveries_per_s", 2, Trend.BETTER),
    ],
)
def test_one_round_says_nothing_of_a_time_on_a_clock(figure: str, rounds: int, expected: Trend) -> None:
    last = night({"limit": {figure: (1.0, 1.0, 1.0)}}, rounds=rounds)
    assert trend(last, night({"limit": {figure: (2.0, 2.0, 2.0)}}, rounds=rounds)) is expected


def test_where_more_is_better_less_is_worse() -> None:
    last = night({"limit": {"deliveries_per_s": (1.2, 1.1, 1.3)}})
    assert trend(last, night({"limit": {"deliveries_per_s": (0.9, 0.8, 1.0)}})) is Trend.WORSE
    assert trend(last, night({"limit": {"deliveries_per_s": (0.9, 0.8, 1.15)}})) is Trend.NOISE


def test_what_fell_silent_fails_and_a_row_that_was_changed_does_not() -> None:
    last = cpu((1, 1, 1))
    assert trend(last, {"rows": []}) is Trend.SILENT
    assert trend(last, night({"another": {"cpu_us": (1, 1, 1)}})) is Trend.SILENT
    assert trend(last, night({"peer-0": {"cpu_us": (9, 9, 9)}}, clients=11)) is Trend.OTHER
    assert Trend.SILENT.fails
    assert not Trend.OTHER.fails


def test_a_peer_that_is_not_there_tonight_is_passed_over() -> None:
    assert trend(cpu((1, 1, 1), (1, 1, 1)), cpu((1, 1, 1))) is Trend.FINE


def test_what_is_new_tonight_is_not_compared() -> None:
    assert len(compare(read(cpu((1, 1, 1))), read(night({"peer-0": {"cpu_us": (1, 1, 1), "p99_ms": (9, 9, 9)}})))) == 1


def test_a_peer_that_is_a_daemon_too_is_none() -> None:
    document = cpu((1, 1, 1), (2, 2, 2))
    document["rows"][0]["subjects"].append("peer-1")
    document["rows"][0]["ratios"]["peer-1"] = {"peer-0": {}}
    assert set(read(document)[CPU].beside) == {"peer-0"}


def test_nothing_is_better_than_something_and_is_no_measure() -> None:
    nothing, something = cpu((0.0, 0.0, 0.0)), cpu((1.0, 1.0, 1.0))
    assert trend(something, nothing) is Trend.BETTER
    with pytest.raises(NotComparableError):
        compare(read(nothing), read(something))
    stopped = night({"limit": {"deliveries_per_s": (0.0, 0.0, 0.0)}})
    assert trend(night({"limit": {"deliveries_per_s": (1.0, 1.0, 1.0)}}), stopped) is Trend.WORSE


def test_a_peer_whose_figure_is_nothing_tonight_is_no_silence() -> None:
    """The latest ping of all may have been on time, and then nothing is divided by it."""
    this = cpu((1, 1, 1))
    this["rows"][0]["ratios"]["statusd"]["peer-0"] = {}
    assert trend(cpu((1, 1, 1)), this) is Trend.NOTHING
    assert not Trend.NOTHING.fails


def test_a_daemon_that_was_not_measured_is_silence() -> None:
    this = cpu((1, 1, 1))
    del this["rows"][0]["targets"]["statusd"]
    assert trend(cpu((1, 1, 1)), this) is Trend.SILENT


def test_a_ratio_within_one_run_needs_no_peer() -> None:
    kept = read(KEPT)
    assert set(kept[RatioKey("stalled", "statusd", "isolation")].beside) == {ITSELF}
    assert not [change for change in compare(kept, kept) if change.key.row == "preflight-3000"]


def test_every_row_with_peers_is_compared_and_a_night_is_as_good_as_itself() -> None:
    kept = read(KEPT)
    assert {key.row for key in kept} >= {row.name for row in ROWS.values() if row.peers}
    assert {change.trend for change in compare(kept, kept)} == {Trend.FINE}


def test_a_daemon_that_takes_half_as_much_again_is_found_in_what_the_bench_writes(tmp_path: Path) -> None:
    def written(cost: float, name: str) -> Path:
        runs = [
            Run(target, number, Outcome(values={"cpu_us": value}, faults=Faults(), generator={}, marks=[]))
            for number in (1, 2)
            for target, value in (("statusd", cost), ("limit", 10.0))
        ]
        row = report_row(ROWS["fanout-1000"], runs, {})
        document = Document(started="2020-01-02T03:04:05+00:00", machine={}, seconds=1.0, rows=[row])
        store(document, tmp_path / name, latest=True)
        return tmp_path / name / "latest.json"

    last, this = written(10.0, "last"), written(15.0, "this")
    assert main([str(last), str(last)]) == OK
    assert main([str(last), str(this)]) == FAILED
    assert main([str(this), str(last)]) == OK


def test_the_page_has_what_is_worse_on_top() -> None:
    last = night({"limit": {"cpu_us": (1, 1, 1), "p50_ms": (1, 1, 1), "p99_ms": (1, 1, 1)}})
    this = night({"limit": {"cpu_us": (1, 1, 1), "p50_ms": (1.3, 0.9, 1.4), "p99_ms": (1.5, 1.4, 1.6)}})
    lines = render(compare(read(last), read(this))).splitlines()
    assert lines[2].startswith("3 ratios: 1 WORSE, 1 worse, within the noise, 1 fine.")
    assert lines[-3:] == [
        "| row | statusd | p99_ms | limit | 1 | 1.5 | 1.50 | WORSE |",
        "| row | statusd | p50_ms | limit | 1 | 1.3 | 1.30 | worse, within the noise |",
        "| row | statusd | cpu_us | limit | 1 | 1 | 1.00 | fine |",
    ]


def test_a_first_night_passes_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "this.json").write_text(json.dumps(cpu((1, 1, 1))))
    assert main([str(tmp_path / "none.json"), str(tmp_path / "this.json")]) == OK
    assert capsys.readouterr().out.startswith("The first night: ")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"rows": [{}]}', '{"rows": []}', "\ufeff{}"])
def test_what_is_no_night_is_no_first_one(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is there and can't be read is trouble: passed over, it would be so every night."""
    (tmp_path / "last.json").write_text(text)
    (tmp_path / "this.json").write_text(json.dumps(cpu((1, 1, 1))))
    assert main([str(tmp_path / "last.json"), str(tmp_path / "this.json")]) == UNREAD
    assert capsys.readouterr().err.startswith("not compared: ")


def test_a_night_that_was_not_measured_fails_even_the_first_time(tmp_path: Path) -> None:
    assert main([str(tmp_path / "none.json"), str(tmp_path / "none either.json")]) == UNREAD


def test_a_night_without_ratios_is_nothing_to_compare_with() -> None:
    with pytest.raises(NotComparableError):
        compare({}, read(KEPT))
