"""Which ends of conversations a run's faults explain. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench.chaos.crowd import Manner
from common import disconnect

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bench.chaos.faults import Fault

DOCUMENTED: Final = frozenset(end.reason for end in disconnect.ALL)

_BY_MANNER: Final = {
    Manner.PATIENT: frozenset({"client_closed"}),
    Manner.VANISHING: frozenset({"client_closed", "client_gone", "write_error"}),
    Manner.SLOW: frozenset({"client_closed", "client_gone", "write_error", "slow_consumer", "pong_timeout"}),
    Manner.DEAF: frozenset({"client_closed", "client_gone", "write_error", "slow_consumer", "pong_timeout"}),
}


def explained(manner: Manner, *, far: bool, daemon: str, faults: Iterable[Fault]) -> frozenset[str]:
    """The reasons for which such a client's conversation may have ended, given everything that was done in the run.

    A patient one that is near ends by its own will, or because a fault says so; it is nobody's slow consumer.
    """
    reasons = set(_BY_MANNER[manner])
    for fault in faults:
        if fault.daemon in {"", daemon}:
            reasons |= fault.kind.ends
            if far:
                reasons |= fault.kind.far_ends
    return frozenset(reasons)
