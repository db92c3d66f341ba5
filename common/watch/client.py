"""The terminal client: one socket of a daemon, kept alive, shown frame by frame.

`watch` owns the conversation: it connects, answers pings, notices a dead server, reconnects with jittered delays and
puts endings into words. How a frame looks is the business of the `Show` it is given (`common.watch.show`); a `Show`
outlives every connection and belongs to the caller. `run_watch` is the process around it: signals, a time limit, a pipe
that closes.

It runs until it is cancelled, or until the server refuses in a way that asking again can't mend.
"""

from __future__ import annotations

import json
import math
import random
import signal
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import attrs
import trio
from trio_websocket import ConnectionClosed, ConnectionRejected, HandshakeError
from wsproto.utilities import ProtocolError

from common.backoff import Backoff
from common.foreground import discard_output
from common.watch.show import Codes, FinishedError, Note, OutputClosedError
from common.watch.socket import Socket, open_socket
from common.watch.words import (
    closing_words,
    failure_words,
    is_untrusted_certificate,
    refusal_is_final,
    refusal_words,
    retry_after,
    socket_url,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from contextlib import AbstractAsyncContextManager

    from common.watch.show import Show

INIT: Final = '{"type":"init"}'
PONG: Final = '{"type":"pong"}'

OPEN_TIMEOUT: Final = 10.0
"""Seconds for name, connection, TLS and handshake together."""

SILENCE: Final = 30.0
"""Seconds without a frame after which the server counts as dead: six of its usual ping intervals."""

LIVED: Final = 10.0
"""Seconds after which a connection counts as a success, so that the next outage starts with short delays again."""

DELAYS: Final = Backoff(0.5, 30.0)


@attrs.frozen
class Ended:
    """How one attempt ended, from the first byte of the handshake to the last of the conversation."""

    text: str
    lived: float = 0.0
    """Seconds that the socket was open."""
    unheard: float = 0.0
    """The last of those seconds, in which nothing came any more: nobody knows when the server was lost in them."""
    retry_after: float = 0.0
    """Seconds that the server asked us to stay away."""
    final: bool = False
    hangup: bool = False
    """The server asked us not to come back."""


def run_watch(
    url: str, path: str, show: Show, *, lossy: bool = True, seconds: float | None = None, codes: Codes | None = None
) -> int:
    """`watch` as a whole process: until Ctrl-C (or SIGTERM), for `seconds`, or until the reader of our output is gone.

    Returns the exit code: 0, one of `codes`, or the one that `show` has finished with. Raises ValueError when `url` is
    not one.
    """
    codes = codes or Codes()
    code = 0

    async def main() -> None:
        nonlocal code
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_cancel_on_signal, signals, nursery.cancel_scope)
                try:
                    with trio.move_on_after(math.inf if seconds is None else seconds) as time_limit:
                        code = await watch(url, path, show, lossy=lossy, codes=codes)
                    if time_limit.cancelled_caught:
                        code = codes.time_up
                except FinishedError as finished:
                    code = finished.code
                except OutputClosedError:
                    discard_output()
                nursery.cancel_scope.cancel()

    socket_url(url, path)  # a mistake in it is told before anything starts
    trio.run(main)
    return code


async def watch(
    url: str,
    path: str,
    show: Show,
    *,
    lossy: bool = True,
    codes: Codes | None = None,
    silence: float = SILENCE,
    delays: Backoff = DELAYS,
    rng: random.Random | None = None,
    connect: Callable[[str], AbstractAsyncContextManager[Socket]] = open_socket,
) -> int:
    """Show what the daemon at `url` sends for `path` (`<runid>:<channel>`, not encoded), for as long as it takes.

    `lossy`: what the daemon sends while we are away is gone for good, so gaps are asked for and told. `silence` is in
    seconds. Returns one of `codes` after a refusal that asking again can't mend, and after a hangup if it has a code;
    otherwise runs until it is cancelled. Raises ValueError when `url` is not a URL, and as `show` does. `rng` and
    `connect` are for tests.
    """
    codes = codes or Codes()
    rng = rng or random.SystemRandom()
    attempts = _Attempts(socket_url(url, path, "gap=1" if lossy else ""), show, lossy, silence, connect)
    failures = 0
    while True:
        ended = await attempts.converse()
        if ended.final:
            show.notice(Note.REFUSED, ended.text)
            return codes.refused
        if ended.hangup and codes.hung_up is not None:
            show.notice(Note.REFUSED, ended.text)
            return codes.hung_up
        if ended.lived >= LIVED:
            failures = 0
            delay = delays.first(rng)
        else:
            failures += 1
            delay = delays.after_failure(failures, rng)
        if ended.retry_after:
            # Everyone else was given the same number: without jitter all of us are back in the same instant.
            delay = max(delay, ended.retry_after + delays.first(rng))
        show.notice(Note.RETRYING, f"{ended.text}; next attempt in {delay:.1f} s")
        await trio.sleep(delay)


@attrs.define
class _Attempts:
    """The attempts of one `watch`, one after the other; only the time of the last loss is carried between them."""

    url: str
    show: Show
    lossy: bool
    silence: float
    connect: Callable[[str], AbstractAsyncContextManager[Socket]]
    lost_at: float | None = None

    async def converse(self) -> Ended:
        """One attempt. Raises nothing that concerns the network: that is the result."""
        opened_at: float | None = None
        over_at = 0.0
        ended = Ended(f"no answer to our handshake within {OPEN_TIMEOUT:g} s")
        with trio.CancelScope(deadline=trio.current_time() + OPEN_TIMEOUT) as scope:
            try:
                async with self.connect(self.url) as socket:
                    opened_at, scope.deadline = trio.current_time(), math.inf
                    ended = Ended("the connection broke")
                    self._say_connected(opened_at)
                    try:
                        ended = await self._listen(socket)
                    finally:
                        over_at = trio.current_time()
            except ConnectionRejected as refusal:
                ended = _refused(refusal)
            except (HandshakeError, ConnectionClosed, ProtocolError, trio.BrokenResourceError, OSError) as error:
                # What fails after the conversation, while saying goodbye, must not hide how the conversation ended.
                if opened_at is None:
                    ended = _unreachable(error)
        if opened_at is None:
            return ended
        self.lost_at = over_at - ended.unheard
        return attrs.evolve(ended, lived=over_at - opened_at)

    async def _listen(self, socket: Socket) -> Ended:
        hangup = False
        try:
            with trio.fail_after(self.silence):
                await _say(socket, INIT)
            while True:
                with trio.fail_after(self.silence):
                    frame = decoded(await socket.get_message())
                    if frame.get("type") == "ping":
                        await _say(socket, PONG)
                        continue
                hangup = hangup or frame.get("type") == "hangup"
                self._show(frame)
        except trio.TooSlowError:
            return Ended(f"no sign of life from the server for {self.silence:g} s", unheard=self.silence)
        except ConnectionClosed as closed:
            code, reason = (closed.reason.code, closed.reason.reason) if closed.reason else (1006, None)
            return Ended(closing_words(code, reason, hangup=hangup), hangup=hangup)

    def _show(self, frame: Mapping[str, object]) -> None:
        match frame:
            case {"type": "hangup"}:
                # Told together with the close code, which follows at once and says why.
                return
            case {"type": "gap", "seconds": float() | int() as seconds}:
                self.show.notice(Note.GAP, f"Redis was away for {seconds:.1f} s: lines may be missing")
            case _:
                self.show.frame(frame)

    def _say_connected(self, now: float) -> None:
        if self.lost_at is None:
            self.show.notice(Note.CONNECTED, f"connected to {self.url}")
            return
        self.show.notice(Note.CONNECTED, "connected again")
        if self.lossy:
            self.show.notice(Note.GAP, f"we were away for {now - self.lost_at:.1f} s: lines may be missing")


async def _say(socket: Socket, text: str) -> None:
    """Send, unless the server has closed: what it said before, a hangup for one, is still to be read."""
    with suppress(ConnectionClosed):
        await socket.send_message(text)


def decoded(message: str | bytes) -> Mapping[str, object]:
    """One message as a frame. What is not a JSON object becomes a frame without a type, with the text as its `data`."""
    try:
        value: object = json.loads(message)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict):
        return value
    return {"data": message if isinstance(message, str) else message.decode("utf-8", "replace")}


def _refused(refusal: ConnectionRejected) -> Ended:
    return Ended(
        refusal_words(refusal.status_code, refusal.body),
        retry_after=retry_after(refusal.headers, datetime.now(UTC)),
        final=refusal_is_final(refusal.status_code),
    )


def _unreachable(error: Exception) -> Ended:
    if is_untrusted_certificate(error):
        return Ended(f"the server's certificate is not trusted: {failure_words(error)}", final=True)
    return Ended(f"no connection: {failure_words(error)}")


async def _cancel_on_signal(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    async for _ in signals:
        scope.cancel()
