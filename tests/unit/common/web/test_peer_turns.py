"""Conversations that share turns, and the end of who sends too much for too long (common/web/peer.py, turns.py)."""

from __future__ import annotations

import math
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

import attrs
import pytest
import trio
import trio.testing

from common.disconnect import PONG_TIMEOUT, SLOW_CONSUMER, TOO_FAST
from common.web.heartbeat import Heartbeat
from common.web.parser import FrameParser
from common.web.peer import BREACH_TIMEOUT
from common.web.turns import BURST, RATE, SLICE, USUAL_BURST, USUAL_PAUSE, Turns
from tests.support.client import BINARY, CONTINUATION, HANGUP_PAYLOAD, PING, PONG_PAYLOAD, TEXT, close_frame, frame
from tests.support.conversation import POLICY, Conversation, conversation
from tests.support.streams import ServerReceive, without_kernel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio.testing import MockClock


PONG_FRAME: Final = frame(TEXT, PONG_PAYLOAD)

FLOODS: Final = {
    "one byte": frame(TEXT, b"x"),
    "fragments": frame(CONTINUATION, b"x", fin=False),
    "pings": frame(PING),
    "malformed": frame(TEXT, b'{"type":'),
    "binary": frame(BINARY, b"\x00"),
    "pongs": PONG_FRAME,
}


@pytest.fixture(autouse=True, scope="module")
def _without_kernel() -> Iterator[None]:
    with without_kernel():
        yield


# -- conversations that share turns ------------------------------------------------------------------------------------


class Laps:
    """Counts laps of the event loop, and the bytes that are parsed in each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lap = 0
        self.fed: dict[int, list[int]] = {}
        feed = FrameParser.feed
        laps = self

        def counted(self: FrameParser, data: bytes) -> None:
            laps.fed.setdefault(laps.lap, []).append(len(data))
            feed(self, data)

        monkeypatch.setattr(FrameParser, "feed", counted)

    async def run(self) -> None:
        while True:
            await trio.lowlevel.checkpoint()
            self.lap += 1

    def most(self) -> int:
        """Bytes parsed between two counts at most. The counter may run first in one lap and last in the next, so that
        two turns fall between."""
        return max(sum(sizes) for sizes in self.fed.values())


def put(talk: Conversation, data: bytes) -> None:
    """Send without a lap in between."""
    receive = talk.stream.receive_stream
    assert isinstance(receive, ServerReceive)
    receive.put_data(data)


async def _together(stack: AsyncExitStack, turns: Turns, number: int) -> list[Conversation]:
    return [await stack.enter_async_context(conversation("socket", turns=turns)) for _ in range(number)]


@pytest.mark.parametrize("kind", FLOODS)
async def test_however_many_flood_one_slice_is_parsed_a_lap(
    kind: str, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns, laps = Turns(rate=math.inf), Laps(monkeypatch)
    flood = FLOODS[kind] * (4096 // len(FLOODS[kind]))
    if kind == "fragments":
        flood = frame(TEXT, b"x", fin=False) + flood
    async with trio.open_nursery() as nursery, AsyncExitStack() as stack:
        talks = await _together(stack, turns, 12)
        nursery.start_soon(laps.run)
        for talk in talks:
            put(talk, flood)
        while turns.taken < len(talks) * -(-len(flood) // SLICE):
            await trio.lowlevel.checkpoint()
        assert laps.most() <= 2 * SLICE
        assert turns.taken == sum(-(-len(flood) // SLICE) for _ in talks)
        assert not any(talk.peer.disconnect for talk in talks)
        nursery.cancel_scope.cancel()


async def test_flooders_are_heard_round_and_round(autojump_clock: MockClock) -> None:
    turns, heard = Turns(), list[int]()
    async with AsyncExitStack() as stack:
        talks = []
        for number in range(4):

            def note(_peer: object, _kind: str, number: int = number) -> None:
                if heard[-1:] != [number]:
                    heard.append(number)

            talks.append(await stack.enter_async_context(conversation("socket", turns=turns, observe=note)))
        for talk in talks:
            put(talk, frame(TEXT, b"x") * 585)
        await trio.testing.wait_all_tasks_blocked()
    rounds = [heard[start : start + 4] for start in range(0, len(heard), 4)]
    assert len(rounds) == 8
    assert all(sorted(one) == [0, 1, 2, 3] for one in rounds)


async def test_a_usual_read_waits_for_nobody(autojump_clock: MockClock) -> None:
    turns, burst = Turns(), int(USUAL_BURST)
    async with AsyncExitStack() as stack:
        (quiet,) = await _together(stack, turns, 1)
        # The first ones, as the one after a pause.
        for _ in range(burst):
            await quiet.client.send_raw(PONG_FRAME)
            await trio.testing.wait_all_tasks_blocked()
        await trio.sleep(USUAL_PAUSE)
        await quiet.client.send_raw(frame(TEXT, b'{"type": "pong"}'))
        await trio.testing.wait_all_tasks_blocked()
        assert quiet.kinds == ["pong"] * (burst + 1)
        assert turns.taken == 0
        # The next comes at once after it, and waits its turn.
        await quiet.client.send_raw(PONG_FRAME)
        await trio.testing.wait_all_tasks_blocked()
        assert quiet.kinds == ["pong"] * (burst + 2)
        assert turns.taken == 1
        # A goodbye needs no turn, whenever it comes.
        await quiet.client.send_close()
        await quiet.wait_over()
        assert turns.taken == 1


async def test_thousands_whose_own_pings_meet_our_pongs_wait_for_nobody(autojump_clock: MockClock) -> None:
    # Libraries ping every 20 s for a life of their own, and give up when no answer has come 20 s later.
    turns, minutes = Turns(), 3
    async with AsyncExitStack() as stack:
        (talk,) = await _together(stack, turns, 1)
        await talk.client.send_raw(frame(TEXT, b'{"type":"init"}'))
        for _ in range(minutes * 3):
            for _ in range(4):
                # The client answers by itself.
                talk.peer.ping()
                await trio.testing.wait_all_tasks_blocked()
                await trio.sleep(5)
            await talk.client.send_raw(frame(PING))
            await trio.testing.wait_all_tasks_blocked()
        assert talk.kinds.count("control") == minutes * 3
        assert turns.taken == 0


async def test_an_answer_to_each_ping_is_usual_however_often_we_ask(autojump_clock: MockClock) -> None:
    turns = Turns()
    async with AsyncExitStack() as stack:
        (talk,) = await _together(stack, turns, 1)
        for _ in range(100):
            talk.peer.ping()
            await trio.testing.wait_all_tasks_blocked()
            await trio.sleep(USUAL_PAUSE / 10)
        assert talk.kinds == ["pong"] * 100
        assert turns.taken == 0


async def test_a_large_message_is_one_frame_of_an_allowance(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("common.web.turns.BURST", 200.0)
    # Its slices are more than that, its bytes weigh a quarter of it.
    size = 400 * SLICE
    policy = attrs.evolve(POLICY, max_message_size=size)
    async with conversation("socket", policy=policy) as talk:
        await talk.client.send_raw(frame(BINARY, bytes(size)))
        await trio.sleep(600)
        assert talk.kinds == ["binary"]
        assert talk.peer.disconnect is None


async def test_the_pings_of_a_slice_are_answered_in_one_write(autojump_clock: MockClock) -> None:
    async with conversation("socket") as talk:
        assert talk.sock is not None
        sends = talk.sock.sends
        await talk.client.send_raw(frame(PING) * 300)
        await trio.testing.wait_all_tasks_blocked()
        assert talk.sock.sends - sends == -(-300 * 6 // SLICE)
        assert [seen.payload for seen in talk.client.seen] == [b""] * 300
        assert talk.peer.wire.frames_sent == 300


async def test_the_answers_to_pings_go_out_before_the_echo_of_the_close(autojump_clock: MockClock) -> None:
    async with conversation("socket") as talk:
        await talk.client.send_raw(frame(PING, b"1") + frame(PING, b"2") + close_frame(1000))
        await talk.wait_over()
        assert [seen.payload for seen in talk.client.seen] == [b"1", b"2", b"\x03\xe8"]


async def test_pings_whose_pongs_are_never_read_end_the_client(autojump_clock: MockClock) -> None:
    policy = attrs.evolve(POLICY, max_backlog=1000, write_timeout=1000.0)
    async with conversation("socket", policy=policy, reads=False) as talk:
        with trio.fail_after(60):
            while talk.peer.disconnect is None:
                await talk.client.send_raw(frame(PING, b"p" * 125) * 30)
                await trio.testing.wait_all_tasks_blocked()
                # The limit, and the answers of one slice.
                assert talk.peer.wire.backlog_bytes <= 1000 + SLICE
    assert talk.peer.disconnect is SLOW_CONSUMER


# -- too fast ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["one byte", "pings", "malformed", "binary", "pongs"])
async def test_a_client_that_floods_for_long_ends_as_too_fast(kind: str, autojump_clock: MockClock) -> None:
    async with conversation("socket") as talk:
        sent = 0
        while talk.peer.disconnect is None:
            await talk.client.send_raw(FLOODS[kind] * 500)
            await trio.testing.wait_all_tasks_blocked()
            sent += 500
            assert sent <= BURST + 500
        await talk.wait_over()
        assert talk.peer.disconnect is TOO_FAST
        assert talk.client.close_code == 1008
        assert talk.client.messages == [HANGUP_PAYLOAD]
        assert BURST - 500 <= len(talk.kinds) <= BURST + SLICE


async def test_a_client_just_below_the_rate_lives(autojump_clock: MockClock) -> None:
    async with conversation("socket") as talk:
        seconds = int(2 * BURST / RATE)
        for _ in range(seconds):
            await talk.client.send_raw(frame(TEXT, b"{}") * int(RATE - 1))
            await trio.sleep(1)
        assert talk.kinds == ["other"] * int(RATE - 1) * seconds
        assert talk.peer.disconnect is None


async def test_the_allowance_is_forgotten_when_it_is_full(autojump_clock: MockClock) -> None:
    async with conversation("socket") as talk:
        await talk.client.send_raw(PONG_FRAME * 100)
        await trio.testing.wait_all_tasks_blocked()
        spent = talk.peer._allowance
        assert spent is not None
        await trio.sleep(100 / RATE + 1)
        await talk.client.send_raw(PONG_FRAME)
        await trio.testing.wait_all_tasks_blocked()
        assert talk.peer._allowance is None
        assert talk.peer._parser is None


async def test_what_waits_for_its_turn_counts_as_life(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slices of a read are heard 45 s apart, longer than a client may be silent."""

    class Slow(Turns):
        async def wait(self) -> None:
            await trio.sleep(45)

    heartbeat = Heartbeat(interval=5.0, timeout=12.0)
    async with conversation("socket", turns=Slow()) as talk:
        talk.nursery.start_soon(heartbeat.run)
        heartbeat.add(talk.peer)
        talk.client.answers = False
        # Inside one large frame, so that nothing but the bytes themselves is heard.
        await talk.client.send_raw(frame(BINARY, b"x" * 900))
        await trio.sleep(95)
        assert talk.peer.disconnect is None
        assert talk.kinds == ["binary"]
        # From there on silence counts again.
        await trio.sleep(20)
        assert talk.peer.disconnect is PONG_TIMEOUT


async def test_an_end_that_meets_a_client_in_the_queue_still_finds_its_close_frame(autojump_clock: MockClock) -> None:
    class Stopped(Turns):
        open = trio.Event()

        async def wait(self) -> None:
            await self.open.wait()

    turns = Stopped()
    turns.open = trio.Event()
    async with conversation("socket", turns=turns) as talk:
        await talk.client.send_raw(PONG_FRAME * 3 + close_frame(1000))
        await trio.testing.wait_all_tasks_blocked()
        talk.peer.end(TOO_FAST)
        await trio.testing.wait_all_tasks_blocked()
        turns.open.set()
        await talk.wait_over()
        assert talk.over_at == 0.0
        assert talk.kinds == []
        assert talk.client.close_code == 1008


async def test_what_a_client_sends_after_its_end_is_taken_in_turn(autojump_clock: MockClock) -> None:
    turns = Turns()
    async with conversation("socket", turns=turns) as talk:
        await talk.client.send_raw(frame(3))
        await trio.testing.wait_all_tasks_blocked()
        assert talk.client.ended
        before = turns.taken
        for _ in range(10):
            await talk.client.send_raw(b"x" * 4096)
            await trio.testing.wait_all_tasks_blocked()
        assert turns.taken - before == 10
        assert not talk.over.is_set()
        await talk.wait_over()
        assert talk.over_at == BREACH_TIMEOUT
