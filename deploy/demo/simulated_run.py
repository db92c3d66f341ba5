"""What a hydrology run publishes while it works (task lines, percentages, a failure, a burst, a trigger), and what it
writes to its hash as it goes: locks taken and released, and the time at which each step was done.

Pure: the same generator gives the same run.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    import random
    from collections.abc import Generator, Iterator, Mapping

BURST: Final = 200
"""Lines that a run writes at once, as a model's output file does when it is flushed."""


@attrs.frozen
class _Step:
    task: str
    """Also the name of its timestamp."""
    lock: str
    """The file that nobody else may write meanwhile."""
    doing: str = ""
    """What its percentages are about."""


_STEPS: Final = (
    _Step("build_channels", "watershed.nodb", "delineating channels from the DEM"),
    _Step("set_outlet", "watershed.nodb"),
    _Step("abstract_watershed", "watershed.nodb", "abstracting subcatchments"),
    _Step("build_landuse", "landuse.nodb"),
    _Step("build_soils", "soils.nodb", "soil tile"),
    _Step("build_climate", "climate.nodb", "climate year"),
    _Step("run_wepp_hillslopes", "wepp.nodb", "hillslope"),
    _Step("run_wepp_watershed", "wepp.nodb"),
    _Step("dss_export", "wepp.nodb"),
)


@attrs.frozen
class Published:
    """One message of the run, and what is written to its hash just before."""

    delay: float
    """Seconds after the message before."""
    data: str
    fields: Mapping[str, str] = attrs.field(factory=dict)


def simulated_runs(rng: random.Random, clock: float) -> Iterator[Published]:
    """Run after run of one project, without an end: from the second on every step is built again.

    `clock` is the Unix time at which the first begins; they work fast, but write the times that the real ones would.
    """
    number = 1
    while True:
        clock = yield from simulated_run(rng, number, clock)
        number += 1


def simulated_run(rng: random.Random, number: int, clock: float) -> Generator[Published, None, float]:
    """One whole run, about eight seconds of it; `number` tells its messages from another run's.

    Returns the Unix time at its end.
    """
    job = f"rq:{rng.getrandbits(32):08x}"
    yield Published(0.3, f"{job} STARTED run {number}", {"attrs:has_sbs": "true"})
    for position, step in enumerate(_STEPS, start=1):
        started = f"run {number}: {step.task} started ({position} of {len(_STEPS)})"
        yield Published(_pause(rng), started, {f"locked:{step.lock}": "true"})
        if step.task == "abstract_watershed":
            yield from _text_percentages(rng, number, step.task)
        elif step.doing:
            yield from _json_percentages(rng, number, step.task, step.doing)
        if step.task == "build_soils":
            yield from _failure(rng, job, number)
        if step.task == "build_climate":
            yield from _burst(rng, number)
        seconds = rng.uniform(1, 90)
        clock += seconds
        written = {f"timestamps:{step.task}": str(int(clock)), f"locked:{step.lock}": "false"}
        yield Published(_pause(rng), f"run {number}: {step.task} done in {seconds:.1f} s", written)
    yield Published(_pause(rng), f"{job} TRIGGER wepp WEPP_RUN_TASK_COMPLETED (run {number})")
    return clock


def _json_percentages(rng: random.Random, number: int, task: str, doing: str) -> Iterator[Published]:
    total = rng.randint(80, 900)
    for percent in (7, 23, 41, 58, 76, 89, 100):
        message = f"{doing} {total * percent // 100} of {total}"
        fields = {"type": "progress", "percent": percent, "task": task, "run": number, "message": message}
        yield Published(_pause(rng), json.dumps(fields, separators=(",", ":")))


def _text_percentages(rng: random.Random, number: int, task: str) -> Iterator[Published]:
    for percent in (20, 55, 100):
        yield Published(_pause(rng), f"run {number}: {task} {percent}% ({rng.randint(100, 999)} flow paths)")


def _failure(rng: random.Random, job: str, number: int) -> Iterator[Published]:
    yield Published(
        _pause(rng),
        f"{job} EXCEPTION build_soils (run {number})\n"
        f"Traceback (most recent call last):\n"
        f'  File "soils.py", line {rng.randint(40, 400)}, in fetch_tile\n'
        f"TimeoutError: the soil service did not answer",
    )
    yield Published(_pause(rng), f"run {number}: build_soils tries once more")


def _burst(rng: random.Random, number: int) -> Iterator[Published]:
    for day in range(1, BURST + 1):
        rain = max(0.0, rng.gauss(1.0, 4.0))
        delay = _pause(rng) if day == 1 else 0.0
        yield Published(delay, f"run {number}: day {day:3d} rain {rain:5.1f} mm, runoff {rain * 0.3:4.1f} mm")


def _pause(rng: random.Random) -> float:
    return rng.uniform(0.04, 0.22)
