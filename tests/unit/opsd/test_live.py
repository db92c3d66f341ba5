"""opsd's live WebSocket: what a client gets, and who gets one. No port: it is spoken to as ASGI."""

from __future__ import annotations

import json

import jsonschema
import pytest
import trio

from opsd.live import MOST_CLIENTS
from opsd.schema import SCHEMA
from tests.support.opsd_app import HOST, Conversation, Opsd, converse
from tests.support.raw import PATIENCE


async def test_a_client_gets_the_status_at_once_and_at_every_change() -> None:
    opsd = Opsd()
    async with converse(opsd) as client:
        assert (await client.next())["type"] == "websocket.accept"
        first = await client.next()
        jsonschema.validate(json.loads(first["text"]), SCHEMA)
        opsd.board.tmux_sessions = 7
        opsd.board.publish()
        assert json.loads((await client.next())["text"])["vector"]["sessions"]["tmux"] == 7


async def test_a_slow_client_skips_what_is_old() -> None:
    opsd = Opsd()
    async with converse(opsd) as client:
        assert (await client.next())["type"] == "websocket.accept"
        await trio.testing.wait_all_tasks_blocked()
        # The first is on its way while these are made.
        for sessions in range(1, 101):
            opsd.board.tmux_sessions = sessions
            opsd.board.publish()
        seen = [json.loads((await client.next())["text"])["vector"]["sessions"]["tmux"] for _ in range(2)]
        assert seen == [0, 100]


async def test_what_a_client_says_has_no_meaning_and_its_end_is_noticed() -> None:
    opsd = Opsd()
    async with converse(opsd) as client:
        await client.next()
        await client.next()
        for _ in range(50):
            await client.to_app.send({"type": "websocket.receive", "text": "x" * 1000})
        await client.to_app.send({"type": "websocket.disconnect", "code": 1005})
        with trio.fail_after(PATIENCE):
            # Ends when the application has.
            assert not [message async for message in client.from_app]


async def test_at_the_end_of_the_daemon_clients_are_told() -> None:
    opsd = Opsd()
    async with converse(opsd) as client:
        await client.next()
        await client.next()
        opsd.closing.set()
        assert await client.next() == {"type": "websocket.close", "code": 1001, "reason": ""}


@pytest.mark.parametrize(
    ("token", "headers", "status"),
    [
        (None, {"Origin": "http://evil.example"}, 403),
        (None, {"Host": "rebound.example"}, 421),
        ("sesame", {}, 401),
        ("sesame", {"Authorization": "Bearer wrong"}, 401),
    ],
)
async def test_a_stranger_gets_no_websocket(token: str | None, headers: dict[str, str], status: int) -> None:
    async with converse(Opsd(token=token), **headers) as client:
        start = await client.next()
        assert (start["type"], start["status"]) == ("websocket.http.response.start", status)
        assert "error" in json.loads((await client.next())["body"])


@pytest.mark.parametrize("headers", [{"Authorization": "Bearer sesame"}, {"X-TES-Dev-Token": "sesame"}])
async def test_a_friend_gets_a_websocket(headers: dict[str, str]) -> None:
    async with converse(Opsd(token="sesame"), Origin=f"http://{HOST}", **headers) as client:
        assert (await client.next())["type"] == "websocket.accept"


async def test_clients_are_limited() -> None:
    opsd = Opsd()
    async with trio.open_nursery() as nursery:
        for _ in range(MOST_CLIENTS):
            client = Conversation()
            nursery.start_soon(client.run, opsd, {"Host": HOST})
            assert (await client.next())["type"] == "websocket.accept"
        async with converse(opsd) as one_more:
            await one_more.next()
            assert (await one_more.next())["code"] == 1013
        nursery.cancel_scope.cancel()
