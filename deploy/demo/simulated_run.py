"""What a hydrology run publishes while it works: task lines, percentages, a failure, a burst, a trigger.

Pure: the same generator gives the same run.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

BURST: Final = 200
"""Lines that a run writes at once, as a model's output file does when it is flushed."""

_STEPS: Final = (
    ("build_channels", "delineating channels from the DEM"),
    ("abstract_watershed", "abstracting subcatchments"),
    ("build_soils", "soil tile"),
    ("build_climate", "climate year"),
    ("run_wepp_hillslopes", "hillslope"),
)


@attrs.frozen
class Published:
    """One message of the run."""

    delay: float
    """Seconds after the message before."""
    data: str


def simulated_runs(rng: random.Random) -> Iterator[Published]:
    """Run after run, without an end."""
    number = 1
    while True:
        yield from simulated_run(rng, number)
        number += 1


def simulated_run(rng: random.Random, number: int) -> Iterator[Published]:
    """One whole run, about eight seconds of it; `number` tells its messages from another run's."""
    job = f"rq:{rng.getrandbits(32):08x}"
    yield Published(0.3, f"{job} STARTED run {number}")
    for step, (task, doing) in enumerate(_STEPS, start=1):
        yield Published(_pause(rng), f"run {number}: {task} started ({step} of {len(_STEPS)})")
        if task == "abstract_watershed":
            yield from _text_percentages(rng, number, task)
        else:
            yield from _json_percentages(rng, number, task, doing)
        if task == "build_soils":
            yield from _failure(rng, job, number)
        if task == "build_climate":
            yield from _burst(rng, number)
        yield Published(_pause(rng), f"run {number}: {task} done in {rng.uniform(1, 90):.1f} s")
    yield Published(_pause(rng), f"{job} TRIGGER wepp WEPP_RUN_TASK_COMPLETED (run {number})")


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
