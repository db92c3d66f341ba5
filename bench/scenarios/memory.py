"""What one more idle client takes, in the target and in Redis."""

from __future__ import annotations

import re
import socket
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from bench.cpu import take_snapshot
from bench.crowd import LoadError, open_crowd
from bench.outcome import TARGET, outcome_of

if TYPE_CHECKING:
    from bench.crowd import Site
    from bench.outcome import Outcome

_PSS: Final = re.compile(r"^Pss:\s+(\d+) kB$", re.MULTILINE)
_INFO: Final = b"*1\r\n$4\r\nINFO\r\n"
_TIMEOUT: Final = 5.0


@attrs.frozen(kw_only=True)
class Memory:
    """What `clients` more take than `first` did: memory as it is after `seconds` of rest, pings going on."""

    path: str
    clients: int
    seconds: float
    first: int = 100

    @property
    def estimate(self) -> float:
        return 2 * self.seconds + self.clients / 1000

    def measure(self, site: Site) -> Outcome:
        with open_crowd(site, [self.path]) as crowd:
            crowd.open(self.first)
            crowd.serve(self.seconds)
            before, at_first = crowd.start_measuring(), _read(site)
            crowd.open(self.clients)
            crowd.serve(self.seconds)
            after, at_last = crowd.read_clocks(), _read(site)
            values = {
                "client_kb": (at_last.target_kb - at_first.target_kb) / self.clients,
                "redis_kb": (at_last.redis_kb - at_first.redis_kb) / self.clients,
                "redis_connections": float(at_last.connections - at_first.connections),
            }
            return outcome_of(crowd.observed(before, after), values)


@attrs.frozen
class _Taken:
    target_kb: float
    redis_kb: float
    connections: int


def _read(site: Site) -> _Taken:
    info = _redis_info(site.redis)
    return _Taken(_tree_kb(site.watched[TARGET]), int(info["used_memory"]) / 1024, int(info["connected_clients"]))


def _tree_kb(root: int) -> float:
    """The proportional set size of a process tree: what its processes share is counted once."""
    try:
        tree = take_snapshot().tree(root)
    except ProcessLookupError as error:
        raise LoadError(str(error)) from error
    total = 0
    for pid in tree:
        with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            total += pss_kb(Path(f"/proc/{pid}/smaps_rollup").read_text())
    return total


def pss_kb(rollup: str) -> int:
    """Of /proc/<pid>/smaps_rollup. Raises ValueError when it is not in there."""
    if not (match := _PSS.search(rollup)):
        raise ValueError("no Pss line")
    return int(match[1])


def parse_info(reply: bytes) -> dict[str, str]:
    """Redis' answer to INFO as names and values."""
    lines = reply.decode(errors="replace").split("\r\n")
    return dict(line.split(":", 1) for line in lines if ":" in line and not line.startswith("#"))


def _redis_info(address: tuple[str, int]) -> dict[str, str]:
    with socket.create_connection(address, timeout=_TIMEOUT) as sock:
        sock.sendall(_INFO)
        with sock.makefile("rb") as file:
            head = file.readline()
            if not head.startswith(b"$"):
                raise LoadError(f"Redis refuses INFO: {head.decode(errors='replace').strip()}")
            return parse_info(file.read(int(head[1:])))
