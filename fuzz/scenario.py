"""What may befall a daemon and its clients: the steps of the conversation's state machine, as values, and how they are
drawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

import attrs
from hypothesis import strategies as st

from fuzz.utterances import CLOSES, UTTERANCES
from tests.support.conversation import TRANSPORTS

if TYPE_CHECKING:
    from collections.abc import Sequence

CHANNELS: Final = (b"run:log", b"run:other")


@attrs.frozen
class Connect:
    """A client arrives. One that doesn't answer leaves pings and close frames alone."""

    channel: int
    gap: bool
    answers: bool
    transport: str


@attrs.frozen
class Say:
    """Client `who` (of those that ever came, counted round) sends one of `UTTERANCES`."""

    who: int
    what: str


@attrs.frozen
class Leave:
    """Client `who` closes (with a close frame), hangs up (ends its bytes), resets, or only stops reading."""

    who: int
    how: str
    code: int | None


@attrs.frozen
class Publish:
    """So many messages of so many bytes, in one instant."""

    channel: int
    count: int
    size: int


@attrs.frozen
class Redis:
    """Redis `drops` the link, `goes` (drops it and can't be reached), or `returns`."""

    does: str


@attrs.frozen
class Wait:
    """Time passes; seconds."""

    seconds: float


@attrs.frozen
class Drain:
    """The daemon is told to stop."""


Step: TypeAlias = Connect | Say | Leave | Publish | Redis | Wait | Drain


@attrs.frozen
class Turn:
    """A step, and whether everything comes to rest before the next; otherwise both happen in the same instant."""

    step: Step
    settled: bool


@attrs.frozen
class Scenario:
    """The settings of the daemon, and what befalls it."""

    hangup: str
    drain_spread: str
    turns: Sequence[Turn]


def scenarios() -> st.SearchStrategy[Scenario]:
    """Scenarios in which some clients have come before anything happens, and drains are rare."""
    channel = st.integers(0, len(CHANNELS) - 1)
    who = st.integers(0, 7)
    connect = st.builds(
        Connect, channel, st.booleans(), st.sampled_from([True, True, False]), st.sampled_from(TRANSPORTS)
    )
    publish = st.builds(Publish, channel, st.integers(1, 4), st.sampled_from([10, 200, 60_000]))
    say = st.builds(Say, who, st.sampled_from(sorted(UTTERANCES)))
    leave = st.builds(
        Leave, who, st.sampled_from(["closes", "hangs up", "resets", "stops reading"]), st.sampled_from(CLOSES)
    )
    redis = st.builds(Redis, st.sampled_from(["drops", "goes", "returns", "returns"]))
    wait = st.builds(Wait, st.sampled_from([0.001, 0.3, 1.0, 4.0, 6.0, 20.0, 64.0, 66.0]))
    steps = st.one_of(connect, publish, say, leave, redis, wait, publish, publish, wait, redis, st.builds(Drain))
    company = st.lists(st.builds(Turn, connect, st.just(True)), min_size=1, max_size=4)
    events = st.lists(st.builds(Turn, steps, st.sampled_from([True, True, False])), min_size=8, max_size=40)
    turns = st.builds(lambda first, then: [*first, *then], company, events)
    hangup = st.sampled_from(["all", "none", "drain", "pong_timeout,redis_unavailable"])
    return st.builds(Scenario, hangup, st.sampled_from(["0s", "10s"]), turns)
