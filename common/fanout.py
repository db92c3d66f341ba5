"""Who listens to what: topics, and the hub that joins them to Redis.

A `Topic` is one Redis channel with the clients that follow it. It lives from its first client until a short while
(`LINGER`) after its last, so that a page reload does not unsubscribe and subscribe again. The `Hub` owns all topics of
the process and hears the `Link`; its `run`, in the daemon's nursery, lets go of topics that nobody follows any more.

The way from a Redis read to the sockets runs through `Hub.on_messages` with no task switch, no queue and no wait per
client (DESIGN, the way of a message).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from typing import TYPE_CHECKING, ClassVar, Final

import attrs
import trio

from common.disconnect import INTERNAL_ERROR, REDIS_UNAVAILABLE, REFUSED_BY_REDIS, Disconnect
from common.quote import quote
from common.tracing import NO_SPAN, NO_TRACES
from common.web.frames import gap_frame

if TYPE_CHECKING:
    from collections.abc import Callable

    from common.logs import Logger
    from common.metrics import Counters
    from common.redis.handler import LinkHandler
    from common.redis.links import RedisLink
    from common.redis.subscription import Subscription
    from common.tracing import Tracer, TraceSpan
    from common.web.frames import Frames
    from common.web.peer import Peer

LINGER: Final = 5.0
"""Seconds that a subscription outlives its last client."""

BATCH: Final = 256
"""Clients written to before other tasks get a turn."""


class Topic(ABC):
    """One Redis channel and the clients that follow it. What becomes of its messages is the daemon's to say."""

    needs_task: ClassVar[bool] = False
    """Whether the hub gives `run` a task, from the topic's first client until it is let go of."""

    def __init__(self, channel: bytes) -> None:
        self.channel = channel
        self.peers: dict[Peer, None] = {}
        self._audience: tuple[Peer, ...] | None = None

    @abstractmethod
    async def receive(self, payloads: list[bytes], read_at: float) -> int:
        """Take the messages of one read, in order; `read_at` is when their bytes were read from Redis.

        Returns how many frames clients were sent for them here and now. Nothing else is read from Redis meanwhile.
        """

    def resync(self) -> None:  # noqa: B027 - most topics have nothing to do
        """The subscription was acknowledged, for the first time or after an outage."""

    def welcome(self, peer: Peer) -> None:  # noqa: B027 - as above
        """A client's conversation begins; what is sent here follows its 101."""

    async def run(self) -> None:  # noqa: B027 - as above
        """The topic's own task, if it needs one, until it is cancelled."""

    def add(self, peer: Peer) -> None:
        """Let `peer` follow from now on."""
        self.peers[peer] = None
        self._audience = None

    def discard(self, peer: Peer) -> None:
        """Let `peer` go; one that does not follow is no error."""
        self.peers.pop(peer, None)
        self._audience = None

    def end(self, disconnect: Disconnect) -> None:
        """End every client's conversation."""
        for peer in list(self.peers):
            peer.end(disconnect)

    async def broadcast(self, frames: Frames) -> int:
        """Write to every client that follows now; return how many there are."""
        if self._audience is None:
            self._audience = tuple(self.peers)
        audience = self._audience
        data, number = frames
        for start in range(0, len(audience), BATCH):
            if start:
                await trio.lowlevel.checkpoint()
            for peer in audience[start : start + BATCH]:
                peer.wire.send_nowait(data, number)
        return len(audience)


@attrs.define(eq=False)
class _Followed:
    """All that the hub keeps of a channel, from its first client until it is let go of."""

    topic: Topic
    subscription: Subscription
    scope: trio.CancelScope | None = None
    """Around the topic's task, while it has one."""
    until: float = math.inf
    """When it is let go of: `LINGER` after its last client has left, and never while there is one."""


class Hub:
    """All topics of a process. It hears the link (`LinkHandler`) and is heard by the server.

    `make_link` is called once with this hub, `make_topic` once with the link; what it returns makes the topic of each
    channel that gets its first client.
    """

    def __init__(
        self,
        *,
        make_link: Callable[[LinkHandler], RedisLink],
        make_topic: Callable[[RedisLink], Callable[[bytes], Topic]],
        counters: Counters,
        log: Logger,
        tracer: Tracer = NO_TRACES,
    ) -> None:
        self._followed: dict[bytes, _Followed] = {}
        self._deserted: deque[tuple[float, _Followed]] = deque()
        """Who was deserted, and its `until` at that time, in order, for all linger equally long. Some have clients
        again, or are gone: their `until` is another one."""
        self._desertion = trio.Event()
        self._counters = counters
        self._log = log
        self._tracer = tracer
        self.link = make_link(self)
        self._make_topic = make_topic(self.link)
        self._nursery: trio.Nursery | None = None
        self.link_changed = trio.Event()
        """Set, and replaced, when the link comes online or is lost."""

    @property
    def active(self) -> int:
        """Topics with at least one client."""
        return sum(1 for followed in self._followed.values() if followed.topic.peers)

    @property
    def topics(self) -> list[Topic]:
        """All topics, as they are at any moment, deserted ones included; to be looked at."""
        return [followed.topic for followed in self._followed.values()]

    def clients(self, channel: bytes) -> int:
        """Clients that follow `channel`."""
        followed = self._followed.get(channel)
        return 0 if followed is None else len(followed.topic.peers)

    def join(self, channel: bytes, peer: Peer) -> Topic:
        """Let `peer` follow `channel`, subscribing to it if need be. `wait_ready` tells when messages will come."""
        followed = self._followed.get(channel)
        if followed is None:
            followed = _Followed(self._make_topic(channel), self.link.subscribe(channel))
            self._followed[channel] = followed
            self._start(followed)
        followed.until = math.inf
        followed.topic.add(peer)
        return followed.topic

    async def wait_ready(self, topic: Topic, span: TraceSpan = NO_SPAN) -> None:
        """Wait until Redis has acknowledged the topic's subscription; a wait for it is a part of `span`.

        Raises redis-py's `TimeoutError` after `REDIS_REQUEST_TIMEOUT`, or the refusal as Redis gave it.
        """
        subscription = self._followed[topic.channel].subscription
        with NO_SPAN if subscription.active else span.child("subscribe"):
            await self.link.wait_active(subscription)

    def leave(self, topic: Topic, peer: Peer) -> None:
        """Let `peer` go; the topic's subscription lingers if it was the last. One that has gone already is no error."""
        if peer not in topic.peers:
            # A second goodbye must not lengthen the linger, nor disturb the order in which topics are let go of.
            return
        topic.discard(peer)
        followed = self._of(topic)
        if topic.peers or followed is None:
            return
        if followed.subscription.refused is not None:
            # What Redis refuses now it may allow once an operator has mended it: the next client asks anew.
            self._forget(followed)
            return
        followed.until = trio.current_time() + LINGER
        self._deserted.append((followed.until, followed))
        self._desertion.set()

    def _of(self, topic: Topic) -> _Followed | None:
        """What is kept of `topic`; None if it was let go of, whether or not its channel has another one since."""
        followed = self._followed.get(topic.channel)
        return followed if followed is not None and followed.topic is topic else None

    async def run(self) -> None:
        """Own the tasks of topics, and let go of deserted ones when their time has come, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for followed in self._followed.values():
                self._start(followed)
            await self._let_go()

    def _start(self, followed: _Followed) -> None:
        if followed.topic.needs_task and self._nursery is not None:
            followed.scope = trio.CancelScope()
            self._nursery.start_soon(self._run_topic, followed.topic, followed.scope)

    async def _run_topic(self, topic: Topic, scope: trio.CancelScope) -> None:
        with scope:
            try:
                await topic.run()
            except Exception:  # noqa: BLE001 - see below
                # The barrier: one topic's bug ends its clients. The next one makes the topic anew.
                self._log.exception("topic failed", channel=quote(topic.channel))
                followed = self._of(topic)
                if followed is not None:
                    self._forget(followed)
                topic.end(INTERNAL_ERROR)

    async def _let_go(self) -> None:
        while True:
            self._desertion = trio.Event()
            with trio.move_on_at(self._deserted[0][0] if self._deserted else math.inf):
                await self._desertion.wait()
            now = trio.current_time()
            while self._deserted and self._deserted[0][0] <= now:
                until, followed = self._deserted.popleft()
                if followed.until == until:
                    self._forget(followed)

    async def aclose(self) -> None:
        """Give back every subscription, waiting for Redis to say so within its request timeout."""
        for followed in self._followed.values():
            if followed.scope is not None:
                followed.scope.cancel()
        self._followed.clear()
        self._deserted.clear()
        await self.link.unsubscribe_all()

    def _note_change(self) -> None:
        self.link_changed.set()
        self.link_changed = trio.Event()

    def _forget(self, followed: _Followed) -> None:
        followed.until = math.inf
        if followed.scope is not None:
            followed.scope.cancel()
        del self._followed[followed.topic.channel]
        self.link.unsubscribe(followed.topic.channel)

    # What the link says.

    async def on_messages(self, batch: dict[bytes, list[bytes]], read_at: float) -> None:
        """Hand on what one read from Redis brought: payloads by channel, in order."""
        sent = 0
        # Looked up before the first wait: a topic that is made anew meanwhile must not get what its predecessor missed.
        for followed, payloads in [(self._followed.get(channel), payloads) for channel, payloads in batch.items()]:
            if followed is None or not followed.topic.peers:
                continue
            topic = followed.topic
            try:
                sent += await topic.receive(payloads, read_at)
            except Exception:  # noqa: BLE001 - the barrier: one topic's bug ends its clients, not the link
                self._log.exception("messages could not be handled", channel=quote(topic.channel))
                topic.end(INTERNAL_ERROR)
        self._counters.delivered(sent, read_at)
        if sent and self._tracer.recording:
            self._trace(batch, sent, read_at)

    def _trace(self, batch: dict[bytes, list[bytes]], sent: int, read_at: float) -> None:
        """Leave a span of a batch that clients got, up to now."""
        followed = {channel: payloads for channel, payloads in batch.items() if self.clients(channel)}
        named = {"topic": quote(next(iter(followed)))} if len(followed) == 1 else {}
        self._tracer.begin(
            "delivery",
            since=read_at,
            topics=len(followed),
            messages=sum(map(len, followed.values())),
            bytes=sum(len(payload) for payloads in followed.values() for payload in payloads),
            clients=sum(map(self.clients, followed)),
            frames=sent,
            **named,
        ).end()

    def on_active(self, channel: bytes, gap: float | None) -> None:
        """Redis has acknowledged a subscription.

        `gap` is None the first time; after an outage it is the seconds in which messages may have been lost. Nothing
        that was published after the outage has been handed on yet.
        """
        followed = self._followed.get(channel)
        if followed is None:
            return
        topic = followed.topic
        if self.link.online:
            # Else nothing can be asked yet, and `on_online` has every topic's turn in one go.
            topic.resync()
        if gap is None:
            return
        audience = [peer for peer in topic.peers if peer.opened]
        self._counters.gaps += bool(audience)
        for peer in audience:
            if peer.wants_gap:
                peer.wire.send_nowait(gap_frame(gap))

    def on_online(self, gap: float | None) -> None:
        """The link is ready to serve; requests that were made before, at an acknowledgement, were refused."""
        del gap
        for followed in self._followed.values():
            followed.topic.resync()
        self._note_change()

    def on_lost(self) -> None:
        """The link is gone. Clients stay: most outages are short."""
        self._note_change()

    def on_refused(self, channel: bytes, error: Exception) -> None:
        """Redis refuses this channel to us: its clients end, nobody else's."""
        self._log.warning("subscription refused", channel=quote(channel), error=quote(str(error)))
        followed = self._followed.get(channel)
        if followed is not None:
            followed.topic.end(REFUSED_BY_REDIS)

    def on_exhausted(self) -> None:
        """Redis stayed away through all retries: no client is left waiting for it."""
        for followed in self._followed.values():
            followed.topic.end(REDIS_UNAVAILABLE)
