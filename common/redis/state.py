"""What a link is doing and over which servers, as values: for diagnostics, pages and metrics."""

from __future__ import annotations

import attrs


@attrs.frozen
class NodeState:
    """One server that a link has a connection to, or wants one to."""

    address: str
    """`host:port` as messages have it, or a socket's path."""
    role: str | None
    """`master` or `replica`, as the server last said; None where it has not."""
    slots: str
    """Which of a cluster's slots it answers for, `0-5460,7000`; empty outside of clusters."""
    state: str
    """`online`, `connecting`, or `leaving`: an old connection that is still read until it closes."""
    subscriptions: int


@attrs.frozen
class LinkState:
    """What a link is doing. `since` is a `trio.current_time`; `url` has no secret in it.

    `state` is one of `idle` (not started), `connecting`, `waiting` (for the next attempt), `online`, `stopped`;
    `attempt` counts the attempts of this outage. `remarks` are what an operator should know though nothing fails yet,
    in words that anybody may read; `details` are for the operator alone: a line for each sentinel, and what it says.
    """

    state: str
    attempt: int
    since: float
    url: str
    subscriptions: int
    nodes: tuple[NodeState, ...] = ()
    remarks: tuple[str, ...] = ()
    details: tuple[str, ...] = ()
