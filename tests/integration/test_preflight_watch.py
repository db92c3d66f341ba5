"""`preflightd watch` as a process, against a small trio-websocket server."""

from __future__ import annotations

import json
import signal
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio

from preflightd.checklist import packaged
from tests.integration.test_watch import (
    client_process,
    playing,
    read_all,
    read_until,
    screen_until,
    serving,
    stay_on,
)
from tests.support.raw import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from trio_websocket import WebSocketConnection, WebSocketRequest

pytestmark = pytest.mark.integration

RUN_ID = "batch;;a;;_base"
watch_process = partial(client_process, daemon="preflightd", path=RUN_ID)

EMPTY = packaged().evaluate({})
CHANNELS = packaged().evaluate({b"timestamps:build_channels": b"5", b"locked:wepp.nodb": b"true"})


def snapshots(*contents: dict[str, object], end: bool = False) -> Callable[[WebSocketRequest], Awaitable[None]]:
    """Send these; then close, or stay."""

    async def script(connection: WebSocketConnection) -> None:
        for content in contents:
            await connection.send_message(json.dumps({"type": "preflight", **content}))
        if end:
            await connection.aclose(1001, "drain")
        else:
            await stay_on(connection)

    return playing(script)


async def test_in_a_pipe_it_says_what_changed_and_after_a_reconnect_only_what_is_new() -> None:
    empty, channels = EMPTY.content(), CHANNELS.content()
    steps = snapshots(empty, end=True), snapshots(empty, channels)
    async with serving(*steps) as server, watch_process(server.url) as process:
        told = await read_until(process.stdout, b"locked wepp.nodb\n")
        assert told == b"0 of 24 done\n+ channels\nlocked wepp.nodb\n"
        process.send_signal(signal.SIGINT)
        assert await read_all(process.stdout) == b""
        with trio.fail_after(PATIENCE):
            assert await process.wait() == 0
        errors = (await read_all(process.stderr)).decode().splitlines()
        assert errors[0] == f"-- connected to {server.url}/batch%3B%3Ba%3B%3B_base --"
        assert errors[-1] == "-- connected again --"
        assert "lines may be missing" not in " ".join(errors)
        assert server.paths == ["/batch%3B%3Ba%3B%3B_base"] * 2


async def test_on_a_terminal_ctrl_c_leaves_the_table_and_gives_the_cursor_back() -> None:
    async with serving(snapshots(EMPTY.content(), CHANNELS.content())) as server:
        screen = await screen_until(b"1 of 24 done", server.url, "preflightd", RUN_ID)
    assert b"1 locked: " in screen
    assert screen.count(b"\x1b[?25l") == screen.count(b"\x1b[?25h") == 1
    assert screen.rindex(b"\x1b[?25h") > screen.rindex(b"1 of 24 done")


async def test_a_url_that_is_none_is_one_line_and_2() -> None:
    async with watch_process("ftp://localhost") as process:
        errors = await read_all(process.stderr)
        assert errors.startswith(b"preflightd watch: 'ftp://localhost' is not a ws:// or wss:// URL")
        assert errors.count(b"\n") == 1
        with trio.fail_after(PATIENCE):
            assert await process.wait() == 2
