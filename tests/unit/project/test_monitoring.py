"""docs/monitoring.md, the alerts and the dashboard against the series that the daemons serve, both ways."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import pytest

from common import labels
from tests.support.promql import Selector, selectors
from tests.support.series import OWN, ROOT, Series, served, served_to_operators

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE: Final = (ROOT / "docs/monitoring.md").read_text("utf-8")
ALERTS: Final = (ROOT / "deploy/prometheus/alerts.yml").read_text("utf-8")
ALERT_TESTS: Final = (ROOT / "deploy/prometheus/alerts_test.yml").read_text("utf-8")
CONFIGURATION: Final = (ROOT / "deploy/prometheus/prometheus.yml").read_text("utf-8")
DASHBOARD: Final[dict[str, Any]] = json.loads((ROOT / "deploy/grafana/dashboard.json").read_text("utf-8"))

PROMETHEUS: Final = {"up": Series("up", "gauge", {})}
"""What Prometheus itself knows of each target."""

PREFIXES: Final = ("status2_", "preflight2_")
NAME: Final = re.compile(r"`((?:\*|[a-z][a-z0-9]*)_[a-z0-9_]+)`")
JOBS: Final = {"statusd", "preflightd", "opsd"}


def documented() -> Iterator[str]:
    """The series of the tables' first columns; `*_` stands for both daemons."""
    for line in PAGE.splitlines():
        if line.startswith("| `"):
            for name in NAME.findall(line.split("|")[1]):
                yield from [prefix + name[2:] for prefix in PREFIXES] if name.startswith("*_") else [name]


def rows() -> Iterator[list[str]]:
    """The rows of the tables of series, as cells."""
    for line in PAGE.splitlines():
        if line.startswith("| `") and NAME.search(line.split("|")[1]):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def alerts() -> dict[str, str]:
    """Alert -> expression."""
    rules = re.split(r"^ +- alert: ", ALERTS, flags=re.MULTILINE)[1:]
    found = {}
    for rule in rules:
        match = re.search(r"^ +expr: (?:>-\n)?(.*?)^ +(?:for|labels):", rule, re.MULTILINE | re.DOTALL)
        assert match is not None, rule
        found[rule.split()[0]] = match[1]
    return found


def panels() -> Iterator[dict[str, Any]]:
    for panel in DASHBOARD["panels"]:
        yield panel
        yield from panel.get("panels", [])


def expressions() -> Iterator[str]:
    """Everything that the dashboard asks for."""
    for panel in panels():
        yield from (target["expr"] for target in panel.get("targets", []))
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            match = re.fullmatch(r"label_values\((.*), \w+\)", variable["query"]["query"])
            assert match is not None
            yield match[1]


def name_of(selector: Selector, known: dict[str, Series]) -> str:
    """The series that is asked for: of a histogram the name without the suffix."""
    base = re.sub(r"_(?:bucket|sum|count)$", "", selector.name)
    return base if base in known and known[base].kind == "histogram" else selector.name


def check(expression: str, known: dict[str, Series]) -> None:
    """Every series and every label value that is asked for exists from the start."""
    found = list(selectors(expression))
    assert found, expression
    for selector in found:
        series = known.get(name_of(selector, known))
        assert series is not None, f"{selector.name} in {expression}"
        assert series.kind != "histogram" or selector.name != series.name, f"{selector.name} is a histogram"
        for label, values in selector.labels.items():
            if label == "job":
                assert set(values) <= JOBS, expression
            elif label != "instance":
                assert set(values) <= set(series.labels[label]), f"{label} of {selector.name} in {expression}"


# -- the page ----------------------------------------------------------------------------------------------------------


async def test_the_page_has_every_series_once_and_no_other() -> None:
    assert {name: number for name, number in Counter(documented()).items() if number > 1} == {}
    assert set(documented()) == set(await served()) | set(served_to_operators())


def test_every_row_says_what_it_means_and_when_to_worry() -> None:
    for row in rows():
        assert len(row) == 3, row
        assert all(row), row


async def test_the_page_names_every_label_but_those_of_python() -> None:
    meanings = {name: row[1] + row[2] for row in rows() for name in NAME.findall(row[0])}
    for name, series in (await served()).items():
        meaning = meanings.get(name) or meanings[re.sub(r"^(?:status2|preflight2)_", "*_", name)]
        for label in series.labels:
            assert f"`{label}`" in meaning or name == "python_info", f"{label} of {name}"


def test_the_page_has_every_alert_and_no_other() -> None:
    assert set(re.findall(r"^\| `([A-Z]\w+)` \|", PAGE, re.MULTILINE)) == set(alerts())


def test_label_values_that_the_page_names_exist() -> None:
    tables = {
        "disconnects_total": labels.DISCONNECTS,
        "handshakes_rejected_total": labels.REJECTIONS,
        "client_messages_total": labels.CLIENT_MESSAGES,
        "hgetall_failures_total": labels.READ_FAILURES,
        "notifications": labels.NOTIFICATIONS,
    }
    worries = {re.sub(r"^`.*?_|`$", "", row[0]): set(re.findall(r"`([a-z_]+)`", row[2])) for row in rows()}
    for series, table in tables.items():
        assert worries[series]
        assert worries[series] <= set(table)


# -- the alerts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alert", sorted(alerts()))
async def test_an_alert_uses_only_what_is_there_from_the_start(alert: str) -> None:
    check(alerts()[alert], await served() | PROMETHEUS)


@pytest.mark.parametrize("alert", sorted(alerts()))
def test_an_alert_is_tested_when_it_must_come_and_when_it_must_not(alert: str) -> None:
    outcomes = re.findall(rf"alertname: {alert}\n +exp_alerts:( \[\])?\n", ALERT_TESTS)
    assert "" in outcomes
    assert " []" in outcomes


def test_no_alert_is_named_twice() -> None:
    names = re.findall(r"- alert: (\w+)", ALERTS)
    assert len(names) == len(set(names)) == len(alerts())
    assert set(re.findall(r"alertname: (\w+)", ALERT_TESTS)) == set(names)


def test_the_configuration_has_the_jobs_and_pages_that_the_page_names() -> None:
    assert set(re.findall(r"job_name: (\w+)", CONFIGURATION)) == JOBS
    ports = dict(re.findall(r"\| `(\w+)` \| `http://HOST:(\d+)/metrics` \|", PAGE))
    assert ports == dict(re.findall(r"job_name: (\w+).*?127\.0\.0\.1:(\d+)", CONFIGURATION, re.DOTALL))
    assert "metrics_path" not in CONFIGURATION, "the default is /metrics"


# -- the dashboard -----------------------------------------------------------------------------------------------------


async def test_the_dashboard_asks_only_for_what_is_served() -> None:
    known = await served() | PROMETHEUS
    for expression in expressions():
        check(expression.replace('instance=~"$instance"', "").replace(", }", "}"), known)


async def test_the_dashboard_shows_every_series_of_the_daemons() -> None:
    known = await served()
    shown = {name_of(selector, known) for expression in expressions() for selector in selectors(expression)}
    assert {name for name in known if name.startswith(OWN)} - shown == set()


def test_every_panel_obeys_the_variables() -> None:
    assert [variable["name"] for variable in DASHBOARD["templating"]["list"]] == ["datasource", "instance"]
    assert DASHBOARD["templating"]["list"][0]["type"] == "datasource"
    datasource = {"type": "prometheus", "uid": "${datasource}"}
    for panel in panels():
        if panel["type"] != "row":
            assert panel["datasource"] == datasource, panel["title"]
            assert panel["targets"], panel["title"]
        for target in panel.get("targets", []):
            assert target["datasource"] == datasource, panel["title"]
            assert all('$instance"' in part for part in re.findall(r"\{([^}]*)\}", target["expr"])), target["expr"]
            assert re.fullmatch(r"[A-Z]", target["refId"])
        references = [target["refId"] for target in panel.get("targets", [])]
        assert len(references) == len(set(references)), panel["title"]


def test_the_dashboard_is_one_that_loads() -> None:
    assert DASHBOARD["schemaVersion"] >= 36
    assert DASHBOARD["uid"]
    assert DASHBOARD["title"]
    assert DASHBOARD.get("id") is None, "an id is the one of somebody's own Grafana"
    ids = [panel["id"] for panel in panels()]
    assert len(ids) == len(set(ids))
    titles = [panel["title"] for panel in panels()]
    assert all(titles)
    assert len(titles) == len(set(titles))


def test_no_panel_lies_on_another_or_beyond_the_edge() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        place = panel["gridPos"]
        cells = {(place["x"] + column, place["y"] + line) for column in range(place["w"]) for line in range(place["h"])}
        assert place["x"] + place["w"] <= 24, panel["title"]
        assert not cells & taken, panel["title"]
        taken |= cells


def test_counters_are_shown_as_rates() -> None:
    for panel in panels():
        for target in panel.get("targets", []):
            for counter in re.findall(r"\w+_(?:total|bucket)\b", target["expr"]):
                assert re.search(rf"(?:rate|increase)\({counter}", target["expr"]), target["expr"]


# -- the reader of expressions -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("up == 0", ["up"]),
        ('a_total{x="1", y=~"b|c"} > 5', ["a_total"]),
        ("sum by (job, le) (rate(a_bucket[5m])) > 1e3 or b unless on (x) c offset 10m", ["a_bucket", "b", "c"]),
        ('histogram_quantile(0.95, rate(a_bucket{le!="x"}[5m])) + 10', ["a_bucket"]),
    ],
)
def test_the_series_of_an_expression(expression: str, names: list[str]) -> None:
    assert [selector.name for selector in selectors(expression)] == names


def test_the_labels_of_an_expression() -> None:
    (found,) = selectors('rate(a_total{x="1", y=~"b|c", z!="d"}[5m])')
    assert found.labels == {"x": ("1",), "y": ("b", "c")}
