"""The series that the daemons serve, as a dashboard or an alert names them, from the code that serves them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
from prometheus_client.parser import text_string_to_metric_families

from common.admin import server as listener
from common.admin.quota import Quota
from common.config import load
from common.daemon import DaemonService
from common.exposition import render
from opsd.alerts import Outcomes
from opsd.prometheus import Beside, expose
from preflightd.daemon import PREFLIGHTD
from preflightd.settings import PreflightSettings
from statusd.daemon import STATUSD
from statusd.settings import StatusSettings
from tests.support.logbook import Logbook
from tests.support.opsd_board import HandSource, open_board

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

ROOT: Final = Path(__file__).parents[2]

OWN: Final = ("status2_", "preflight2_", "opsd_")
"""Prefixes of the series that are the daemons' own; the others are the process's and Python's."""

_SUFFIX: Final = re.compile(r"_(?:bucket|sum|count|created)$")


@attrs.frozen
class Series:
    """One series: its name as PromQL has it, a histogram's without suffix, and the label values of each label."""

    name: str
    kind: str
    labels: Mapping[str, Collection[str]]


def read(page: bytes) -> dict[str, Series]:
    """Every series of a scrape in Prometheus' text format, by name."""
    found: dict[str, Series] = {}
    for family in text_string_to_metric_families(page.decode()):
        for sample in family.samples:
            # The older format knows no `created`: it comes as a gauge of its own.
            if sample.name.endswith("_created"):
                continue
            name = _SUFFIX.sub("", sample.name) if family.type == "histogram" else sample.name
            labels = dict(found[name].labels) if name in found else {}
            for label, value in sample.labels.items():
                if label != "le":
                    labels[label] = {*labels.get(label, ()), value}
            found[name] = Series(name, family.type, labels)
    return found


async def served() -> dict[str, Series]:
    """What all three serve before anything has happened, with METRICS_ENABLED; opsd has the sources of the platform."""
    status = load(StatusSettings, {"STATUS_METRICS_ENABLED": "true"}).settings
    preflight = load(PreflightSettings, {"PREFLIGHT_METRICS_ENABLED": "true"}).settings
    log = Logbook().log
    fleets = (DaemonService(STATUSD, status, log).fleet, DaemonService(PREFLIGHTD, preflight, log).fleet)
    pages = [render(await fleet.report(), "")[0] for fleet in fleets]
    async with open_board([HandSource("statusd"), HandSource("preflightd")]) as (board, _):
        beside = Beside(history_up=False, cpu_seconds=board.cpu_seconds, sources=board.source_names, alerts=Outcomes())
        pages.append(expose(board.status, beside, "", process=True)[0])
    return {name: series for page in pages for name, series in read(page).items()}


def served_to_operators() -> dict[str, Series]:
    """What the operator's listeners serve besides."""
    report = tuple(listener._snapshots(daemon.metrics_prefix, Quota()) for daemon in (STATUSD, PREFLIGHTD))
    return read(render(report, "")[0])
