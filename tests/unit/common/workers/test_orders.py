"""What a worker does when it is told to end, and with the port (common/workers/orders, common/web/door)."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, cast

import pytest
import trio
import trio.testing

from common.fleet import FleetError
from common.web.door import Door
from common.workers.channel import WorkerChannel
from common.workers.member import Member
from common.workers.orders import heed_orders
from common.workers.questions import AT_ONCE, DRAIN
from tests.support.logbook import Logbook

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator

    from trio.testing import MockClock


class Listener:
    """A listening socket that only notes whether it is accepted from."""

    def __init__(self) -> None:
        self.accepting = 0
        self.closed = False

    async def accept_from(self) -> None:
        """Stand in for the accept loop."""
        assert not self.closed
        self.accepting += 1
        try:
            await trio.sleep_forever()
        finally:
            self.accepting -= 1

    def close(self) -> None:
        """See `socket.socket`."""
        assert not self.accepting, "closed under the accept loop"
        self.closed = True


class Worker:
    """A worker's orders, and its door with two listeners."""

    def __init__(self, *, waits: bool = False) -> None:
        ours, theirs = trio.testing.memory_stream_pair()
        self.logbook = Logbook()
        self.parent = WorkerChannel(ours, self.logbook.log)
        self.member = Member(WorkerChannel(theirs, self.logbook.log))
        self.door = Door(waits=waits)
        self.listeners = [Listener(), Listener()]
        self.signalled = trio.Event()
        self.stop = trio.Event()
        self.ended = trio.Event()

    async def heed(self) -> None:
        """Hear of the end."""
        await heed_orders(self.signalled, self.member, self.door, self.stop, self.logbook.log)
        self.ended.set()

    async def run_door(self) -> None:
        """Stand at the door."""
        await self.door.run(
            cast("list[socket.socket]", self.listeners), lambda listener: cast("Listener", listener).accept_from()
        )

    async def told(self, how: str) -> None:
        """The parent's word."""
        await self.parent.order(how)
        await trio.testing.wait_all_tasks_blocked()

    def accepting(self) -> set[int]:
        """How many accept from each listener."""
        return {listener.accepting for listener in self.listeners}

    def closed(self) -> set[bool]:
        """Whether they are closed."""
        return {listener.closed for listener in self.listeners}


@asynccontextmanager
async def open_worker(*, waits: bool = False) -> AsyncIterator[Worker]:
    """A worker that serves, or whose newcomers still wait for its start."""
    worker = Worker(waits=waits)
    async with trio.open_nursery() as nursery:
        for run in (worker.heed, worker.run_door, partial(worker.member.run, {})):
            nursery.start_soon(run)
        await trio.testing.wait_all_tasks_blocked()
        assert (worker.accepting(), worker.stop.is_set()) == ({not waits}, False)
        yield worker
        nursery.cancel_scope.cancel()


async def test_signalled_alone_it_drains_and_leaves_newcomers_to_its_siblings(autojump_clock: MockClock) -> None:
    async with open_worker() as worker:
        worker.signalled.set()
        await trio.sleep(3600)
        assert (worker.stop.is_set(), worker.accepting(), worker.closed()) == (True, {0}, {False})
        assert not worker.ended.is_set()


@pytest.mark.parametrize("first", ["signal", "parent"])
async def test_when_all_drain_it_answers_newcomers(autojump_clock: MockClock, first: str) -> None:
    async with open_worker() as worker:
        if first == "signal":
            worker.signalled.set()
            await trio.testing.wait_all_tasks_blocked()
            assert worker.accepting() == {0}
        await worker.told(DRAIN)
        assert (worker.stop.is_set(), worker.accepting()) == (True, {1})
        worker.signalled.set()
        await trio.testing.wait_all_tasks_blocked()
        assert worker.accepting() == {1}
        assert not worker.ended.is_set()


@pytest.mark.parametrize("first", ["signal", "parent"])
async def test_an_order_to_drain_lets_nobody_in_who_waits_for_the_start(autojump_clock: MockClock, first: str) -> None:
    async with open_worker(waits=True) as worker:
        if first == "signal":
            worker.signalled.set()
            await trio.testing.wait_all_tasks_blocked()
        await worker.told(DRAIN)
        assert (worker.stop.is_set(), worker.accepting(), worker.closed()) == (True, {0}, {False})


async def test_the_end_of_the_start_opens_no_door_that_was_shut_or_left_meanwhile(autojump_clock: MockClock) -> None:
    async with open_worker(waits=True) as worker:
        worker.door.shut()
        worker.door.open()
        await trio.testing.wait_all_tasks_blocked()
        assert worker.accepting() == {0}
        worker.door.reopen()
        await trio.testing.wait_all_tasks_blocked()
        assert worker.accepting() == {1}
        worker.door.leave()
        worker.door.open()
        worker.door.reopen()
        await trio.testing.wait_all_tasks_blocked()
        assert (worker.accepting(), worker.closed()) == ({0}, {False})


@pytest.mark.parametrize("before", ["serving", "signalled", "draining"])
async def test_without_a_parent_it_gives_the_port_up_and_drains(autojump_clock: MockClock, before: str) -> None:
    async with open_worker() as worker:
        if before == "signalled":
            worker.signalled.set()
        if before == "draining":
            await worker.told(DRAIN)
        await worker.parent.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert (worker.stop.is_set(), worker.accepting(), worker.closed()) == (True, {0}, {True})
        assert [line["msg"] for line in worker.logbook.lines] == ["supervisor is gone"]
        assert not worker.ended.is_set()


async def test_a_parent_that_is_not_understood_is_none(autojump_clock: MockClock) -> None:
    async with open_worker() as worker:
        await worker.told("dance")
        assert (worker.stop.is_set(), worker.accepting(), worker.closed()) == (True, {0}, {True})
        [line] = worker.logbook.lines
        assert (line["msg"], line["error"]) == ("supervisor is not understood", "neither question nor answer")
        with pytest.raises(FleetError, match="not understood: neither question nor answer"):
            await worker.member.report()


async def test_nobody_waits_for_the_first_word_of_a_parent_that_is_gone(autojump_clock: MockClock) -> None:
    async with open_worker() as worker:
        assert not worker.member.introduced.is_set()
        await worker.parent.aclose()
        with trio.fail_after(1):
            await worker.member.introduced.wait()
            await worker.stop.wait()


async def test_only_the_parent_ends_it_at_once(autojump_clock: MockClock) -> None:
    async with open_worker() as worker:
        worker.signalled.set()
        await worker.told(DRAIN)
        await trio.sleep(3600)
        assert not worker.ended.is_set()
        await worker.told(AT_ONCE)
        assert worker.ended.is_set()


async def test_a_door_that_was_closed_before_it_ran_only_closes(autojump_clock: MockClock) -> None:
    worker = Worker()
    worker.door.close()
    await worker.run_door()
    assert (worker.accepting(), worker.closed()) == ({0}, {True})


async def test_a_cancelled_door_leaves_the_sockets_to_their_owner(autojump_clock: MockClock) -> None:
    worker = Worker()
    with trio.move_on_after(1) as patience:
        await worker.run_door()
    assert patience.cancelled_caught
    assert (worker.accepting(), worker.closed()) == ({0}, {False})
