"""What a process does and says before it serves (common/start), and what opsd's needs of its sockets (opsd/process)."""

from __future__ import annotations

import argparse
import errno
import os
import socket
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Final, cast

import attrs
import pytest

import common.start
import opsd.process
from common.config import ListenAddress, load
from common.start import Listeners, Start, StartError, check_traces, listening, prepare, tracing
from common.tracing import EXTRA, NO_TRACES, Tracer
from opsd.settings import OpsSettings
from statusd.settings import StatusSettings
from tests.support.logbook import Logbook

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def starting(environ: Mapping[str, str]) -> Start[OpsSettings]:
    """An opsd that is about to start."""
    settings = load(OpsSettings, {}).settings
    return Start(settings=settings, warnings=(), environ=environ, options=argparse.Namespace(), log=Logbook().log)


def test_what_is_odd_is_said_and_all_descriptors_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[tuple[int, int]] = []
    monkeypatch.setattr("common.start.resource.getrlimit", lambda _which: (1024, 4096))
    monkeypatch.setattr("common.start.resource.setrlimit", lambda _which, limit: limits.append(limit))
    start, logbook = starting({}), Logbook()
    prepare(attrs.evolve(start, warnings=["OPS_TARGET is unknown"], log=logbook.log))
    assert limits == [(4096, 4096)]
    assert logbook.said("configuration")[0]["warning"] == "OPS_TARGET is unknown"
    [line] = logbook.said("open files limit")
    assert (line["limit"], line["before"]) == (4096, 1024)


@pytest.mark.parametrize("error", [OSError(errno.EPERM, "Operation not permitted"), ValueError("not allowed")])
def test_a_limit_that_can_not_be_raised_is_no_obstacle(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_which: int, _limit: tuple[int, int]) -> None:
        raise error

    monkeypatch.setattr("common.start.resource.getrlimit", lambda _which: (1024, 4096))
    monkeypatch.setattr("common.start.resource.setrlimit", refused)
    logbook = Logbook()
    prepare(attrs.evolve(starting({}), log=logbook.log))
    [line] = logbook.lines
    assert (line["level"], line["msg"], line["limit"]) == ("warn", "open files limit not raised", 1024)
    assert str(error) in line["error"]


def test_an_address_is_bound_for_the_block_and_one_that_is_taken_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = ListenAddress("127.0.0.1", taken.getsockname()[1])
        start = starting({})
        occupied = attrs.evolve(start, settings=attrs.evolve(start.settings, listen_addr=address))
        with pytest.raises(StartError, match="can't listen") as raised, listening(occupied):
            pass
    assert raised.value.fields == {"address": str(address), "error": "Address already in use"}
    free = attrs.evolve(start, settings=attrs.evolve(start.settings, listen_addr=ListenAddress("127.0.0.1", 0)))
    with listening(free) as listeners:
        assert not listeners.kept
        assert listeners.sockets[0].getsockname()[0] == "127.0.0.1"
    assert listeners.sockets[0].fileno() == -1


# -- traces ------------------------------------------------------------------------------------------------------------

TRACED: Final = load(StatusSettings, {"STATUS_TRACES_ENABLED": "true"}).settings


def test_traces_that_are_off_need_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common.start, "installed", lambda: False)
    settings = load(StatusSettings, {}).settings
    check_traces(settings)
    with tracing(settings, "statusd", Logbook().log) as tracer:
        assert tracer is NO_TRACES


def test_traces_that_are_on_need_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common.start, "installed", lambda: False)
    with pytest.raises(StartError, match="can't send traces") as raised, tracing(TRACED, "statusd", Logbook().log):
        pass
    assert raised.value.fields == {"setting": "STATUS_TRACES_ENABLED=true", "error": EXTRA}


def test_traces_are_sent_for_the_block_or_it_is_said_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int | None]] = []

    @contextmanager
    def opened(service: str, _log: object, *, worker: int | None) -> Iterator[Tracer]:
        asked.append((service, worker))
        if worker is None:
            raise ValueError("OTEL_BSP_SCHEDULE_DELAY is no number")
        yield made

    made = Tracer()
    monkeypatch.setattr("common.otel.open_traces", opened)
    with tracing(TRACED, "statusd", Logbook().log, 3) as tracer:
        assert tracer is made
    with pytest.raises(StartError) as raised, tracing(TRACED, "statusd", Logbook().log):
        pass
    assert raised.value.fields == {"error": "OTEL_BSP_SCHEDULE_DELAY is no number"}
    assert asked == [("statusd", 3), ("statusd", None)]


# -- opsd --------------------------------------------------------------------------------------------------------------


class Bound:
    """A socket that only has a name."""

    def __init__(self, host: str) -> None:
        self.name = (host, 9003)

    def getsockname(self) -> tuple[str, int]:
        """See `socket.socket`."""
        return self.name


def test_sockets_that_were_passed_are_called_by_the_variable_that_counts_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def take_over(_descriptors: range) -> list[socket.socket]:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    monkeypatch.setattr(common.start, "take_over", take_over)
    start = starting({"LISTEN_FDS": "2", "LISTEN_PID": str(os.getpid())})
    with pytest.raises(StartError) as raised, listening(start):
        pass
    assert raised.value.fields == {"address": "LISTEN_FDS=2", "error": "Bad file descriptor"}


def test_opsd_names_the_passed_sockets_that_need_its_token(monkeypatch: pytest.MonkeyPatch) -> None:
    sockets = cast("list[socket.socket]", [Bound("127.0.0.1"), Bound("0.0.0.0")])
    monkeypatch.setattr(opsd.process, "prepare", lambda _start: None)
    monkeypatch.setattr(opsd.process, "listening", lambda _start: nullcontext(Listeners(sockets, kept=True)))
    with pytest.raises(StartError) as raised:
        opsd.process.serve_process(starting({}))
    assert raised.value.fields == {"error": "0.0.0.0:9003 needs OPS_TOKEN"}
