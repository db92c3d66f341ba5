"""One socket's request and its answer: read, written, counted and logged.

An `Exchange` is owned by the task that serves the socket and lives as long as it. It counts each answer once, whoever
gives it, and never leaves a request in flight behind. Only what a user asks for is counted: probes and scrapes come all
the time, whatever users get, and a head that can't be read is nobody's.
"""

from __future__ import annotations

from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING

import trio

from common.tracing import NO_SPAN
from common.web.accepted import LINGER, linger
from common.web.forwarded import client_address
from common.web.handshake import is_users
from common.web.http import read_head
from common.web.stream import receive_nowait

if TYPE_CHECKING:
    from collections.abc import Sequence

    from common.config import IPNetwork
    from common.logs import Logger
    from common.metrics import Counters
    from common.tracing import Tracer, TraceSpan
    from common.web.accepted import Accepted
    from common.web.http import Head, Response
    from common.web.turns import Turns


class Exchange:
    """What `accepted` asks, and its answer. `id` is in every log line of the socket."""

    __slots__ = (
        "_accepted_at",
        "_answered",
        "_asked_at",
        "_counters",
        "_log",
        "_tracer",
        "_written",
        "accepted",
        "address",
        "head",
        "id",
        "span",
    )

    def __init__(
        self,
        accepted: Accepted,
        *,
        id: str,  # noqa: A002 - as above
        counters: Counters,
        tracer: Tracer,
        log: Logger,
    ) -> None:
        self.id = id
        self.accepted = accepted
        self.address = accepted.address
        """The client's. While no head was read, the socket's other end; then a trusted proxy's word for it counts."""
        self.head: Head | None = None
        """The request; None when none came that could be read."""
        self.span: TraceSpan = NO_SPAN
        """The trace of a user's handshake, from its head to its answer."""
        self._counters = counters
        self._tracer = tracer
        self._log = log
        self._accepted_at = trio.current_time()
        self._asked_at: float | None = None
        self._answered = False
        self._written = False

    @property
    def trailing(self) -> bytes:
        """What came behind the request head."""
        return b"" if self.head is None else self.head.trailing

    async def read(self, *, within: float, trusted: Sequence[IPNetwork]) -> Head:
        """Read the request head within that many seconds; `trusted` are the proxies that are believed.

        Raises `BadHead`.
        """
        accepted = self.accepted
        # In a storm of handshakes most have come by the time it is their turn.
        early = b"" if accepted.sock is None else receive_nowait(accepted.sock)
        head = self.head = await read_head(accepted.stream, within=within, early=early)
        self.address = client_address(accepted.address, head.values(b"x-forwarded-for"), trusted)
        if is_users(head):
            self._asked_at = trio.current_time()
            self._counters.answers.in_flight += 1
            if self._tracer.recording:
                parents = head.values(b"traceparent")
                self.span = self._tracer.begin(
                    "handshake",
                    since=self._accepted_at,
                    # More than one is as good as none, says W3C's Trace Context.
                    parent=parents[0] if len(parents) == 1 else None,
                    connection=self.id,
                )
        return head

    def upgrading(self) -> None:
        """The answer is the 101, and about to go out; the conversation writes it."""
        self._count(HTTPStatus.SWITCHING_PROTOCOLS)

    async def answer(self, response: Response) -> None:
        """Write the answer and end our side of the connection, within `LINGER`. The end is for `linger`."""
        if response.reason:
            self.span.note(reason=response.reason)
        self._count(response.status)
        head = self.head
        if response.reason:
            self._counters.rejected[response.reason] += 1
            self._log.info(
                "request refused",
                status=int(response.status),
                reason=response.reason,
                error=str(response.body).rstrip(),
                remote=str(self.address),
                connection=self.id,
                **({} if head is None else head.asked()),
            )
        self._written = True
        head_only = head is not None and head.method == "HEAD"
        with trio.move_on_after(LINGER), suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self.accepted.stream.send_all(response.encode(head_only=head_only))
            await self.accepted.stream.send_eof()

    async def linger(self, turns: Turns) -> None:
        """See that the answer, if one was written, is taken."""
        if self._written:
            await linger(self.accepted, turns)

    def close(self) -> None:
        """The socket is done with: a request that got no answer is in flight no more."""
        if self._asked_at is not None and not self._answered:
            self._answered = True
            self._counters.answers.in_flight -= 1
            self.span.note(cancelled=True)
            self._end_span()

    def _count(self, status: int) -> None:
        """An answer is about to go out. A second one, after something went wrong, is not counted."""
        if self._answered or self._asked_at is None:
            return
        answers = self._counters.answers
        self._answered = True
        answers.total += 1
        answers.server_errors += status >= HTTPStatus.INTERNAL_SERVER_ERROR
        answers.in_flight -= 1
        answers.seconds += trio.current_time() - self._asked_at
        self.span.note(status=int(status))
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            self.span.fail(HTTPStatus(status).phrase)
        self._end_span()

    def _end_span(self) -> None:
        self.span.end()
        # The exchange lives as long as the conversation.
        self.span = NO_SPAN
