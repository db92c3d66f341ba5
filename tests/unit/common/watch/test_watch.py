"""The terminal client's conversation on a virtual clock: pings, silence, endings and the delays between attempts."""

from __future__ import annotations

import json
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import attrs
import pytest
import trio
from trio.testing import MockClock
from trio_websocket import CloseReason, ConnectionClosed, ConnectionRejected, HandshakeError
from wsproto.utilities import LocalProtocolError

from common.backoff import Backoff
from common.watch.client import INIT, OPEN_TIMEOUT, PONG, decoded, watch
from common.watch.show import Codes, Note, OutputClosedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

DELAYS = Backoff(1.0, 30.0)
SEED = 1
LOSSY, LOSSLESS = "ws://h/r%3Ac?gap=1", "ws://h/r%3Ac"


@attrs.define
class Recorder:
    """A show that remembers; each notice with the virtual time."""

    frames: list[Mapping[str, object]] = attrs.field(factory=list)
    notices: list[tuple[float, Note, str]] = attrs.field(factory=list)

    def frame(self, frame: Mapping[str, object]) -> None:
        self.frames.append(frame)

    def notice(self, note: Note, text: str) -> None:
        self.notices.append((trio.current_time(), note, text))

    def texts(self, note: Note) -> list[str]:
        return [text for _, kind, text in self.notices if kind is note]


@attrs.define
class ScriptedSocket:
    """A server's side of one connection, played by `script`; what the client sends is recorded."""

    sent: list[str | bytes] = attrs.field(factory=list)
    _channel: tuple[trio.MemorySendChannel[str | bytes | None], trio.MemoryReceiveChannel[str | bytes | None]] = (
        attrs.field(factory=lambda: trio.open_memory_channel[str | bytes | None](1000))
    )
    _reason: CloseReason | None = None

    def give(self, *messages: str | bytes) -> None:
        for message in messages:
            self._channel[0].send_nowait(message)

    def end(self, code: int, reason: str | None = None) -> None:
        self._reason = CloseReason(code, reason)
        self._channel[0].send_nowait(None)

    async def get_message(self) -> str | bytes:
        message = await self._channel[1].receive()
        if message is None:
            raise ConnectionClosed(self._reason)
        return message

    async def send_message(self, message: str | bytes) -> None:
        await trio.lowlevel.checkpoint()
        self.sent.append(message)


@attrs.define
class Server:
    """Meets attempt after attempt with the next step: an exception to raise, or a script to play on an open socket.

    The last step is repeated.
    """

    steps: list[Exception | Callable[[ScriptedSocket], Awaitable[None]]]
    urls: list[str] = attrs.field(factory=list)
    attempts: list[float] = attrs.field(factory=list)
    sockets: list[ScriptedSocket] = attrs.field(factory=list)

    @asynccontextmanager
    async def connect(self, url: str) -> AsyncIterator[ScriptedSocket]:
        await trio.lowlevel.checkpoint()
        step = self.steps[min(len(self.attempts), len(self.steps) - 1)]
        self.urls.append(url)
        self.attempts.append(trio.current_time())
        if isinstance(step, Exception):
            raise step
        socket = ScriptedSocket()
        self.sockets.append(socket)
        # The script plays to its end before the client reads, or beside it when it sleeps.
        await step(socket)
        yield socket


async def quiet(_socket: ScriptedSocket) -> None:
    """Accept, and never say anything."""


async def never(_socket: ScriptedSocket) -> None:
    """Never answer the handshake."""
    await trio.sleep_forever()


def saying(*messages: str | bytes, end: int | None = None) -> Callable[[ScriptedSocket], Awaitable[None]]:
    async def script(socket: ScriptedSocket) -> None:
        socket.give(*messages)
        if end is not None:
            socket.end(end)

    return script


def refusal(status: int, body: bytes | None = None, **headers: str) -> ConnectionRejected:
    pairs = tuple((name.replace("_", "-").encode(), value.encode()) for name, value in headers.items())
    return ConnectionRejected(status, pairs, body)


def in_virtual_time(main: Callable[[], Awaitable[None]]) -> None:
    trio.run(main, clock=MockClock(autojump_threshold=0))


def watched(
    server: Server, seconds: float, *, lossy: bool = True, silence: float = 30.0, codes: Codes | None = None
) -> tuple[Recorder, int | None]:
    """What `watch` showed in `seconds` of virtual time, and its exit code if it returned."""
    show, code = Recorder(), None

    async def main() -> None:
        nonlocal code
        with trio.move_on_after(seconds):
            code = await watch(
                "ws://h", "r:c", show,
                lossy=lossy, codes=codes, silence=silence, delays=DELAYS,
                rng=random.Random(SEED), connect=server.connect,
            )  # fmt: skip

    in_virtual_time(main)
    return show, code


def test_it_says_init_answers_every_ping_and_shows_the_rest_in_order() -> None:
    status = [json.dumps({"type": "status", "data": str(number)}) for number in range(3)]
    ping = '{"type":"ping"}'
    server = Server([saying(ping, status[0], ping, ping, status[1], status[2])])
    show, code = watched(server, 10)
    assert server.sockets[0].sent == [INIT, PONG, PONG, PONG]
    assert [frame["data"] for frame in show.frames] == ["0", "1", "2"]
    assert show.notices == [(0.0, Note.CONNECTED, f"connected to {LOSSY}")]
    assert code is None


@pytest.mark.parametrize(("lossy", "url"), [(True, LOSSY), (False, LOSSLESS)])
def test_only_who_can_miss_something_asks_for_gaps(lossy: bool, url: str) -> None:
    server = Server([quiet])
    watched(server, 1, lossy=lossy)
    assert server.urls == [url]


def test_a_server_that_is_silent_is_left_at_the_exact_second() -> None:
    server = Server([saying('{"type":"ping"}'), never])
    show, _ = watched(server, 100)
    ends = [(time, text) for time, note, text in show.notices if note is Note.RETRYING]
    assert ends[0][0] == 30
    assert "no sign of life from the server for 30 s" in ends[0][1]


def test_pings_alone_keep_a_quiet_connection_for_a_virtual_day() -> None:
    server = Server([quiet])
    show = Recorder()
    day = 86_400

    async def play() -> None:
        await watch("ws://h", "r:c", show, connect=server.connect)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(play)
            for _ in range(day // 20):
                await trio.sleep(20)
                server.sockets[0].give('{"type":"ping"}')
            nursery.cancel_scope.cancel()

    in_virtual_time(main)
    assert len(server.attempts) == 1
    assert server.sockets[0].sent.count(PONG) >= day // 20 - 1


def test_a_handshake_without_an_answer_is_given_up() -> None:
    server = Server([never, quiet])
    show, _ = watched(server, 60, silence=300)
    assert show.notices[0][0] == OPEN_TIMEOUT
    assert "no answer to our handshake" in show.notices[0][2]
    assert len(server.sockets) == 2


FAILURES: list[tuple[Exception, str]] = [
    (HandshakeError("odd"), "no connection: odd"),
    (ConnectionRefusedError(111, "Connection refused"), "no connection: Connection refused"),
    (trio.BrokenResourceError("reset"), "no connection: reset"),
    (LocalProtocolError("not HTTP"), "no connection: not HTTP"),
    (refusal(503, b"draining\n"), "the server refused with 503: draining"),
    (refusal(502), "the server refused with 502"),
]


@pytest.mark.parametrize(("error", "words"), FAILURES, ids=lambda value: value if isinstance(value, str) else "")
def test_failed_attempts_are_told_and_repeated_within_the_bounds_of_the_jitter(error: Exception, words: str) -> None:
    server = Server([error])
    show, code = watched(server, 1000)
    assert code is None
    assert all(text.startswith(f"{words}; next attempt in ") for text in show.texts(Note.RETRYING))
    waits = [after - before for before, after in zip(server.attempts, server.attempts[1:], strict=False)]
    ceilings = [min(30.0, 2.0**number) for number in range(len(waits))]
    assert len(waits) > 30
    for wait, ceiling in zip(waits, ceilings, strict=True):
        assert ceiling / 2 <= wait <= ceiling + 1e-6


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 426, 301, 200])
def test_a_refusal_that_cannot_get_better_ends_it_with_1_and_the_reason(status: int) -> None:
    server = Server([refusal(status, b"bad run id\n")])
    show, code = watched(server, 1000)
    assert code == 1
    assert show.notices == [(0.0, Note.REFUSED, f"the server refused with {status}: bad run id")]


def test_retry_after_is_honoured_with_jitter_on_top() -> None:
    server = Server([refusal(503, b"full", Retry_After="7"), refusal(503, Retry_After="0"), quiet])
    watched(server, 60, silence=300)
    first, second, third = server.attempts
    assert 7 <= second - first <= 7.5
    assert 1 <= third - second <= 2


def test_retry_after_never_shortens_the_delay_of_the_backoff() -> None:
    server = Server([refusal(503, Retry_After="1")])
    watched(server, 500)
    assert server.attempts[-1] - server.attempts[-2] >= 15


def test_delays_start_anew_only_after_a_connection_that_lived() -> None:
    async def live(socket: ScriptedSocket) -> None:
        socket.end(1001)

    down = ConnectionRefusedError(111, "Connection refused")
    short_lived = Server([down, down, down, down, live])
    watched(short_lived, 300)
    assert short_lived.attempts[5] - short_lived.attempts[4] >= 8

    # Silence of 30 s ends these connections: they have lived.
    lived = Server([down, down, down, down, quiet, down, down])
    watched(lived, 300)
    assert lived.attempts[5] - lived.attempts[4] <= 30 + 0.5 + 1e-6
    assert lived.attempts[6] - lived.attempts[5] <= 1


@pytest.mark.parametrize(
    ("messages", "code", "words"),
    [
        (['{"type":"hangup"}'], 1001, "hangup: the server is going away (a restart or a shutdown) [1001]"),
        ([], 1001, "the server is going away (a restart or a shutdown) [1001]"),
        (['{"type":"hangup"}'], 1008, "hangup: the server had no answer from us in time [1008]"),
        (['{"type":"hangup"}'], 1013, "hangup: Redis is unavailable to the server [1013]"),
        ([], 1006, "the connection broke without a goodbye, or we read too slowly [1006]"),
    ],
)
def test_an_ending_is_told_in_words_and_followed_by_a_reconnect(messages: list[str], code: int, words: str) -> None:
    server = Server([saying(*messages, end=code), quiet])
    show, _ = watched(server, 20)
    assert show.texts(Note.RETRYING)[0].startswith(f"{words}; next attempt in ")
    assert show.texts(Note.CONNECTED) == [f"connected to {LOSSY}", "connected again"]
    assert show.frames == []


@pytest.mark.parametrize("lossy", [True, False])
def test_after_a_reconnect_the_time_away_is_told_where_something_can_be_missing(lossy: bool) -> None:
    server = Server([saying(end=1001), ConnectionRefusedError(111, "Connection refused"), quiet])
    show, _ = watched(server, 20, lossy=lossy)
    away = server.attempts[2] - server.attempts[0]
    assert show.texts(Note.GAP) == ([f"we were away for {away:.1f} s: lines may be missing"] if lossy else [])


def test_a_silent_server_counts_as_away_since_its_last_frame() -> None:
    server = Server([quiet, quiet])
    show, _ = watched(server, 40)
    away = server.attempts[1] - server.attempts[0]
    assert away >= 30
    assert show.texts(Note.GAP) == [f"we were away for {away:.1f} s: lines may be missing"]


def test_a_gap_of_the_servers_is_told() -> None:
    server = Server([saying('{"type":"gap","seconds":1.234}', '{"type":"gap","seconds":"x"}')])
    show, _ = watched(server, 5)
    assert show.texts(Note.GAP) == ["Redis was away for 1.2 s: lines may be missing"]
    assert show.frames == [{"type": "gap", "seconds": "x"}]


def test_the_library_failing_in_mid_conversation_is_a_broken_connection() -> None:
    @asynccontextmanager
    async def connect(_url: str) -> AsyncIterator[ScriptedSocket]:
        attempts.append(trio.current_time())
        socket = ScriptedSocket()
        await trio.lowlevel.checkpoint()
        socket.end(1006)
        yield socket
        raise LocalProtocolError("the goodbye failed")

    attempts: list[float] = []
    show = Recorder()

    async def main() -> None:
        with trio.move_on_after(10):
            await watch("ws://h", "r:c", show, connect=connect)

    in_virtual_time(main)
    assert len(attempts) > 2
    assert all("the connection broke without a goodbye" in text for text in show.texts(Note.RETRYING))


def test_output_that_is_gone_ends_it() -> None:
    class Gone(Recorder):
        def frame(self, frame: Mapping[str, object]) -> None:
            raise OutputClosedError(str(frame))

    server = Server([saying("x")])

    async def main() -> None:
        await watch("ws://h", "r:c", Gone(), connect=server.connect)

    with pytest.raises(OutputClosedError):
        in_virtual_time(main)


def test_an_address_that_is_none_is_told_before_anything_happens() -> None:
    async def main() -> None:
        await watch("h:9002", "r:c", Recorder())

    with pytest.raises(ValueError, match="is not a ws"):
        in_virtual_time(main)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ('{"type":"ping"}', {"type": "ping"}),
        (b'{"type":"ping"}', {"type": "ping"}),
        ("[1]", {"data": "[1]"}),
        ("ping", {"data": "ping"}),
        ("", {"data": ""}),
        (b"\xff\x00", {"data": "\ufffd\x00"}),
        ("[" * 100_000, {"data": "[" * 100_000}),
    ],
)
def test_any_message_becomes_a_frame(message: str | bytes, expected: dict[str, object]) -> None:
    assert decoded(message) == expected


def test_a_hangup_ends_the_watch_where_it_has_a_code() -> None:
    hangup = saying('{"type":"hangup"}', end=1011)
    codes = Codes(refused=2, hung_up=3)
    show, code = watched(Server([saying(end=1001), hangup]), 60, codes=codes)
    assert code == 3
    assert [text for text in show.texts(Note.REFUSED) if text.startswith("hangup: ")]
    assert len(show.texts(Note.RETRYING)) == 1, "a lost connection is no end"
    assert watched(Server([hangup]), 60)[1] is None
    assert watched(Server([refusal(404)]), 60, codes=codes)[1] == 2
