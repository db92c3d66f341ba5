"""The tmux of this machine: what runs in it, and a session of the platform's own daemons.

`Tmux` owns nothing but the session that it was told to start, which outlives the process: that is what tmux is for.
libtmux waits for the tmux program without a deadline, so it is called in a thread that can be abandoned; at most one is
at any time. Commands are lists of arguments. Where windows are made, the commands are given to tmux in a file that only
the user can read: their environment holds secrets, and arguments are everybody's to see.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import tempfile
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import libtmux
import trio
from libtmux.exc import LibTmuxException

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

CALL_TIMEOUT: Final = 3.0
"""Seconds that tmux may take for one call."""

STOP_TIMEOUT: Final = 20.0
"""Seconds that the windows' processes have to end by themselves: more than a daemon drains for by default."""

STOP_ANSWER: Final = 4.0
"""Seconds until a request to stop is answered, whether all have ended or not: a page waits for 6."""

WATCH_INTERVAL: Final = 1.0
WATCH_INTERVAL_WITHOUT: Final = 5.0
"""Seconds between two looks for tmux itself, where it is not installed."""

MOST_PANES: Final = 16
"""Panes whose last lines are shown."""

LINES: Final = 10
"""Of each pane."""

LONGEST_LINE: Final = 1000
"""Characters."""

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_PANE: Final = re.compile(r"%[0-9]{1,9}")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NO_SERVER: Final = ("no server running", "error connecting to", "no sessions", "lost server")
_OF_THE_TERMINAL: Final = frozenset({"TERM", "TMUX", "TMUX_PANE", "PWD", "OLDPWD", "SHLVL", "_", "COLUMNS", "LINES"})

# Numbers first: names are the only part that may hold a space.
_SESSIONS: Final = "#{session_windows} #{session_attached} #{session_created} #{session_name}"
_PANES: Final = (
    "#{window_index} #{pane_index} #{pane_dead} #{?pane_dead_status,#{pane_dead_status},0} #{pane_pid} #{pane_id} "
    "#{pane_current_command}|#{window_name}"
)


class TmuxError(Exception):
    """tmux did not do what it was asked to; the message is for the operator."""


class TmuxUnavailableError(TmuxError):
    """There is no tmux here, or it does not answer."""


class TmuxConflictError(TmuxError):
    """The session runs already, does not run, or is being started or stopped."""


@attrs.frozen
class Output:
    """What one call of the program gave."""

    code: int
    lines: tuple[str, ...]
    error: str


@attrs.frozen
class Window:
    """One window to be made: its command, and the whole environment of the command."""

    name: str
    argv: tuple[str, ...]
    environ: Mapping[str, str] = attrs.field(repr=False)
    without: tuple[str, ...] = ()
    """Variables that must not come from the tmux server's own environment."""


@attrs.frozen
class TmuxSession:
    """One session of the server."""

    name: str
    windows: int
    attached: int
    created: datetime


@attrs.frozen
class Pane:
    """One pane of our session."""

    id: str
    window: str
    index: str
    """The window's and the pane's, as tmux shows them: `0.0`."""
    command: str
    pid: int
    dead: bool
    exit_code: int | None
    lines: tuple[str, ...] = ()

    def document(self) -> dict[str, object]:
        """As JSON."""
        return {
            "window": self.window,
            "index": self.index,
            "command": self.command,
            "pid": self.pid,
            "dead": self.dead,
            "exitCode": self.exit_code,
            "lines": list(self.lines),
        }


@attrs.frozen
class TmuxStatus:
    """What is there. Without tmux nothing is, and `reason` says why."""

    available: bool
    reason: str
    sessions: tuple[TmuxSession, ...]
    name: str
    """Of the session that is ours to start and stop."""
    attach: str
    """What an operator types to see it."""
    panes: tuple[Pane, ...] = ()
    changing: bool = False
    """Whether our session is being started or stopped."""

    @property
    def running(self) -> bool:
        """Whether our session is there."""
        return any(session.name == self.name for session in self.sessions)

    def document(self) -> dict[str, object]:
        """As JSON; `session` is null unless ours is there."""
        return {
            "available": self.available,
            "reason": self.reason,
            "running": self.running,
            "changing": self.changing,
            "sessions": [
                {
                    "name": session.name,
                    "windows": session.windows,
                    "attached": session.attached,
                    "created": session.created.isoformat().replace("+00:00", "Z"),
                }
                for session in self.sessions
            ],
            "session": self.name if self.running else None,
            "sessionName": self.name,
            "panes": [pane.document() for pane in self.panes],
            "attach": self.attach,
        }


class Tmux:
    """The session `name` on the user's own tmux server, or on the one called `socket_name`.

    `run` is for tests: it calls the program with arguments and may block. It raises `TmuxUnavailableError` where there
    is no tmux, `OSError` where it can't be started.
    """

    def __init__(
        self, name: str, *, socket_name: str | None = None, run: Callable[[Sequence[str]], Output] | None = None
    ) -> None:
        if not _NAME.fullmatch(name) or (socket_name is not None and not _NAME.fullmatch(socket_name)):
            raise ValueError("a name has letters, digits, _ and -, at most 64")
        self.name = name
        socket = f"-L {socket_name} " if socket_name else ""
        self._attach = f"tmux {socket}attach -t {name}"
        self._run = run or partial(_run, socket_name)
        # An abandoned thread holds its place until its tmux ends.
        self._limiter = trio.CapacityLimiter(1)
        self._changing = False
        self._nursery: trio.Nursery | None = None

    async def status(self) -> TmuxStatus:
        """What there is now; never raises for what tmux does or lacks."""
        try:
            sessions = await self._sessions()
            ours = any(session.name == self.name for session in sessions)
            panes = await self._panes(lines=True) if ours else ()
        except TmuxError as error:
            return TmuxStatus(not isinstance(error, TmuxUnavailableError), str(error), (), self.name, self._attach)
        return TmuxStatus(True, "", sessions, self.name, self._attach, panes, self._changing)

    async def run(self, tell: Callable[[int], None]) -> None:
        """Tell the number of sessions again and again, and finish what `stop` began, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                await self._watch(tell)
            finally:
                self._nursery = None

    async def _watch(self, tell: Callable[[int], None]) -> None:
        while True:
            interval = WATCH_INTERVAL
            try:
                tell(len(await self._sessions()))
            except TmuxUnavailableError:
                tell(0)
                interval = WATCH_INTERVAL_WITHOUT
            except TmuxError:
                tell(0)
            await trio.sleep(interval)

    async def start(self, windows: Sequence[Window]) -> TmuxStatus:
        """Start the session with these windows; what ends in them stays visible.

        Raises `TmuxConflictError` when it runs already, `TmuxUnavailableError`, and `TmuxError` when tmux refuses.
        """
        self._begin_change()
        try:
            await self._start(windows)
        finally:
            self._changing = False
        return await self.status()

    async def stop(self) -> TmuxStatus:
        """End the processes of our session, with SIGTERM and time to drain, then the session.

        Returns when that is done, or after `STOP_ANSWER` seconds while `run` finishes it. Raises `TmuxConflictError`
        when it does not run, `TmuxUnavailableError`, and `TmuxError` when tmux refuses.
        """
        self._begin_change()
        done = trio.Event()
        try:
            await self._begin_stop(done)
        except BaseException:
            self._changing = False
            raise
        with trio.move_on_after(STOP_ANSWER):
            await done.wait()
        return await self.status()

    async def _begin_stop(self, done: trio.Event) -> None:
        if not any(session.name == self.name for session in await self._sessions()):
            raise TmuxConflictError(f"the session {self.name} does not run")
        if self._nursery is None:
            raise TmuxUnavailableError("opsd is starting or ending")
        self._nursery.start_soon(self._finish_stop, done)

    def _begin_change(self) -> None:
        if self._changing:
            raise TmuxConflictError("the session is being started or stopped at this moment")
        self._changing = True

    async def _finish_stop(self, done: trio.Event) -> None:
        try:
            with suppress(TmuxError):
                await self._stop()
        finally:
            self._changing = False
            done.set()

    async def _start(self, windows: Sequence[Window]) -> None:
        sessions = await self._sessions()
        if any(session.name == self.name for session in sessions):
            raise TmuxConflictError(f"the session {self.name} runs already")
        script = make_script(self.name, windows, Path.cwd())
        if not sessions:
            # The server that this starts is the user's own and has our environment: it must not keep what is ours only.
            names = sorted({name for window in windows for name in window.without if _VARIABLE.fullmatch(name)})
            script = "".join(f"set-environment -g -u {name}\n" for name in names) + script
        with tempfile.TemporaryDirectory(prefix="opsd-") as directory:
            file = Path(directory) / "start.conf"
            file.touch(0o600)
            file.write_text(script, encoding="ascii")
            done = await self._call("start-server", ";", "source-file", str(file))
        if done.code != 0 or done.error:
            await self._call("kill-session", "-t", f"={self.name}")
            raise TmuxError(f"tmux refused: {_one_line(done.error)}")

    async def _stop(self) -> None:
        told: set[int] = set()
        with trio.move_on_after(STOP_TIMEOUT):
            while alive := {pane.pid for pane in await self._panes(lines=False) if not pane.dead and pane.pid > 1}:
                for pid in alive - told:
                    with suppress(ProcessLookupError, PermissionError):
                        os.kill(pid, signal.SIGTERM)
                told |= alive
                await trio.sleep(0.1)
        await self._call("kill-session", "-t", f"={self.name}")

    async def _sessions(self) -> tuple[TmuxSession, ...]:
        done = await self._call("list-sessions", "-F", _SESSIONS)
        if done.code != 0:
            if done.error.startswith(_NO_SERVER) and "denied" not in done.error:
                return ()
            raise TmuxError(_one_line(done.error) or f"tmux ended with {done.code}")
        return parse_sessions(done.lines)

    async def _panes(self, *, lines: bool) -> tuple[Pane, ...]:
        done = await self._call("list-panes", "-s", "-t", f"={self.name}:", "-F", _PANES)
        # One that ended in between has no panes.
        panes = parse_panes(done.lines) if done.code == 0 else ()
        if not lines:
            return panes
        shown: list[Pane] = []
        for pane in panes[:MOST_PANES]:
            screen = await self._call("capture-pane", "-p", "-J", "-t", pane.id)
            shown.append(attrs.evolve(pane, lines=last_lines(screen.lines)))
        return tuple(shown)

    async def _call(self, *arguments: str) -> Output:
        try:
            with trio.fail_after(CALL_TIMEOUT):
                return await trio.to_thread.run_sync(
                    self._run, arguments, abandon_on_cancel=True, limiter=self._limiter
                )
        except trio.TooSlowError:
            raise TmuxUnavailableError(f"tmux does not answer within {CALL_TIMEOUT:g} s") from None
        except OSError as error:
            raise TmuxUnavailableError(f"tmux can't be started: {error.strerror or error}") from None


def parse_sessions(lines: Iterable[str]) -> tuple[TmuxSession, ...]:
    """What `list-sessions` printed; a line that is not as asked for is left out."""
    found: list[TmuxSession] = []
    for line in lines:
        match = re.fullmatch(r"([0-9]{1,9}) ([0-9]{1,9}) ([0-9]{1,11}) (.+)", line)
        if match is not None:
            created = datetime.fromtimestamp(int(match[3]), UTC)
            found.append(TmuxSession(match[4], int(match[1]), int(match[2]), created))
    return tuple(found)


def parse_panes(lines: Iterable[str]) -> tuple[Pane, ...]:
    """What `list-panes` printed; a line that is not as asked for is left out."""
    found: list[Pane] = []
    for line in lines:
        match = re.fullmatch(r"([0-9]{1,9}) ([0-9]{1,9}) ([01]?) ([0-9]{1,9}) ([0-9]{1,10}) (\S+) ([^|]*)\|(.*)", line)
        if match is None or not _PANE.fullmatch(match[6]):
            continue
        dead = match[3] == "1"
        found.append(
            Pane(
                id=match[6],
                window=match[8],
                index=f"{match[1]}.{match[2]}",
                command=match[7],
                pid=int(match[5]),
                dead=dead,
                exit_code=int(match[4]) if dead else None,
            )
        )
    return tuple(found)


def last_lines(lines: Sequence[str]) -> tuple[str, ...]:
    """The last lines that say something, each cut to what a page can show."""
    filled = [line.rstrip() for line in lines]
    while filled and not filled[-1]:
        filled.pop()
    return tuple(line[:LONGEST_LINE] for line in filled[-LINES:])


def make_script(session: str, windows: Sequence[Window], directory: Path) -> str:
    """tmux commands that make the session; every word from outside is written in octal, so that none is syntax."""
    if not windows or not all(_NAME.fullmatch(window.name) for window in windows):
        raise ValueError("windows are needed, with names of letters, digits, _ and -")
    lines: list[str] = []
    for number, window in enumerate(windows):
        make = (
            ["new-session", "-d", "-s", session, "-x", "200", "-y", "50"]
            if number == 0
            else ["new-window", "-d", "-t", f"={session}:"]
        )
        # tmux expands formats in the directory's name.
        make += ["-n", window.name, "-c", str(directory).replace("#", "##")]
        for name, value in sorted(window.environ.items()):
            if _VARIABLE.fullmatch(name) and name not in _OF_THE_TERMINAL:
                make += ["-e", f"{name}={value}"]
        lines.append(" ".join([*map(_quoted, make), "--", *map(_quoted, _without(window))]))
        place = f"={session}:={window.name}"
        for option, setting in (("remain-on-exit", "on"), ("allow-rename", "off"), ("automatic-rename", "off")):
            lines.append(" ".join(["set-option", "-w", "-t", _quoted(place), option, setting]))
    return "".join(f"{line}\n" for line in lines)


def _without(window: Window) -> list[str]:
    """The command, run without the variables that the tmux server may have and the window must not."""
    program = shutil.which("env")
    if not window.without or program is None:
        return list(window.argv)
    return [program, *(word for name in window.without for word in ("-u", name)), *window.argv]


def _quoted(word: str) -> str:
    return '"' + "".join(f"\\{byte:03o}" for byte in os.fsencode(word)) + '"'


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300]


def _run(socket_name: str | None, arguments: Sequence[str]) -> Output:
    """Call tmux through libtmux; blocks."""
    try:
        done = libtmux.Server(socket_name=socket_name).cmd(arguments[0], *arguments[1:])
    except LibTmuxException:
        raise TmuxUnavailableError("tmux is not installed here") from None
    code = done.returncode
    return Output(1 if code is None else code, tuple(done.stdout), "\n".join(done.stderr))
