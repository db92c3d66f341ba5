"""The board: when it is new, and that no source can spoil it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from opsd.board import COALESCE, SnapshotError
from tests.support.opsd_board import VALIDATOR, HandSource, daemons, open_board, unavailable
from tests.support.opsd_telemetry import Telemetry, answering, encoded, endless, event, hang, telemetry, worker

if TYPE_CHECKING:
    from trio.testing import MockClock


async def test_a_change_makes_a_new_version_at_once_and_a_burst_few(autojump_clock: MockClock) -> None:
    a = HandSource("a")
    async with open_board([a]) as (board, _):
        await trio.sleep(0.5)
        version, begun = board.version, trio.current_time()
        a.shows()
        assert await board.wait_newer(version) == version + 1
        assert trio.current_time() == begun
        for n in range(100):
            a.shows(telemetry({"1": worker(connections=n)}))
            await trio.sleep(0.001)
        assert board.version - version <= 2 + 0.1 / COALESCE
        await trio.sleep(COALESCE)
        assert board.status.vector.sessions.websocket_connections == 99


async def test_there_is_a_new_version_each_second_whatever_happens(autojump_clock: MockClock) -> None:
    async with open_board([HandSource("a")]) as (board, _):
        for _ in range(10):
            version, body = board.version, board.body
            with trio.fail_after(1.01):
                await board.wait_newer(version)
            assert board.body is not body
            assert board.body is board.body


async def test_tmux_sessions_are_a_change_only_when_they_change(autojump_clock: MockClock) -> None:
    async with open_board([]) as (board, _):
        await trio.sleep(0.1)
        version = board.version
        board.tmux_sessions = 0
        await trio.sleep(0.1)
        assert board.version == version
        board.tmux_sessions = 2
        await trio.sleep(0.01)
        assert board.version == version + 1
        assert board.tmux_sessions == board.status.vector.sessions.tmux == 2


@pytest.mark.parametrize("name", ["hang", "500", "garbage", "half", "flood", "down", "push garbage", "push flood"])
async def test_one_bad_source_neither_delays_nor_spoils_the_others(autojump_clock: MockClock, name: str) -> None:
    good = Telemetry(pushes=True)
    bad = Telemetry(pushes=name.startswith("push"))
    if name == "down":
        bad.up = False
    else:
        bad.status = {
            "hang": hang,
            "500": answering(500),
            "garbage": answering(200, b"{]"),
            "half": answering(200, encoded(telemetry())[:50]),
            "flood": endless(b"[" * 65536),
            "push garbage": answering(500),
            "push flood": answering(500),
        }[name]
    async with open_board(daemons({"bad": bad, "good": good})) as (board, _):
        await trio.sleep(0.2)
        for count in range(60):
            if name == "push garbage" and not bad.streams[-1].ended:
                bad.streams[-1].send(b"data: " + b"\xff" * 1000)
                bad.streams[-1].send(b"\n\n\n\nevent: status\ndata: NaN\n\n")
            if name == "push flood" and not bad.streams[-1].ended:
                bad.streams[-1].send(b"x" * 300_000)
            if count % 3:
                good.document = telemetry({"1": worker(connections=count)})
                good.streams[-1].send(event(good.document))
                sent = trio.current_time()
                while board.status.vector.sessions.websocket_connections != count:
                    await board.wait_newer(board.version)
                assert trio.current_time() - sent <= COALESCE
            await trio.sleep(0.33)
        assert unavailable(board) == ("bad",)
        assert board.status.vector.sessions.active_workers == 1
        bad.up, bad.status, bad.pushes = True, None, True
        await trio.sleep(5.2 if name == "hang" else 1.1)
        assert unavailable(board) == ()
        VALIDATOR.validate(json.loads(board.body))


async def test_daemons_that_come_and_go_at_random_leave_a_valid_status(autojump_clock: MockClock) -> None:
    servers = {"statusd": Telemetry(pushes=True), "preflightd": Telemetry(pushes=True)}
    async with open_board(daemons(servers)) as (board, logbook):
        for step in range(200):
            server = servers["statusd" if step % 3 else "preflightd"]
            server.crash() if server.up else setattr(server, "up", True)
            await trio.sleep(0.17 + step % 7 / 10)
            VALIDATOR.validate(json.loads(board.body))
        for server in servers.values():
            server.up = True
        await trio.sleep(1.1)
        assert unavailable(board) == ()
        assert not logbook.at_least("error")


async def test_a_bug_in_a_source_costs_its_figures_for_a_second(autojump_clock: MockClock) -> None:
    class Broken(HandSource):
        runs = 0

        async def run(self, changed: object) -> None:
            self.runs += 1
            raise KeyError(changed)

    broken, good = Broken("broken"), HandSource("good")
    async with open_board([broken, good]) as (board, logbook):
        good.shows()
        await trio.sleep(3.5)
        assert board.status.vector.sessions.active_workers == 1
        assert broken.runs == 4
        assert len(logbook.said("source failed")) == 4


async def test_workers_of_all_sources_have_ids_that_a_snapshot_can_be_had_by(autojump_clock: MockClock) -> None:
    sources = [HandSource("a"), HandSource("a-1"), HandSource("workers", outside=True)]
    async with open_board(sources) as (board, _):
        sources[0].shows()
        sources[1].shows()
        sources[2].shows({"connected": 1, "workers": {"1": worker()}})
        listed = board.workers()
        assert [(item["id"], item["source"]) for item in listed] == [
            ("a-1", "a"),
            ("a-1-1", "a-1"),
            ("workers-1", "workers"),
        ]
        assert listed[0]["connections"] == 2
        for item in listed:
            snapshot = await board.snapshot(str(item["id"]))
            assert snapshot.body == f"{item['source']}/1".encode()
            assert snapshot.filename.startswith(f"{item['id']}-2")
            assert snapshot.filename.endswith("Z.json")


@pytest.mark.parametrize(
    "name", ["", "a", "a-", "b-1", "a-../x", "a-..", "a-1/2", "a-1\n", "a-" + "1" * 65, "A-1", "a-é"]
)
async def test_there_is_no_snapshot_of_what_is_no_worker(autojump_clock: MockClock, name: str) -> None:
    async with open_board([HandSource("a")]) as (board, _):
        with pytest.raises(SnapshotError) as caught:
            await board.snapshot(name)
        assert caught.value.status == 404
