"""How conversations end: SPEC 1's table, the deadlines of a goodbye, the heartbeat (common/web/peer.py)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

import attrs
import pytest
import trio
import trio.testing

from common import disconnect as ends
from common.disconnect import DRAIN, INTERNAL_ERROR, MESSAGE_TOO_BIG, PROTOCOL_ERROR, Disconnect
from common.web.frames import text_frame
from common.web.heartbeat import Heartbeat
from common.web.peer import BREACH_TIMEOUT
from tests.support.client import BINARY, CLOSE, HANGUP_PAYLOAD, PONG_PAYLOAD, TEXT, close_frame, frame
from tests.support.conversation import ALL_HANGUPS, POLICY, RESPONSE, TRANSPORTS, conversation
from tests.support.streams import without_kernel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio.testing import MockClock

    from common.web.peer import Peer

TIMEOUT: Final = POLICY.write_timeout

# SPEC 1, row by row: close code, hangup.
TABLE: Final = {
    "DRAIN": (1001, True),
    "PONG_TIMEOUT": (1008, True),
    "SLOW_CONSUMER": (None, False),
    "WRITE_ERROR": (None, False),
    "REDIS_UNAVAILABLE": (1013, True),
    "REFUSED_BY_REDIS": (1011, True),
    "RUN_TOO_BIG": (1009, True),
    "TOO_FAST": (1008, True),
    "MESSAGE_TOO_BIG": (1009, False),
    "PROTOCOL_ERROR": (1002, False),
    "INVALID_TEXT": (1007, False),
    "INTERNAL_ERROR": (1011, True),
    "CLIENT_CLOSED": (None, False),
    "CLIENT_GONE": (None, False),
}


@pytest.fixture(autouse=True, scope="module")
def _without_kernel() -> Iterator[None]:
    with without_kernel():
        yield


def named(name: str) -> Disconnect:
    found = getattr(ends, name)
    assert isinstance(found, Disconnect)
    return found


def test_the_table_names_every_end() -> None:
    assert {named(name) for name in TABLE} == set(ends.ALL)


# -- what the client sees ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("policy", ["all", "none", "its own reason", "every other reason"])
@pytest.mark.parametrize("name", TABLE)
async def test_an_end_is_told_as_the_table_says(
    name: str, policy: str, transport: str, autojump_clock: MockClock
) -> None:
    end = named(name)
    code, hangup = TABLE[name]
    own = frozenset({end.reason})
    reasons = {
        "all": ALL_HANGUPS,
        "none": frozenset[str](),
        "its own reason": own,
        "every other reason": ALL_HANGUPS - own,
    }
    async with conversation(transport, policy=attrs.evolve(POLICY, hangup=reasons[policy])) as talk:
        talk.peer.wire.send_nowait(text_frame(b"before"))
        await trio.testing.wait_all_tasks_blocked()
        talk.peer.end(end)
        await talk.wait_over()
        told = hangup and policy in {"all", "its own reason"}
        assert talk.client.messages == [b"before", *([HANGUP_PAYLOAD] if told else [])]
        goodbyes = [payload for _, opcode, payload in talk.client.seen if opcode == CLOSE]
        assert goodbyes == ([] if code is None else [struct.pack("!H", code) + end.reason.encode("ascii")])
        assert talk.peer.disconnect is end


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_an_end_before_the_101_is_told_behind_it(transport: str, autojump_clock: MockClock) -> None:
    def refuse(peer: Peer) -> None:
        peer.wire.send_nowait(text_frame(b"queued"))
        peer.end(ends.REFUSED_BY_REDIS)

    async with conversation(transport, before=refuse, trailing=frame(TEXT, PONG_PAYLOAD)) as talk:
        await talk.wait_over()
        assert talk.client.head == RESPONSE
        assert talk.client.messages == [b"queued", HANGUP_PAYLOAD]
        assert talk.client.close_code == 1011


async def test_the_first_reason_stands(autojump_clock: MockClock) -> None:
    async with conversation() as talk:
        talk.peer.end(DRAIN)
        talk.peer.end(INTERNAL_ERROR)
        await talk.client.send(3)
        await talk.wait_over()
        talk.peer.end(INTERNAL_ERROR)
        assert talk.peer.disconnect is DRAIN
        assert talk.client.close_code == 1001


async def test_frames_after_our_close_are_neither_sent_nor_heard(autojump_clock: MockClock) -> None:
    async with conversation() as talk:
        talk.peer.end(DRAIN)
        await trio.testing.wait_all_tasks_blocked()
        talk.peer.wire.send_nowait(text_frame(b"too late"))
        await talk.client.send(TEXT, PONG_PAYLOAD)
        await talk.client.send(9, b"ping")
        await talk.client.send_close(1001)
        await talk.wait_over()
        assert talk.kinds == []
        assert talk.client.messages == [HANGUP_PAYLOAD]
        assert talk.client.close_code == 1001


async def test_the_backlog_goes_out_before_the_goodbye(autojump_clock: MockClock) -> None:
    async with conversation(reads=False) as talk:
        large = text_frame(b"x" * 300_000)
        talk.peer.wire.send_nowait(large)
        await trio.testing.wait_all_tasks_blocked()
        assert talk.peer.wire.backlog_bytes > 200_000
        talk.peer.end(DRAIN)
        talk.nursery.start_soon(talk.client.run)
        await talk.wait_over()
        assert [len(message) for message in talk.client.messages] == [300_000, len(HANGUP_PAYLOAD)]
        assert talk.client.close_code == 1001


# -- deadlines ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_client_that_never_answers_our_close_is_waited_for_only_so_long(
    transport: str, autojump_clock: MockClock
) -> None:
    async with conversation(transport) as talk:
        await trio.sleep(5)
        talk.peer.end(DRAIN)
        await talk.wait_over()
        assert talk.over_at == 5 + TIMEOUT


@pytest.mark.parametrize("end", [DRAIN, MESSAGE_TOO_BIG, PROTOCOL_ERROR], ids=lambda end: end.reason)
async def test_a_client_that_talks_on_after_our_close_is_cut_off(end: Disconnect, autojump_clock: MockClock) -> None:
    async with conversation() as talk:
        talk.peer.end(end)
        with trio.move_on_after(60):
            while not talk.over.is_set():
                await talk.client.send(BINARY, b"x" * 700)
                await trio.sleep(0.01)
        assert talk.over_at == pytest.approx(BREACH_TIMEOUT if end.breach else TIMEOUT)
        assert talk.client.close_code == end.close_code


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("end", [end for end in ends.ALL if end.breach], ids=lambda end: str(end.close_code))
async def test_behind_the_close_frame_for_a_breach_our_bytes_end(
    end: Disconnect, transport: str, autojump_clock: MockClock
) -> None:
    async with conversation(transport) as talk:
        talk.peer.end(end)
        await talk.client.wait_ended()
        assert talk.client.close_code == end.close_code
        assert (talk.client.ended_at, talk.over.is_set()) == (0.0, False)
        await trio.sleep(0.5)
        # It sees that nothing more comes, and ends as well.
        await talk.client.stream.send_stream.aclose()  # type: ignore[attr-defined]
        await talk.wait_over()
        assert talk.over_at == 0.5


async def test_an_end_that_is_no_breach_leaves_our_side_open_for_the_clients_answer(autojump_clock: MockClock) -> None:
    async with conversation() as talk:
        talk.peer.end(DRAIN)
        await trio.sleep(TIMEOUT / 2)
        assert talk.client.close_code == 1001
        assert not talk.client.ended


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_client_that_never_ends_after_its_breach_is_waited_for_less_long(
    transport: str, autojump_clock: MockClock
) -> None:
    async with conversation(transport) as talk:
        await trio.sleep(5)
        await talk.client.send_raw(frame(3))
        await talk.wait_over()
        assert talk.over_at == 5 + BREACH_TIMEOUT


async def test_a_short_write_timeout_bounds_the_wait_after_a_breach(autojump_clock: MockClock) -> None:
    async with conversation(policy=attrs.evolve(POLICY, write_timeout=0.25)) as talk:
        talk.peer.end(PROTOCOL_ERROR)
        await talk.wait_over()
        assert talk.over_at == 0.25


@pytest.mark.parametrize("breach", [frame(3), frame(TEXT, b"\xff"), frame(BINARY, b"x" * 1001)], ids=repr)
@pytest.mark.parametrize("code", [1000, 1002, None])
async def test_a_close_frame_after_a_breach_is_the_end(
    breach: bytes, code: int | None, autojump_clock: MockClock
) -> None:
    async with conversation() as talk:
        await talk.client.send_raw(breach)
        await talk.client.wait(lambda client: client.close_code is not None)
        await trio.sleep(0.25)
        await talk.client.send_raw(close_frame(code))
        await talk.wait_over()
        assert talk.over_at == 0.25


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_client_that_does_not_read_can_not_delay_its_end(transport: str, autojump_clock: MockClock) -> None:
    async with conversation(transport, reads=False) as talk:
        talk.peer.wire.send_nowait(text_frame(b"x" * 500_000))
        await trio.testing.wait_all_tasks_blocked()
        talk.peer.end(DRAIN)
        with trio.fail_after(60):
            await talk.over.wait()
        assert talk.over_at is not None
        assert talk.over_at <= TIMEOUT


@pytest.mark.parametrize("answer", [close_frame(1001), close_frame(None)], ids=["same code", "no code"])
async def test_a_client_that_answers_our_close_is_let_go_at_once(answer: bytes, autojump_clock: MockClock) -> None:
    async with conversation() as talk:
        talk.peer.end(DRAIN)
        await talk.client.wait(lambda client: client.close_code is not None)
        await talk.client.send_raw(answer)
        await talk.wait_over()
        assert talk.over_at == 0.0


async def test_a_client_that_just_ends_after_our_close_is_let_go_at_once(autojump_clock: MockClock) -> None:
    async with conversation() as talk:
        talk.peer.end(PROTOCOL_ERROR)
        await talk.client.wait(lambda client: client.close_code is not None)
        await talk.client.stream.aclose()
        await talk.over.wait()
        assert talk.over_at == 0.0


async def test_a_close_that_crossed_ours_is_an_answer(autojump_clock: MockClock) -> None:
    """It was read along with the frame that ended the conversation; nothing more will come."""
    async with conversation() as talk:
        await talk.client.send_raw(frame(BINARY, b"x" * (POLICY.max_message_size + 1)) + close_frame(1000))
        await talk.wait_over()
        assert talk.client.close_code == 1009
        assert talk.over_at == 0.0


@pytest.mark.parametrize("transport", ["socket", "memory"])
@pytest.mark.parametrize("more", [b"", frame(TEXT, b"{}"), b"\xff" * 20], ids=["", "and a frame", "and rubbish"])
async def test_an_end_while_the_client_is_closing_is_one_goodbye(
    more: bytes, transport: str, autojump_clock: MockClock
) -> None:
    """The client's close has arrived, but the reader has not run yet, when somebody ends the conversation."""
    async with conversation(transport) as talk:
        await talk.client.send_raw(close_frame(1000))
        talk.peer.end(DRAIN)
        await talk.client.send_raw(more)
        await talk.wait_over()
        assert talk.client.close_code in {1000, 1001}
        assert talk.over_at == 0.0
        assert talk.peer.disconnect is DRAIN


async def test_a_client_that_only_stops_sending_still_gets_what_is_queued(autojump_clock: MockClock) -> None:
    async with conversation(reads=False) as talk:
        talk.peer.wire.send_nowait(text_frame(b"x" * 200_000))
        await talk.client.stream.send_stream.aclose()  # type: ignore[attr-defined]
        talk.nursery.start_soon(talk.client.run)
        await talk.wait_over()
        assert talk.peer.disconnect is ends.CLIENT_GONE
        assert [len(message) for message in talk.client.messages] == [200_000]
        assert talk.client.close_code is None


# -- with the heartbeat ------------------------------------------------------------------------------------------------


async def test_a_client_that_answers_lives_through_a_virtual_day(autojump_clock: MockClock) -> None:
    heartbeat = Heartbeat(interval=20.0, timeout=65.0)
    async with conversation("socket") as talk:
        talk.nursery.start_soon(heartbeat.run)
        heartbeat.add(talk.peer)
        await trio.sleep_until(86_401)
        assert talk.peer.disconnect is None
        assert len(talk.client.pings) == 86_400 / 20
        assert talk.kinds == ["pong"] * (86_400 // 20)
        talk.client.answers = False
        await talk.wait_over(within=100)
        assert talk.client.messages == [HANGUP_PAYLOAD]
        assert talk.client.close_code == 1008
        assert talk.client.seen[-1].time == 86_400 + 65
