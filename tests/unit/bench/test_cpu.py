"""Reading /proc: which ticks count, and for whom."""

from __future__ import annotations

import pytest

from bench.cpu import TICKS_PER_SECOND, CpuSnapshot, ProcessTimes, parse_busy, parse_stat

_AFTER_NAME = "S {parent} 7 7 0 -1 4194560 100 200 0 0 {user} {system} {reaped_user} {reaped_system} 20 0 1 0 106899 0"


@pytest.mark.parametrize("name", ["python", "redis-server *", "a) S 1 (b"])
def test_a_process_is_charged_for_itself_and_its_reaped_children_whatever_its_name(name: str) -> None:
    fields = _AFTER_NAME.format(parent=42, user=1000, system=200, reaped_user=30, reaped_system=4)
    assert parse_stat(f"99 ({name}) {fields}") == ProcessTimes(parent=42, ticks=1234)


def test_a_tree_counts_every_living_descendant_and_nobody_else() -> None:
    processes = {
        1: ProcessTimes(parent=0, ticks=1_000_000),
        10: ProcessTimes(parent=1, ticks=1),
        11: ProcessTimes(parent=10, ticks=20),
        12: ProcessTimes(parent=11, ticks=300),
        13: ProcessTimes(parent=10, ticks=4000),
        20: ProcessTimes(parent=1, ticks=50_000),
    }
    snapshot = CpuSnapshot(processes=processes, busy_ticks=0)
    assert snapshot.tree_seconds(10) == 4321 / TICKS_PER_SECOND
    assert snapshot.tree_seconds(12) == 300 / TICKS_PER_SECOND


def test_a_process_that_is_gone_is_an_error() -> None:
    with pytest.raises(ProcessLookupError, match="99"):
        CpuSnapshot(processes={}, busy_ticks=0).tree_seconds(99)


def test_the_machine_is_busy_with_all_but_idling_and_waiting_for_disks() -> None:
    # user nice system idle iowait irq softirq steal guest guest_nice; guest time is part of user time
    assert parse_busy("cpu  1 20 300 999999 888888 4000 50000 600000 1 20\n") == 654_321
