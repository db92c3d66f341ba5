"""What sentinels answer about a primary, and whom to believe. Pure.

A sentinel knows the primary's address and the configuration epoch in which it was given that part; each failover has a
higher one. The first to know of a failover is the sentinel that led it, and the others hear of it from that one up to
two seconds later: so the highest epoch counts, whoever says it, and the number of those who agree only among equals.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable

Address = tuple[str, int]
"""Host and port."""

_TROUBLED: Final = frozenset({b"o_down", b"failover_in_progress"})
_LONGEST_HOST: Final = 255
_LARGEST: Final = 2**63


@attrs.frozen
class SentinelAnswer:
    """What one sentinel said."""

    address: Address
    epoch: int = 0
    troubled: bool = False
    """Whether the sentinels agree that it is down, or are replacing it: soon they will name another."""
    down_after: float = 30.0
    """Seconds of silence after which the sentinel takes the primary for down."""


def read_answer(address: object, details: object) -> SentinelAnswer:
    """The answer that `SENTINEL GET-MASTER-ADDR-BY-NAME` and `SENTINEL MASTER` make together.

    The first says whom to use, also while the second still describes the primary that is being replaced. Raises
    ValueError, in words for an operator, for what says nothing.
    """
    if address is None:
        raise ValueError("it knows no master of that name")
    match address:
        case [bytes(host), bytes(port)]:
            pass
        case _:
            raise ValueError("it names no address")
    said = _fields(details)
    # Once a replica has taken over, the flags are those of the server before it, until all others follow the new one.
    flags = said.get(b"flags", b"").split(b",") if (said.get(b"ip"), said.get(b"port")) == (host, port) else []
    return SentinelAnswer(
        (_host(host), _number(port, 1, 65535, "port")),
        epoch=_number(said.get(b"config-epoch", b"0"), 0, _LARGEST, "config-epoch"),
        troubled=not _TROUBLED.isdisjoint(flags),
        down_after=_number(said.get(b"down-after-milliseconds", b"30000"), 0, _LARGEST, "down-after") / 1000,
    )


def elect(answers: Iterable[SentinelAnswer], current: Address | None = None) -> SentinelAnswer | None:
    """Whom to follow, None if nobody answers: the highest epoch, then most votes, then `current`, then the first."""
    newest: list[SentinelAnswer] = []
    for answer in answers:
        if not newest or answer.epoch > newest[0].epoch:
            newest = [answer]
        elif answer.epoch == newest[0].epoch:
            newest.append(answer)
    votes = Counter(answer.address for answer in newest)
    # Of equals `max` takes the first. A failover that one of them sees is under way, whatever the others see yet.
    return max(
        newest,
        key=lambda answer: (votes[answer.address], answer.address == current, answer.troubled),
        default=None,
    )


def _fields(details: object) -> dict[bytes, bytes]:
    """What SENTINEL MASTER says: a map, or an array of names and values where RESP3 makes none of it."""
    if isinstance(details, dict):
        pairs = list(details.items())
    elif isinstance(details, list):
        pairs = list(zip(details[::2], details[1::2], strict=False))
    else:
        raise ValueError("it says nothing about the master")  # noqa: TRY004 - a bad answer, not a bad argument
    return {name: value for name, value in pairs if isinstance(name, bytes) and isinstance(value, bytes)}


def _host(raw: bytes) -> str:
    host = raw.decode("ascii", "replace")
    if not 0 < len(host) <= _LONGEST_HOST or not host.isprintable() or not host.isascii() or " " in host or host == "?":
        raise ValueError("it names no usable host")
    return host


def _number(raw: bytes, lowest: int, highest: int, what: str) -> int:
    if not raw.isdigit() or len(raw) > len(str(highest)) or not lowest <= int(raw) <= highest:
        raise ValueError(f"its {what} is no number from {lowest} to {highest}")
    return int(raw)
