"""What holds before anything is imported (common/early.py), in processes of their own: both belong to the process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
STREAMS = "from common.early import open_standard_streams; import os, sys; open_standard_streams(); "


def run(program: str, redirections: str = "") -> subprocess.CompletedProcess[str]:
    """Run a program with some of its streams closed."""
    command = ["sh", "-c", f'exec "$@" {redirections}', "sh", sys.executable, "-c", program]
    return subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("module", ["statusd", "preflightd", "opsd"])
def test_no_main_module_imports_more_before_it_begins(module: str) -> None:
    program = (
        f"import sys, {module}.__main__; print(sorted(set(sys.modules) & {{'trio', 'attrs', 'typing', 'asyncio'}}))"
    )
    bare = run("import sys; print(sorted(set(sys.modules) & {'trio', 'attrs', 'typing', 'asyncio'}))").stdout
    assert run(program).stdout == bare


@pytest.mark.parametrize(
    ("redirections", "number", "name"), [("<&-", 0, "stdin"), (">&-", 1, "stdout"), ("2>&-", 2, "stderr")]
)
def test_a_missing_stream_is_the_null_device_and_inherited(redirections: str, number: int, name: str) -> None:
    out = 2 if number == 1 else 1
    program = STREAMS + (
        f'os.write({out}, f\'{{os.readlink("/proc/self/fd/{number}")}} {{sys.{name}.fileno()}} '
        f"{{sys.__{name}__ is sys.{name}}} {{os.get_inheritable({number})}}'.encode())"
    )
    ended = run(program, redirections)
    assert (ended.stdout + ended.stderr, ended.returncode) == (f"/dev/null {number} True True", 0)


def test_streams_that_are_there_stay() -> None:
    ended = run(STREAMS + "print('out'); print('err', file=sys.stderr)")
    assert (ended.stdout, ended.stderr) == ("out\n", "err\n")


def test_what_is_printed_to_a_missing_stream_is_lost_and_no_error() -> None:
    ended = run(STREAMS + "print('out ' * 10_000); print('err', file=sys.stderr); sys.exit(3)", ">&- 2>&-")
    assert (ended.returncode, ended.stdout, ended.stderr) == (3, "", "")


@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_signals_are_noted_then_taken_then_no_matter(number: str) -> None:
    program = (
        "import signal; from common import early; early.begin(); "
        f"signal.raise_signal(signal.{number}); signal.raise_signal(signal.{number}); "
        "print(len(early.take_noted()), len(early.take_noted())); "
        f"\ntry:\n early.leave(7)\nfinally:\n signal.raise_signal(signal.{number})"
    )
    ended = run(program)
    assert (ended.stdout, ended.stderr, ended.returncode) == ("2 0\n", "", 7)


@pytest.mark.parametrize(("number", "code"), [("SIGTERM", 143), ("SIGINT", 130), ("SIGHUP", 129)])
def test_a_command_is_ended_by_what_was_noted(number: str, code: int) -> None:
    program = (
        f"import signal; from common import early; early.begin(); signal.raise_signal(signal.{number}); early.release()"
    )
    ended = run(program)
    assert (ended.stdout, ended.stderr, ended.returncode) == ("", "", code)


def test_a_released_signal_has_its_usual_effect() -> None:
    program = (
        "import signal; from common import early; early.begin(); early.release()\n"
        "try:\n signal.raise_signal(signal.SIGINT)\nexcept KeyboardInterrupt:\n print('interrupted', flush=True)\n"
        "signal.raise_signal(signal.SIGTERM)"
    )
    ended = run(program)
    assert (ended.stdout, ended.returncode) == ("interrupted\n", -15)


def test_an_ignored_hangup_stays_ignored() -> None:
    program = (
        "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN); from common import early; early.begin(); "
        "signal.raise_signal(signal.SIGHUP); print(early.take_noted(), signal.SIGHUP in early.ending_signals())"
    )
    assert run(program).stdout == "[] False\n"
