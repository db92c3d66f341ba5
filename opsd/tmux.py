"""The tmux of this machine: what runs in it, and a session of the platform's own daemons.

`Tmux` owns nothing but the session that it was told to start, which outlives the process: that is what tmux is for.
libtmux waits for the tmux program without a deadline, so it is called in a thread that can be abandoned; at most one is
at any time. Commands are lists of arguments. Where windows are made (`opsd.tmux_script`), the commands are given to
tmux in a file that only the user can read: their environment holds secrets, and arguments are everybody's to see. What
the windows print is kept beside the server's socket, in a directory of the session's that only the user can read.
"""

from __future__ import annotations

import errno
import os
import re
import shlex
import signal
import stat
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

from opsd.tmux_script import NAME, VARIABLE, LogFiles, make_script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from opsd.tmux_script import Window

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

LONGEST_NAME: Final = 256
"""Characters of any name that tmux gives."""

MOST_SESSIONS: Final = 100
"""Sessions that are listed."""

SCROLLBACK: Final = 200
"""Lines above the screen that are looked at: tmux makes room for its word on a dead pane by moving all up."""

_PANE: Final = re.compile(r"%[0-9]{1,9}")
_PANE_LINE: Final = re.compile(
    r"(?P<window>[0-9]{1,9}) (?P<pane>[0-9]{1,9}) "
    r"(?P<dead>[01]?) \[(?P<status>[0-9]{0,9})\] \[(?P<signal>[0-9]{0,9})\] "
    r"(?P<pid>[0-9]{1,10}) (?P<id>\S+) (?P<command>[^|]*)\|(?P<name>.*)"
)
_NO_SERVER: Final = ("no server running", "error connecting to", "no sessions", "lost server")

# Numbers first: names are the only part that may hold a space.
_SESSIONS: Final = "#{session_windows} #{session_attached} #{session_created} #{session_name}"
_PANES: Final = (
    "#{window_index} #{pane_index} #{pane_dead} [#{pane_dead_status}] [#{pane_dead_signal}] #{pane_pid} #{pane_id} "
    "#{pane_current_command}|#{window_name}"
)
# By themselves: after another text that may hold anything, no mark would tell where one begins.
_TITLES: Final = "#{pane_id} #{pane_title}"


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
    exit_code: int | None = None
    """Of a dead one; None where tmux does not know it, as after a signal."""
    exit_signal: int | None = None
    """The signal that ended it; None where there was none, or tmux is too old to know."""
    title: str = ""
    lines: tuple[str, ...] = ()

    def document(self) -> dict[str, object]:
        """As JSON."""
        return {
            "window": self.window[:LONGEST_NAME],
            "title": self.title[:LONGEST_NAME],
            "index": self.index,
            "command": self.command[:LONGEST_NAME],
            "pid": self.pid,
            "dead": self.dead,
            "exitCode": self.exit_code,
            "exitSignal": self.exit_signal,
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
        """As JSON; `session` is null unless ours is there. `online` is the older dashboards' name for `running`."""
        return {
            "available": self.available,
            "reason": self.reason,
            "running": self.running,
            "online": self.running,
            "changing": self.changing,
            "sessions": [
                {
                    "name": session.name[:LONGEST_NAME],
                    "windows": session.windows,
                    "attached": session.attached,
                    "created": session.created.isoformat().replace("+00:00", "Z"),
                }
                for session in self.sessions[:MOST_SESSIONS]
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
        if not NAME.fullmatch(name) or (socket_name is not None and not NAME.fullmatch(socket_name)):
            raise ValueError("a name has letters, digits, _ and -, at most 64")
        self.name = name
        socket = socket_path(os.environ, socket_name, os.getuid())
        self._attach = f"tmux -S {shlex.quote(str(socket))} attach -t {name}"
        self._logs = LogFiles(socket.parent / f"{socket.name}-{name}-logs")
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
        try:
            _prepare(self._logs, windows)
        except OSError as error:
            raise TmuxError(f"the logs can't be kept in {self._logs.directory}: {error.strerror or error}") from error
        script = make_script(self.name, windows, Path.cwd(), self._logs)
        if not sessions:
            # The server that this starts is the user's own and has our environment: it must not keep what is ours only.
            names = sorted({name for window in windows for name in window.without if VARIABLE.fullmatch(name)})
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
        titles = parse_titles((await self._call("list-panes", "-s", "-t", f"={self.name}:", "-F", _TITLES)).lines)
        shown: list[Pane] = []
        for pane in panes[:MOST_PANES]:
            screen = await self._call("capture-pane", "-p", "-J", "-S", f"-{SCROLLBACK}", "-t", pane.id)
            shown.append(attrs.evolve(pane, title=titles.get(pane.id, ""), lines=last_lines(screen.lines)))
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
        match = _PANE_LINE.fullmatch(line)
        if match is None or not _PANE.fullmatch(match["id"]):
            continue
        dead = match["dead"] == "1"
        found.append(
            Pane(
                id=match["id"],
                window=match["name"],
                index=f"{match['window']}.{match['pane']}",
                command=match["command"],
                pid=int(match["pid"]),
                dead=dead,
                exit_code=int(match["status"]) if dead and match["status"] else None,
                exit_signal=int(match["signal"]) if dead and match["signal"] else None,
            )
        )
    return tuple(found)


def parse_titles(lines: Iterable[str]) -> dict[str, str]:
    """The panes' titles by the panes' ids."""
    return {pane: title for pane, _, title in (line.partition(" ") for line in lines) if _PANE.fullmatch(pane)}


def last_lines(lines: Sequence[str]) -> tuple[str, ...]:
    """The last lines that say something, each cut to what a page can show."""
    filled = [line.rstrip() for line in lines if line.strip()]
    return tuple(line[:LONGEST_LINE] for line in filled[-LINES:])


def socket_path(environ: Mapping[str, str], socket_name: str | None, uid: int) -> Path:
    """Where a tmux that is called from this environment finds its server (tmux(1), -L, -S and ENVIRONMENT)."""
    inherited = environ.get("TMUX", "").partition(",")[0]
    if socket_name is None and inherited:
        return Path(inherited)
    base = environ.get("TMUX_TMPDIR", "")
    found = base if base and os.path.exists(base) else "/tmp"  # noqa: S108, PTH110 - as tmux does
    return Path(os.path.realpath(found), f"tmux-{uid}", socket_name or "default")


def _prepare(logs: LogFiles, windows: Sequence[Window]) -> None:
    """Make a private directory with an empty file for each window. Raises OSError, also where it is not ours alone."""
    for directory in (logs.directory.parent, logs.directory):
        with suppress(FileExistsError):
            directory.mkdir(mode=0o700)
    found = logs.directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError(errno.EACCES, "it is not a directory that only its owner can use")
    for window in windows:
        logs.older(window).unlink(missing_ok=True)
        logs.of(window).unlink(missing_ok=True)
        logs.of(window).touch(0o600)


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
