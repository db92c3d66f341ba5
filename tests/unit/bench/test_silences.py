"""What a subscriber is said to have lost, and where the bench of a cluster sends what it writes."""

from __future__ import annotations

import pytest
from redis.crc import key_slot

from bench.cluster_runs import CHANNELS, PRIMARIES, server_of
from bench.failover import Failover, judge
from bench.silences import Receipt, account, longest


def test_an_account_counts_what_is_missing_repeated_and_late() -> None:
    published = {1: 0.0, 2: 0.1, 3: 0.2, 4: 0.3, 6: 0.5}
    received = [(1, 0.0), (3, 0.25), (2, 0.26), (3, 0.27), (5, 1.5), (6, 1.6)]
    assert account(published, received) == Receipt(published=5, lost=1, twice=1, disordered=1, silence=1.23)


def test_nothing_received_is_all_lost_and_no_silence_that_ended() -> None:
    assert account({1: 0.0, 2: 0.1}, []) == Receipt(published=2, lost=2, twice=0, disordered=0, silence=0.0)
    assert longest([3.0]) == 0.0


@pytest.mark.parametrize(
    ("twice", "disordered", "trouble", "findings"),
    [
        (0, 0, "", ()),
        (0, 0, "ended", ("ended",)),
        (2, 1, "", ("2 messages twice, 1 out of order",)),
    ],
)
def test_lost_messages_are_a_figure_and_repeated_ones_a_fault(
    twice: int, disordered: int, trouble: str, findings: tuple[str, ...]
) -> None:
    verdict = judge("cluster, killed", Failover(Receipt(100, 7, twice, disordered, 1.5), 0.5, trouble))
    assert (verdict.figure, verdict.findings) == ("1.50 s of silence", findings)


def test_every_channel_is_written_to_the_owner_of_its_slot() -> None:
    places = [server_of(channel, PRIMARIES) for channel in CHANNELS]
    assert set(places) == set(range(PRIMARIES))
    edges = {0: 0, 5460: 0, 5461: 1, 10921: 1, 10922: 2, 16383: 2}
    for channel, place in zip(CHANNELS, places, strict=True):
        slot = key_slot(channel.encode())
        assert place == edges[max(edge for edge in edges if edge <= slot)]
    assert {server_of(channel, 1) for channel in CHANNELS} == {0}
