"""What the views of all daemons share: plain lines for a pipe, and the choice between them and a terminal's view.

How a frame looks is each daemon's own: its view derives from `PlainView`, and from `common.watch.terminal` where rich
(the extra `cli`) is installed. Whoever opens a view owns it until the block is left.
"""

from __future__ import annotations

import importlib.util
import io
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TextIO

import attrs

from common.early import allow
from common.watch.show import Note, OutputClosedError, Show

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class View(Show, Protocol):
    """A show that takes other lines too."""

    def line(self, text: str, style: str = "") -> None:
        """Show a line of the caller's, safe for a terminal, in a style where there is one. Raises OutputClosedError."""


class ClosingView(View, Protocol):
    """A view that changes its terminal."""

    def close(self) -> None:
        """Give the terminal back as it was found."""


@contextmanager
def open_view(
    out: TextIO, err: TextIO, plain: Callable[[TextIO, TextIO], View], terminal: Callable[[TextIO], ClosingView]
) -> Iterator[View]:
    """The view that fits `out`: `terminal` on a terminal where rich is installed, `plain` elsewhere.

    `terminal` is called only if it is wanted: rich is an extra, and slow to import, so that is the time to import it.
    """
    if isinstance(out, io.TextIOWrapper):
        # A locale that can't spell a character must not end the client.
        out.reconfigure(errors="backslashreplace")
    allow("rich")
    if not out.isatty() or importlib.util.find_spec("rich") is None:
        yield plain(out, err)
        return
    view = terminal(out)
    try:
        yield view
    finally:
        view.close()


@attrs.define
class PlainView:
    """Lines, each flushed. `out` and `err` belong to the caller.

    What the server sent goes to `out`, gaps included, so that a saved log shows where it has holes; what concerns only
    the connection goes to `err`.
    """

    out: TextIO
    err: TextIO

    def line(self, text: str, style: str = "") -> None:
        """Write a line. Raises OutputClosedError."""
        del style
        _write(self.out, text)

    def notice(self, note: Note, text: str) -> None:
        """Write a notice between dashes. Raises OutputClosedError."""
        _write(self.out if note is Note.GAP else self.err, f"-- {text} --")


@contextmanager
def output() -> Iterator[None]:
    """Whatever fails while the block writes means that the reader is gone. Raises OutputClosedError."""
    try:
        yield
    except OSError as error:
        raise OutputClosedError(str(error)) from error


def _write(out: TextIO, line: str) -> None:
    with output():
        out.write(f"{line}\n")
        out.flush()
