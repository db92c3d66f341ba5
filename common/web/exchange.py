"""One socket's request and its answer, as they are counted.

An `Exchange` is owned by the task that serves the socket and lives as long as it: `asked`, then `answered`, or neither.
It counts each answer once, whoever gives it, and never leaves a request in flight behind. Only what a user asks for is
counted: probes and scrapes come all the time, whatever users get, and a head that can't be read is nobody's.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from common.metrics import Answers
    from common.web.http import Head
    from common.web.server import Client


class Exchange:
    """What `client` asks, and whether it has its answer. `id` is in every log line of the socket."""

    __slots__ = ("_answered", "_answers", "_asked_at", "client", "head", "id")

    def __init__(self, client: Client, answers: Answers, id: str) -> None:  # noqa: A002 - what the lines call it
        self.id = id
        self._answers = answers
        self._asked_at: float | None = None
        self._answered = False
        self.client = client
        self.head: Head | None = None
        """The request; None when none came that could be read."""

    @property
    def trailing(self) -> bytes:
        """What came behind the request head."""
        return b"" if self.head is None else self.head.trailing

    def asked(self, head: Head, *, users: bool) -> None:
        """The request was read; `users` says whether it is a user's."""
        self.head = head
        if not users:
            return
        self._asked_at = trio.current_time()
        self._answers.in_flight += 1

    def answered(self, status: int) -> None:
        """The answer is about to go out. A second one, after something went wrong, is not counted."""
        if self._answered or self._asked_at is None:
            return
        self._answered = True
        self._answers.total += 1
        self._answers.server_errors += status >= HTTPStatus.INTERNAL_SERVER_ERROR
        self._answers.in_flight -= 1
        self._answers.seconds += trio.current_time() - self._asked_at

    def close(self) -> None:
        """The socket is done with: a request that got no answer is in flight no more."""
        if self._asked_at is not None and not self._answered:
            self._answered = True
            self._answers.in_flight -= 1
