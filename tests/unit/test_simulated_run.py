"""The demo's pure parts: what the simulated run publishes and writes, and the ledgers that say whether it arrived."""

from __future__ import annotations

import random
from itertools import islice, pairwise

import pytest

from deploy.demo.ledger import ChecklistLedger, Ledger
from deploy.demo.simulated_run import BURST, Published, simulated_run, simulated_runs
from preflightd.checklist import Snapshot, evaluate
from statusd.view import Tone, percentage_of, read_status

SEEDS = range(20)
CLOCK = 1_700_000_000.5


def run(seed: int) -> list[Published]:
    return list(simulated_run(random.Random(seed), 1, CLOCK))


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
    assert kinds[-1] is Tone.TRIGGER
    assert kinds.count(Tone.TRIGGER) == 1
    assert kinds.count(Tone.LINE) > BURST
    percentages = [message.data for message in messages if percentage_of(message.data) is not None]
    assert any(data.startswith("{") for data in percentages)
    assert any(not data.startswith("{") for data in percentages)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_run_fits_into_a_demo_of_ten_seconds(seed: int) -> None:
    delays = [message.delay for message in run(seed)]
    assert min(delays) >= 0
    assert 3 < sum(delays) < 10


@pytest.mark.parametrize("seed", SEEDS)
def test_the_burst_comes_without_a_pause(seed: int) -> None:
    longest = pauseless = 0
    for message in run(seed):
        pauseless = pauseless + 1 if message.delay == 0 else 0
        longest = max(longest, pauseless)
    assert longest == BURST - 1


def test_runs_follow_each_other_without_an_end_and_tell_themselves_apart() -> None:
    length = len(run(9002))
    messages = list(islice(simulated_runs(random.Random(9002), CLOCK), 5 * length))
    assert sum("STARTED run" in message.data for message in messages) == 5
    assert len({message.data for message in messages}) == len(messages)


def snapshots(messages: list[Published]) -> list[Snapshot]:
    """The evaluation of the run's hash after each message that writes to it."""
    fields: dict[bytes, bytes] = {}
    taken = []
    for message in messages:
        if message.fields:
            fields |= {field.encode(): value.encode() for field, value in message.fields.items()}
            taken.append(evaluate(fields))
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
    length = len(run(seed))
    messages = list(islice(simulated_runs(random.Random(seed), CLOCK), 3 * length))
    end_of_first = next(number for number, message in enumerate(messages) if "TRIGGER" in message.data)
    end_of_second = next(
        number for number, message in enumerate(messages) if "TRIGGER" in message.data and number > end_of_first
    )
    writes_of_first = sum(bool(message.fields) for message in messages[:end_of_first])
    rebuilt = snapshots(messages[:end_of_second])
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
    ledger = Ledger()
    for data in ("a", "b", "b"):
        ledger.publish(data)
    assert (ledger.published, ledger.received, ledger.missing) == (3, 0, 3)
    ledger.receive("b")
    ledger.receive("a")
    assert (ledger.published, ledger.received, ledger.missing) == (3, 2, 1)
    ledger.receive("b")
    assert (ledger.published, ledger.received, ledger.missing) == (3, 3, 0)


def test_the_ledger_does_not_count_what_others_publish_nor_a_message_twice() -> None:
    ledger = Ledger()
    ledger.publish("a")
    for data in ("hello", "a", "a"):
        ledger.receive(data)
    assert (ledger.published, ledger.received, ledger.missing) == (1, 1, 0)
