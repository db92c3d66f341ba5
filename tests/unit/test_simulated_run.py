"""The demo's pure parts: what the simulated run publishes, and the ledger that says whether all of it arrived."""

from __future__ import annotations

import random
from itertools import islice

import pytest

from deploy.demo.ledger import Ledger
from deploy.demo.simulated_run import BURST, Published, simulated_run, simulated_runs
from statusd.view import Tone, percentage_of, read_status

SEEDS = range(20)


def run(seed: int) -> list[Published]:
    return list(simulated_run(random.Random(seed), 1))


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
    messages = list(islice(simulated_runs(random.Random(9002)), 5 * length))
    assert sum("STARTED run" in message.data for message in messages) == 5
    assert len({message.data for message in messages}) == len(messages)


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
