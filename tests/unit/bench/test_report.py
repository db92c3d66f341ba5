"""From runs to the document: ratios, goals, what is absent, the page, the picture and the files."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from bench.__main__ import FAULTS, NO_RESULT, OK, exit_status
from bench.goals import Goal, judge
from bench.ledger import Faults
from bench.outcome import Outcome
from bench.plot import SVG, render_plot
from bench.report import Document, Run, report_row
from bench.rows import ROWS
from bench.stats import Spread
from bench.store import store
from bench.table import render_document

if TYPE_CHECKING:
    from pathlib import Path

    from bench.report import RowReport

_ROW = ROWS["fanout-1000"]
_ONE = Spread(1, 1, 1)
_NO_FAULTS = Faults()


def _run(target: str, number: int, *, faults: Faults = _NO_FAULTS, **values: float) -> Run:
    return Run(target, number, Outcome(values=values, faults=faults, generator={"cpu": 0.1}, marks=["disturbed: <x>"]))


def _document(*rows: RowReport) -> Document:
    return Document(started="2020-01-02T03:04:05+00:00", machine={"cpus": 2}, seconds=90.0, rows=rows)


_RUNS = [
    _run("statusd", 1, cpu_us=10, p99_ms=4),
    _run("websockets", 1, cpu_us=50, p99_ms=40),
    _run("limit", 1, cpu_us=8, p99_ms=2),
    _run("statusd", 2, cpu_us=12, p99_ms=6),
    _run("websockets", 2, cpu_us=40, p99_ms=12, faults=Faults(lost=3)),
]
_REPORT = report_row(_ROW, _RUNS, {"limit": "failed in round 2: it <ended>", "tornado": "not installed"})


def test_each_target_has_its_medians_and_the_subject_is_divided_by_each_peer_round_by_round() -> None:
    assert _REPORT.targets["statusd"]["cpu_us"] == Spread(11, 10, 12)
    assert _REPORT.ratios["statusd"]["websockets"]["cpu_us"] == Spread(0.25, 0.2, 0.3)
    assert _REPORT.ratios["statusd"]["limit"]["cpu_us"] == Spread(1.25, 1.25, 1.25)


def test_a_figure_that_was_nothing_has_no_ratio() -> None:
    report = report_row(_ROW, [_run("statusd", 1, dropped=0), _run("limit", 1, dropped=0)], {})
    assert report.ratios["statusd"]["limit"] == {}


def test_goals_are_judged_with_medians_and_against_the_best_peer_there_is() -> None:
    assert [(verdict.value, verdict.word) for verdict in _REPORT.goals] == [
        (11, "met"),
        (5, "met"),
        (1.25, "met"),
        (0.25, "met"),
        (pytest.approx(0.3), "NOT met"),
    ]


@pytest.mark.parametrize(
    ("figure", "limit", "value", "met", "share"),
    [
        ("cpu_us", 14, 14, True, 1),
        ("cpu_us", 14, 21, False, 1.5),
        ("deliveries_per_s", 100, 100, True, 1),
        ("deliveries_per_s", 100, 50, False, 2),
        ("dropped", 0, 0, True, None),
        ("dropped", 0, 1, False, None),
    ],
)
def test_a_limit_is_the_most_or_where_more_is_better_the_least(
    figure: str, limit: float, value: float, met: bool, share: float | None
) -> None:
    goal = Goal(figure=figure, limit=limit, target="statusd")
    verdict = judge(goal, {"statusd": {figure: Spread(value, value, value)}}, {})
    assert (verdict.met, verdict.share) == (met, share)


def test_the_best_peer_is_another_for_each_figure_and_one_without_a_ratio_is_none() -> None:
    figures = {peer: {"cpu_us": Spread(value, value, value)} for peer, value in (("a", 5), ("b", 3), ("c", 1))}
    ratios = {"a": {"cpu_us": Spread(0.2, 0, 1)}, "b": {"cpu_us": Spread(0.4, 0, 1)}, "c": {"p99_ms": _ONE}}
    goal = Goal(figure="cpu_us", limit=0.25, target="statusd", against=("a", "b", "c", "d"))
    assert judge(goal, figures, ratios).value == 0.4


def test_a_goal_of_what_was_not_measured_is_neither_met_nor_missed() -> None:
    report = report_row(_ROW, [], {"statusd": "failed in round 1"})
    assert {verdict.word for verdict in report.goals} == {"not measured"}


@pytest.mark.parametrize(
    ("runs", "absent", "status"),
    [
        ([_run("statusd", 1, cpu_us=1), _run("limit", 1, cpu_us=1, faults=Faults(lost=1))], {"tornado": "no"}, OK),
        ([_run("statusd", 1, cpu_us=1, faults=Faults(lost=1))], {}, FAULTS),
        ([_run("limit", 1, cpu_us=1)], {"statusd": "failed"}, NO_RESULT),
        ([_run("statusd", 1, cpu_us=1)], {"statusd": "failed in round 2"}, NO_RESULT),
    ],
)
def test_the_exit_status_is_of_the_daemons_alone(runs: list[Run], absent: dict[str, str], status: int) -> None:
    assert exit_status(_document(report_row(_ROW, runs, absent))) == status


def test_the_page_names_figures_goals_doubts_faults_and_who_is_absent() -> None:
    page = render_document(_document(_REPORT))
    for line in (
        "| statusd | 11.0 [10.0 12.0] | 5.0 [4.0 6.0] |",
        "| statusd ÷ websockets | 0.25 [0.20 0.30] | 0.30 [0.10 0.50] |",
        "| statusd: CPU µs a message ≤ 14 | 11.00 | met |",
        "| statusd: CPU µs a message ≤ 1.4 × that of limit | 1.25 | met |",
        "- tornado is missing: not installed",
        "- FAULTS of websockets: 3 messages lost",
        "- websockets: 2 of 2 runs marked disturbed",
        "Goals: 4 met, 1 NOT met, 0 not measured.",
    ):
        assert line in page


def test_the_picture_is_plain_svg_that_fetches_and_runs_nothing() -> None:
    picture = render_plot(_document(_REPORT))
    root = ET.fromstring(picture)  # noqa: S314 - it was made here
    assert {element.tag.removeprefix(f"{{{SVG}}}") for element in root.iter()} == {"svg", "rect", "text", "line"}
    assert re.findall(r"https?:[^\"]*", picture) == [SVG]
    texts = [element.text for element in root.iter(f"{{{SVG}}}text")]
    for expected in ("CPU µs a message", "p99 ms", "fanout-1000", "statusd", "websockets", "11.0"):
        assert expected in texts
    for element in root.iter(f"{{{SVG}}}rect"):
        assert not set(element.attrib) & {"href", "style", "onload"}


def test_a_document_without_rows_is_drawn_and_written_too() -> None:
    assert ET.fromstring(render_plot(_document())).tag == f"{{{SVG}}}svg"  # noqa: S314 - it was made here
    assert "Goals" not in render_document(_document())


@pytest.mark.parametrize("latest", [False, True])
def test_results_are_kept_by_time_and_a_whole_run_as_the_latest(tmp_path: Path, latest: bool) -> None:
    written = store(_document(_REPORT), tmp_path / "results", latest=latest)
    names = ["20200102T030405"] + ["latest"] * latest
    assert [path.name for path in written] == [f"{name}.{end}" for name in names for end in ("json", "md", "svg")]
    row = json.loads(written[0].read_text())["rows"][0]
    assert row["targets"]["statusd"]["cpu_us"] == {"median": 11, "min": 10, "max": 12}
    assert row["goals"][0]["met"] is True
    assert row["parameters"] == {
        "scenario": "stream", "clients": 1000, "rate": 10, "seconds": 8, "warmup": 2.0, "grace": 5.0, "rounds": 3
    }  # fmt: skip


def test_faults_of_several_rounds_are_added_up() -> None:
    report = report_row(_ROW, [_run("limit", n, faults=Faults(lost=n, ended=1)) for n in (1, 2)], {})
    assert report.faults == {"limit": Faults(lost=3, ended=2)}
