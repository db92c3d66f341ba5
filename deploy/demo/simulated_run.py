"""What a hydrology run publishes while it works (task lines, percentages, a failure, a burst, a trigger), and what it
writes to its hash as it goes: locks taken and released, and the time at which each step was done.

Pure: the same generator gives the same run.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final
from uuid import UUID

import attrs

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator, Mapping, Sequence

BURST: Final = 200
"""Lines that a run writes at once, as a model's output file does when it is flushed."""

STEP: Final = 1.05
"""Seconds that a step takes at least. Its time is written in whole ones, and has to be later than that of the step
before (SPEC 1): never do two end within one second of the clock."""


@attrs.frozen
class _Step:
    task: str
    """Also the name of its timestamp."""
    lock: str
    """The file that nobody else may write meanwhile."""
    doing: str = ""
    """What its percentages are about."""


_STEPS: Final = (
    _Step("build_channels", "watershed.nodb", "delineating channels"),
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
    """Those that don't depend on the time."""
    done: str = ""
    """The step that has ended, if one has."""

    def written(self, clock: float) -> Mapping[str, str]:
        """The fields to write at that Unix time: a step is done when its message is sent, as in a real run."""
        return {**self.fields, **({f"timestamps:{self.done}": str(int(clock))} if self.done else {})}


def simulated_run(rng: random.Random, number: int) -> Iterator[Published]:
    """One whole run, about a dozen seconds of it, told by its jobs as the platform's tell theirs (statusd/jobs.py).

    `number` tells its messages from another run's. Repeated, every step is built again.
    """
    job = _job(rng)
    call = f"run_project(demo run {number})"
    yield Published(0.3, f"{job} STARTED {call}", {"attrs:has_sbs": "true"})
    for position, step in enumerate(_STEPS, start=1):
        started = f"{job} STATUS run {number}: {step.task} started ({position} of {len(_STEPS)})"
        messages = [Published(_pause(rng), started, {f"locked:{step.lock}": "true"})]
        if step.task == "abstract_watershed":
            messages += _text_percentages(rng, job, number, step.task)
        elif step.doing:
            messages += _json_percentages(rng, number, step.task, step.doing)
        if step.task == "build_soils":
            messages += _failure(rng, job, number)
        if step.task == "build_climate":
            messages += _burst(rng, number)
        messages.append(Published(_pause(rng), "", {f"locked:{step.lock}": "false"}, step.task))
        yield from _paced(messages, rng.uniform(STEP, 1.8 * STEP), f"{job} STATUS run {number}: {step.task} done in")
    yield Published(_pause(rng), f"{job} TRIGGER   wepp WEPP_RUN_TASK_COMPLETED")
    yield Published(_pause(rng), f"{job} COMPLETED {call}")


def _job(rng: random.Random) -> str:
    return f"rq:{UUID(int=rng.getrandbits(128), version=4)}"


def _paced(messages: Sequence[Published], least: float, ending: str) -> Iterator[Published]:
    """The messages over at least that many seconds; the last one says how many."""
    hurried = sum(message.delay for message in messages)
    seconds = max(least, hurried)
    *others, last = (attrs.evolve(message, delay=message.delay * seconds / hurried) for message in messages)
    yield from others
    yield attrs.evolve(last, data=f"{ending} {seconds:.1f} s")


def _json_percentages(rng: random.Random, number: int, task: str, doing: str) -> Iterator[Published]:
    total = rng.randint(80, 900)
    for percent in (7, 23, 41, 58, 76, 89, 100):
        message = f"{doing} {total * percent // 100} of {total}"
        fields = {"type": "progress", "percent": percent, "task": task, "run": number, "message": message}
        yield Published(_pause(rng), json.dumps(fields, separators=(",", ":")))


def _text_percentages(rng: random.Random, job: str, number: int, task: str) -> Iterator[Published]:
    for percent in (20, 55, 100):
        text = f"run {number}: {task} {percent}% ({rng.randint(100, 999)} flow paths)"
        yield Published(_pause(rng), f"{job} STATUS {text}")


def _failure(rng: random.Random, job: str, number: int) -> Iterator[Published]:
    """A job of its own that the run's job has begun, and that fails."""
    own, call = _job(rng), f"fetch_soils(demo run {number})"
    yield Published(_pause(rng), f"{own} STARTED {call}")
    yield Published(
        _pause(rng),
        f"{own} EXCEPTION {call}\n"
        f"Traceback (most recent call last):\n"
        f'  File "soils.py", line {rng.randint(40, 400)}, in fetch_tile\n'
        f"TimeoutError: the soil service did not answer",
    )
    yield Published(_pause(rng), f"{job} STATUS run {number}: build_soils tries once more")


def _burst(rng: random.Random, number: int) -> Iterator[Published]:
    for day in range(1, BURST + 1):
        rain = max(0.0, rng.gauss(1.0, 4.0))
        delay = _pause(rng) if day == 1 else 0.0
        yield Published(delay, f"run {number}: day {day:3d} rain {rain:5.1f} mm, runoff {rain * 0.3:4.1f} mm")


def _pause(rng: random.Random) -> float:
    return rng.uniform(0.04, 0.22)
