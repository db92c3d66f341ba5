"""The demo's pure parts: what the simulated run publishes and writes, and the ledgers that say whether it arrived."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from deploy.demo.ledger import ChecklistLedger, DemoLedger
from deploy.demo.simulated_run import BURST, STEP, Published, simulated_run
from preflightd.checklist import Snapshot, packaged
from statusd.jobs import JobEvent, read_job
from statusd.view import Tone, percentage_of, read_status

SEEDS = range(20)
CLOCK = 1_700_000_000.5


def run(seed: int) -> list[Published]:
    return list(simulated_run(random.Random(seed), 1))


def runs(seed: int, count: int) -> list[list[Published]]:
    rng = random.Random(seed)
    return [list(simulated_run(rng, number)) for number in range(1, count + 1)]


def tones(messages: list[Published]) -> list[Tone]:
    return [read_status({"type": "status", "data": message.data}).tone for message in messages]


def test_the_same_seed_gives_the_same_run_and_another_seed_another() -> None:
    assert run(1) == run(1)
    assert run(1) != run(2)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_run_has_everything_that_a_client_must_show(seed: int) -> None:
    messages = run(seed)
    kinds = tones(messages)
    assert kinds.count(Tone.EXCEPTION) == 1
    assert kinds.count(Tone.STARTED) == 2
    assert kinds[0] is Tone.STARTED
    assert kinds[-2:] == [Tone.TRIGGER, Tone.COMPLETED]
    assert kinds.count(Tone.TRIGGER) == kinds.count(Tone.COMPLETED) == 1
    assert kinds.count(Tone.LINE) > BURST
    percentages = [message.data for message in messages if percentage_of(message.data) is not None]
    assert any(data.startswith("{") for data in percentages)
    assert any(not data.startswith("{") for data in percentages)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_run_is_short_and_no_two_of_its_steps_end_within_one_second(seed: int) -> None:
    elapsed, ends = 0.0, []
    for message in run(seed):
        assert message.delay >= 0
        elapsed += message.delay
        if message.done:
            ends.append(elapsed)
    assert all(later - earlier > 1 for earlier, later in pairwise(ends))
    assert len(ends) * STEP < elapsed < 25


@pytest.mark.parametrize("seed", SEEDS)
def test_the_times_that_are_written_are_those_of_the_log_and_none_lies_ahead(seed: int) -> None:
    clock = CLOCK
    stamps = []
    for message in [message for one in runs(seed, 2) for message in one]:
        clock += message.delay
        for field, value in message.written(clock).items():
            if field.startswith("timestamps:"):
                assert clock - 1 < int(value) <= clock
                stamps.append(int(value))
    assert stamps == sorted(set(stamps))
    assert len(stamps) == 18


@pytest.mark.parametrize("seed", SEEDS)
def test_the_burst_comes_without_a_pause(seed: int) -> None:
    longest = pauseless = 0
    for message in run(seed):
        pauseless = pauseless + 1 if message.delay == 0 else 0
        longest = max(longest, pauseless)
    assert longest == BURST - 1


@pytest.mark.parametrize("seed", SEEDS)
def test_each_job_ends_as_it_is_told_to(seed: int) -> None:
    said = [job for message in run(seed) if (job := read_job(message.data)) is not None]
    events = {event: {one.job for one in said if one.event is event} for event in JobEvent}
    assert events[JobEvent.STARTED] == {one.job for one in said}
    assert events[JobEvent.COMPLETED] | events[JobEvent.EXCEPTION] == events[JobEvent.STARTED]
    assert not events[JobEvent.COMPLETED] & events[JobEvent.EXCEPTION]
    assert [one.trigger for one in said if one.event is JobEvent.TRIGGER] == ["WEPP_RUN_TASK_COMPLETED"]
    assert events[JobEvent.TRIGGER] == events[JobEvent.COMPLETED]


def test_runs_tell_themselves_apart() -> None:
    messages = [message.data for one in runs(9002, 5) for message in one]
    assert sum("STARTED run_project" in data for data in messages) == 5
    assert len(set(messages)) == len(messages)


def snapshots(messages: list[Published]) -> list[Snapshot]:
    """The evaluation of the run's hash after each message that writes to it."""
    fields: dict[bytes, bytes] = {}
    taken = []
    clock = CLOCK
    for message in messages:
        clock += message.delay
        if written := message.written(clock):
            fields |= {field.encode(): value.encode() for field, value in written.items()}
            taken.append(packaged().evaluate(fields))
    return taken


def done(snapshot: Snapshot) -> list[str]:
    return [key for key, is_done in snapshot.checklist if is_done]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_first_run_does_step_after_step_and_undoes_none(seed: int) -> None:
    steps: list[str] = []
    for snapshot in snapshots(run(seed)):
        assert set(done(snapshot)) >= set(steps)
        steps += [key for key in done(snapshot) if key not in steps]
    assert steps == [
        "sbs_map", "channels", "outlet", "subcatchments", "landuse", "soils", "climate", "wepp", "dss_export",
    ]  # fmt: skip


@pytest.mark.parametrize("seed", SEEDS)
def test_one_lock_at_a_time_is_held_and_none_at_the_end(seed: int) -> None:
    held = [sum(dict(snapshot.lock_statuses).values()) for snapshot in snapshots(run(seed))]
    assert set(held) == {0, 1}
    assert held[-1] == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_every_write_changes_what_clients_are_told(seed: int) -> None:
    taken = snapshots(run(seed))
    assert all(before != after for before, after in pairwise(taken))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_second_run_undoes_steps_and_does_them_again(seed: int) -> None:
    one, two = runs(seed, 2)
    writes_of_first = sum(bool(message.written(CLOCK)) for message in one)
    rebuilt = snapshots(one + two)
    first, between, last = rebuilt[writes_of_first - 1], rebuilt[writes_of_first:], rebuilt[-1]
    assert any("outlet" not in done(snapshot) and "landuse" in done(snapshot) for snapshot in between)
    assert any("wepp" not in done(snapshot) for snapshot in between)
    assert done(first) == done(last)
    assert (last.last_modified or 0) > (first.last_modified or 0) > CLOCK


def test_the_checklists_ledger_wants_the_newest_frame_to_be_the_one_that_is_due() -> None:
    ledger = ChecklistLedger()
    answers = [ledger.is_true]
    ledger.due = {"type": "preflight", "last_modified": 2}
    answers.append(ledger.is_true)
    for stamp in (2, 1):
        ledger.show({"type": "preflight", "last_modified": stamp})
        answers.append(ledger.is_true)
    assert answers == [False, False, True, False]
    assert ledger.frames == 2


def test_the_ledger_counts_what_is_underway() -> None:
    ledger = DemoLedger()
    for data in ("a", "b", "b"):
        ledger.publish(data)
    assert (ledger.published, ledger.received, ledger.missing) == (3, 0, 3)
    ledger.receive("b")
    ledger.receive("a")
    assert (ledger.published, ledger.received, ledger.missing) == (3, 2, 1)
    ledger.receive("b")
    assert (ledger.published, ledger.received, ledger.missing) == (3, 3, 0)


def test_the_ledger_does_not_count_what_others_publish_nor_a_message_twice() -> None:
    ledger = DemoLedger()
    ledger.publish("a")
    for data in ("hello", "a", "a"):
        ledger.receive(data)
    assert (ledger.published, ledger.received, ledger.missing) == (1, 1, 0)
