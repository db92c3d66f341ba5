"""CPU time of process trees and of the whole machine, read from /proc (Linux).

A tree counts its root, every living descendant, and what ended descendants had used when they were reaped, so a
daemon with workers is charged for all of them. Resolution is one clock tick (10 ms on common kernels): measure for
seconds.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping

TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")
_PROC: Final = Path("/proc")


@attrs.frozen
class ProcessTimes:
    """One line of /proc/<pid>/stat: user and system time of the process and of its reaped children, in ticks."""

    parent: int
    ticks: int


@attrs.frozen
class CpuSnapshot:
    """All processes at one instant. `busy_ticks` is how long the machine's CPUs, added up, had been busy by then."""

    processes: Mapping[int, ProcessTimes]
    busy_ticks: int

    def tree_seconds(self, root: int) -> float:
        """CPU seconds of `root` and its descendants. Raises ProcessLookupError when there is no such process."""
        return sum(self.processes[pid].ticks for pid in self.tree(root)) / TICKS_PER_SECOND

    def busy_seconds(self) -> float:
        return self.busy_ticks / TICKS_PER_SECOND

    def tree(self, root: int) -> set[int]:
        """`root` and its descendants. Raises ProcessLookupError when there is no such process."""
        if root not in self.processes:
            raise ProcessLookupError(f"process {root} is gone")
        children: dict[int, list[int]] = {}
        for pid, process in self.processes.items():
            children.setdefault(process.parent, []).append(pid)
        tree, waiting = set[int](), [root]
        while waiting:
            pid = waiting.pop()
            tree.add(pid)
            waiting += children.get(pid, ())
        return tree


def parse_stat(line: str) -> ProcessTimes:
    """The process name stands in parentheses and may itself hold spaces and parentheses: read after the last one."""
    fields = line[line.rindex(")") + 2 :].split()
    return ProcessTimes(parent=int(fields[1]), ticks=sum(int(field) for field in fields[11:15]))


def parse_busy(line: str) -> int:
    """The first line of /proc/stat: everything but idle and waiting for a disk. Guest time is already in user time."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = (int(field) for field in line.split()[1:9])
    return user + nice + system + irq + softirq + steal


def take_snapshot() -> CpuSnapshot:
    """Costs a few milliseconds: keep it away from the moment that is measured."""
    processes: dict[int, ProcessTimes] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdecimal():
            try:
                processes[int(entry.name)] = parse_stat((entry / "stat").read_text())
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended between the listing and the reading
    with (_PROC / "stat").open() as stat:
        return CpuSnapshot(processes=processes, busy_ticks=parse_busy(stat.readline()))
