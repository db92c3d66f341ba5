"""A worker's process without its daemon (common/workers/worker.py): the parent's word, its orders, and its loss."""

from __future__ import annotations

import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import attrs
import pytest
import trio

from common.exits import Exit
from common.tracing import NO_TRACES
from common.workers import worker
from common.workers.channel import WorkerChannel
from common.workers.inherited import Inherited
from common.workers.questions import AT_ONCE, BEAT, DRAIN, READY, SERVING, Standing
from common.workers.worker import INTRODUCTION, serve_worker
from statusd.daemon import STATUSD
from statusd.settings import StatusSettings
from tests.support.logbook import Logbook

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence


class Door:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def shut(self) -> None:
        self.told.append("shut")

    def reopen(self) -> None:
        self.told.append("reopen")

    def close(self) -> None:
        self.told.append("close")


class Service:
    """A daemon that serves until it is told to stop, and then takes a second."""

    made: Service

    def __init__(self, _daemon: object, settings: StatusSettings, _log: object, **given: Any) -> None:
        Service.made = self
        self.settings = settings
        self.given = given
        self.door = Door()
        self.hub = self.link = self
        self.online = False
        self.link_changed = trio.Event()
        self.begun_at: float | None = None
        self.names: list[object] = []

    def report(self) -> None:
        """Nobody asks."""

    def is_online(self, online: bool) -> None:
        self.online = online
        self.link_changed.set()
        self.link_changed = trio.Event()

    async def run(self, listeners: Sequence[socket.socket], stop: trio.Event) -> int:
        self.begun_at = trio.current_time()
        self.names = [listener.getsockname() for listener in listeners]
        await stop.wait()
        await trio.sleep(1)
        return 5


@attrs.define
class Parent:
    """The parent's side, and what became of the worker."""

    channel: WorkerChannel
    serving: Standing
    logbook: Logbook
    started: float
    codes: list[int] = attrs.field(factory=list)
    ended: trio.Event = attrs.field(factory=trio.Event)


@asynccontextmanager
async def working(monkeypatch: pytest.MonkeyPatch, *, introduces: bool = True) -> AsyncIterator[Parent]:
    """Worker 2 of 3, whose parent says at once that the daemon serves unless it is told not to."""
    monkeypatch.setattr(worker, "DaemonService", Service)
    monkeypatch.setattr(worker, "Probe", lambda *_: None)
    ours, theirs = socket.socketpair()
    listener = socket.create_server(("127.0.0.1", 0))
    logbook, serving = Logbook(), Standing()
    serving.set(introduces)
    channel = WorkerChannel(trio.SocketStream(trio.socket.from_stdlib_socket(ours)), logbook.log)
    parent = Parent(channel, serving, logbook, trio.current_time())
    inherited = Inherited(2, theirs.detach(), (listener.detach(),))

    async def work() -> None:
        settings = StatusSettings(workers=3, max_connections=10)
        parent.codes.append(await serve_worker(STATUSD, settings, inherited, NO_TRACES, logbook.log))
        parent.ended.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(work)
        if introduces:
            nursery.start_soon(channel.run, {SERVING.name: serving.unlike})
        yield parent
        with trio.fail_after(60):
            await parent.ended.wait()
        await channel.aclose()
        nursery.cancel_scope.cancel()
    for number in (inherited.channel, *inherited.listeners):
        with pytest.raises(OSError, match="Bad file descriptor"):
            socket.socket(fileno=number)


async def test_it_serves_its_share_on_what_it_inherited_and_drains_when_it_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with working(monkeypatch) as parent:
        await trio.sleep(0.1)
        made = Service.made
        assert made.begun_at == pytest.approx(parent.started, abs=0.1)
        assert made.settings.max_connections == 3
        assert [name[0] for name in made.names] == ["127.0.0.1"]  # type: ignore[index]
        await parent.channel.order(DRAIN)
    assert parent.codes == [5]
    assert made.door.told == ["reopen"]


async def test_its_parent_hears_that_it_lives_and_whether_its_redis_does(monkeypatch: pytest.MonkeyPatch) -> None:
    async with working(monkeypatch) as parent:
        await parent.channel.ask(BEAT, within=1)
        assert await parent.channel.ask(READY, within=1) is False
        Service.made.is_online(True)
        assert await parent.channel.ask(READY, False, within=1) is True
        Service.made.is_online(False)
        assert await parent.channel.ask(READY, True, within=1) is False
        await parent.channel.order(DRAIN)
    assert parent.codes == [5]


async def test_without_its_parents_first_word_it_does_not_accept_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    async with working(monkeypatch, introduces=False) as parent:
        await trio.sleep(INTRODUCTION - 0.1)
        assert Service.made.begun_at is None
        await trio.sleep(0.2)
        assert Service.made.begun_at == pytest.approx(parent.started + INTRODUCTION)
        await parent.channel.order(DRAIN)
    assert parent.codes == [5]


async def test_when_there_is_no_time_it_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async with working(monkeypatch) as parent:
        await trio.sleep(0.1)
        told_at = trio.current_time()
        await parent.channel.order(AT_ONCE)
        await parent.ended.wait()
        assert trio.current_time() == told_at
    assert parent.codes == [Exit.FAILED]


async def test_without_a_parent_it_gives_up_the_port_and_drains(monkeypatch: pytest.MonkeyPatch) -> None:
    async with working(monkeypatch) as parent:
        await trio.sleep(0.1)
        await parent.channel.aclose()
    assert parent.codes == [5]
    assert Service.made.door.told == ["close"]
    [line] = parent.logbook.said("supervisor is gone")
    assert line["worker"] == 2
