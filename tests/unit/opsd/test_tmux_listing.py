"""What is made of the tmux program's output, and where its server is. No tmux is started here."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from opsd.tmux.listing import LINES, LONGEST_LINE, last_lines, parse_panes, parse_sessions, parse_titles
from opsd.tmux.program import socket_path


def test_sessions_are_parsed_with_any_name() -> None:
    found = parse_sessions(["2 1 1795344550 run-status", "1 0 0 with space", "nonsense", "", "x 1 2 three"])
    assert [(session.name, session.windows, session.attached) for session in found] == [
        ("run-status", 2, 1),
        ("with space", 1, 0),
    ]
    assert found[0].created.isoformat() == "2026-11-22T10:49:10+00:00"


def test_panes_are_parsed_with_any_names() -> None:
    lines = [
        "0 0 1 [2] [] 12968 %0 python|statusd",
        "1 0 0 [] [] 12970 %1 sleep|a | b",
        "2 1  [] [] 12971 %2 a b|c",
        "3 0 0 [0] [] 1 notanid sh|x",
        "garbage",
    ]
    dead, alive, other = parse_panes(lines)
    assert (dead.window, dead.index, dead.command, dead.dead, dead.exit_code) == ("statusd", "0.0", "python", True, 2)
    assert (alive.window, alive.dead, alive.exit_code, alive.pid) == ("a | b", False, None, 12970)
    assert (other.id, other.index, other.command) == ("%2", "2.1", "a b")


@pytest.mark.parametrize(
    ("said", "code", "number"),
    [("[0] []", 0, None), ("[2] []", 2, None), ("[] [9]", None, 9), ("[] []", None, None)],
    ids=["0", "2", "a signal", "unknown"],
)
def test_how_a_pane_ended_is_what_tmux_knows_of_it(said: str, code: int | None, number: int | None) -> None:
    (pane,) = parse_panes([f"0 0 1 {said} 12968 %0 python|statusd"])
    assert (pane.dead, pane.exit_code, pane.exit_signal) == (True, code, number)
    document = pane.document()
    assert (document["exitCode"], document["exitSignal"]) == (code, number)


def test_titles_may_hold_anything() -> None:
    assert parse_titles(["%0 a | b [1] %3 x", "%1 ", "%2", "nonsense", ""]) == {
        "%0": "a | b [1] %3 x",
        "%1": "",
        "%2": "",
    }


def test_the_last_lines_say_something_and_are_cut() -> None:
    lines = [str(number) for number in range(20)] + ["x" * 5000, "", "  ", ""]
    shown = last_lines(lines)
    assert len(shown) == LINES
    assert shown[-2:] == ("19", "x" * LONGEST_LINE)
    assert last_lines(["", " "]) == ()
    # tmux says that a pane is dead in its last row.
    assert last_lines(["the reason", *[""] * 48, "Pane is dead (status 2)"]) == (
        "the reason",
        "Pane is dead (status 2)",
    )


@pytest.mark.parametrize(
    ("environ", "name", "found"),
    [
        ({}, None, "TMP/tmux-7/default"),
        ({}, "mine", "TMP/tmux-7/mine"),
        ({"TMUX_TMPDIR": "/"}, None, "/tmux-7/default"),
        ({"TMUX_TMPDIR": "/nowhere/at/all"}, None, "TMP/tmux-7/default"),
        ({"TMUX": "/run/a b/sock,123,0", "TMUX_TMPDIR": "/"}, None, "/run/a b/sock"),
        ({"TMUX": "/run/sock,123,0", "TMUX_TMPDIR": "/"}, "mine", "/tmux-7/mine"),
        ({"TMUX": ",1,0"}, None, "TMP/tmux-7/default"),
    ],
)
def test_the_socket_is_where_tmux_has_it(environ: dict[str, str], name: str | None, found: str) -> None:
    # Where /tmp is a link, tmux names what it leads to.
    assert socket_path(environ, name, 7) == Path(found.replace("TMP", os.path.realpath("/tmp")))  # noqa: S108
