"""One accepted socket, from its first byte to its last.

`Server` holds what all sockets of a process share. Each socket is one call of `serve`, in a task of the listener's
nursery; whatever goes wrong in it ends that socket only. Read on from `serve`: it is the whole way of a handshake.
"""

from __future__ import annotations

import itertools
import os
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import attrs
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from common.disconnect import REDIS_UNAVAILABLE, REFUSED_BY_REDIS
from common.exposition import render
from common.fleet import FleetError
from common.redis.errors import OutageError
from common.serving.conversations import Conversations
from common.serving.exchange import Exchange
from common.web.accepted import LINGER
from common.web.admission import Admission
from common.web.forwarded import is_trusted
from common.web.handshake import Page, Upgrade, decide
from common.web.http import BadHead, Response, refusal
from common.web.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Callable

    from common.config import IPNetwork
    from common.fanout import Hub, Topic
    from common.fleet import Fleet
    from common.logs import Logger
    from common.metrics import Counters
    from common.tracing import Tracer, TraceSpan
    from common.web.accepted import Accepted
    from common.web.admission import Ticket
    from common.web.handshake import Route
    from common.web.heartbeat import Heartbeat
    from common.web.http import Head
    from common.web.origin import OriginPolicy
    from common.web.path import Target
    from common.web.peer import Peer, PeerPolicy

RETRY_AFTER: Final = 2
"""Seconds after which a refused client may try again."""

MAX_TURNED_AWAY: Final = 256
"""Sockets over a limit that are served at the same time, to be told so; more are closed without an answer."""


@attrs.frozen
class ServerPolicy:
    """What the settings say to the server; seconds."""

    peer: PeerPolicy
    handshake_timeout: float
    origins: OriginPolicy
    trusted_proxies: tuple[IPNetwork, ...]
    metrics_enabled: bool


class Server:
    """Serves sockets. `route` names what a path means; `fleet` are all processes of the daemon.

    The daemon's service makes it, gives it its parts, and lets the process end when `wait_empty` returns.
    """

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
        tracer: Tracer,
        log: Logger,
    ) -> None:
        self._policy = policy
        """The settings', as long as the process."""
        self._admission = admission
        """The service's: the places. A socket has one from here until it is closed."""
        self._hub = hub
        """The service's, whose `run` outlives the last socket: a handshake follows its topic there."""
        self._counters = counters
        """The service's, read by whoever asks for figures."""
        self._route = route
        """The daemon's, pure."""
        self._fleet = fleet
        """The service's: the other processes, of which some may come and go."""
        self._tracer = tracer
        """The process's."""
        self._log = log
        """The process's."""
        self._turns = Turns()
        """Its own, shared by all clients: who sends much is heard in turn."""
        self._turned_away = Admission(limit=MAX_TURNED_AWAY, limit_per_address=0)
        """Its own: the few who stand beside the places, each until it was told so."""
        self._conversations = Conversations(
            policy=policy.peer, turns=self._turns, hub=hub, heartbeat=heartbeat, counters=counters, log=log
        )
        """Its own: each is there from its 101 until its end is logged."""
        self._pid = os.getpid()
        self._numbers = itertools.count(1)
        """Of sockets; with the process's id no two of the daemon have the same, whichever workers come and go."""
        self.draining = False
        """The service's word that the daemon is on its way out; `/health` says so. For good."""
        self.turns_away = False
        """The service's word that nobody new is let in any more. For good."""

    @property
    def peers(self) -> dict[Peer, None]:
        """The conversations that are open now, oldest first."""
        return self._conversations.peers

    async def wait_empty(self) -> None:
        """Wait until the last conversation has ended, and every handshake that waits for Redis has its answer."""
        await self._conversations.wait_empty()

    async def serve(self, accepted: Accepted) -> None:
        """Serve one socket and close it. Only `Cancelled` comes out."""
        exchange = Exchange(
            accepted,
            id=f"{self._pid}-{next(self._numbers)}",
            counters=self._counters,
            tracer=self._tracer,
            log=self._log,
        )
        ticket: Ticket | None = None
        try:
            ticket, full = self._admit(accepted)
            if ticket is not None:
                await self._handle(exchange, ticket, full)
                await exchange.linger(self._turns)
        except Exception:  # noqa: BLE001 - see below
            # The barrier: a bug in serving one socket is that socket's end and nobody else's.
            self._log.exception("request failed", remote=str(accepted.address), connection=exchange.id)
            await exchange.answer(_BUG)
            await exchange.linger(self._turns)
        finally:
            exchange.close()
            if ticket is not None:
                ticket.release()
            # Closing a socket waits for nothing.
            await accepted.stream.aclose()

    def _admit(self, accepted: Accepted) -> tuple[Ticket | None, Response | None]:
        """The socket's place, and its refusal if a limit keeps it from conversing.

        Such a socket waits for its answer beside the places, of which an address must not fill more than it may have.
        None is a socket that is closed without an answer. A proxy's is nobody's until its head names the client.
        """
        ticket = self._admission.enter()
        if ticket is None:
            return self._turned_away.enter(), _FULL
        if is_trusted(accepted.address, self._policy.trusted_proxies) or ticket.claim(accepted.address):
            return ticket, None
        ticket.release()
        return self._turned_away.enter(), _FULL_PER_ADDRESS

    async def _handle(self, exchange: Exchange, ticket: Ticket, full: Response | None) -> None:
        """One request, from its first byte to its answer or to the end of the conversation that it opens."""
        policy = self._policy
        # Silent ones must not keep the few places beside for long.
        within = policy.handshake_timeout if full is None else min(LINGER, policy.handshake_timeout)
        try:
            head = await exchange.read(within=within, trusted=policy.trusted_proxies)
        except BadHead as bad:
            if bad.response is not None:
                await exchange.answer(bad.response)
            return
        match decide(head, route=self._route, origins=policy.origins, metrics_enabled=policy.metrics_enabled):
            case Response() as response:
                await exchange.answer(response)
            case Page() as page:
                # For everybody: being full is no illness.
                await exchange.answer(await self._page(page, head))
            case Upgrade() as upgrade:
                if full is None and not ticket.claim(exchange.address):
                    full = _FULL_PER_ADDRESS
                if full is not None:
                    await exchange.answer(full)
                elif self.turns_away:
                    await exchange.answer(_DRAINING)
                else:
                    await self._upgrade(exchange, upgrade)

    async def _upgrade(self, exchange: Exchange, upgrade: Upgrade) -> None:
        """Follow the topic, wait until Redis has acknowledged it, and converse, or say why that can't be."""
        exchange.span.note(**upgrade.route.fields)
        peer = self._conversations.peer(exchange.accepted, upgrade.route)
        topic = self._hub.join(upgrade.route.channel, peer)
        try:
            with self._conversations.expecting():
                obstacle = await self._obstacle(topic, peer, exchange.span)
                if obstacle is not None:
                    await exchange.answer(obstacle)
            if obstacle is None:
                await self._conversations.hold(peer, topic, upgrade, exchange)
        finally:
            self._hub.leave(topic, peer)

    async def _obstacle(self, topic: Topic, peer: Peer, span: TraceSpan) -> Response | None:
        """Wait for the topic's subscription; return the refusal if the conversation can't begin."""
        try:
            await self._hub.wait_ready(topic, span)
        except OutageError as error:
            return _unavailable("redis_unavailable", str(error))
        except RedisTimeoutError:
            return _unavailable("redis_unavailable", "redis did not answer in time")
        except RedisError:
            # A browser can't read the status of a refused handshake: it is let in and told with a close code.
            peer.end(REFUSED_BY_REDIS)
        if self.turns_away:
            return _DRAINING
        if peer.disconnect is REDIS_UNAVAILABLE:
            return _unavailable("redis_unavailable", "redis is unavailable")
        return None

    # -- pages --------------------------------------------------------------------------------------------------------

    def unready(self) -> str | None:
        """Why the daemon should get no clients now, in a line; None if it should."""
        if self.draining:
            return "draining"
        link = self._hub.link
        # One that has only just been started to replace another is not missed as long as the others serve.
        if not link.online and not (link.reconnects == 0 and self._fleet.stands_in()):
            return link.obstacle or "redis is unavailable"
        return self._fleet.unready()

    async def _page(self, page: Page, head: Head) -> Response:
        match page:
            case Page.LIVE:
                return Response(HTTPStatus.OK, "OK\n")
            case Page.HEALTH:
                why = self.unready()
                if why is None:
                    remarks = self._hub.link.describe().remarks
                    return Response(HTTPStatus.OK, "".join(f"{line}\n" for line in ("OK", *remarks)))
                return Response(HTTPStatus.SERVICE_UNAVAILABLE, why + "\n")
            case Page.METRICS:
                try:
                    report = await self._fleet.report()
                except FleetError as error:
                    return Response(HTTPStatus.SERVICE_UNAVAILABLE, f"{error}\n")
                body, content_type = render(report, ",".join(head.values(b"accept")))
                return Response(HTTPStatus.OK, body, content_type=content_type)


def _unavailable(reason: str, text: str) -> Response:
    return refusal(HTTPStatus.SERVICE_UNAVAILABLE, reason, text, retry_after=RETRY_AFTER)


_FULL: Final = _unavailable("too_many_connections", "too many connections")
_FULL_PER_ADDRESS: Final = _unavailable("too_many_connections_per_address", "too many connections per address")
_DRAINING: Final = _unavailable("draining", "the daemon is going down")
_BUG: Final = refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "internal_error", "internal error")
