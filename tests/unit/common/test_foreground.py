"""A command that a person waits for, or a pipe reads (common/foreground.py)."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from common.foreground import run_in_foreground

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO


@contextmanager
def unread() -> Iterator[TextIO]:
    """A standard output whose reader is gone."""
    reading, writing = os.pipe()
    os.close(reading)
    # Within the test: pytest puts its own there before it.
    with os.fdopen(writing, "w", encoding="utf-8") as out, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        yield out


@pytest.mark.parametrize("code", [0, 1, 7])
def test_the_code_is_the_commands(code: int) -> None:
    assert run_in_foreground(lambda: code) == code


def test_ctrl_c_ends_it_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> int:
        raise KeyboardInterrupt

    assert run_in_foreground(interrupted) == 130
    assert capsys.readouterr() == ("", "")


def test_a_reader_that_is_gone_is_met_at_the_last_flush() -> None:
    with unread() as out:

        def writes() -> int:
            out.write("a line\n")
            return 0

        assert run_in_foreground(writes) == 141
        out.write("what the interpreter still has\n")
        out.flush()


def test_a_reader_that_is_gone_is_met_within_the_command() -> None:
    with unread() as out:

        def writes() -> int:
            out.write("a line\n")
            out.flush()
            raise AssertionError("it goes on")

        assert run_in_foreground(writes) == 141
        out.flush()


def test_a_bug_is_not_hidden() -> None:
    def wrong() -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_in_foreground(wrong)
