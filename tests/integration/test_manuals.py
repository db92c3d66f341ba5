"""The pages as man's own programs read them, and the completion in the shells that it is for."""

from __future__ import annotations

import subprocess
from datetime import date
from typing import TYPE_CHECKING, Final

import pytest

from tests.support import needs
from tools.manuals.tree import COMMANDS, PAGES, SCRIPTS, write

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration

NAMES: Final = [command.name for command in COMMANDS]
DEADLINE: Final = 120.0

_COMPLETE: Final = """
set -eu
source "$1"
shift
# As the shell itself does it: the function that was registered for the command, told of the words so far.
registered=$(complete -p "$1")
function=${registered#*-F }
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
COMPREPLY=()
set +eu
${function%% *} "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def share(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("manuals") / "share"
    write(directory, date(2020, 1, 31))
    return directory


def run(*command: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, check=False, capture_output=True, text=True, timeout=DEADLINE)


def script(share: Path, shell: str, name: str) -> Path:
    return share / SCRIPTS[shell].format(name)


@pytest.mark.parametrize("name", NAMES)
def test_mandoc_finds_nothing_wrong_with_a_page(share: Path, name: str) -> None:
    done = run(needs.program("mandoc"), "-T", "lint", "-W", "warning", share / PAGES.format(name))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("name", NAMES)
def test_groff_warns_of_nothing_and_shows_the_page(share: Path, name: str) -> None:
    done = run(needs.program("groff", "groff-base"), "-man", "-Tutf8", "-P-cbu", "-ww", share / PAGES.format(name))
    assert (done.returncode, done.stderr) == (0, "")
    for heading in ("NAME", "SYNOPSIS", "OPTIONS", "COMMANDS", "ENVIRONMENT", "EXIT STATUS", "SEE ALSO"):
        assert heading in done.stdout


def completed(share: Path, directory: Path, *words: str) -> list[str]:
    done = run("bash", "--norc", "-c", _COMPLETE, "bash", script(share, "bash", words[0]), *words, cwd=directory)
    assert (done.returncode, done.stderr) == (0, "")
    return sorted(done.stdout.split())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shell", SCRIPTS)
def test_a_script_is_one_of_its_shell(share: Path, shell: str, name: str) -> None:
    done = run(needs.program(shell), "-n", script(share, shell, name))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("statusd ", "check serve watch"),
        ("preflightd ", "check checklist evaluate serve watch"),
        ("opsd ", "check serve"),
        ("statusd wa", "watch"),
        ("statusd watch --j", "--job --json"),
        ("statusd --ver", "--version"),
        ("statusd serve --", "--embedded-redis --help"),
        ("preflightd evaluate --ch", "--checklist"),
        ("preflightd evaluate --checklist rul", "rules.toml"),
        ("preflightd checklist rul", "rules.toml"),
        ("statusd watch rul", ""),
        ("statusd nonsense", ""),
    ],
)
def test_bash_completes_it(share: Path, tmp_path: Path, line: str, expected: str) -> None:
    (tmp_path / "rules.toml").touch()
    assert completed(share, tmp_path, *line.split(" ")) == expected.split()


def test_fish_completes_it(share: Path) -> None:
    ask = f"source {script(share, 'fish', 'statusd')}; complete --do-complete 'statusd wa'"
    done = run(needs.program("fish"), "--no-config", "--command", ask)
    assert [line.partition("\t")[0] for line in done.stdout.splitlines()] == ["watch"]
