"""The endpoint of a group of servers that sentinels watch: whoever they name is where a link goes.

Each sentinel is asked all the time (`sentinel`), so that another primary is noticed while the link is well; and anew
before and after each connection that is made: a primary that was remembered may have come back empty, and says that it
is one for ten seconds.

No sentinel answering is no failure as long as the link lives: it is kept, and that is said.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import trio

from common.quote import quote
from common.redis.election import elect
from common.redis.errors import AuthenticationError, RedisConnectionError
from common.redis.sentinel import Sentinel
from common.redis.transport import address

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

    from common.logs import Logger
    from common.redis.election import Address, SentinelAnswer
    from common.redis.opening import Connect
    from common.redis.policy import LinkPolicy
    from common.redis.url import RedisURL
    from common.secret import Secret

GATHER: Final = 0.3
"""Seconds that the others may take once one sentinel has answered."""

REPLACEMENT: Final = 10.0
"""Seconds that the replacement of a primary may take once the sentinels have found it down."""


class Sentinels:
    """See the module, and `endpoint.RedisEndpoint`. `password` is the sentinels', where the URL has none."""

    appoints: Final = True

    def __init__(
        self,
        *,
        url: RedisURL,
        password: Secret | None,
        client_name: str,
        policy: LinkPolicy,
        connect: Connect | None,
        rng: random.Random,
        log: Logger,
    ) -> None:
        self._url = url
        self._policy = policy
        self._log = log
        self._sentinels = [
            Sentinel(
                url=sentinel,
                master=url.master,
                password=password,
                client_name=client_name,
                policy=policy,
                connect=connect,
                on_change=self._note_change,
                rng=rng,
                log=log,
            )
            for sentinel in url.sentinels()
        ]
        self._elected: SentinelAnswer | None = None
        """Whom they name; kept while none answers, to know whether the next answer is another one."""
        self._silent = False
        self._changed = trio.Event()
        self._blocks: dict[trio.CancelScope, Address] = {}

    @property
    def name(self) -> str:
        """See `RedisEndpoint`."""
        return f"{self._url.master} of {', '.join(sentinel.name for sentinel in self._sentinels)}"

    @property
    def patience(self) -> float:
        """What they take to find the primary down and to replace it."""
        return REPLACEMENT if self._elected is None else self._elected.down_after + REPLACEMENT

    def remarks(self) -> tuple[str, ...]:
        """How many of them say nothing, or something else than is believed."""
        answer, count = self._elect(), len(self._sentinels)
        silent = sum(sentinel.problem is not None for sentinel in self._sentinels)
        if answer is None:
            return ("no sentinel answers: the connection is kept",) if silent == count else ()
        other = sum(self._contradicts(sentinel, answer) for sentinel in self._sentinels)
        told = ((silent, "say nothing"), (other, "name another primary"))
        return tuple(f"{number} of {count} sentinels {what}" for number, what in told if number)

    def details(self) -> tuple[str, ...]:
        """What each of them says, in a line."""
        return tuple(
            f"sentinel {sentinel.name}: {quote(sentinel.problem or 'not asked yet')}"
            if sentinel.answer is None
            else f"sentinel {sentinel.name}: names {_where(sentinel.answer.address)}, epoch {sentinel.answer.epoch}"
            f"{', which they take for down' if sentinel.answer.troubled else ''}"
            f"{f'; does not tell of failovers: {quote(sentinel.mute)}' if sentinel.mute else ''}"
            for sentinel in self._sentinels
        )

    @staticmethod
    def _contradicts(sentinel: Sentinel, answer: SentinelAnswer) -> bool:
        return sentinel.answer is not None and sentinel.answer.address != answer.address

    async def run(self) -> None:
        """Keep asking all of them, until cancelled."""
        async with trio.open_nursery() as nursery:
            for sentinel in self._sentinels:
                nursery.start_soon(sentinel.run)

    async def locate(self) -> RedisURL:
        """The primary, as the sentinels say now. Raises RedisConnectionError where they name none."""
        answer = await self._ask()
        return self._url.node(*answer.address)

    async def confirm(self, server: RedisURL) -> None:
        """See `RedisEndpoint`."""
        answer = await self._ask()
        if answer.address != (server.host, server.port):
            raise RedisConnectionError(f"the sentinels name {_where(answer.address)} by now")

    @contextmanager
    def unless_moved(self, server: RedisURL) -> Iterator[None]:
        """See `RedisEndpoint`."""
        scope = trio.CancelScope()
        self._blocks[scope] = (server.host, server.port)
        try:
            with scope:
                yield
        finally:
            del self._blocks[scope]
        if scope.cancelled_caught:
            raise RedisConnectionError(f"the sentinels name another primary than {address(server)}")

    async def wait_elsewhere(self, server: RedisURL | None) -> None:
        """See `RedisEndpoint`. One that is down, or being replaced, is none that they name."""
        old = None if server is None else (server.host, server.port)
        while (answer := self._elect()) is None or answer.troubled or answer.address == old:
            await self._changed.wait()

    async def _ask(self) -> SentinelAnswer:
        """Ask all of them now, and return whom they name."""
        questions = [(sentinel, sentinel.poke()) for sentinel in self._sentinels]

        def some() -> bool:
            return any(sentinel.answered >= number and sentinel.answer is not None for sentinel, number in questions)

        with trio.move_on_after(self._policy.connect_timeout) as scope:
            # One that could not be reached before is not waited for.
            while not all(sentinel.answered >= number or sentinel.problem for sentinel, number in questions):
                if some():
                    scope.deadline = min(scope.deadline, trio.current_time() + GATHER)
                await self._changed.wait()
        # What one said that is late now is of a moment ago, not of another time: its connection lives.
        answer = self._elect()
        if answer is None or not some():
            raise self._no_answer()
        if answer.troubled:
            raise RedisConnectionError(f"the sentinels take the primary for down: {_where(answer.address)}")
        return answer

    def _no_answer(self) -> RedisConnectionError:
        problems = dict.fromkeys(sentinel.problem or f"{sentinel.name}: silent" for sentinel in self._sentinels)
        text = f"no sentinel names a primary for {self._url.master}: {'; '.join(problems)}"
        if all(sentinel.refused for sentinel in self._sentinels):
            return AuthenticationError(f"{text} (sentinels have a login of their own)")
        return RedisConnectionError(text)

    def _elect(self) -> SentinelAnswer | None:
        answers = [sentinel.answer for sentinel in self._sentinels if sentinel.answer is not None]
        return elect(answers, None if self._elected is None else self._elected.address)

    def _note_change(self) -> None:
        answer = self._elect()
        if answer is not None:
            if self._elected is not None and answer.address != self._elected.address:
                self._log.info(
                    "sentinels name another primary",
                    before=_where(self._elected.address),
                    now=_where(answer.address),
                    epoch=answer.epoch,
                )
            self._elected, self._silent = answer, False
            for scope, where in self._blocks.items():
                if where != answer.address:
                    scope.cancel()
        elif not self._silent and all(sentinel.problem is not None for sentinel in self._sentinels):
            self._silent = True
            self._log.warning("no sentinel answers", kept="a connection that lives", sentinels=len(self._sentinels))
        changed, self._changed = self._changed, trio.Event()
        changed.set()


def _where(place: Address) -> str:
    host, port = place
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
