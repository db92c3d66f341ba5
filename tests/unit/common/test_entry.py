"""Each program from its `main` to its exit code: the `__main__` of `statusd`, `preflightd` and `opsd`."""

from __future__ import annotations

import importlib
import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest

from common import early
from common.daemons import DAEMONS
from common.exits import Exit
from common.healthcheck import FLAG
from common.version import version

if TYPE_CHECKING:
    from collections.abc import Iterator

EVERY = pytest.mark.parametrize("name", list(DAEMONS))


@pytest.fixture(autouse=True)
def _own_signals() -> Iterator[None]:
    """What a program does to this process's signals is undone."""
    before = {number: signal.getsignal(number) for number in early.ENDING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    early._before.clear()
    early._noted.clear()


def ended(name: str, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Any:
    """The exit code of the program."""
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    with pytest.raises(SystemExit) as end:
        importlib.import_module(f"{name}.__main__").main()
    return end.value.code


@EVERY
def test_a_program_names_itself_and_its_version(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(name, monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"{name} {version()}\n"


@EVERY
def test_the_code_of_a_command_is_the_programs(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    variable = DAEMONS[name].variable("REDIS_URL")
    monkeypatch.setenv(variable, "redis://h/two")
    usual = signal.getsignal(signal.SIGTERM)
    assert ended(name, monkeypatch, "check") == Exit.BAD_CONFIGURATION
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"{name}: {variable}")
    assert said.err.count("\n") == 1
    assert signal.getsignal(signal.SIGTERM) is usual, "a command is ended as usual"


@EVERY
def test_a_daemon_that_can_not_serve_says_so_in_its_log_and_is_not_hurried(
    name: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(DAEMONS[name].variable("REDIS_URL"), "redis://h/two")
    assert ended(name, monkeypatch) == Exit.BAD_CONFIGURATION
    assert '"msg":"bad configuration"' in capfd.readouterr().out.replace(": ", ":")
    for number in early.ending_signals():
        assert signal.getsignal(number) is signal.SIG_IGN, "the exit code is said: no signal is to change it"


@EVERY
def test_the_health_check_is_answered_before_anything_else(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(DAEMONS[name].variable("LISTEN_ADDR"), "127.0.0.1:nobody")
    assert ended(name, monkeypatch, FLAG) == 1
    assert ended(name, monkeypatch, FLAG, "--version") == 1, "among other options it is the answer too"
    assert capsys.readouterr() == ("", "")


def test_no_program_knows_of_anothers_commands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended("statusd", monkeypatch, "checklist") == 2
    assert "invalid choice" in capsys.readouterr().err


def test_a_signal_before_a_command_has_begun_ends_it_as_shells_count(monkeypatch: pytest.MonkeyPatch) -> None:
    def noted(_name: str) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("common.healthcheck.answer_if_asked", noted)
    assert ended("statusd", monkeypatch, "check") == 128 + signal.SIGINT
