"""What the arguments of `watch` mean, and what is said where they mean nothing, before anything is dialled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

import pytest

from common.cli import run
from common.config import Settings
from common.daemon_cli import program
from common.watch.address import where_and_what
from preflightd.daemon import PREFLIGHTD
from preflightd.watch import WATCH as PREFLIGHT_WATCH
from statusd.daemon import STATUSD
from statusd.watch import WATCH as STATUS_WATCH

if TYPE_CHECKING:
    from common.cli import Command
    from common.daemon import Daemon

S = TypeVar("S", bound=Settings)

DEFAULT: Final = "ws://localhost:9002"


@pytest.mark.parametrize(
    ("url", "path", "expected"),
    [
        (None, "run:wepp", (DEFAULT, "run:wepp")),
        ("ws://h:1/x", "run:wepp", ("ws://h:1/x", "run:wepp")),
        ("h", "run:wepp", ("ws://h", "run:wepp")),
        ("h:9002", "run:wepp", ("ws://h:9002", "run:wepp")),
        ("h:443/status", "run:wepp", ("wss://h:443/status", "run:wepp")),
        ("[::1]:9002", "run:wepp", ("ws://[::1]:9002", "run:wepp")),
        (None, "wss://h/run:wepp", ("wss://h", "run:wepp")),
        (None, "wss://h/status/run:wepp", ("wss://h/status", "run:wepp")),
        (None, "wss://h/status/run:wepp/", ("wss://h/status", "run:wepp")),
        (None, "https://h/batch%3B%3Ba%3Awepp", ("https://h", "batch;;a:wepp")),
    ],
)
def test_what_is_meant_is_done(url: str | None, path: str, expected: tuple[str, str]) -> None:
    assert where_and_what(url, path, DEFAULT, "RUNID:CHANNEL") == expected


@pytest.mark.parametrize("path", ["ws://h", "ws://h/", "ws://", "wss://h:443"])
def test_a_url_alone_says_what_is_missing(path: str) -> None:
    with pytest.raises(ValueError, match="what to watch is missing"):
        where_and_what(None, path, DEFAULT, "RUNID:CHANNEL")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run"], "statusd watch: the path must be /<runid>:<channel>\n"),
        (["run:"], "statusd watch: the channel is empty\n"),
        (["ws://h", "run:a b"], "statusd watch: the channel may only have the characters"),
        (["run:c", "ws://h"], "statusd watch: the URL comes first, then RUNID:CHANNEL\n"),
        (["ftp://h", "run:c"], "is not a ws:// or wss:// URL"),
        (["--job", "1", "run:c"], "statusd watch: --job needs --until\n"),
        (["--timeout", "1h", "run:c"], "statusd watch: --timeout needs --until\n"),
        (["--until", "COMPLETED", "--timeout", "1 hour", "run:c"], "statusd watch: --timeout: "),
        (["--until", "COMPLETED", "--timeout", "0", "run:c"], "statusd watch: --timeout: not longer than zero\n"),
        (["--until", "two words", "run:c"], "statusd watch: --until takes one word"),
        (["--until", "COMPLETED", "--job", "rq:", "run:c"], "statusd watch: --job is empty\n"),
    ],
)
def test_what_is_wrong_with_statusd_is_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_one_line(STATUSD, STATUS_WATCH, arguments, said, capsys)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run:wepp"], "preflightd watch: the run id may only have the characters"),
        ([".."], "preflightd watch: the run id may not be . or ..\n"),
        (["ws://h"], "preflightd watch: what to watch is missing: ws://h RUNID\n"),
    ],
)
def test_what_is_wrong_with_preflightd_is_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_one_line(PREFLIGHTD, PREFLIGHT_WATCH, arguments, said, capsys)


def assert_one_line(
    daemon: Daemon[S], command: Command, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2 and one line that has `said`."""
    assert run(program(daemon, [command]), ["watch", *arguments], {}) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
