"""The WebSocket conversation as a state machine: a whole statusd in memory, and everything that may befall it, in any
order.

A `Scenario` is a list of turns that Hypothesis draws, and shrinks when one fails: clients come, talk sense or nonsense,
stop reading and leave; messages are published; Redis drops the link, goes and returns; time passes; the daemon drains.
`play` acts it out in one `trio.run` on a MockClock. Whenever the daemon has come to rest, what each client has seen is
compared with what its `FuzzVisit` says that it may and must have seen. The service's own surroundings
(`tests.support.service`) then check that no conversation, socket, topic or line of a bug is left.
"""

from __future__ import annotations

import json
import math
from typing import Final

import attrs
import trio
import trio.testing

from fuzz.scenario import CHANNELS, Connect, Drain, Leave, Publish, Redis, Say, Scenario, Turn, Wait, scenarios
from fuzz.target import FuzzTarget, holds_for
from fuzz.utterances import UTTERANCES
from tests.support.client import HANGUP_PAYLOAD, PING_PAYLOAD, Client, close_frame, handshake
from tests.support.service import Running, open_service, status

PONG_TIMEOUT: Final = 65.0
WRITE_TIMEOUT: Final = 2.0
_HANGUP_REASONS: Final = {1001: "drain", 1008: "pong_timeout", 1013: "redis_unavailable"}
"""The reason behind each close code that this machine can provoke from the server's side."""
_EXHAUSTED: Final = "redis unavailable, clients ended"


def play(scenario: Scenario) -> None:
    """Act `scenario` out. Raises AssertionError, in groups, when the daemon does what it must not."""
    trio.run(_play, scenario, clock=trio.testing.MockClock(autojump_threshold=0))


@holds_for(scenarios())
def no_order_of_events_breaks_a_promise(scenario: Scenario) -> None:
    """Order kept, nothing repeated or lost, ends with their reason and nothing after them, nothing left behind."""
    play(scenario)


TARGET: Final = FuzzTarget("conversation", (no_order_of_events_breaks_a_promise,))


async def _play(scenario: Scenario) -> None:
    tasks = trio.lowlevel.current_statistics().tasks_living
    opened = open_service(
        hangup=scenario.hangup,
        drain_spread=scenario.drain_spread,
        pong_timeout=f"{PONG_TIMEOUT:g}s",
        write_timeout=f"{WRITE_TIMEOUT:g}s",
        max_backlog="256KB",
    )
    async with opened as running, trio.open_nursery() as nursery:
        world = _World(running, nursery, scenario)
        for turn in scenario.turns:
            await world.take(turn)
        await world.end()
        nursery.cancel_scope.cancel()
    assert trio.lowlevel.current_statistics().tasks_living == tasks, "a task is left"


@attrs.define(eq=False)
class FuzzVisit:
    """One client and what it may expect."""

    client: Client
    outbox: trio.MemorySendChannel[bytes]
    """What it sends, in order, in a task of its own: a transport that holds nothing waits until the server reads."""
    channel: bytes
    wants_gap: bool
    answers: bool
    buffered: bool
    """Whether its transport holds bytes. One that doesn't tears a goodbye that meets a client which is writing."""
    welcome: bool
    """Whether it came while nothing stood in its way: it must be let in."""
    reads: bool = True
    steady: bool = True
    """Whether it has done nothing that ends its conversation, or may."""
    published: list[bytes] = attrs.Factory(list)
    """The frames it may see: all that was published on its channel since it came."""
    due: list[bytes] = attrs.Factory(list)
    """Those among them that it must see, if it goes on reading."""
    provoked: set[int] = attrs.Factory(set)
    """Close codes that its own doing calls for."""
    alive_at: float = 0.0
    """When it gave the last sign of life of its own accord."""
    since: tuple[int, int] | None = None
    """The link's reconnects and its own gap frames when it was first seen at rest with its conversation open."""

    @property
    def open(self) -> bool:
        """Whether, by all that it has seen, its conversation is open."""
        return self.client.status == 101 and not self.client.ended and self.client.close_code is None

    def misbehave(self) -> None:
        """From now on its conversation may end, and nothing need arrive any more."""
        self.steady = False
        self.welcome = False
        self.due.clear()


async def _send(client: Client, outbox: trio.MemoryReceiveChannel[bytes]) -> None:
    async for data in outbox:
        await client.send_raw(data)


class _World:
    """The service, the clients that came to it, and what has befallen them."""

    def __init__(self, running: Running, nursery: trio.Nursery, scenario: Scenario) -> None:
        self._running = running
        self._nursery = nursery
        every = scenario.hangup == "all"
        self._hangups = {
            code for code, reason in _HANGUP_REASONS.items() if every or reason in scenario.hangup.split(",")
        }
        self._visits: list[FuzzVisit] = []
        self._messages = 0
        self._draining = False
        self._exhausted = 0
        self._queued = False

    async def take(self, turn: Turn) -> None:
        """Do one turn, and check everything if it comes to rest."""
        settled = turn.settled
        match turn.step:
            case Connect() as step:
                self._connect(step)
                # Who still waits in a port's queue when the port goes is the kernel's to turn away, and there is none.
                settled = settled or self._draining
                self._queued = True
            case Say(who, what) if self._visits:
                self._say(self._visits[who % len(self._visits)], what)
            case Leave(who, how, code) if self._visits:
                await self._leave(self._visits[who % len(self._visits)], how, code)
            case Publish() as step:
                self._publish(step)
                # Two large bursts in one instant would be a backlog that no reader could have helped.
                settled = True
            case Redis(does):
                self._redis(does)
            case Wait(seconds):
                await self._settle()
                await trio.sleep(seconds)
                # What is due at this very instant is done before the next step.
                settled = True
            case Drain():
                if self._queued:
                    await self._settle()
                self._drain()
        if settled:
            await self._settle()

    async def end(self) -> None:
        """Drain, if that has not been done yet; every client that reads must have seen the end."""
        await self.take(Turn(Drain(), settled=False))
        await self._running.drained()
        await self._settle()
        assert self._running.code == 0
        for visit in self._visits:
            assert visit.client.ended or not visit.reads, "a client was not told the end"

    # -- steps --------------------------------------------------------------------------------------------------------

    @property
    def _link_is_up(self) -> bool:
        """Both ends of it: the daemon may not have noticed yet that it is gone."""
        return self._running.service.hub.link.online and not self._running.redis.peer.closed

    def _connect(self, step: Connect) -> None:
        if self._running.stopped.is_set():
            return  # there is no port any more
        channel = CHANNELS[step.channel]
        client = self._running.arrive(transport=step.transport, answers=step.answers)
        outbox, to_send = trio.open_memory_channel[bytes](math.inf)
        self._nursery.start_soon(_send, client, to_send)
        welcome = self._link_is_up and not self._draining
        visit = FuzzVisit(client, outbox, channel, step.gap, step.answers, step.transport != "lockstep", welcome)
        self._visits.append(visit)
        self._send(visit, handshake(f"/{channel.decode()}" + "?gap=1" * step.gap))

    def _say(self, visit: FuzzVisit, what: str) -> None:
        utterance = UTTERANCES[what]
        if utterance.codes:
            visit.misbehave()
            visit.provoked |= utterance.codes
        self._send(visit, utterance.data)

    async def _leave(self, visit: FuzzVisit, how: str, code: int | None) -> None:
        visit.misbehave()
        match how:
            case "closes":
                visit.provoked.add(code or 0)
                visit.client.echoes = False
                self._send(visit, close_frame(code))
            case "hangs up":
                assert isinstance(visit.client.stream, trio.StapledStream)
                await trio.aclose_forcefully(visit.client.stream.send_stream)
            case "resets":
                self._stop_reading(visit)
                await trio.aclose_forcefully(visit.client.stream)
            case "stops reading":
                self._stop_reading(visit)

    def _stop_reading(self, visit: FuzzVisit) -> None:
        visit.reads = False
        visit.client.stop_reading()

    def _send(self, visit: FuzzVisit, data: bytes) -> None:
        if not visit.client.ended and visit.client.close_code is None:
            visit.alive_at = trio.current_time()
        visit.outbox.send_nowait(data)

    def _publish(self, step: Publish) -> None:
        channel, up = CHANNELS[step.channel], self._link_is_up
        for _ in range(step.count):
            self._messages += 1
            payload = b"%d " % self._messages + b"." * step.size
            heard = self._running.redis.publish(channel, payload)
            for visit in self._visits:
                if visit.channel == channel:
                    visit.published.append(status(payload))
                    if heard and up and visit.steady and visit.open and not self._draining:
                        visit.due.append(status(payload))

    def _redis(self, does: str) -> None:
        redis = self._running.redis
        redis.unreachable = OSError("gone") if does == "goes" else None
        if does == "goes":
            self._running.expected_errors.add(_EXHAUSTED)
        if does != "returns":
            redis.drop_all()
            for visit in self._visits:
                visit.welcome = False

    def _drain(self) -> None:
        self._draining = True
        for visit in self._visits:
            visit.welcome = False
            visit.due.clear()
        self._running.stop.set()

    # -- promises -----------------------------------------------------------------------------------------------------

    async def _settle(self) -> None:
        """Let everything that can happen now happen, then check what every client has seen."""
        open_before = [visit for visit in self._visits if visit.open and visit.reads]
        await trio.testing.wait_all_tasks_blocked()
        self._queued = False
        exhausted = len(self._running.logbook.said(_EXHAUSTED))
        if exhausted > self._exhausted:
            self._exhausted = exhausted
            assert not any(visit.open for visit in open_before if visit.alive_at < trio.current_time()), "told nothing"
        for visit in self._visits:
            self._check(visit)

    def _check(self, visit: FuzzVisit) -> None:
        client = visit.client
        if client.status != 101:
            assert client.status in {None, 503}
            assert not visit.welcome, f"refused, or not answered, without need: {client.status}"
            return
        self._check_frames(visit)
        self._check_end(visit)
        sock = self._running.sockets.get(client)
        if sock is not None and not (visit.answers and visit.reads):
            # The heartbeat's deadline, a goodbye that is not taken and a closing handshake that is not answered.
            limit = PONG_TIMEOUT + 2 * WRITE_TIMEOUT
            assert sock.closed or trio.current_time() <= visit.alive_at + limit, "a silent client is kept"

    def _check_frames(self, visit: FuzzVisit) -> None:
        gaps, hangups, got = 0, 0, list[bytes]()
        for text in visit.client.texts:
            if text.startswith(b'{"type":"gap"'):
                gaps += 1
                assert json.loads(text)["seconds"] >= 0
            elif text == HANGUP_PAYLOAD:
                hangups += 1
            elif text != PING_PAYLOAD:
                assert not hangups, "a message behind the hangup"
                got.append(text)
        assert hangups <= 1
        rest = iter(visit.published)
        assert all(message in rest for message in got), "out of order, repeated, altered, or never published to it"
        if visit.reads:
            assert set(visit.due) <= set(got), "a message is missing"
        assert visit.wants_gap or not gaps, "a gap frame that was not asked for"
        self._check_gaps(visit, gaps)

    def _check_gaps(self, visit: FuzzVisit, gaps: int) -> None:
        if not (visit.wants_gap and visit.steady and visit.reads and visit.open):
            return
        service, connections = self._running.service, len(self._running.redis.peers)
        if visit.since is None:
            visit.since = (service.hub.link.reconnects, gaps)
        elif self._link_is_up and not self._draining:
            reconnects, known = visit.since
            assert service.hub.link.reconnects - reconnects <= gaps - known <= connections, "a gap that was not told"

    def _check_end(self, visit: FuzzVisit) -> None:
        client, code = visit.client, visit.client.close_code
        hung_up = HANGUP_PAYLOAD in client.texts
        if visit.steady and visit.reads and visit.answers and not self._draining and not self._exhausted:
            assert visit.open, f"ended without need: {code}"
        if code is None:
            assert not (hung_up and visit.reads and visit.buffered) or visit.provoked, "a hangup without a close frame"
            return
        match code:
            case 1001:
                assert self._draining
            case 1008:
                assert not (visit.answers and visit.steady)
                closed_at = client.seen[-1].time
                assert closed_at >= visit.alive_at + PONG_TIMEOUT - 1e-6 or visit.provoked, "cut off too early"
            case 1013:
                assert self._exhausted
            case _:
                assert code in visit.provoked, f"close code {code} for no reason"
        if code in _HANGUP_REASONS:
            assert hung_up == (code in self._hangups), "a hangup against the policy"
        elif not visit.provoked or math.isinf(client.ended_at):
            assert not hung_up, f"a hangup with close code {code}"
