"""What may stand together on the command line of a daemon that serves WebSockets (common/daemon_cli.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from common import daemon_cli
from common.cli import run
from common.daemon_cli import program
from preflightd.checklist_command import CHECKLIST
from preflightd.daemon import PREFLIGHTD
from statusd.daemon import STATUSD

if TYPE_CHECKING:
    from common.config import Settings
    from common.daemon import Daemon


@pytest.mark.parametrize(
    ("daemon", "command"), [(STATUSD, ["check"]), (PREFLIGHTD, ["check"]), (PREFLIGHTD, ["checklist"])]
)
def test_a_private_redis_is_for_serving_only(
    daemon: Daemon[Settings], command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run(program(daemon, [CHECKLIST]), ["--embedded-redis", *command], {})
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    said = f"{daemon.name}: error: --embedded-redis is for serving; {command[0]} has no private redis-server"
    assert (out, err.splitlines()[-1]) == ("", said)


@pytest.mark.parametrize("line", [["--embedded-redis"], ["--embedded-redis", "serve"], ["serve", "--embedded-redis"]])
def test_it_may_stand_before_serve_and_after_it(line: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def serve_process(_daemon: object, _start: object, *, embedded: bool) -> int:
        asked.append(embedded)
        return 0

    monkeypatch.setattr(daemon_cli, "serve_process", serve_process)
    monkeypatch.setattr("common.cli.tune_collector", lambda: None)
    assert run(program(STATUSD), line, {}) == 0
    assert asked == [True]
