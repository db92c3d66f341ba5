"""The table of what the tests cover, and the floor below which it is not enough (tools/covered.py)."""

from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING, Any

import pytest

from tools.covered import SUMMARY, Covered, by_package, main, read, table
from tools.image.__main__ import TREE

if TYPE_CHECKING:
    from pathlib import Path


def summary(branches: int, taken: int, lines: int, run: int) -> dict[str, Any]:
    """A file of coverage.py's report."""
    return {
        "summary": {
            "num_branches": branches,
            "covered_branches": taken,
            "num_statements": lines,
            "covered_lines": run,
            "percent_covered": 12.3,
        }
    }


FILES = {
    "statusd/topic.py": summary(10, 9, 100, 100),
    "common/web/wire.py": summary(60, 59, 300, 299),
    "common/fanout.py": summary(40, 40, 100, 100),
    "statusd/__init__.py": summary(0, 0, 0, 0),
}


@pytest.fixture
def report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A report of `FILES`, and no page of GitHub's."""
    monkeypatch.delenv(SUMMARY, raising=False)
    path = tmp_path / "report.json"
    path.write_text(json.dumps({"files": FILES}))
    return path


def test_a_package_is_all_that_is_below_its_folder() -> None:
    packages = by_package(read({"files": FILES}))
    assert list(packages.items()) == [("common", Covered(100, 99, 400, 399)), ("statusd", Covered(10, 9, 100, 100))]
    assert packages["common"].of_branches == 99.0
    assert packages["common"].of_lines == 99.75


def test_the_table_has_a_row_for_each_and_one_for_all() -> None:
    rows = [
        [cell.strip() for cell in row.split("|")[1:-1]]
        for row in table(by_package(read({"files": FILES}))).splitlines()
    ]
    assert rows[0] == ["package", "branches", "taken", "lines", "run"]
    assert rows[2:] == [
        ["common", "100", "99.00 %", "400", "99.75 %"],
        ["statusd", "10", "90.00 %", "100", "100.00 %"],
        ["all", "110", "98.18 %", "500", "99.80 %"],
    ]
    assert len({len(row) for row in table(by_package(read({"files": FILES}))).splitlines()}) == 1


@pytest.mark.parametrize(("floor", "code"), [("90", 0), ("90.1", 1), ("97", 1)])
def test_each_package_must_reach_the_floor_whatever_all_of_them_do(
    report: Path, floor: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(report), "--floor", floor]) == code
    said = capsys.readouterr()
    assert said.out.splitlines() == table(by_package(read({"files": FILES}))).splitlines()
    if code:
        below, *places, _hint = said.err.splitlines()
        assert below == f"below {floor} %: statusd"
        assert places == ["common/web/wire.py: 2 lines and branches", "statusd/topic.py: 1 lines and branches"]
    else:
        assert said.err == ""


def test_lines_must_reach_it_too(report: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report.write_text(json.dumps({"files": {"opsd/a.py": summary(10, 10, 100, 96)}}))
    assert main([str(report)]) == 1
    assert capsys.readouterr().err.startswith("below 97 %: opsd\n")


def test_a_hair_below_the_floor_is_below_and_looks_so(report: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report.write_text(json.dumps({"files": {"opsd/a.py": summary(100_000, 96_999, 1, 1)}}))
    assert main([str(report)]) == 1
    assert "|  96.99 % |" in capsys.readouterr().out


def test_nothing_measured_is_not_enough(report: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report.write_text(json.dumps({"files": {}}))
    assert main([str(report)]) == 1
    assert capsys.readouterr().err == "nothing was measured\n"


def test_a_report_without_branches_is_refused(report: Path) -> None:
    report.write_text(json.dumps({"files": {"opsd/a.py": {"summary": {"num_statements": 1, "covered_lines": 1}}}}))
    with pytest.raises(KeyError, match="num_branches"):
        main([str(report)])


def test_the_page_of_the_run_gets_the_table_below_what_is_there(
    report: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    page.write_text("# before\n")
    monkeypatch.setenv(SUMMARY, str(page))
    assert main([str(report), "--floor", "90"]) == 0
    assert page.read_text() == f"# before\n{capsys.readouterr().out}\n"


def test_what_is_measured_is_every_package_that_is_installed_with_its_branches() -> None:
    """No file is left out, and no line but by a reason that stands on it."""
    project = tomllib.loads((TREE / "pyproject.toml").read_text("utf-8"))["tool"]
    settings = project["coverage"]
    assert settings["run"]["branch"] is True
    assert (
        sorted(f"{name}*" for name in settings["run"]["source"]) == project["setuptools"]["packages"]["find"]["include"]
    )
    for table_of in settings.values():
        assert not {"omit", "include", "exclude_lines", "exclude_also", "partial_also"} & set(table_of)


def test_a_line_that_is_left_out_says_why() -> None:
    for package in ("common", "opsd", "preflightd", "statusd"):
        for path in (TREE / package).rglob("*.py"):
            for line in path.read_text("utf-8").splitlines():
                _, pragma, reason = line.partition("pragma: no ")
                assert not pragma or len(reason.partition(" - ")[2]) > 10, f"{path}: {line}"
