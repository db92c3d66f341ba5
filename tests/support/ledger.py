"""Publishers under sentinels that number their messages, and the account of what became of them.

A `Publisher` keeps its connection until that is closed, or, if it `asks`, asks a sentinel before every message where it
is to go. What a server has not acknowledged is not said again, and is not in the account.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import attrs
import trio

from common.embedded_group import HOST
from common.embedded_sentinel import MASTER
from common.redis.resp import RespParser, encode
from tests.support.raw import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from common.embedded_sentinel import EmbeddedSentinel

PATIENT: Final = 0.02
"""Seconds between two attempts to publish while there is nobody to publish to."""


@attrs.define(eq=False)
class Publisher:
    """See the module. `said` are the numbers that were acknowledged, `unheard` those of them that the server had no
    subscriber for, and `moved` is how often it went elsewhere."""

    name: str
    channel: str
    group: EmbeddedSentinel
    interval: float
    asks: bool = False
    said: list[int] = attrs.field(factory=list)
    unheard: list[int] = attrs.field(factory=list)
    moved: int = 0

    async def run(self) -> None:
        """Publish until cancelled."""
        number = 0
        while True:
            try:
                async with await trio.open_tcp_stream(HOST, self.group.sentinels[0].port) as asked:
                    sentinel = _Asker(asked)
                    place = await sentinel.primary()
                    async with await trio.open_tcp_stream(HOST, place) as stream:
                        redis = _Asker(stream)
                        while not self.asks or await sentinel.primary() == place:
                            number += 1
                            heard = await redis.ask("PUBLISH", self.channel, f"{self.name}:{number}")
                            self.said.append(number)
                            if not heard:
                                self.unheard.append(number)
                            await trio.sleep(self.interval)
            except (OSError, trio.BrokenResourceError, EOFError):
                await trio.sleep(PATIENT)
            self.moved += 1

    def account(self, frames: Iterable[bytes]) -> Account:
        """What a client has got of it, by the client's frames."""
        got = [
            int(number)
            for frame in map(json.loads, frames)
            if frame["type"] == "status"
            for name, _, number in [frame["data"].partition(":")]
            if name == self.name
        ]
        return Account(
            lost=sorted(set(self.said) - set(got)), twice=len(got) - len(set(got)), ordered=got == sorted(got)
        )


@attrs.frozen
class Account:
    """What became of one publisher's messages at one client."""

    lost: list[int]
    twice: int
    ordered: bool


class _Asker:
    """One connection that asks and is answered; EOFError is its end."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._parser = RespParser()

    async def ask(self, *args: str) -> object:
        """The answer."""
        with trio.fail_after(PATIENCE):
            await self._stream.send_all(encode(*args))
            while True:
                for value in self._parser.values():
                    return value
                data = await self._stream.receive_some(65536)
                if not data:
                    raise EOFError
                self._parser.feed(data)

    async def primary(self) -> int:
        """The port that a sentinel names."""
        reply = await self.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER)
        if not isinstance(reply, list):
            # It knows nothing for a moment, or for good.
            raise EOFError  # noqa: TRY004 - as if it had ended
        return int(reply[1])
