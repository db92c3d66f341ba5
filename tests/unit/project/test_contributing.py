"""CONTRIBUTING.md and CODEOWNERS name files: each of them exists, and each table of how to add something names some."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[3]
TEXT: Final = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
SECTIONS: Final = dict(re.findall(r"^### (.*)\n((?:(?!^#).*\n?)*)", TEXT, re.MULTILINE))

_CODE: Final = re.compile(r"`([^`\n]+)`")
_FILE: Final = re.compile(r"\.?[\w-]+(?:/[\w.-]+)*(?:/|\.(?:py|js|md|toml|yml))|Containerfile|\.dockerignore")
_OF_A_DAEMON: Final = re.compile(r"[a-z_]+\.py")
"""A name without a folder: of a daemon's package."""


def named(text: str) -> list[str]:
    """The files and folders that a text names."""
    return [word for word in _CODE.findall(text) if _FILE.fullmatch(word)]


@pytest.mark.parametrize("path", sorted(set(named(TEXT))))
def test_every_file_that_is_named_exists(path: str) -> None:
    places = [ROOT / path, *([ROOT / "statusd" / path] if _OF_A_DAEMON.fullmatch(path) else [])]
    assert any(place.exists() for place in places)


@pytest.mark.parametrize("heading", SECTIONS)
def test_each_table_names_the_files_of_its_change(heading: str) -> None:
    rows = re.findall(r"^\| (.*?) \|", SECTIONS[heading], re.MULTILINE)
    assert rows[0] == "file"
    assert named("\n".join(rows[1:]))


def test_what_costs_few_files_is_said_to() -> None:
    """What the house is built for: a figure costs at most five files, a counter two, a reason one and its words."""
    most = {
        "A figure, from a daemon to the page": 5,
        "A counter": 2,
        "A reason for which a conversation ends": 2,
    }
    for heading, files in most.items():
        assert SECTIONS[heading].count("\n| ") - 1 <= files


OWNED: Final = [
    tuple(line.split()) for line in (ROOT / "CODEOWNERS").read_text("utf-8").splitlines() if line and line[0] != "#"
]


@pytest.mark.parametrize(("pattern", "owners"), [(pattern, owners) for pattern, *owners in OWNED])
def test_what_is_owned_exists_and_has_an_owner(pattern: str, owners: list[str]) -> None:
    assert list(ROOT.glob(pattern.removeprefix("/")))
    assert owners
    assert all(re.fullmatch(r"@[\w-]+/[\w-]+", owner) for owner in owners)


def test_everything_has_an_owner() -> None:
    """The last pattern that matches counts, so the one for all else comes first."""
    assert OWNED[0][0] == "*"
    assert [pattern for pattern, *_ in OWNED[1:] if not pattern.startswith("/")] == []
