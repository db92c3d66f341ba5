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
from typing import TYPE_CHECKING, ClassVar, Final

import trio

from common.disconnect import INTERNAL_ERROR, REDIS_UNAVAILABLE, REFUSED_BY_REDIS, Disconnect
from common.quote import quote
from common.web.frames import Frames, gap_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from common.logs import Logger
    from common.metrics import Counters
    from common.redis.link import Link, LinkHandler, Subscription
    from common.web.peer import Peer

LINGER: Final = 5.0
"""Seconds that a subscription outlives its last client."""

BATCH: Final = 256
"""Clients written to before other tasks get a turn."""


NO_FRAMES: Final = Frames(b"", 0)


class Topic(ABC):
    """One Redis channel and the clients that follow it. What its messages become is the daemon's to say."""

    needs_task: ClassVar[bool] = False
    """Whether the hub gives `run` a task, from the topic's first client until it is let go of."""

    def __init__(self, channel: bytes) -> None:
        self.channel = channel
        self.peers: dict[Peer, None] = {}
        self._audience: tuple[Peer, ...] | None = None

    @abstractmethod
    def encode(self, payloads: list[bytes]) -> Frames:
        """The frames that every client gets for these payloads, in order; they may be fewer, or none."""

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
        """Write to every client that follows now; return how many there were."""
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


class Hub:
    """All topics of a process. It hears the link (`LinkHandler`) and is heard by the server.

    `make_link` is called once with this hub, `make_topic` once with the link; what it returns makes the topic of each
    channel that gets its first client.
    """

    def __init__(
        self,
        *,
        make_link: Callable[[LinkHandler], Link],
        make_topic: Callable[[Link], Callable[[bytes], Topic]],
        counters: Counters,
        log: Logger,
    ) -> None:
        self._topics: dict[bytes, Topic] = {}
        self._subscriptions: dict[bytes, Subscription] = {}
        self._deserted: dict[bytes, float] = {}
        self._desertion = trio.Event()
        self._counters = counters
        self._log = log
        self.link = make_link(self)
        self._make_topic = make_topic(self.link)
        self._nursery: trio.Nursery | None = None
        self._scopes: dict[bytes, trio.CancelScope] = {}
        self.link_changed = trio.Event()
        """Set, and replaced, when the link comes online or is lost."""

    @property
    def active(self) -> int:
        """Topics with at least one client."""
        return len(self._topics) - len(self._deserted)

    @property
    def topics(self) -> Collection[Topic]:
        """All topics, as they are at any moment, deserted ones included; to be looked at."""
        return self._topics.values()

    def clients(self, channel: bytes) -> int:
        """Clients that follow `channel`."""
        topic = self._topics.get(channel)
        return 0 if topic is None else len(topic.peers)

    def join(self, channel: bytes, peer: Peer) -> Topic:
        """Let `peer` follow `channel`, subscribing to it if need be. `wait_ready` tells when messages will come."""
        topic = self._topics.get(channel)
        if topic is None:
            topic = self._topics[channel] = self._make_topic(channel)
            self._subscriptions[channel] = self.link.subscribe(channel)
            self._start(topic)
        self._deserted.pop(channel, None)
        topic.add(peer)
        return topic

    async def wait_ready(self, topic: Topic) -> None:
        """Wait until Redis has acknowledged the topic's subscription.

        Raises redis-py's `TimeoutError` after `REDIS_REQUEST_TIMEOUT`, or the refusal as Redis gave it.
        """
        await self.link.wait_active(self._subscriptions[topic.channel])

    def leave(self, topic: Topic, peer: Peer) -> None:
        """Let `peer` go; the topic's subscription lingers if it was the last. One that has gone already is no error."""
        if peer not in topic.peers:
            # A second goodbye must not lengthen the linger, nor disturb the order in which topics are let go of.
            return
        topic.discard(peer)
        if topic.peers or self._topics.get(topic.channel) is not topic:
            return
        if self._subscriptions[topic.channel].refused is not None:
            # What Redis refuses now it may allow once an operator has mended it: the next client asks anew.
            self._forget(topic.channel)
            return
        self._deserted[topic.channel] = trio.current_time() + LINGER
        self._desertion.set()

    async def run(self) -> None:
        """Own the tasks of topics, and let go of deserted ones when their time has come, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for topic in self._topics.values():
                self._start(topic)
            await self._let_go()

    def _start(self, topic: Topic) -> None:
        if topic.needs_task and self._nursery is not None:
            scope = self._scopes[topic.channel] = trio.CancelScope()
            self._nursery.start_soon(self._run_topic, topic, scope)

    async def _run_topic(self, topic: Topic, scope: trio.CancelScope) -> None:
        with scope:
            try:
                await topic.run()
            except Exception:  # noqa: BLE001 - see below
                # The barrier: one topic's bug ends its clients. The next one makes the topic anew.
                self._log.exception("topic failed", channel=quote(topic.channel))
                if self._topics.get(topic.channel) is topic:
                    self._forget(topic.channel)
                topic.end(INTERNAL_ERROR)

    async def _let_go(self) -> None:
        while True:
            self._desertion = trio.Event()
            # All linger equally long, so the first is the next.
            with trio.move_on_at(next(iter(self._deserted.values()), math.inf)):
                await self._desertion.wait()
            now = trio.current_time()
            while self._deserted and next(iter(self._deserted.values())) <= now:
                self._forget(next(iter(self._deserted)))

    async def aclose(self) -> None:
        """Give back every subscription, waiting for Redis to say so within its request timeout."""
        for scope in self._scopes.values():
            scope.cancel()
        self._scopes.clear()
        self._topics.clear()
        self._subscriptions.clear()
        self._deserted.clear()
        await self.link.unsubscribe_all()

    def _note_change(self) -> None:
        self.link_changed.set()
        self.link_changed = trio.Event()

    def _forget(self, channel: bytes) -> None:
        del self._topics[channel], self._subscriptions[channel]
        self._deserted.pop(channel, None)
        scope = self._scopes.pop(channel, None)
        if scope is not None:
            scope.cancel()
        self.link.unsubscribe(channel)

    # What the link says.

    async def on_messages(self, batch: dict[bytes, list[bytes]], read_at: float) -> None:
        """Forward what one read from Redis brought: payloads by channel, in order."""
        sent = 0
        # Looked up before the first wait: a topic that is made anew meanwhile must not get what its predecessor missed.
        for topic, payloads in [(self._topics.get(channel), payloads) for channel, payloads in batch.items()]:
            if topic is None or not topic.peers:
                continue
            try:
                frames = topic.encode(payloads)
            except Exception:  # noqa: BLE001 - the barrier: one topic's bug ends its clients, not the link
                self._log.exception("messages could not be encoded", channel=quote(topic.channel))
                topic.end(INTERNAL_ERROR)
                continue
            if frames.number:
                sent += frames.number * await topic.broadcast(frames)
        self._counters.delivered(sent, read_at)

    def on_active(self, channel: bytes, gap: float | None) -> None:
        """Redis has acknowledged a subscription.

        `gap` is None the first time; after an outage it is the seconds in which messages may have been lost. Nothing
        that was published after the outage has been handed on yet.
        """
        topic = self._topics.get(channel)
        if topic is None:
            return
        if self.link.online:
            # Else nothing can be asked yet, and `on_online` has every topic's turn in one go.
            topic.resync()
        if gap is None:
            return
        followers = [peer for peer in topic.peers if peer.opened]
        self._counters.gaps += bool(followers)
        for peer in followers:
            if peer.wants_gap:
                peer.wire.send_nowait(gap_frame(gap))

    def on_online(self, gap: float | None) -> None:
        """The link is ready to serve; requests that were made before, at an acknowledgement, were refused."""
        del gap
        for topic in self._topics.values():
            topic.resync()
        self._note_change()

    def on_lost(self) -> None:
        """The link is gone. Clients stay: most outages are short."""
        self._note_change()

    def on_refused(self, channel: bytes, error: Exception) -> None:
        """Redis refuses this channel to us: its clients end, nobody else's."""
        self._log.warning("subscription refused", channel=quote(channel), error=quote(str(error)))
        topic = self._topics.get(channel)
        if topic is not None:
            topic.end(REFUSED_BY_REDIS)

    def on_exhausted(self) -> None:
        """Redis stayed away through all retries: no client is left waiting for it."""
        for topic in self._topics.values():
            topic.end(REDIS_UNAVAILABLE)
