"""What a process that can't start says of its sockets (common/start, opsd/process)."""

from __future__ import annotations

import argparse
import errno
import os
from contextlib import nullcontext
from typing import TYPE_CHECKING, cast

import pytest

import common.start
import opsd.process
from common.config import load
from common.start import Listeners, Start, StartError, listening
from opsd.settings import OpsSettings
from tests.support.logbook import Logbook

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping


def starting(environ: Mapping[str, str]) -> Start[OpsSettings]:
    """An opsd that is about to start."""
    settings = load(OpsSettings, {}).settings
    return Start(settings=settings, warnings=(), environ=environ, options=argparse.Namespace(), log=Logbook().log)


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
