"""Many who mean no good beside a few who do, in a whole service on a MockClock: who gets what, and when.

What an attack costs in time and memory is a measure: `python -m bench.attack`, docs/attacks.md.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest
import trio
import trio.testing

from common.serving.server import MAX_TURNED_AWAY
from common.web.accepted import LINGER
from common.web.turns import BURST
from tests.conformance.compression import COMPRESSED, deflated
from tests.support.client import BINARY, CONTINUATION, PING, PONG, TEXT, Client, frame, handshake
from tests.support.service import Running, open_service
from tests.support.subjects import SUBJECTS, Subject

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trio.testing import MockClock

HEALTHY: Final = 3
ATTACKERS: Final = 4
HALF_OPEN: Final = 1000
HANDSHAKE_TIMEOUT: Final = 10.0

both = pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.name)


class Scene:
    """Healthy clients in a running service, and what they must have got."""

    def __init__(self, running: Running, subject: Subject, healthy: Sequence[Client]) -> None:
        self.running = running
        self.subject = subject
        self.healthy = healthy
        self._changes = 0

    async def check(self) -> None:
        """A change reaches every healthy client, and a newcomer gets in, before any time has passed.

        But for the moment in which preflightd waits for more changes.
        """
        now = trio.current_time()
        self._changes += 1
        self.subject.change(self.running.redis, self._changes)
        for client in self.healthy:
            await client.wait(lambda client: len(client.messages) >= self.subject.greeting + self._changes)
            assert b"%d" % self._changes in client.messages[-1]
        assert trio.current_time() - now <= self.subject.delay
        now = trio.current_time()
        newcomer = await self.running.open(self.subject.path)
        page = await self.running.get("/health")
        assert (newcomer.status, page.status, trio.current_time()) == (101, 200, now)
        await newcomer.send_close()
        await newcomer.wait_ended()

    def check_alone(self) -> None:
        """The healthy are all that is left, and each missed nothing."""
        server = self.running.service.server
        assert len(server.peers) == HEALTHY
        assert server._admission.open == HEALTHY
        expected = self.subject.greeting + self._changes
        assert [len(client.messages) for client in self.healthy] == [expected] * HEALTHY


async def begin(running: Running, subject: Subject) -> Scene:
    healthy = [await running.open(subject.path) for _ in range(HEALTHY)]
    for client in healthy:
        await client.wait(lambda client: len(client.messages) == subject.greeting)
    return Scene(running, subject, healthy)


# -- heads -------------------------------------------------------------------------------------------------------------


@both
async def test_half_open_heads_hold_up_nobody_and_end_at_the_exact_second(
    subject: Subject, autojump_clock: MockClock
) -> None:
    async with open_service(of=subject.daemon) as running:
        scene = await begin(running, subject)
        start = trio.current_time()
        silent = [running.arrive() for _ in range(HALF_OPEN // 2)]
        begun = [running.arrive() for _ in range(HALF_OPEN // 2)]
        for client in begun:
            await client.send_raw(handshake(subject.path)[:-1])
        await trio.testing.wait_all_tasks_blocked()
        assert running.service.server._admission.open == HEALTHY + HALF_OPEN
        await scene.check()
        await trio.sleep(HANDSHAKE_TIMEOUT - 1)
        assert not any(client.ended for client in (*silent, *begun))
        await scene.check()
        await trio.sleep(1 + LINGER)
        assert {client.status for client in silent} == {None}
        assert {client.status for client in begun} == {408}
        assert {round(client.ended_at - start, 6) for client in (*silent, *begun)} == {HANDSHAKE_TIMEOUT}
        await scene.check()
        scene.check_alone()


@both
async def test_heads_that_dribble_have_one_deadline_for_all_of_their_bytes(
    subject: Subject, autojump_clock: MockClock
) -> None:
    async with open_service(of=subject.daemon) as running, trio.open_nursery() as nursery:
        scene = await begin(running, subject)
        start = trio.current_time()

        async def dribble(client: Client, pause: float) -> None:
            for byte in handshake(subject.path, {"Cookie": "x" * 10_000}):
                if client.ended:
                    return
                await client.send_raw(bytes([byte]))
                await trio.sleep(pause)

        dribblers = [running.arrive() for _ in range(50)]
        for number, client in enumerate(dribblers):
            nursery.start_soon(dribble, client, 0.1 + number / 25)
        for _ in range(int(HANDSHAKE_TIMEOUT)):
            await scene.check()
            await trio.sleep(1)
        await trio.sleep(2 * LINGER)
        assert {(client.status, client.ended_at - start) for client in dribblers} == {(408, HANDSHAKE_TIMEOUT)}
        scene.check_alone()


@both
@pytest.mark.parametrize("more", [1, MAX_TURNED_AWAY, MAX_TURNED_AWAY + 200])
async def test_a_flood_over_the_limit_is_turned_away_and_the_first_who_leaves_makes_room(
    more: int, subject: Subject, autojump_clock: MockClock
) -> None:
    async with open_service(of=subject.daemon, max_connections=str(HEALTHY)) as running:
        scene = await begin(running, subject)
        start = trio.current_time()
        flood = [running.arrive(answers=False) for _ in range(more)]
        for client in flood:
            await client.send_raw(handshake(subject.path))
        await trio.testing.wait_all_tasks_blocked()
        assert running.service.server._admission.open == HEALTHY
        subject.change(running.redis, 1)
        for client in scene.healthy:
            await client.wait(lambda client: len(client.messages) == subject.greeting + 1)
        assert trio.current_time() - start <= subject.delay
        # So many are told why; the others find the door shut.
        answers = Counter(client.status for client in flood)
        assert answers == +Counter({503: min(more, MAX_TURNED_AWAY), None: max(0, more - MAX_TURNED_AWAY)})
        assert all(client.ended_at == start for client in flood)
        await trio.sleep(2 * LINGER)
        assert all(running.sockets[client].released_at <= start + LINGER for client in flood)
        assert (await running.get("/health")).status == 200
        assert (await running.ask(subject.path)).status == 503
        await scene.healthy[0].send_close()
        await scene.healthy[0].wait_ended()
        assert (await running.ask(subject.path)).status == 101


@both
async def test_silent_sockets_over_the_limit_are_gone_after_a_moment(
    subject: Subject, autojump_clock: MockClock
) -> None:
    async with open_service(of=subject.daemon, max_connections=str(HEALTHY)) as running:
        scene = await begin(running, subject)
        start = trio.current_time()
        flood = [running.arrive() for _ in range(HALF_OPEN)]
        await trio.sleep(2 * LINGER)
        assert Counter(round(client.ended_at - start, 6) for client in flood) == {
            0.0: HALF_OPEN - MAX_TURNED_AWAY,
            LINGER: MAX_TURNED_AWAY,
        }
        scene.check_alone()


# -- frames ------------------------------------------------------------------------------------------------------------


class Flood(NamedTuple):
    """What an attacker sends behind its handshake, as often as it says, and how it ends."""

    first: bytes
    again: bytes
    times: int
    reason: str
    reads: bool = True


_MANY: Final = int(BURST) + 2000
_PAYLOAD: Final = deflated(b'{"type":"pong"}' * 100)

FLOODS: Final = {
    "small texts": Flood(b"", frame(TEXT, b"x"), _MANY, "too_fast"),
    "malformed texts": Flood(b"", frame(TEXT, b'{"type":'), _MANY, "too_fast"),
    "usual pongs": Flood(b"", frame(TEXT, b'{"type":"pong"}'), _MANY, "too_fast"),
    "empty binaries": Flood(b"", frame(BINARY), _MANY, "too_fast"),
    "pings": Flood(b"", frame(PING), _MANY, "too_fast"),
    "large pings": Flood(b"", frame(PING, b"p" * 125), _MANY, "too_fast"),
    "pongs": Flood(b"", frame(PONG), _MANY, "too_fast"),
    "pings that are never read": Flood(b"", frame(PING, b"p" * 125), _MANY, "slow_consumer", reads=False),
    "fragments of a byte": Flood(
        frame(TEXT, b"x", fin=False), frame(CONTINUATION, b"x", fin=False), 2000, "message_too_big"
    ),
    "empty fragments": Flood(frame(TEXT, fin=False), frame(CONTINUATION, fin=False), 2000, "message_too_big"),
    "pings among fragments": Flood(
        frame(TEXT, fin=False), frame(CONTINUATION, fin=False) + frame(PING), 2000, "message_too_big"
    ),
    "one endless message": Flood(
        frame(BINARY, b"x" * 1000, fin=False), frame(CONTINUATION, b"x" * 1000, fin=False), 100, "message_too_big"
    ),
    "compressed frames": Flood(b"", frame(TEXT, _PAYLOAD, reserved=COMPRESSED), 1000, "protocol_error"),
    "garbage": Flood(b"", b"\xff\x00\x9c\x13", 20_000, "protocol_error"),
}


@both
@pytest.mark.parametrize("kind", FLOODS)
async def test_a_flood_ends_itself_and_delays_nobody(kind: str, subject: Subject, autojump_clock: MockClock) -> None:
    flood = FLOODS[kind]
    # Without a kernel to hold it what is not read is backlog at once.
    async with open_service(of=subject.daemon, max_backlog="64KB", write_timeout="1h") as running:
        scene = await begin(running, subject)
        attackers = [running.arrive(answers=False, reads=flood.reads, transport="socket") for _ in range(ATTACKERS)]
        for client in attackers:
            await client.send_raw(handshake(subject.path) + flood.first + flood.again * flood.times)
        server = running.service.server
        with trio.fail_after(600):
            while any(peer.disconnect is None for peer in list(server.peers)[HEALTHY:]) or len(server.peers) > HEALTHY:
                assert sum(peer.wire.backlog_bytes for peer in server.peers) <= ATTACKERS * (64 * 1024 + 4096)
                await scene.check()
                await trio.sleep(0.5)
        ends = Counter(line["reason"] for line in running.logbook.said("connection ended with error"))
        assert ends == {flood.reason: ATTACKERS}
        scene.check_alone()


@both
async def test_clients_that_never_read_end_as_slow_and_hold_no_more_than_their_backlog(
    subject: Subject, autojump_clock: MockClock
) -> None:
    async with open_service(of=subject.daemon, max_backlog="4KB") as running:
        scene = await begin(running, subject)
        idle = [running.arrive(reads=False, answers=False, transport="lockstep") for _ in range(ATTACKERS)]
        for client in idle:
            running._nursery.start_soon(client.send_raw, handshake(subject.path))  # type: ignore[union-attr]
        await trio.testing.wait_all_tasks_blocked()
        server = running.service.server
        assert len(server.peers) == HEALTHY + ATTACKERS
        while len(server.peers) > HEALTHY:
            await scene.check()
            largest = max(peer.wire.backlog_bytes for peer in server.peers)
            assert largest <= 4096 + 4096
            await trio.sleep(0.01)
        ends = Counter(line["reason"] for line in running.logbook.said("connection ended with error"))
        assert ends == {"slow_consumer": ATTACKERS}
        scene.check_alone()
