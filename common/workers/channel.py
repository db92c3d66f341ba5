"""Questions and answers between the parent and one worker; either may ask.

{"ask": n, "what": "status", "of": …}   a question, and what it is about
{"answer": n, "value": …}               its answer
{"answer": n, "piece": "<base64>"}      an answer of bytes, in pieces; the last one is empty
{"answer": n, "failed": true}           there is none: the other side does not know the question, or has a bug
{"drop": n}                             nobody waits for that answer any more
{"order": "drain"}                      what has no answer

Whoever owns the other side, or is owned by it, runs `WorkerChannel.run`; while it runs, `ask` is answered or ends with
the other side. A message is never cut short, since nothing could follow it: what has been begun is said to its end.
"""

from __future__ import annotations

import base64
import itertools
import math
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import attrs
import trio

from common.workers.lines import ChannelError, GoneError, Lines

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from typing import TypeAlias

    from common.logs import Logger

    Answers: TypeAlias = Mapping[str, Callable[[object], Awaitable[object]]]
    """By the question's name: what it is about -> bytes, or what JSON can say."""

T = TypeVar("T")

MOST_QUESTIONS: Final = 256
"""Of one side, that wait for an answer; more are not asked."""

PIECE: Final = 48 * 1024
"""Bytes in one message: others need not wait for the whole of a long answer."""

ANSWER_LIMIT: Final = 256 << 20
"""Bytes of such an answer."""


class NoAnswerError(ChannelError):
    """The other side is there and did not answer: in time, or at all."""


@attrs.frozen
class Question(Generic[T]):
    """What may be asked. `read` makes a value of the answer; it raises ValueError for nonsense."""

    name: str
    read: Callable[[object], T]


class WorkerChannel:
    """One side. `log` tells of bugs in answering."""

    def __init__(self, stream: trio.abc.Stream, log: Logger) -> None:
        self._lines = Lines(stream)
        self._log = log
        self._nursery: trio.Nursery | None = None
        self._numbers = itertools.count()
        self._asked: dict[int, _Asked[Any]] = {}
        self._dropping = 0
        """Questions of which the other side does not know yet that nobody waits any more."""
        self._answering: dict[int, trio.CancelScope] = {}
        self._gone = False

    async def ask(self, question: Question[T], of: object = None, *, within: float = math.inf) -> T:
        """The answer. Raises `GoneError`, or `NoAnswerError` when there is none within so many seconds."""
        if self._gone:
            raise GoneError("the other side is gone")
        if len(self._asked) + self._dropping >= MOST_QUESTIONS:
            raise NoAnswerError("too many questions wait for an answer")
        number = next(self._numbers)
        asked: _Asked[T] = _Asked(question)
        self._asked[number] = asked
        try:
            with trio.move_on_after(within):
                await self._lines.send({"ask": number, "what": question.name, "of": of})
                await asked.ended.wait()
        finally:
            del self._asked[number]
            if not asked.ended.is_set() and self._nursery is not None:
                self._dropping += 1
                self._nursery.start_soon(self._drop, number)
        if asked.answers:
            return asked.answers[0]
        if self._gone:
            raise GoneError("the other side is gone")
        raise NoAnswerError("no answer" if asked.ended.is_set() else "no answer in time")

    async def order(self, order: str) -> None:
        """Say what has no answer. Raises `GoneError`."""
        await self._lines.send({"order": order})

    async def run(self, answers: Answers, orders: Mapping[str, Callable[[], None]] | None = None) -> None:
        """Hear the other side, answering it, until it is gone. Raises `ChannelError` if it talks nonsense."""
        nonsense = ""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                try:
                    async with aclosing(self._lines.messages()) as messages:
                        async for message in messages:
                            self._take(message, nursery, answers, orders or {})
                except (ChannelError, ValueError) as error:
                    nonsense = str(error)
                finally:
                    # From here on it may be closed, before its tasks have ended.
                    self._nursery = None
                nursery.cancel_scope.cancel()
        finally:
            self._gone = True
            for asked in self._asked.values():
                asked.ended.set()
        if nonsense:
            raise ChannelError(nonsense)

    async def aclose(self) -> None:
        """Close this side, at once."""
        await self._lines.aclose()

    def _take(
        self,
        message: Mapping[str, object],
        nursery: trio.Nursery,
        answers: Answers,
        orders: Mapping[str, Callable[[], None]],
    ) -> None:
        match message:
            case {"ask": int(number), "what": str(what)}:
                if number in self._answering:
                    raise ChannelError("two questions of one number")
                if len(self._answering) >= MOST_QUESTIONS:
                    raise ChannelError("too many questions at once")
                scope = self._answering[number] = trio.CancelScope()
                nursery.start_soon(self._answer, number, what, message.get("of"), answers, scope)
            case {"answer": int(number)}:
                # To what nobody has asked, or asks any more, nobody listens.
                if (asked := self._asked.get(number)) is not None:
                    asked.take(message)
            case {"drop": int(number)}:
                # Its task may have had no time to begin: it is no question any more.
                if (dropped := self._answering.pop(number, None)) is not None:
                    dropped.cancel()
            case {"order": str(order)} if order in orders:
                orders[order]()
            case _:
                raise ChannelError("neither question nor answer")

    async def _answer(self, number: int, what: str, of: object, answers: Answers, scope: trio.CancelScope) -> None:
        try:
            with scope, suppress(GoneError):
                try:
                    await self._say(number, await answers[what](of))
                except GoneError:
                    raise
                except Exception:  # noqa: BLE001 - the barrier: a bug in looking must not end those who are looked at
                    self._log.exception("question failed", question=what)
                    await self._lines.send({"answer": number, "failed": True})
        finally:
            if self._answering.get(number) is scope:
                del self._answering[number]

    async def _say(self, number: int, answer: object) -> None:
        if not isinstance(answer, bytes):
            await self._lines.send({"answer": number, "value": answer})
            return
        for start in range(0, len(answer), PIECE):
            piece = base64.b64encode(answer[start : start + PIECE]).decode("ascii")
            await self._lines.send({"answer": number, "piece": piece})
        await self._lines.send({"answer": number, "piece": ""})

    async def _drop(self, number: int) -> None:
        try:
            with suppress(GoneError):
                await self._lines.send({"drop": number})
        finally:
            self._dropping -= 1


class _Asked(Generic[T]):
    """A question that waits for its answer."""

    def __init__(self, question: Question[T]) -> None:
        self._question = question
        self._pieces = bytearray()
        self.answers: list[T] = []
        """One, once it has come."""
        self.ended = trio.Event()

    def take(self, message: Mapping[str, object]) -> None:
        """The answer, a piece of it, or that there is none. Raises ValueError for nonsense."""
        match message:
            case {"value": value}:
                self.answers.append(self._question.read(value))
            case {"piece": ""}:
                self.answers.append(self._question.read(bytes(self._pieces)))
            case {"piece": str(piece)}:
                self._pieces += base64.b64decode(piece, validate=True)
                if len(self._pieces) > ANSWER_LIMIT:
                    raise ValueError("an answer that does not end")
                return
            case {"failed": True}:
                pass
            case _:
                raise ValueError("an answer that is none")
        self.ended.set()
