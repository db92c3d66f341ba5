"""Reads beside a subscribing connection (common/redis/reads.py): how many at a time, how large, how long, whose end."""

from __future__ import annotations

import errno
import gc
import math
import weakref
from typing import TYPE_CHECKING, Final

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from common.redis.errors import (
    NoPermissionError,
    RedisConnectionError,
    RedisError,
    RedisTimeoutError,
    ReplyTooLargeError,
    ResponseError,
)
from common.redis.reads import CONNECTIONS, HOPELESS, LONGEST, REOPENING
from tests.support.links import POLICY, LinkBench, open_link
from tests.support.scripted_redis import Command, Peer, bulk

if TYPE_CHECKING:
    from collections.abc import Callable

    from common.redis.url import RedisURL

LIMIT: Final = 200_000
READING: Final = attrs.evolve(POLICY, read_limit=LIMIT)
REFUSED: Final = ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")


def hash_of(size: int) -> bytes:
    """The answer to HGETALL that has exactly so many bytes."""
    head = b"%1\r\n" + bulk(b"f")
    for digits in range(1, 9):
        value = size - len(head) - len(b"$" + b"\r\n\r\n") - digits
        if len(str(value)) == digits:
            return head + bulk(b"x" * value)
    raise AssertionError(size)


def answering(answers: dict[bytes, bytes]) -> Callable[[Peer, Command], bytes | None]:
    """A script: HGETALL of these keys is answered with these bytes."""
    return lambda _peer, command: answers.get(command[1]) if command[0] == b"HGETALL" else None


async def read(bench: LinkBench, key: str, results: dict[str, object]) -> None:
    """Read `key` and note what came of it."""
    try:
        results[key] = await bench.link.read("HGETALL", key)
    except RedisError as error:
        results[key] = error


def connections_read_from(bench: LinkBench) -> list[Peer]:
    """All but the first, which subscribes."""
    return bench.redis.peers[1:]


async def test_a_read_goes_over_a_connection_of_its_own_that_says_so_and_is_kept() -> None:
    async with open_link(READING) as bench:
        bench.redis.hashes[b"run"] = {b"a": b"b"}
        for _ in range(10):
            assert await bench.link.read("HGETALL", "run") == {b"a": b"b"}
        assert len(bench.redis.peers) == 2
        assert [command for command in bench.redis.commands if command[0] == b"HELLO"] == [
            [b"HELLO", b"3", b"SETNAME", b"statusd"],
            [b"HELLO", b"3", b"SETNAME", b"statusd-reads"],
        ]
        assert bench.redis.asked(b"SELECT") == [[b"SELECT", b"2"]] * 2


async def test_without_a_read_there_is_one_connection() -> None:
    async with open_link(READING) as bench:
        await bench.link.wait_active(bench.link.subscribe(b"c"))
        assert await bench.link.request("PING") == b"PONG"
        assert len(bench.redis.peers) == 1


async def test_many_reads_share_a_few_connections_one_at_a_time_and_take_turns(autojump_clock: MockClock) -> None:
    async with open_link(READING) as bench, trio.open_nursery() as nursery:
        results: dict[str, object] = {}
        bench.redis.answers = lambda _peer, command: b"" if command[0] == b"HGETALL" else None
        for number in range(1000):
            nursery.start_soon(read, bench, f"run-{number}", results)
        answered = 0
        while answered < 1000:
            await wait_all_tasks_blocked()
            waiting = bench.redis.asked(b"HGETALL")[answered:]
            assert len(waiting) == min(CONNECTIONS, 1000 - answered)
            for peer in connections_read_from(bench)[: len(waiting)]:
                peer.send(b"%0\r\n")
            answered += len(waiting)
        await wait_all_tasks_blocked()
        assert len(results) == 1000
        assert set(map(str, results.values())) == {"{}"}
        assert len(connections_read_from(bench)) == CONNECTIONS
        assert sorted(command[1] for command in bench.redis.asked(b"HGETALL")) == sorted(
            b"run-%d" % number for number in range(1000)
        )
        assert autojump_clock.current_time() == 0


@pytest.mark.parametrize("piece", [1 << 16, 1000, 7919])
async def test_the_limit_is_exact_however_the_answer_is_cut(piece: int) -> None:
    async with open_link(READING) as bench:
        for size in (LIMIT, LIMIT + 1):
            whole = hash_of(size)
            assert len(whole) == size

            def answer(peer: Peer, command: Command, whole: bytes = whole) -> bytes | None:
                if command[0] != b"HGETALL":
                    return None
                for start in range(0, len(whole), piece):
                    peer.send(whole[start : start + piece])
                return b""

            bench.redis.answers = answer
            if size == LIMIT:
                assert await bench.link.read("HGETALL", "run")
            else:
                with pytest.raises(ReplyTooLargeError, match=f"the answer to HGETALL is larger than {LIMIT} bytes"):
                    await bench.link.read("HGETALL", "run")


async def test_an_answer_over_the_limit_is_given_up_as_soon_as_it_is_and_takes_nobody_with_it() -> None:
    async with open_link(READING) as bench, trio.open_nursery() as nursery:
        bench.redis.answers = answering({b"big": b"%1\r\n$1\r\nf\r\n$84000000\r\n" + b"x" * (2 * LIMIT), b"slow": b""})
        results: dict[str, object] = {}
        nursery.start_soon(read, bench, "slow", results)
        await wait_all_tasks_blocked()
        nursery.start_soon(read, bench, "big", results)
        for number in range(50):
            nursery.start_soon(read, bench, f"run-{number}", results)
        await wait_all_tasks_blocked()
        error = results.pop("big")
        assert isinstance(error, ReplyTooLargeError)
        assert error.limit == LIMIT
        assert list(results.values()) == [{}] * 50
        slow, *others = connections_read_from(bench)
        assert not slow.closed
        assert sum(peer.closed for peer in others) == 1
        slow.send(b"%0\r\n")
        await wait_all_tasks_blocked()
        assert results["slow"] == {}
        assert (bench.link.timeouts, bench.handler.count("lost")) == (0, 0)


async def test_an_answer_may_take_long_while_its_bytes_come_and_is_used(autojump_clock: MockClock) -> None:
    async with open_link(READING) as bench, trio.open_nursery() as nursery:
        whole = hash_of(LIMIT)
        bench.redis.answers = answering({b"run": b""})
        results: dict[str, object] = {}
        nursery.start_soon(read, bench, "run", results)
        await wait_all_tasks_blocked()
        for start in range(0, len(whole), 2000):
            await trio.sleep(0.9)
            connections_read_from(bench)[0].send(whole[start : start + 2000])
        await wait_all_tasks_blocked()
        assert isinstance(results["run"], dict)
        assert len(bench.redis.asked(b"HGETALL")) == 1
        assert bench.link.timeouts == 0
        assert 80 < autojump_clock.current_time() < LONGEST


async def test_an_answer_that_came_while_this_process_had_no_time_is_an_answer(mock_clock: MockClock) -> None:
    async with open_link(attrs.evolve(READING, probe_interval=3600.0)) as bench:
        bench.redis.answers = answering({b"run": b""})
        for number in range(20):
            results: dict[str, object] = {}
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read, bench, "run", results)
                await wait_all_tasks_blocked()
                mock_clock.jump(1.1)
                connections_read_from(bench)[0].send(b"%0\r\n")
            assert results == {"run": {}}, number
        assert bench.link.timeouts == 0


async def test_a_drip_does_not_hold_a_turn_for_ever(autojump_clock: MockClock) -> None:
    async with open_link(READING) as bench, trio.open_nursery() as nursery:
        bench.redis.answers = answering({b"drip-%d" % number: b"%1\r\n$1\r\nf\r\n$9000\r\n" for number in range(4)})
        results: dict[str, object] = {}
        for number in range(CONNECTIONS):
            nursery.start_soon(read, bench, f"drip-{number}", results)
        await wait_all_tasks_blocked()
        nursery.start_soon(read, bench, "other", results)
        while not results:
            await trio.sleep(0.5)
            for peer in connections_read_from(bench):
                peer.send(b"x")
        assert autojump_clock.current_time() == pytest.approx(LONGEST, abs=0.6)
        await trio.sleep(1)
        assert results.pop("other") == {}
        assert {str(error) for error in results.values()} == {"not the whole of the answer to HGETALL for 120s"}


@pytest.mark.parametrize("begun", [b"", b"%1\r\n$1\r\nf\r\n$9"], ids=["nothing", "a part"])
async def test_silence_ends_the_read_and_its_connection_and_no_other(begun: bytes, autojump_clock: MockClock) -> None:
    async with open_link(READING) as bench:
        bench.redis.answers = answering({b"run": begun})
        with pytest.raises(RedisTimeoutError, match="not a byte of the answer to HGETALL for 1s"):
            await bench.link.read("HGETALL", "run")
        assert autojump_clock.current_time() == 1.0
        assert bench.link.timeouts == 1
        assert [line["command"] for line in bench.logbook.said("redis request timed out")] == ["HGETALL"]
        # What comes late can be nobody else's answer.
        (first,) = connections_read_from(bench)
        assert first.closed
        assert await bench.link.read("HGETALL", "other") == {}
        assert bench.handler.count("lost") == 0


@pytest.mark.parametrize(
    ("answer", "kind"),
    [(b"-WRONGTYPE a string\r\n", ResponseError), (b"-NOPERM no permissions\r\n", NoPermissionError)],
)
async def test_a_refusal_is_raised_and_the_connection_is_as_good_as_before(
    answer: bytes, kind: type[ResponseError]
) -> None:
    async with open_link(READING) as bench:
        bench.redis.answers = answering({b"run": answer})
        for _ in range(3):
            with pytest.raises(kind, match=r"^(WRONGTYPE|NOPERM)"):
                await bench.link.read("HGETALL", "run")
        assert await bench.link.read("HGETALL", "other") == {}
        assert len(connections_read_from(bench)) == 1


@pytest.mark.parametrize("garbage", [b"?\r\n", b"%0\r\n%0\r\n", b"%0\r\n$4"])
async def test_bytes_that_make_no_answer_cost_their_connection_only(garbage: bytes) -> None:
    async with open_link(READING) as bench:
        bench.redis.answers = answering({b"run": garbage})
        with pytest.raises(RedisConnectionError):
            await bench.link.read("HGETALL", "run")
        assert await bench.link.read("HGETALL", "other") == {}
        assert bench.handler.count("lost") == 0


async def test_a_refusal_needs_no_collector_to_be_gone() -> None:
    async with open_link(READING) as bench:
        bench.redis.answers = answering({b"run": b"-WRONGTYPE a string\r\n"})
        gc.collect()
        gc.disable()
        try:
            try:
                await bench.link.read("HGETALL", "run")
            except ResponseError as error:
                gone = weakref.ref(error)
            await trio.lowlevel.checkpoint()
            assert gone() is None
        finally:
            gc.enable()


async def test_an_idle_connection_that_redis_has_closed_is_replaced_without_a_word() -> None:
    async with open_link(READING) as bench:
        for number in range(1, 6):
            assert await bench.link.read("HGETALL", "run") == {}
            assert len(connections_read_from(bench)) == number
            bench.redis.peer.drop()
        assert bench.logbook.at_least("warn") == []


async def test_a_new_connection_that_closes_before_it_answers_is_an_error_and_no_circle() -> None:
    async with open_link(READING) as bench:

        def answers(peer: Peer, command: Command) -> bytes | None:
            if command[0] != b"HGETALL":
                return None
            peer.drop()
            return b""

        bench.redis.answers = answers
        with pytest.raises(RedisConnectionError, match="connection lost: closed by Redis"):
            await bench.link.read("HGETALL", "run")
        assert len(bench.redis.asked(b"HGETALL")) == 1


async def test_a_read_ends_with_the_subscribing_connection_whatever_it_waits_for(autojump_clock: MockClock) -> None:
    async with open_link(READING) as bench, trio.open_nursery() as nursery:
        bench.redis.answers = answering({b"run-%d" % number: b"" for number in range(10)})
        results: dict[str, object] = {}
        for number in range(10):
            nursery.start_soon(read, bench, f"run-{number}", results)
        await wait_all_tasks_blocked()
        assert len(bench.redis.asked(b"HGETALL")) == CONNECTIONS
        bench.redis.peers[0].drop()
        await wait_all_tasks_blocked()
        assert len(results) == 10
        assert {str(error) for error in results.values()} == {"connection lost during a read"}
        assert all(peer.closed for peer in bench.redis.peers)
        with pytest.raises(RedisConnectionError, match="no connection"):
            await bench.link.read("HGETALL", "run")
        # The next session has its own.
        await bench.handler.wait_for("online", 2)
        assert await bench.link.read("HGETALL", "other") == {}
        assert autojump_clock.current_time() <= 0.5
        assert bench.link.timeouts == 0


async def test_idle_connections_are_closed_with_the_link() -> None:
    async with open_link(READING) as bench, trio.open_nursery() as nursery:
        results: dict[str, object] = {}
        for number in range(20):
            nursery.start_soon(read, bench, f"run-{number}", results)
        await wait_all_tasks_blocked()
        assert len(results) == 20
    assert all(peer.closed for peer in bench.redis.peers)


async def test_a_caller_that_is_cancelled_costs_its_connection_and_gives_its_turn_back() -> None:
    async with open_link(READING) as bench:
        for _ in range(3 * CONNECTIONS):
            bench.redis.answers = answering({b"run": b"%1\r\n$1\r\n"})
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(bench.link.read, "HGETALL", "run")
                    await wait_all_tasks_blocked()
                    scope.cancel()
            # Another one's answer must not be what was left of that.
            assert await bench.link.read("HGETALL", "other") == {}
        assert len([peer for peer in bench.redis.peers if not peer.closed]) == 2


async def test_when_no_connection_can_be_opened_thousands_of_reads_try_as_one(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("common.redis.reads.HOPELESS", math.inf)
    async with open_link(READING) as bench, trio.open_nursery() as nursery:
        results: dict[str, object] = {}
        known = len(bench.redis.attempts)
        bench.redis.unreachable = REFUSED
        for number in range(2000):
            nursery.start_soon(read, bench, f"run-{number}", results)
        await trio.sleep(60)
        assert 60 / REOPENING.maximum <= len(bench.redis.attempts) - known <= 60 / (REOPENING.maximum / 2) + 12
        lines = bench.logbook.said("redis reads unavailable, retrying")
        assert len(lines) == len(bench.redis.attempts) - known
        assert {line["error"] for line in lines} == {"connection refused: redis.test:6379"}
        assert results == {}
        bench.redis.unreachable = None
        await trio.sleep(REOPENING.maximum)
        assert list(results.values()) == [{}] * 2000
        assert len(bench.redis.asked(b"HGETALL")) == 2000
        assert bench.handler.count("lost") == 0
        assert autojump_clock.current_time() == 60 + REOPENING.maximum


async def test_a_server_that_is_subscribed_to_and_can_not_be_read_from_is_an_outage(autojump_clock: MockClock) -> None:
    async with open_link(READING) as bench, trio.open_nursery() as nursery:
        results: dict[str, object] = {}
        bench.redis.unreachable = REFUSED
        for number in range(100):
            nursery.start_soon(read, bench, f"run-{number}", results)
        await bench.handler.wait_for("lost", 1)
        assert HOPELESS <= autojump_clock.current_time() <= HOPELESS + REOPENING.maximum
        await wait_all_tasks_blocked()
        assert not bench.link.online
        assert {str(error) for error in results.values()} == {"connection lost during a read"}
        (line,) = bench.logbook.said("redis stream interrupted")
        assert line["error"] == "no connection for reads: connection refused: redis.test:6379"
        bench.redis.unreachable = None
        await bench.handler.wait_for("online", 2)
        assert await bench.link.read("HGETALL", "run") == {}


async def test_where_no_more_connections_can_be_had_the_one_there_is_serves_all(autojump_clock: MockClock) -> None:
    async with open_link(READING) as bench, trio.open_nursery() as nursery:
        assert await bench.link.read("HGETALL", "first") == {}
        bench.redis.unreachable = REFUSED
        for _ in range(10):
            results: dict[str, object] = {}
            for number in range(20):
                nursery.start_soon(read, bench, f"run-{number}", results)
            await trio.sleep(3 * REOPENING.maximum)
            assert list(results.values()) == [{}] * 20
        assert len(connections_read_from(bench)) == 1
        assert bench.handler.count("lost") == 0


async def test_a_handshake_that_is_not_answered_is_bounded_like_any_other(autojump_clock: MockClock) -> None:
    async with open_link(READING) as bench, trio.open_nursery() as nursery:
        bench.redis.answers = lambda _peer, _command: b""
        results: dict[str, object] = {}
        nursery.start_soon(read, bench, "run", results)
        await trio.sleep(1.01)
        (line,) = bench.logbook.said("redis reads unavailable, retrying")
        assert line["error"] == "no connection within 1s, HELLO took 1.0s: redis.test:6379"
        bench.redis.answers = lambda _peer, _command: None
        await trio.sleep(REOPENING.base)
        assert results == {"run": {}}
        assert autojump_clock.current_time() < 1.2


async def test_what_is_sent_is_told_when_it_is_sent_and_again_when_it_is_sent_again(autojump_clock: MockClock) -> None:
    async with open_link(READING) as bench, trio.open_nursery() as nursery:
        sent: list[float] = []
        bench.redis.answers = answering({b"held": b""})
        results: dict[str, object] = {}
        for _ in range(CONNECTIONS):
            nursery.start_soon(read, bench, "held", results)
        await wait_all_tasks_blocked()

        @nursery.start_soon
        async def ask() -> None:
            await bench.link.read("HGETALL", "run", sending=lambda: sent.append(trio.current_time()))

        await trio.sleep(0.5)
        assert sent == []
        for peer in connections_read_from(bench):
            peer.send(b"%0\r\n")
            peer.drop()
        await wait_all_tasks_blocked()
        # Over a connection that was there and had ended, then over new ones until one has answered.
        assert len(sent) >= 2
        assert set(sent) == {0.5}
        assert autojump_clock.current_time() == 0.5


async def test_a_name_that_has_moved_is_not_subscribed_here_and_read_there() -> None:
    """The pool opens its connections through the same opener, at the address of the subscribing one."""
    async with open_link(READING) as bench:
        asked: list[str | None] = []
        opener = bench.link._sessions._opener
        original = opener.open

        async def spying(client_name: str, at: str | None = None, *, server: RedisURL) -> object:
            del server
            asked.append(at)
            return attrs.evolve(await original(client_name, at), address="192.0.2.7")

        opener.open = spying  # type: ignore[method-assign,assignment]
        bench.redis.drop_all()
        await bench.handler.wait_for("online", 2)
        await bench.link.read("HGETALL", "run")
        assert asked == [None, "192.0.2.7"]
