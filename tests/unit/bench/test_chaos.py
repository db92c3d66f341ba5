"""The chaos run's pure parts: what is drawn, what the logs say, and how the books are balanced."""

from __future__ import annotations

from typing import Any, Final

import pytest

from bench.chaos import netem
from bench.chaos.accounts import Account, Channel, Message, audit_preflight, audit_status
from bench.chaos.crowd import Manner
from bench.chaos.ends import DOCUMENTED, explained
from bench.chaos.faults import BY_NAME, CLIENT_WAY, DAEMONS, KINDS, PROCESS, REDIS, REDIS_WAY, Fault
from bench.chaos.journal import Outage, read
from bench.chaos.schedule import draw
from bench.verdicts import Verdict, render

# -- the schedule -----------------------------------------------------------------------------------------------------


def test_the_same_seed_has_the_same_acts_and_a_longer_run_begins_as_a_shorter_one() -> None:
    assert draw(7, 60.0) == draw(7, 60.0)
    assert draw(7, 60.0) != draw(8, 60.0)
    assert draw(7, 600.0)[: len(draw(7, 60.0))] == draw(7, 60.0)
    assert len(draw(7, 0.0)) == 1


def test_a_long_run_has_every_kind_within_its_bounds() -> None:
    faults = [fault for act in draw(1, 1000.0) for fault in act.faults]
    assert {(fault.place, fault.name) for fault in faults} == set(BY_NAME)
    for fault in faults:
        low, high = fault.kind.seconds
        assert low <= fault.seconds <= high
        assert (fault.daemon == "") is (fault.place == REDIS)
        assert fault.daemon in {"", *DAEMONS}


@pytest.mark.parametrize("seed", range(5))
def test_faults_that_would_undo_or_hide_each_other_are_not_done_together(seed: int) -> None:
    for act in draw(seed, 600.0):
        places = [fault.place for fault in act.faults]
        assert len(set(places)) == len(places)
        assert not {REDIS, REDIS_WAY} <= set(places)
        assert len(places) == 1 or not any(fault.kind.alone for fault in act.faults)


def test_every_reason_that_a_fault_explains_is_documented() -> None:
    for kind in KINDS:
        assert kind.ends <= DOCUMENTED
        assert kind.far_ends <= DOCUMENTED


# -- ends -------------------------------------------------------------------------------------------------------------


def fault(place: str, name: str, daemon: str = "statusd") -> Fault:
    return Fault(place, name, daemon, 0.0, 1.0, 0)


def test_a_patient_client_that_is_near_ends_by_its_own_will_only() -> None:
    cut = fault(CLIENT_WAY, "cut")
    assert explained(Manner.PATIENT, far=False, daemon="statusd", faults=[cut]) == {"client_closed"}
    assert "client_gone" in explained(Manner.PATIENT, far=True, daemon="statusd", faults=[cut])
    assert "client_gone" not in explained(Manner.PATIENT, far=True, daemon="preflightd", faults=[cut])


def test_what_is_nobodys_doing_is_never_explained() -> None:
    everything = [fault(kind.place, kind.name) for kind in KINDS]
    for manner in Manner:
        reasons = explained(manner, far=True, daemon="statusd", faults=everything)
        assert not reasons & {"internal_error", "protocol_error", "too_fast", "message_too_big", "redis_unavailable"}


def test_a_drain_is_explained_by_the_death_of_the_parent() -> None:
    assert "drain" not in explained(Manner.PATIENT, far=True, daemon="statusd", faults=[])
    killed = fault(PROCESS, "parent killed")
    assert "drain" in explained(Manner.PATIENT, far=False, daemon="statusd", faults=[killed])


# -- the journal ------------------------------------------------------------------------------------------------------


def line(second: int, msg: str, **fields: Any) -> dict[str, Any]:
    return {"time": f"1970-01-01T00:00:{second:02}.000000Z", "level": "info", "msg": msg, "pid": 7, **fields}


def test_a_log_tells_of_outages_conversations_and_deaths() -> None:
    journal = read(
        [
            line(1, "redis online"),
            line(2, "connection accepted", remote="10.0.0.1"),
            line(3, "redis stream interrupted"),
            line(4, "redis unavailable, retrying"),
            line(5, "redis online"),
            line(6, "redis stream interrupted"),
            line(7, "connection closed", remote="10.0.0.1", reason="drain"),
            line(8, "worker died", pid=8, backoff=1.0),
            line(9, "log lines dropped", count=3),
            line(10, "topic failed", level="error", traceback="Traceback"),
        ],
        skew=-100.0,
    )
    assert journal.outages == {7: [Outage(103.0, 105.0), Outage(104.0, 105.0), Outage(106.0)]}
    assert journal.outages_of(None) == journal.outages_of(7)
    assert journal.outages_of(8) == []
    assert journal.server == {"10.0.0.1": 7}
    assert journal.reason == {"10.0.0.1": "drain"}
    assert journal.died == {8}
    assert journal.dropped == 3
    assert journal.tracebacks == ["Traceback"]
    assert journal.errors == {"topic failed": 1}


# -- the books --------------------------------------------------------------------------------------------------------

GAP: Final = b'{"type":"gap","seconds":1.0}'


def audit(
    got: list[int | bytes],
    *outages: tuple[float, float],
    opened: float = 0.0,
    wants_gap: bool = False,
    uncertain: tuple[int, ...] = (),
) -> Account:
    """Message number n is published at second n and comes half a second later; what is no number comes with the one
    before it."""
    messages = [Message(float(number), certain=number not in uncertain) for number in range(20)]
    channel = Channel(messages, [b"message %d" % number for number in range(20)])
    texts: list[tuple[float, bytes]] = []
    came = opened
    for one in got:
        came = came if isinstance(one, bytes) else one + 0.5
        texts.append((came, one if isinstance(one, bytes) else b"message %d" % one))
    told = [Outage(*outage) for outage in outages]
    return audit_status(texts, channel, told, asked=opened - 0.5, opened=opened, wants_gap=wants_gap)


def test_all_in_order_is_balanced() -> None:
    assert audit([0, 1, b'{"type":"ping"}', 2, 3]) == Account(received=4)
    assert audit([]) == Account()


@pytest.mark.parametrize(
    ("got", "finding"),
    [
        ([0, 2], "1 lost before number 2"),
        ([2], "2 lost before number 2"),
        ([0, 1, 1], "repeated"),
        ([1, 0], "out of order"),
        ([0, b'{"type":"status","data":"of another run"}'], "foreign"),
        ([0, GAP, 1], "a gap frame that was not asked for"),
    ],
)
def test_what_is_wrong_is_found(got: list[int | bytes], finding: str) -> None:
    findings = audit(got).findings
    assert finding in "; ".join(findings)


def test_what_was_sent_before_the_handshake_was_over_is_owed_to_nobody() -> None:
    assert audit([5, 6], opened=4.5) == Account(received=2)
    assert audit([3, 4, 5, 6], opened=4.5).findings == ()
    assert "1 lost" in audit([6], opened=4.5).findings[0]


def test_an_outage_excuses_what_was_sent_until_its_end() -> None:
    assert audit([0, 1, 5, 6], (1.7, 4.2)) == Account(received=4, excused=3)
    assert "1 lost before number 6" in audit([0, 1, 6], (1.7, 4.2)).findings[0]


def test_an_outage_at_another_time_excuses_nothing() -> None:
    assert "3 lost" in audit([0, 1, 5], (6.0, 7.0)).findings[0]
    assert "3 lost" in audit([0, 1, 5], (0.1, 0.4)).findings[0]


def test_whoever_asked_for_it_is_told_of_a_gap() -> None:
    assert audit([0, 1, GAP, 5], (1.7, 4.2), wants_gap=True) == Account(received=3, excused=3, gaps=1)
    assert "no gap frame" in audit([0, 1, 5], (1.7, 4.2), wants_gap=True).findings[0]
    assert "1 gap frames before number 2, and 0 outages" in audit([0, 1, GAP, 2], wants_gap=True).findings[0]


def test_a_message_whose_fate_redis_did_not_tell_may_be_missing() -> None:
    assert audit([0, 2], uncertain=(1,)) == Account(received=2)


TRUTHS: Final = {b"none": 0, b"one": 1, b"two": 2}


@pytest.mark.parametrize(
    ("got", "finding"),
    [
        ([b"none", b"one", b"two"], ""),
        ([b"one", b"none", b"two"], ""),
        ([b"one", b'{"type":"ping"}', b"one"], "twice in a row"),
        ([b"two", b"one"], "older"),
        ([b"three"], "foreign"),
    ],
)
def test_checklists_are_held_against_every_state_that_there_was(got: list[bytes], finding: str) -> None:
    findings = audit_preflight([(0.0, text) for text in got], TRUTHS).findings
    assert finding in "; ".join(findings)
    assert bool(findings) is bool(finding)


def test_verdicts_show_what_was_found() -> None:
    text = render([Verdict("kept", "2 of 2"), Verdict("not kept", "1 of 2", ("this",) * 10)])
    assert text.splitlines()[0] == "kept    kept: 2 of 2"
    assert text.splitlines()[1] == "BROKEN  not kept: 1 of 2"
    assert text.splitlines()[-1].strip() == "and 2 more"


# -- netem ------------------------------------------------------------------------------------------------------------


def test_where_netem_can_not_be_tried_the_reason_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.delenv("CHAOS_NETEM", raising=False)
    assert netem.probe() == "no unshare on PATH"
    assert netem.enter() == "no unshare on PATH"
    assert not netem.here()
