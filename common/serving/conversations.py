"""The WebSocket conversations that are open now, each from its 101 to the line that says how it ended.

`Conversations` is the server's, one per process. Each conversation is held by the task of its socket.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import trio

from common.disconnect import DRAIN, WRITE_ERROR
from common.quote import quote
from common.web.peer import Peer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from common.fanout import Hub, Topic
    from common.logs import Logger
    from common.metrics import Counters
    from common.serving.exchange import Exchange
    from common.web.accepted import Accepted
    from common.web.handshake import Route, Upgrade
    from common.web.heartbeat import Heartbeat
    from common.web.peer import PeerPolicy
    from common.web.turns import Turns


class Conversations:
    """See the module. All that it is given is the process's and outlives every conversation."""

    def __init__(
        self, *, policy: PeerPolicy, turns: Turns, hub: Hub, heartbeat: Heartbeat, counters: Counters, log: Logger
    ) -> None:
        self._policy = policy
        self._turns = turns
        self._hub = hub
        self._heartbeat = heartbeat
        self._counters = counters
        self._log = log
        self._expected = 0
        self._ended = trio.Event()
        self.peers: dict[Peer, None] = {}
        """Oldest first; each from its 101 until its end is logged."""

    def peer(self, accepted: Accepted, route: Route) -> Peer:
        """The peer of a handshake; it is nobody's until it is held."""
        return Peer(accepted.stream, accepted.sock, self._policy, self._turns, self._observe, wants_gap=route.wants_gap)

    @contextmanager
    def expecting(self) -> Iterator[None]:
        """A handshake waits for Redis in the block: it must have its answer before the process may end."""
        self._expected += 1
        try:
            yield
        finally:
            self._expected -= 1
            self._ended.set()

    async def wait_empty(self) -> None:
        """Wait until the last conversation has ended, and every handshake that waits for Redis has its answer."""
        while self.peers or self._expected:
            self._ended = trio.Event()
            await self._ended.wait()

    async def hold(self, peer: Peer, topic: Topic, upgrade: Upgrade, exchange: Exchange) -> None:
        """Send the 101, converse, say goodbye. Only `Cancelled` comes out."""
        fields = {**upgrade.route.fields, "remote": str(exchange.address), "connection": exchange.id}
        peer.fields = fields
        self.peers[peer] = None
        self._counters.connections += 1
        self._heartbeat.add(peer)
        self._log.info("connection accepted", **fields)
        try:
            topic.welcome(peer)
            exchange.upgrading()
            await peer.converse(upgrade.response, exchange.trailing)
            # Nobody speaks to it any more but for the goodbye.
            self._heartbeat.remove(peer)
            self._hub.leave(topic, peer)
            await peer.say_goodbye()
        except Exception:  # noqa: BLE001 - see below
            # Not for the barrier of the server, which would answer with HTTP in the middle of a conversation.
            self._log.exception("conversation failed", **fields)
        finally:
            self._heartbeat.remove(peer)
            peer.wire.finish()
            del self.peers[peer]
            self._ended.set()
            self._log_end(peer)

    def _log_end(self, peer: Peer) -> None:
        # A conversation that was cut off without a reason of its own was cut off by the end of the drain.
        disconnect = peer.disconnect or DRAIN
        self._counters.disconnects[disconnect.reason] += 1
        self._counters.write_errors += disconnect is WRITE_ERROR
        fields = {
            **peer.fields,
            "reason": disconnect.reason,
            "seconds": round(trio.current_time() - peer.opened_at, 3),
            "frames": peer.wire.frames_sent,
        }
        if peer.error is not None:
            # Its traceback holds the peer, which must not hold it in turn.
            error, peer.error = peer.error, None
            self._log.error("connection ended with error", **fields, exc_info=error)
        elif disconnect.error:
            why = quote(peer.breach or str(peer.wire.error or ""))
            self._log.warning("connection ended with error", **fields, **({"error": why} if why else {}))
        else:
            self._log.info("connection closed", **fields)

    def _observe(self, peer: Peer, kind: str) -> None:
        """What a client has said, to be counted."""
        self._counters.client_messages[kind] += 1
        if kind == "malformed" and not peer.talked_nonsense:
            peer.talked_nonsense = True
            self._log.debug("client message is not a JSON object, ignored", **peer.fields)
