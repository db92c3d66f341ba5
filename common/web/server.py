"""One accepted socket, from its first byte to its last.

`Server` holds what all sockets of a process share: limits, heartbeat, hub, counters. Each socket is one call of
`serve`, in a task of the listener's nursery; whatever goes wrong in it ends that socket only.
"""

from __future__ import annotations

import itertools
import os
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import attrs
import trio
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from common.disconnect import DRAIN, REDIS_UNAVAILABLE, REFUSED_BY_REDIS, WRITE_ERROR
from common.exposition import render
from common.fleet import FleetError
from common.quote import quote
from common.redis.errors import OutageError
from common.web.exchange import Exchange
from common.web.forwarded import IPAddress, client_address, is_trusted
from common.web.handshake import Page, Route, Upgrade, decide, is_users
from common.web.http import BadHead, Response, read_head, refusal
from common.web.peer import Peer, PeerPolicy
from common.web.stream import receive_nowait
from common.web.turns import USUAL_SIZE, Turns

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from common.config import IPNetwork
    from common.fanout import Hub, Topic
    from common.fleet import Fleet
    from common.logs import Logger
    from common.metrics import Counters
    from common.web.admission import Admission, Ticket
    from common.web.heartbeat import Heartbeat
    from common.web.http import Head
    from common.web.origin import OriginPolicy
    from common.web.path import Target

RETRY_AFTER: Final = 2
"""Seconds after which a refused client may try again."""

LINGER: Final = 1.0
"""Seconds that a client has to take its answer before the socket is closed."""

LINGER_LIMIT: Final = 1 << 20
"""Bytes of such a client that are read and thrown away."""

MAX_TURNED_AWAY: Final = 256
"""Sockets over a limit that are served at the same time, to be told so; more are closed without an answer."""


@attrs.frozen
class Client:
    """An accepted socket: its stream, the socket under it, if any, and its other end's address, None if it has none."""

    stream: trio.abc.HalfCloseableStream
    sock: socket.socket | None
    address: IPAddress | None


@attrs.frozen
class ServerPolicy:
    """What the settings say to the server; seconds."""

    peer: PeerPolicy
    handshake_timeout: float
    origins: OriginPolicy
    trusted_proxies: tuple[IPNetwork, ...]
    metrics_enabled: bool


class Server:
    """Serves sockets. `route` names what a path means; `fleet` are all processes of the daemon."""

    def __init__(
        self,
        *,
        policy: ServerPolicy,
        admission: Admission,
        hub: Hub,
        heartbeat: Heartbeat,
        counters: Counters,
        route: Callable[[Target], Route],
        fleet: Fleet,
        log: Logger,
    ) -> None:
        self._policy = policy
        self._admission = admission
        self._hub = hub
        self._heartbeat = heartbeat
        self._counters = counters
        self._route = route
        self._fleet = fleet
        self._log = log
        self._turns = Turns()
        self._pid = os.getpid()
        self._numbers = itertools.count(1)
        """Of sockets; with the process's id no two of the daemon have the same, whichever workers come and go."""
        self._turned_away = 0
        self._handshakes = 0
        self._ended = trio.Event()
        self.peers: dict[Peer, None] = {}
        """The conversations that are open now, oldest first."""
        self.draining = False
        """Whether the daemon is on its way out, and `/health` says so."""
        self.turns_away = False
        """Whether nobody new is let in any more."""

    def unready(self) -> str | None:
        """Why the daemon should get no clients now, in a line; None if it should."""
        if self.draining:
            return "draining"
        link = self._hub.link
        # One that has only just been started to replace another is not missed as long as the others serve.
        if not link.online and not (link.reconnects == 0 and self._fleet.stands_in()):
            return link.obstacle or "redis is unavailable"
        return self._fleet.unready()

    async def wait_empty(self) -> None:
        """Wait until the last conversation has ended, and every handshake that waits for Redis has its answer."""
        while self.peers or self._handshakes:
            self._ended = trio.Event()
            await self._ended.wait()

    async def serve(self, client: Client) -> None:
        """Serve one socket and close it. Only `Cancelled` comes out."""
        ticket = self._admission.enter()
        exchange = Exchange(client, self._counters.answers, f"{self._pid}-{next(self._numbers)}")
        try:
            await self._serve(exchange, ticket)
        except Exception:  # noqa: BLE001 - see below
            # The barrier: a bug in serving one socket is that socket's end and nobody else's.
            self._log.exception("request failed", remote=str(client.address), connection=exchange.id)
            await self._answer(exchange, _BUG)
        finally:
            exchange.close()
            if ticket is not None:
                ticket.release()
            # Closing a socket waits for nothing.
            await client.stream.aclose()

    async def _serve(self, exchange: Exchange, ticket: Ticket | None) -> None:
        client = exchange.client
        proxied = is_trusted(client.address, self._policy.trusted_proxies)
        if ticket is None:
            await self._turn_away(exchange, "too_many_connections")
        elif not proxied and not ticket.claim(client.address):
            # It waits for its answer beside the places, like one that found none: an address must not fill them.
            ticket.release()
            await self._turn_away(exchange, _TOO_MANY_PER_ADDRESS)
        else:
            upgrade = await self._request(exchange, within=self._policy.handshake_timeout)
            if upgrade is not None:
                if proxied and not ticket.claim(self._address(exchange)):
                    await self._answer(exchange, _full(_TOO_MANY_PER_ADDRESS))
                else:
                    await self._upgrade(exchange, upgrade)

    def _address(self, exchange: Exchange) -> IPAddress | None:
        """The client's address: the proxy's word for it where that is believed."""
        forwarded = [] if exchange.head is None else exchange.head.values(b"x-forwarded-for")
        return client_address(exchange.client.address, forwarded, self._policy.trusted_proxies)

    async def _turn_away(self, exchange: Exchange, reason: str) -> None:
        """Serve a socket over a limit: pages, since being full is no illness, but no conversation.

        Such sockets are few (`MAX_TURNED_AWAY`); more are closed without an answer.
        """
        if self._turned_away >= MAX_TURNED_AWAY:
            return
        self._turned_away += 1
        try:
            # Silent ones must not keep the few places for long.
            upgrade = await self._request(exchange, within=min(LINGER, self._policy.handshake_timeout))
            if upgrade is not None:
                await self._answer(exchange, _full(reason))
        finally:
            self._turned_away -= 1

    async def _request(self, exchange: Exchange, *, within: float) -> Upgrade | None:
        """Read a request within that many seconds; return the handshake that it is, or answer it."""
        policy, client = self._policy, exchange.client
        # In a storm of handshakes most have come by the time it is their turn.
        early = b"" if client.sock is None else receive_nowait(client.sock)
        try:
            head = await read_head(client.stream, within=within, early=early)
        except BadHead as bad:
            if bad.response is not None:
                await self._answer(exchange, bad.response)
            return None
        exchange.asked(head, users=is_users(head))
        match decide(head, route=self._route, origins=policy.origins, metrics_enabled=policy.metrics_enabled):
            case Response() as response:
                await self._answer(exchange, response)
            case Page() as page:
                await self._answer(exchange, await self._page(page, head))
            case Upgrade() as upgrade:
                return upgrade
        return None

    async def _upgrade(self, exchange: Exchange, upgrade: Upgrade) -> None:
        if self.turns_away:
            await self._answer(exchange, _unavailable("draining", "the daemon is going down"))
            return
        client, route = exchange.client, upgrade.route
        peer = Peer(
            client.stream, client.sock, self._policy.peer, self._turns, self._observe, wants_gap=route.wants_gap
        )
        topic = self._hub.join(route.channel, peer)
        try:
            self._handshakes += 1
            try:
                obstacle = await self._wait_ready(topic, peer)
                if obstacle is not None:
                    await self._send(exchange, obstacle)
            finally:
                self._handshakes -= 1
                self._ended.set()
            if obstacle is None:
                await self._converse(peer, topic, upgrade, exchange)
            else:
                await linger(client, self._turns)
        finally:
            self._hub.leave(topic, peer)

    async def _wait_ready(self, topic: Topic, peer: Peer) -> Response | None:
        """Wait for the topic's subscription; return the refusal if the conversation can't begin."""
        try:
            await self._hub.wait_ready(topic)
        except OutageError as error:
            return _unavailable("redis_unavailable", str(error))
        except RedisTimeoutError:
            return _unavailable("redis_unavailable", "redis did not answer in time")
        except RedisError:
            # A browser can't read the status of a refused handshake: it is let in and told with a close code.
            peer.end(REFUSED_BY_REDIS)
        if self.turns_away:
            return _unavailable("draining", "the daemon is going down")
        if peer.disconnect is REDIS_UNAVAILABLE:
            return _unavailable("redis_unavailable", "redis is unavailable")
        return None

    async def _converse(self, peer: Peer, topic: Topic, upgrade: Upgrade, exchange: Exchange) -> None:
        remote = str(self._address(exchange))
        fields = peer.fields = {**upgrade.route.fields, "remote": remote, "connection": exchange.id}
        self.peers[peer] = None
        self._counters.connections += 1
        self._heartbeat.add(peer)
        self._log.info("connection accepted", **fields)
        try:
            topic.welcome(peer)
            exchange.answered(HTTPStatus.SWITCHING_PROTOCOLS)
            await peer.converse(upgrade.response, exchange.trailing)
            # Nobody speaks to it any more but for the goodbye.
            self._heartbeat.remove(peer)
            self._hub.leave(topic, peer)
            await peer.say_goodbye()
        except Exception:  # noqa: BLE001 - see below
            # Not for the barrier of `serve`, which would answer with HTTP in the middle of a conversation.
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
        self._counters.client_messages[kind] += 1
        if kind == "malformed" and not peer.talked_nonsense:
            peer.talked_nonsense = True
            self._log.debug("client message is not a JSON object, ignored", **peer.fields)

    async def _page(self, page: Page, head: Head) -> Response:
        match page:
            case Page.LIVE:
                return Response(HTTPStatus.OK, "OK\n")
            case Page.HEALTH:
                why = self.unready()
                if why is None:
                    return Response(HTTPStatus.OK, "OK\n")
                return Response(HTTPStatus.SERVICE_UNAVAILABLE, why + "\n")
            case Page.METRICS:
                try:
                    report = await self._fleet.report()
                except FleetError as error:
                    return Response(HTTPStatus.SERVICE_UNAVAILABLE, f"{error}\n")
                body, content_type = render(report, ",".join(head.values(b"accept")))
                return Response(HTTPStatus.OK, body, content_type=content_type)

    async def _answer(self, exchange: Exchange, response: Response) -> None:
        """Send `response`, and see that it is taken."""
        await self._send(exchange, response)
        await linger(exchange.client, self._turns)

    async def _send(self, exchange: Exchange, response: Response) -> None:
        exchange.answered(response.status)
        head = exchange.head
        if response.reason:
            self._counters.rejected[response.reason] += 1
            self._log.info(
                "request refused",
                status=int(response.status),
                reason=response.reason,
                error=str(response.body).rstrip(),
                remote=str(self._address(exchange)),
                connection=exchange.id,
                **({} if head is None else head.asked()),
            )
        head_only = head is not None and head.method == "HEAD"
        with trio.move_on_after(LINGER), suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await exchange.client.stream.send_all(response.encode(head_only=head_only))
            await exchange.client.stream.send_eof()


async def linger(client: Client, turns: Turns) -> None:
    """Read what the client still sends, in turn if it is much.

    Closing over unread bytes would reset the connection, and the answer with it.
    """
    discarded = 0
    with trio.move_on_after(LINGER), suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        while discarded < LINGER_LIMIT and (unread := await client.stream.receive_some(16384)):
            discarded += len(unread)
            if len(unread) > USUAL_SIZE:
                await turns.wait()


_TOO_MANY_PER_ADDRESS: Final = "too_many_connections_per_address"
_BUG: Final = refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "internal_error", "internal error")


def _unavailable(reason: str, text: str) -> Response:
    return refusal(HTTPStatus.SERVICE_UNAVAILABLE, reason, text, retry_after=RETRY_AFTER)


def _full(reason: str) -> Response:
    return _unavailable(reason, reason.replace("_", " "))
