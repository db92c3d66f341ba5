"""One sentinel, asked every second over a connection that is kept, and heard when it tells of a failover.

A `Sentinel` belongs to `sentinels.Sentinels`, which runs it. What it said holds while its connection lives; a sentinel
that can't be reached says nothing, and its last word is forgotten with the connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from common.backoff import Backoff
from common.quote import quote
from common.redis.connection import Connection
from common.redis.election import read_answer
from common.redis.errors import AuthenticationError, RedisError
from common.redis.opening import Opener
from common.redis.subscription import Subscription
from common.redis.transport import address

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from common.logs import Logger
    from common.redis.connection import Batch
    from common.redis.election import SentinelAnswer
    from common.redis.opening import Connect
    from common.redis.policy import LinkPolicy
    from common.redis.url import RedisURL
    from common.secret import Secret

ASK_INTERVAL: Final = 1.0
"""Seconds between two questions, while nobody is in a hurry and no failover is told of."""

HINTS: Final = (b"+switch-master", b"+promoted-slave")
"""What sentinels publish when they name another primary: the one that leads a failover says the second, at once; the
others the first. Without them a change is seen at the next question."""

_REOPENING: Final = Backoff(0.2, 2.0)


class Sentinel:
    """See the module. `answer` is what it says now, `problem` why it says nothing; `answered` is the number of the
    question that was answered last. `on_change` is called after each of them.
    """

    def __init__(
        self,
        *,
        url: RedisURL,
        master: str,
        password: Secret | None,
        client_name: str,
        policy: LinkPolicy,
        connect: Connect | None,
        on_change: Callable[[], None],
        rng: random.Random,
        log: Logger,
    ) -> None:
        self.name = address(url)
        self.answer: SentinelAnswer | None = None
        self.problem: str | None = None
        self.refused = False
        """Whether the problem is that of wrong credentials."""
        self.answered = 0
        self.mute: str | None = None
        """Why it does not tell of failovers, where it does not."""
        self._asked = 0
        self._master = master
        self._client_name = client_name
        self._policy = policy
        self._on_change = on_change
        self._rng = rng
        self._log = log
        self._opener = Opener(
            url=url,
            password=password,
            connect=connect,
            within=policy.connect_timeout,
            reply_limit=policy.reply_limit,
            on_timeout=_ignore,
        )
        self._failures = 0
        self._poked = trio.Event()

    def poke(self) -> int:
        """Ask it now, and return the number of a question that is not asked yet. Without a connection none is."""
        self._poked.set()
        return self._asked + 1

    async def run(self) -> None:
        """Keep a connection and ask, until cancelled."""
        while True:
            try:
                await self._live()
            except AuthenticationError as error:
                self._fail(f"{error} (it has a login of its own)", refused=True)
            except RedisError as error:
                self._fail(str(error))
            self._failures += 1
            await trio.sleep(_REOPENING.after_failure(self._failures, self._rng))

    async def _live(self) -> None:
        """One connection from its opening to its end. Raises the RedisError that says why it ended."""
        opened = await self._opener.open(f"{self._client_name}-sentinel")
        try:
            connection = Connection(
                opened.stream,
                opened.parser,
                request_timeout=self._policy.request_timeout,
                probe_interval=self._policy.probe_interval,
                on_messages=self._on_hint,
                on_active=_ignore,
                on_refused=self._on_refused,
                on_round_trip=_ignore,
                log=self._log,
            )
            self.mute = None
            for hint in HINTS:
                connection.subscribe(Subscription(hint))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._ask, connection)
                ended = await connection.run()
                nursery.cancel_scope.cancel()
            try:
                raise ended
            finally:
                # Its traceback holds this frame, which must not hold it in turn.
                del ended
        finally:
            await trio.aclose_forcefully(opened.stream)

    async def _ask(self, connection: Connection) -> None:
        while True:
            self._poked = trio.Event()
            self._asked += 1
            number = self._asked
            # In one write, which a sentinel answers in one go: both are of one moment.
            where = connection.request("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._master, waited_for=False)
            details = connection.request("SENTINEL", "MASTER", self._master, waited_for=False)
            await details.wait()
            if connection.error is not None:
                return
            self._failures = 0
            self.answered = number
            # It may name nobody, and be right to refuse the second question then.
            if refusal := where.error or (details.error if where.value is not None else None):
                self._fail(str(refusal))
            else:
                try:
                    self._take(read_answer(where.value, details.value))
                except ValueError as reason:
                    self._fail(str(reason))
            with trio.move_on_after(ASK_INTERVAL):
                await self._poked.wait()

    def _take(self, answer: SentinelAnswer) -> None:
        if self.problem is not None:
            self._log.info("sentinel answers again", sentinel=self.name)
        self.answer, self.problem, self.refused = answer, None, False
        self._on_change()

    def _fail(self, problem: str, *, refused: bool = False) -> None:
        if problem != self.problem:
            self._log.warning("sentinel says nothing", sentinel=self.name, error=quote(problem))
        self.answer, self.problem, self.refused = None, problem, refused
        self._on_change()

    async def _on_hint(self, batch: Batch, read_at: float) -> None:
        del batch, read_at
        self.poke()

    def _on_refused(self, subscription: Subscription, error: RedisError) -> None:
        self.mute = str(error)
        self._log.warning(
            "sentinel does not tell of failovers, and is asked every second",
            sentinel=self.name,
            channel=quote(subscription.channel),
            error=quote(str(error)),
        )


def _ignore(_: object) -> None:
    """It is told as the sentinel's problem, or no trouble."""
