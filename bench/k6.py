"""What k6 says of a run, and whether its books and the daemon's agree. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs

from bench.exposition import samples

if TYPE_CHECKING:
    from collections.abc import Mapping

THRESHOLDS_CROSSED: Final = 99
"""k6's exit status for that."""


@attrs.frozen(kw_only=True)
class K6Summary:
    """Milliseconds and numbers, from the document of `--summary-export`."""

    conversations: int
    failures: int
    messages: int
    timed: int
    """Messages whose latency is known."""
    p50: float
    p95: float
    p99: float

    def latency(self) -> str:
        """In words."""
        return f"p50 {self.p50:g}, p95 {self.p95:g}, p99 {self.p99:g} ms of {self.timed} messages"


def read_summary(document: Mapping[str, Any], prefix: str) -> K6Summary:
    """`prefix` is that of the script's metrics (`status2`). Raises ValueError when one of them is missing: then the
    script did nothing."""
    metrics = document["metrics"]
    try:
        latency = metrics[f"{prefix}_message_latency_ms"]
        return K6Summary(
            conversations=int(metrics["ws_sessions"]["count"]),
            failures=int(metrics[f"{prefix}_connection_failures"]["count"]),
            messages=int(metrics[f"{prefix}_messages"]["count"]),
            timed=int(latency["count"]),
            p50=latency["med"],
            p95=latency["p(95)"],
            p99=latency["p(99)"],
        )
    except KeyError as error:
        raise ValueError(f"k6 knows no {error}") from error


@attrs.frozen(kw_only=True)
class DaemonBooks:
    """A daemon's counters, or by how much they grew."""

    connections: int
    sent: int
    left: int
    """Conversations that their client closed."""
    ended: int
    """Conversations that ended, for whatever reason."""

    def __sub__(self, before: DaemonBooks) -> DaemonBooks:
        return DaemonBooks(
            connections=self.connections - before.connections,
            sent=self.sent - before.sent,
            left=self.left - before.left,
            ended=self.ended - before.ended,
        )


def read_books(page: str, prefix: str, sent: str) -> DaemonBooks:
    """From a page of metrics; `sent` is the name of the counter of messages, without the prefix."""
    values = samples(page, prefix)
    ends = {name: value for name, value in values.items() if name.startswith("disconnects_total{")}
    return DaemonBooks(
        connections=int(values["connections_total"]),
        sent=int(values[sent]),
        left=int(ends.get('disconnects_total{reason="client_closed"}', 0)),
        ended=int(sum(ends.values())),
    )


def reconcile(k6: K6Summary, daemon: DaemonBooks, *, clients: int, owed: int | None) -> list[str]:
    """What does not agree, in words. `owed` are the messages that all clients together had to get, if that is known to
    the last."""
    pairs = [
        ("conversations begun", (k6.conversations, "k6"), (daemon.connections, "the daemon")),
        ("conversations begun", (k6.conversations, "k6"), (clients, "clients that were asked for")),
        ("conversations ended by their clients", (daemon.left, "the daemon"), (daemon.ended, "all that ended")),
        ("messages", (daemon.sent, "sent by the daemon"), (k6.messages, "got by k6")),
    ]
    if owed is not None:
        pairs.append(("messages", (owed, "handed to the daemon, for all clients"), (daemon.sent, "sent by the daemon")))
    return [f"{what}: {one} {whose}, {other} {others}" for what, (one, whose), (other, others) in pairs if one != other]
