"""One connection to one node of a cluster: opened, asked how it sees the cluster, and lived with until it ends.

Nothing here connects again. Who owns a `Node` decides where the next attempt goes: another node (`anchor`), or the same
for as long as it owns the slots (`home`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import attrs
import trio

from common.redis.errors import ProtocolError, RedisConnectionError, RedisError, ResponseError, StalledError
from common.redis.handshake import RECEIVE_SIZE
from common.redis.health import HEALTH_QUESTION, parse_health, refuse_cut_off, watch_health
from common.redis.opening import Opener
from common.redis.resp import PushNotification, encode
from common.redis.session import Session
from common.redis.transport import address as written
from common.redis.transport import explain_broken

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable, Iterable

    from common.logs import Logger
    from common.redis.connection import Batch, Connection
    from common.redis.health import ClusterHealth
    from common.redis.opening import Connect, Opened
    from common.redis.policy import LinkPolicy
    from common.redis.slots import Address
    from common.redis.subscription import Subscription
    from common.redis.url import RedisURL
    from common.secret import Secret


class Ears(Protocol):
    """Who hears a node's connection: see `Connection`."""

    async def on_messages(self, connection: Connection, batch: Batch, read_at: float) -> None:
        """Messages of one read of `connection`."""

    def on_active(self, subscription: Subscription) -> None:
        """It was acknowledged."""

    def on_refused(self, subscription: Subscription, error: RedisError) -> None:
        """It was refused."""

    def on_dropped(self, subscription: Subscription) -> None:
        """The node has ended it by itself."""


@attrs.define(eq=False)
class Node:
    """A node with a connection to it. `answers` are those to what was asked besides its health, in order."""

    address: Address
    role: str | None
    health: ClusterHealth
    answers: list[object]
    session: Session
    opened: Opened = attrs.field(repr=False)


class NodeOpener:
    """Opens connections to the nodes of one cluster, to each with its URL's login and TLS.

    `on_timeout` is told the command that had no answer in time, and `on_round_trip` what each answered probe took.
    """

    def __init__(
        self,
        *,
        url: RedisURL,
        password: Secret | None,
        connect: Connect | None,
        client_name: str,
        policy: LinkPolicy,
        on_timeout: Callable[[str], None],
        on_round_trip: Callable[[float], None],
        rng: random.Random,
        log: Logger,
    ) -> None:
        self._url = url
        self._password = password
        self._connect = connect
        self._client_name = client_name
        self._policy = policy
        self._on_timeout = on_timeout
        self._on_round_trip = on_round_trip
        self._rng = rng
        self._log = log
        self._openers: dict[Address, Opener] = {}

    def where(self, address: Address) -> str:
        """`address` as messages have it."""
        return written(self._url.node(*address))

    def keep(self, addresses: Iterable[Address]) -> None:
        """Forget what is known of nodes that are not among these: addresses come and go with their machines."""
        self._openers = {address: self._openers[address] for address in addresses if address in self._openers}

    async def open(self, address: Address, ears: Ears, *questions: tuple[str, ...]) -> Node:
        """Connect, shake hands, and ask for its health and for `questions`, within the policy's `connect_timeout` each.

        Raises the RedisError of what failed; a node that is cut off from the majority is a RedisConnectionError.
        """
        opener = self._opener_of(address)
        opened = await opener.open(self._client_name)
        try:
            info, *answers = await self._inquire(opened, address, [HEALTH_QUESTION, *questions])
            health = parse_health(info)
            refuse_cut_off(health, self.where(address))
        except BaseException:
            await trio.aclose_forcefully(opened.stream)
            raise

        async def open_another() -> trio.abc.Stream:
            return (await opener.open(f"{self._client_name}-reads", opened.address)).stream

        async def on_messages(batch: Batch, read_at: float) -> None:
            await ears.on_messages(session.connection, batch, read_at)

        session = Session(
            opened,
            server=self._url.node(*address),
            policy=self._policy,
            open_another=open_another,
            on_messages=on_messages,
            on_active=ears.on_active,
            on_refused=ears.on_refused,
            on_dropped=ears.on_dropped,
            on_round_trip=self._on_round_trip,
            on_timeout=self._on_timeout,
            rng=self._rng,
            log=self._log,
        )
        return Node(address, opened.role, health, answers, session, opened)

    async def serve(self, node: Node, beside: Callable[[], Awaitable[None]]) -> RedisError:
        """Live with the connection until it ends, and close it; return what ended it. `beside` ends with it."""
        connection = node.session.connection
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(beside)
                nursery.start_soon(watch_health, connection, self.where(node.address), self._policy.role_interval)
                ended = await connection.run()
                nursery.cancel_scope.cancel()
            if isinstance(ended, StalledError) and not ended.waited_for:
                self._on_timeout(ended.command)
            return ended
        finally:
            await node.session.reads.lost()
            await trio.aclose_forcefully(node.opened.stream)

    def _opener_of(self, address: Address) -> Opener:
        """One for each address, whose lookups of its name outlive attempts."""
        opener = self._openers.get(address)
        if opener is None:
            opener = self._openers[address] = Opener(
                url=self._url.node(*address),
                password=self._password,
                connect=self._connect,
                within=self._policy.connect_timeout,
                reply_limit=self._policy.reply_limit,
                on_timeout=self._on_timeout,
            )
        return opener

    async def _inquire(self, opened: Opened, address: Address, questions: list[tuple[str, ...]]) -> list[object]:
        """Ask in one write, before anybody else uses the stream; return the answers in order."""
        answers: list[object] = []
        try:
            with trio.fail_after(self._policy.connect_timeout):
                await opened.stream.send_all(b"".join(encode(*question) for question in questions))
                while len(answers) < len(questions):
                    data = await opened.stream.receive_some(RECEIVE_SIZE)
                    if not data:
                        raise RedisConnectionError(f"closed by Redis: {self.where(address)}")
                    opened.parser.feed(data)
                    answers += [value for value in opened.parser.values() if type(value) is not PushNotification]
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise RedisConnectionError(f"{explain_broken(error)}: {self.where(address)}") from error
        except trio.TooSlowError:
            command = " ".join(questions[len(answers)])
            self._on_timeout(command)
            raise RedisConnectionError(f"no answer to {command}: {self.where(address)}") from None
        if len(answers) > len(questions):
            raise ProtocolError("an answer to nothing that was asked")
        for question, answer in zip(questions, answers, strict=True):
            if isinstance(answer, ResponseError):
                raise type(answer)(f"{answer}, asked {' '.join(question)}: {self.where(address)}")
            if isinstance(answer, RedisError):
                raise answer
        return answers
