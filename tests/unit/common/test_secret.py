"""Secrets: read anew, never shown."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import pytest

from common.secret import FILE_LIMIT, Secret, SecretError

if TYPE_CHECKING:
    from pathlib import Path


def test_a_literal_is_read_as_it_is() -> None:
    assert Secret.literal("p@ss word", "X_TOKEN").read() == "p@ss word"


@pytest.mark.parametrize(
    ("content", "read"),
    [
        (b"hunter2", "hunter2"),
        (b"hunter2\n", "hunter2"),
        (b"hunter2\r\n", "hunter2"),
        (b" hunter2 \n", " hunter2 "),
        (b"two\nlines\n", "two\nlines"),
        ("größe\n".encode(), "größe"),
        (b"x" * FILE_LIMIT, "x" * FILE_LIMIT),
    ],
)
def test_a_file_is_read_without_the_newline_at_its_end(tmp_path: Path, content: bytes, read: str) -> None:
    path = tmp_path / "secret"
    path.write_bytes(content)
    assert Secret.file(path, "X_TOKEN_FILE").read() == read


def test_a_file_is_read_anew_each_time(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("old")
    secret = Secret.file(str(path), "X_TOKEN_FILE")
    assert secret.read() == "old"
    path.write_text("new\n")
    assert secret.read() == "new"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b" \t\r\n", "is empty"),
        (b"caf\xe9", "is not UTF-8"),
        (b"x" * (FILE_LIMIT + 1), "is longer than 65536 bytes"),
    ],
)
def test_a_bad_file_is_one_line_with_variable_and_path(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "secret"
    path.write_bytes(content)
    with pytest.raises(SecretError, match=rf"^X_TOKEN_FILE: file {re.escape(str(path))} {reason}$"):
        Secret.file(path, "X_TOKEN_FILE").read()


def test_a_file_that_is_not_there_says_why(tmp_path: Path) -> None:
    with pytest.raises(SecretError, match=r"^X_TOKEN_FILE: file .*/none can't be read: No such file or directory$"):
        Secret.file(tmp_path / "none", "X_TOKEN_FILE").read()


def test_a_directory_and_a_fifo_are_refused_without_waiting(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (tmp_path, fifo):
        with pytest.raises(SecretError, match=r"is not a regular file$"):
            Secret.file(path, "X_TOKEN_FILE").read()


def test_a_path_that_is_none_is_one_line_all_the_same() -> None:
    with pytest.raises(SecretError) as raised:
        Secret.file("a\0b\nc", "X_TOKEN_FILE").read()
    assert str(raised.value) == r"X_TOKEN_FILE: file a\u0000b\u000ac can't be read: not a path"


@pytest.mark.parametrize(("text", "reason"), [(" ", "is empty"), ("caf\udce9", "is not UTF-8")])
def test_a_bad_literal_names_the_variable_only(text: str, reason: str) -> None:
    with pytest.raises(SecretError, match=rf"^X_TOKEN {reason}$"):
        Secret.literal(text, "X_TOKEN").read()


def test_nothing_but_read_shows_the_text(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("hunter2")
    literal, file = Secret.literal("hunter2", "X_TOKEN"), Secret.file(path, "X_TOKEN_FILE")
    assert file.read() == "hunter2"
    assert literal.describe() == "set"
    assert file.describe() == f"file {path}"
    for secret in (literal, file):
        assert "hunter2" not in f"{secret!r} {secret} {secret.describe()} {[secret]}"
