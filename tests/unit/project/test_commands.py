"""Every command that a document gives is one that there is.

Each program has a check here; a command of another one fails. What is a program of this project is parsed by its own
parser, up to where it would begin. What needs a host of its own (containers, k6, the network's weather) is held against
the files and names that it speaks of. `redis-cli` and pipes into the daemons are run, by `test_documented_commands.py`
of the integration tests. CHANGELOG.md names commands, and gives none.
"""

from __future__ import annotations

import argparse
import importlib
import re
import sys
import tomllib
from importlib.util import find_spec
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final, NoReturn
from urllib.parse import urlsplit

import pytest
import yaml
from packaging.requirements import Requirement

from bench.chaos import netem
from common.cli import run
from common.daemon_cli import program
from common.daemons import DAEMONS
from common.web.handshake import Page
from opsd.cli import OPSD
from opsd.endpoints import ENDPOINTS
from preflightd.checklist_command import CHECKLIST
from preflightd.daemon import PREFLIGHTD
from preflightd.evaluate import EVALUATE
from preflightd.watch import WATCH as WATCH_CHECKLIST
from statusd.daemon import STATUSD
from statusd.watch import WATCH
from tests.support.commands import COMMANDS, OTHERS, Command, blocks, command_lines, split
from tests.unit.project.test_documents import known
from tools.site.documents import ROOT, documents

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MAKEFILE: Final = (ROOT / "Makefile").read_text("utf-8")
PROJECT: Final = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
COMPOSE: Final = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text("utf-8"))
CADDYFILE: Final = (ROOT / "deploy/proxies/Caddyfile").read_text("utf-8")

PROGRAMS: Final[dict[str, Callable[[list[str]], int]]] = {
    "statusd": lambda words: run(program(STATUSD, [WATCH]), words, {}),
    "preflightd": lambda words: run(program(PREFLIGHTD, [CHECKLIST, EVALUATE, WATCH_CHECKLIST]), words, {}),
    "opsd": lambda words: run(OPSD, words, {}),
}
ELSEWHERE: Final = frozenset({"build"})
"""Modules that are a packager's own tools."""


class Parsed(Exception):  # noqa: N818 - no error: how far a command line is read
    """The arguments are good, and nothing was done yet."""


def parse(monkeypatch: pytest.MonkeyPatch, start: Callable[[list[str]], object], words: list[str]) -> None:
    """Start a program of ours and stop it behind its parser. Fails where it does not take these words."""
    genuine = argparse.ArgumentParser.parse_args

    def parse_args(self: argparse.ArgumentParser, *given: Any, **named: Any) -> NoReturn:
        genuine(self, *given, **named)
        raise Parsed

    with monkeypatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
        patch.setattr("common.healthcheck.healthcheck", lambda *_: 0)
        with pytest.raises((Parsed, SystemExit)) as ended:
            start(words)
    # Of --help and --version, which the parser answers.
    if isinstance(ended.value, SystemExit):
        assert not ended.value.code, words


class Checks:
    """One method for each program: `docker` of docker; what it can't find fails the test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self._folder = ROOT

    def check(self, command: Command) -> None:
        """Check one command, and what is set for it."""
        for variable in command.variables:
            self._is_variable(variable.partition("=")[0])
        if command.program in PROGRAMS:
            parse(self._monkeypatch, PROGRAMS[command.program], list(command.arguments))
            return
        found = getattr(self, command.program.replace("-", "_"), None)
        assert found is not None, f"nothing is known of {command.program}: it wants a method here"
        found(command.arguments)

    @staticmethod
    def _is_variable(name: str) -> None:
        assert name in known() or f"{{${name}" in CADDYFILE, name

    # -- the project's own ---------------------------------------------------------------------------------------------

    def make(self, words: tuple[str, ...]) -> None:
        targets = set(re.findall(r"^([a-z][a-z-]*):", MAKEFILE, re.MULTILINE))
        settings = set(re.findall(r"^#   ([A-Z_]+)=", MAKEFILE, re.MULTILINE))
        for word in words:
            name, equals, _ = word.partition("=")
            assert name in (settings if equals else targets), f"make {word}"

    def python(self, words: tuple[str, ...]) -> None:
        flag, module, *rest = (word for word in words if word != "-P")
        assert flag == "-m"
        if module in ELSEWHERE:
            return
        if module in PROGRAMS:
            parse(self._monkeypatch, PROGRAMS[module], rest)
            return
        assert all(find_spec(part) for part in accumulate(module.split("."), "{}.{}".format)), module
        is_package = find_spec(f"{module}.__main__") if hasattr(importlib.import_module(module), "__path__") else None
        main = importlib.import_module(f"{module}.__main__" if is_package else module).main
        self._monkeypatch.setattr(sys, "argv", [module, *rest])
        parse(self._monkeypatch, lambda _: main(), rest)

    # -- packages ------------------------------------------------------------------------------------------------------

    def pip(self, words: tuple[str, ...]) -> None:
        assert words[0] in {"install", "wheel"}
        for word in set(words[1:]) - {"--no-deps", "."}:
            requirement = Requirement(word)
            assert requirement.name == PROJECT["name"], word
            assert requirement.extras <= set(PROJECT["optional-dependencies"]), word

    def pipx(self, words: tuple[str, ...]) -> None:
        match words:
            case ("install", wheel):
                self._is_wheel(wheel)
            case ("run", "--spec", wheel, *rest):
                self._is_wheel(wheel)
                self.check(Command((), tuple(rest)))
            case _:
                pytest.fail(f"pipx {words}")

    def uvx(self, words: tuple[str, ...]) -> None:
        option, wheel, *rest = words
        assert option == "--from"
        self._is_wheel(wheel)
        self.check(Command((), tuple(rest)))

    @staticmethod
    def _is_wheel(path: str) -> None:
        found = re.fullmatch(r"\./(\w+)-(\*|[\d.]+-py3-none-any)\.whl(?:\[([\w,]+)\])?", path)
        assert found is not None, path
        assert found[1] == PROJECT["name"].replace("-", "_")
        assert found[2] in {"*", f"{PROJECT['version']}-py3-none-any"}, "of another version"
        assert set(filter(None, (found[3] or "").split(","))) <= set(PROJECT["optional-dependencies"])

    # -- what needs a host of its own ----------------------------------------------------------------------------------

    def docker(self, words: tuple[str, ...]) -> None:
        assert words[0] == "compose"
        rest = list(words[1:])
        if rest[0] == "-f":
            assert self._path(rest[1]) == ROOT / "deploy/compose.yaml"
            rest = rest[2:]
        else:
            assert (self._folder / "compose.yaml").is_file(), "there is nothing to compose"
        verb, *services = rest
        options = {"up": {"--detach", "--build", "--no-deps"}, "down": set(), "restart": set()}[verb]
        assert {word for word in services if word.startswith("-")} <= options
        assert {word for word in services if not word.startswith("-")} <= set(COMPOSE["services"])

    def podman(self, words: tuple[str, ...]) -> None:
        match words:
            case ("exec",):
                pass
            case ("build", "-f", file, "-t", _, "."):
                self._path(file)
            case _:
                pytest.fail(f"podman {words}")

    def systemctl(self, words: tuple[str, ...]) -> None:
        verb, unit = words
        assert verb in {"restart", "start", "stop"}
        assert (ROOT / f"deploy/systemd/{unit}.service").is_file()

    def promtool(self, words: tuple[str, ...]) -> None:
        assert words[:2] == ("test", "rules")
        self._path(words[2])

    def k6(self, words: tuple[str, ...]) -> None:
        verb, *settings, script = words
        assert verb == "run"
        text = self._path(script).read_text("utf-8")
        assert settings[::2] == ["-e"] * (len(settings) // 2)
        for setting in settings[1::2]:
            assert f"__ENV.{setting.partition('=')[0]}" in text, setting

    def nsenter(self, words: tuple[str, ...]) -> None:
        assert words[:7] == ("--target", "PID", "--net", "tc", "qdisc", words[5], "dev")
        weather = {"add": netem.WEATHER, "del": ()}[words[5]]
        assert words[7:] == ("eth0", "root", *weather)

    def curl(self, words: tuple[str, ...]) -> None:
        *options, url = words
        assert {option for option in options if option.startswith("-")} <= {"-s", "-X", "-H"}
        parts = urlsplit(url)
        ports = {known_daemon.port: name for name, known_daemon in DAEMONS.items()}
        name = ports[parts.port or 0]
        method = options[options.index("-X") + 1] if "-X" in options else "GET"
        served = (
            {(endpoint.method, endpoint.path) for endpoint in ENDPOINTS}
            if name == "opsd"
            else {("GET", page.value) for page in Page}
        )
        assert (method, parts.path) in served

    def redis_cli(self, words: tuple[str, ...]) -> None:
        """Run by the integration test."""
        assert words

    # -- the shell's ---------------------------------------------------------------------------------------------------

    def cd(self, words: tuple[str, ...]) -> None:
        self._folder = self._path(words[0], folder=True)

    def source(self, words: tuple[str, ...]) -> None:
        assert f"VENV := {words[0].partition('/')[0]}\n" in MAKEFILE

    def echo(self, words: tuple[str, ...]) -> None:
        assert len(words) == 1

    def grep(self, words: tuple[str, ...]) -> None:
        assert len(words) == 1

    def sleep(self, words: tuple[str, ...]) -> None:
        assert float(words[0]) > 0

    def _path(self, name: str, *, folder: bool = False) -> Path:
        path = self._folder / name
        assert path.is_dir() if folder else path.is_file(), path
        return path


def check_line(monkeypatch: pytest.MonkeyPatch, line: str) -> int:
    """Check all commands of a line; return how many there are."""
    checks = Checks(monkeypatch)
    commands = list(split(line))
    for command in commands:
        checks.check(command)
    return len(commands)


NAMES: Final = frozenset(
    {name.replace("_", "-") for name in vars(Checks) if not name.startswith("_")} - {"check"} | PROGRAMS.keys()
)
TOLD: Final = {"source", "cd", "echo", "grep", "sleep"}
"""Words of English as well: between two lines of prose they are no commands."""
LINES: Final = sorted(
    {
        (path.relative_to(ROOT).as_posix(), line)
        for path in documents()
        if path.name != "CHANGELOG.md"
        for line in command_lines(path.read_text("utf-8"), NAMES - TOLD)
    }
)


@pytest.mark.parametrize(("document", "line"), LINES, ids=lambda value: value[:60])
def test_a_command_is_one_that_there_is(monkeypatch: pytest.MonkeyPatch, document: str, line: str) -> None:
    assert check_line(monkeypatch, line), document


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_block_is_commands_or_says_what_it_is(path: Path) -> None:
    assert {block.kind for block in blocks(path.read_text("utf-8"))} <= COMMANDS | OTHERS


def test_the_documents_have_commands_of_every_kind() -> None:
    """A walk that finds nothing would find no fault."""
    used = {command.program for _, line in LINES for command in split(line)}
    assert used == NAMES


@pytest.mark.parametrize(
    "line",
    [
        "make no-such-target",
        "make demo NO_SUCH=1",
        "statusd --no-such-option",
        "preflightd no-such-command",
        "python -m bench.no_such",
        "python -m bench.load --only nobody",
        "docker compose -f deploy/compose.yaml restart nobody",
        "cd deploy && NOBODY=1 docker compose up caddy",
        "k6 run -e NO_SUCH=1 docs/load/status.js",
        "curl http://localhost:9002/no-such-page",
        "pipx install ./another-0.1.0-py3-none-any.whl",
        "systemctl restart nobody",
        "pip install another",
        "nsenter --target PID --net tc qdisc add dev eth0 root netem delay 1s",
        "nobody knows this",
    ],
)
def test_a_command_that_there_is_not_fails(monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    with pytest.raises(AssertionError):
        check_line(monkeypatch, line)
