"""Requests as bytes and as values, the streams that bring them, and answers as another HTTP library reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import attrs
import h11
import trio

from common.web.handshake import Decision, decide
from common.web.http import Head, Response
from common.web.origin import OriginPolicy
from statusd.route import route

if TYPE_CHECKING:
    from collections.abc import Iterable

HOST: Final = "app.example.gov"

KEY: Final = "dGhlIHNhbXBsZSBub25jZQ=="
"""The key of RFC 6455's own example; it is answered with `ACCEPT`."""

ACCEPT: Final = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

UPGRADE: Final = {
    "Host": HOST,
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": KEY,
}
"""The headers of a handshake that is in order."""

ANY_ORIGIN: Final = OriginPolicy([])
"""Every origin may come."""

Ending = Literal["eof", "reset", "silence"]


class ScriptedStream(trio.abc.ReceiveStream):
    """Brings `chunks`, one a read at most, `pause` seconds before each; then ends, breaks or says nothing more."""

    def __init__(self, chunks: Iterable[bytes], ending: Ending = "eof", *, pause: float = 0.0) -> None:
        self._chunks = iter(chunks)
        self._left = b""
        self._ending = ending
        self._pause = pause
        self.taken = 0
        """Bytes read so far."""

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """The next bytes."""
        await trio.sleep(self._pause)
        if not self._left:
            self._left = next(self._chunks, b"")
        if not self._left and self._ending == "reset":
            raise trio.BrokenResourceError("connection reset")
        if not self._left and self._ending == "silence":
            await trio.sleep_forever()
        data, self._left = self._left[:max_bytes], self._left[max_bytes or len(self._left) :]
        self.taken += len(data)
        return data

    async def aclose(self) -> None:
        """Nothing is held."""
        await trio.lowlevel.checkpoint()


def byte_by_byte(data: bytes) -> list[bytes]:
    """The same bytes in the smallest pieces."""
    return [data[index : index + 1] for index in range(len(data))]


def request_bytes(
    target: str = "/run:log",
    headers: Iterable[tuple[str, str]] = (("Host", HOST),),
    *,
    method: str = "GET",
    version: str = "1.1",
) -> bytes:
    """A request head as a client sends it."""
    lines = [f"{method} {target} HTTP/{version}", *(f"{name}: {value}" for name, value in headers), "", ""]
    return "\r\n".join(lines).encode("latin-1")


def make_head(
    target: str = "/run:log",
    headers: Iterable[tuple[str, str]] = (("Host", HOST),),
    *,
    method: str = "GET",
    version: str = "1.1",
) -> Head:
    """A request head as `read_head` returns it."""
    lowered = tuple((name.lower().encode(), value.encode("latin-1")) for name, value in headers)
    return Head(method, target.encode("latin-1"), version, lowered)


def upgrade_head(
    target: str = "/run:log", *, without: str | None = None, version: str = "1.1", **changed: str | list[str]
) -> Head:
    """A handshake, changed by name (`sec_websocket_key="x"`; a list is several headers) or without one header."""
    changes = {name.replace("_", "-"): value for name, value in changed.items()}
    fields: dict[str, str | list[str]] = {name.lower(): value for name, value in UPGRADE.items()}
    fields |= changes
    if without is not None:
        del fields[without]
    headers = [
        (name, value) for name, values in fields.items() for value in ([values] if isinstance(values, str) else values)
    ]
    return make_head(target, headers, version=version)


@attrs.frozen
class Answer:
    """An HTTP answer as h11's client side reads it: names in lower case, values in order."""

    status: int
    phrase: str
    headers: dict[str, list[str]]
    body: bytes

    @property
    def line(self) -> str:
        """The body, which is one line of text."""
        text = self.body.decode()
        assert text.endswith("\n")
        assert text.count("\n") == 1
        assert text[:-1].isprintable()
        return text[:-1]


def read_answer(data: bytes, *, method: str = "GET") -> Answer:
    """Parse a whole answer to a request of this method; nothing may follow it."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("Host", HOST)]))
    client.send(h11.EndOfMessage())
    client.receive_data(data)
    response = client.next_event()
    assert isinstance(response, h11.Response), response
    body = b""
    while isinstance(event := client.next_event(), h11.Data):
        body += bytes(event.data)
    assert isinstance(event, h11.EndOfMessage), event
    assert client.trailing_data == (b"", False)
    assert client.their_state is h11.MUST_CLOSE
    headers: dict[str, list[str]] = {}
    for name, value in response.headers:
        headers.setdefault(name.decode(), []).append(value.decode())
    return Answer(response.status_code, response.reason.decode(), headers, body)


def decision(head: Head, *, origins: OriginPolicy = ANY_ORIGIN, metrics: bool = True) -> Decision:
    """What statusd does with a request."""
    return decide(head, route=route, origins=origins, metrics_enabled=metrics)


def refused(head: Head, *, origins: OriginPolicy = ANY_ORIGIN, metrics: bool = True) -> tuple[str, Answer]:
    """The metric's reason and the answer of a refusal, which has one line of text and closes."""
    response = decision(head, origins=origins, metrics=metrics)
    assert isinstance(response, Response)
    answer = read_answer(response.encode())
    assert answer.headers["content-type"] == ["text/plain; charset=utf-8"]
    assert "close" in answer.headers["connection"][0].split(", ")
    assert answer.line
    return response.reason, answer
