"""`statusd watch` and `preflightd watch` (statusd/watch.py, preflightd/watch.py): what their options come to."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from common.exits import Exit
from common.watch.show import Codes, FinishedError, Show
from preflightd.view import PlainPreflightView
from preflightd.watch import WATCH as PREFLIGHT_WATCH
from statusd.until import UntilOutcome, UntilShow
from statusd.view import JsonStatusView, PlainStatusView
from statusd.watch import WATCH

if TYPE_CHECKING:
    from common.cli import Command


@attrs.define
class Watched:
    """What would have been watched."""

    code: int
    url: str = ""
    path: str = ""
    show: Any = None
    lossy: bool | None = None
    seconds: float | None = None
    codes: Codes | None = None


@pytest.fixture(autouse=True)
def watched(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Watched:
    """Takes the place of the conversation, which is another test's, and ends as it would with `code`.

    Standard output is no terminal (`capsys`), wherever the tests run.
    """
    taken = Watched(7)

    def run_watch(
        url: str, path: str, show: Show, *, lossy: bool, seconds: float | None = None, codes: Codes | None = None
    ) -> int:
        taken.url, taken.path, taken.show = url, path, show
        taken.lossy, taken.seconds, taken.codes = lossy, seconds, codes
        return taken.code

    monkeypatch.setattr("common.watch.client.run_watch", run_watch)
    return taken


def run(*arguments: str, of: Command = WATCH) -> int:
    """The exit code of the command."""
    parser = argparse.ArgumentParser()
    of.add_arguments(parser)
    return of.run(parser.parse_args(arguments))


def test_a_run_and_a_channel_are_watched_where_the_daemon_usually_is(watched: Watched) -> None:
    assert run("r:wepp") == 7
    assert (watched.url, watched.path, watched.lossy) == ("ws://localhost:9002", "r:wepp", True)
    assert (watched.seconds, watched.codes) == (None, Codes())
    assert isinstance(watched.show, PlainStatusView)


def test_a_checklist_is_watched_without_fear_of_gaps(watched: Watched) -> None:
    assert run("wss://h:444", "r", of=PREFLIGHT_WATCH) == 7
    assert (watched.url, watched.path, watched.lossy) == ("wss://h:444", "r", False)
    assert isinstance(watched.show, PlainPreflightView)


@pytest.mark.parametrize(("of", "path"), [(WATCH, "no-channel"), (WATCH, "a:b:c d"), (PREFLIGHT_WATCH, "a/b")])
def test_a_path_that_names_nothing_is_told_before_anything_is_dialled(
    of: Command, path: str, watched: Watched, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(path, of=of) == Exit.BAD_INPUT
    assert watched.show is None
    said = capsys.readouterr().err
    assert said.startswith(("statusd watch: ", "preflightd watch: "))
    assert said.count("\n") == 1


def test_json_is_for_programs(watched: Watched) -> None:
    assert run("--json", "r:c") == 7
    assert isinstance(watched.show, JsonStatusView)


def test_seconds_end_it(watched: Watched) -> None:
    assert run("--seconds", "2.5", "r:c") == 7
    assert watched.seconds == 2.5


def test_until_waits_for_a_word_of_a_job_with_the_exit_codes_of_scripts(
    watched: Watched, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--until", "COMPLETED", "--job", "rq:7f", "--timeout", "1m30s", "r:c") == 7
    assert watched.seconds == 90
    assert watched.codes == Codes(
        refused=UntilOutcome.REFUSED, hung_up=UntilOutcome.HUNG_UP, time_up=UntilOutcome.TIME_UP
    )
    assert isinstance(watched.show, UntilShow)
    watched.show.frame({"type": "status", "data": "rq:8 COMPLETED f"})
    with pytest.raises(FinishedError) as finished:
        watched.show.frame({"type": "status", "data": "rq:7f COMPLETED f"})
    assert finished.value.code == UntilOutcome.DONE
    assert capsys.readouterr().out.splitlines() == ["rq:8 COMPLETED f", "rq:7f COMPLETED f"]


def test_until_without_a_job_means_the_first_that_starts_for_as_long_as_it_takes(watched: Watched) -> None:
    assert run("--until", "WEPP_DONE", "--json", "r:c") == 7
    assert watched.seconds is None
    watched.show.frame({"type": "status", "data": "rq:1 TRIGGER wepp WEPP_DONE"})
    watched.show.frame({"type": "status", "data": "rq:2 STARTED f"})
    with pytest.raises(FinishedError):
        watched.show.frame({"type": "status", "data": "rq:2 TRIGGER wepp WEPP_DONE"})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--job", "1"], "--job needs --until"),
        (["--timeout", "1s"], "--timeout needs --until"),
        (["--until", "two words"], "--until takes one word: COMPLETED, or the event of a TRIGGER"),
        (["--until", ""], "--until takes one word: COMPLETED, or the event of a TRIGGER"),
        (["--until", "COMPLETED", "--job", ""], "--job is empty"),
        (["--until", "COMPLETED", "--job", "rq:"], "--job is empty"),
    ],
)
def test_options_that_contradict_themselves_are_one_line_and_exit_2(
    options: list[str], said: str, watched: Watched, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*options, "r:c") == Exit.BAD_INPUT
    assert capsys.readouterr().err == f"statusd watch: {said}\n"
    assert watched.show is None


@pytest.mark.parametrize("duration", ["soon", "0s", "-1s", ""])
def test_a_timeout_that_is_no_time_is_said_to_be(
    duration: str, watched: Watched, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--until", "COMPLETED", f"--timeout={duration}", "r:c") == Exit.BAD_INPUT
    said = capsys.readouterr().err
    assert said.startswith("statusd watch: --timeout: ")
    assert said.count("\n") == 1
    assert watched.show is None
