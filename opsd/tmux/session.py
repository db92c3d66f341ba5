"""The life of our session: started, watched, stopped; and what else runs in the user's tmux.

`Tmux` owns nothing but the session that it was told to start, which outlives the process: that is what tmux is for.
The program is called with a deadline, one call at a time. Where windows are made (`opsd.tmux.script`), the commands are
given to tmux in a file that only the user can read: their environment holds secrets, and arguments are everybody's to
see. What the windows print is kept beside the server's socket (`opsd.tmux.logs`).
"""

from __future__ import annotations

import os
import shlex
import signal
import tempfile
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import trio

from common.quote import quote
from opsd.tmux import listing
from opsd.tmux.errors import TmuxConflictError, TmuxError, TmuxUnavailableError
from opsd.tmux.logs import LogFiles
from opsd.tmux.program import call, socket_path
from opsd.tmux.script import NAME, VARIABLE, make_script
from opsd.tmux.status import TmuxStatus

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from opsd.tmux.program import Output
    from opsd.tmux.script import Window
    from opsd.tmux.status import Pane, TmuxSession

CALL_TIMEOUT: Final = 3.0
"""Seconds that tmux may take for one call."""

STOP_TIMEOUT: Final = 20.0
"""Seconds that the windows' processes have to end by themselves: more than a daemon drains for by default."""

STOP_ANSWER: Final = 4.0
"""Seconds until a request to stop is answered, whether all have ended or not: a page waits for 6."""

WATCH_INTERVAL: Final = 1.0
WATCH_INTERVAL_WITHOUT: Final = 5.0
"""Seconds between two looks for tmux itself, where it is not installed."""

_POLL: Final = 0.1


class Tmux:
    """The session `name` on the user's own tmux server, or on the one called `socket_name`.

    `program` is for tests: it calls the program with arguments, and raises `TmuxUnavailableError` where it can't.
    """

    def __init__(
        self,
        name: str,
        *,
        socket_name: str | None = None,
        program: Callable[[Sequence[str]], Awaitable[Output]] | None = None,
    ) -> None:
        if not NAME.fullmatch(name) or (socket_name is not None and not NAME.fullmatch(socket_name)):
            raise ValueError("a name has letters, digits, _ and -, at most 64")
        self.name = name
        socket = socket_path(os.environ, socket_name, os.getuid())
        self._attach = f"tmux -S {shlex.quote(str(socket))} attach -t {name}"
        self._logs = LogFiles(socket.parent / f"{socket.name}-{name}-logs")
        self._program = program or partial(call, socket_name)
        # However many ask: nobody makes us start a crowd of programs.
        self._turn = trio.Lock()
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
        done = await self._make_session(windows)
        if listing.means_no_server(done.error):
            # It was given to a server that was ending, with the session that was stopped just now: now there is none.
            done = await self._make_session(windows)
        if done.code != 0 or done.error:
            await self._call(listing.kill_session(self.name))
            raise TmuxError(f"tmux refused: {_one_line(done.error)}")

    async def _make_session(self, windows: Sequence[Window]) -> Output:
        sessions = await self._sessions()
        if any(session.name == self.name for session in sessions):
            raise TmuxConflictError(f"the session {self.name} runs already")
        try:
            self._logs.prepare(window.name for window in windows)
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
            return await self._call(listing.source_file(str(file)))

    async def _stop(self) -> None:
        told: set[int] = set()
        with trio.move_on_after(STOP_TIMEOUT):
            while alive := {pane.pid for pane in await self._panes(lines=False) if not pane.dead and pane.pid > 1}:
                for pid in alive - told:
                    with suppress(ProcessLookupError, PermissionError):
                        os.kill(pid, signal.SIGTERM)
                told |= alive
                await trio.sleep(_POLL)
        await self._call(listing.kill_session(self.name))

    async def _sessions(self) -> tuple[TmuxSession, ...]:
        done = await self._call(listing.LIST_SESSIONS)
        if done.code != 0:
            if listing.means_no_server(done.error):
                return ()
            raise TmuxError(_one_line(done.error) or f"tmux ended with {done.code}")
        return listing.parse_sessions(done.lines)

    async def _panes(self, *, lines: bool) -> tuple[Pane, ...]:
        panes = await self._list_panes()
        if not lines:
            return panes
        if any(pane.dead and pane.exit_code is None and pane.exit_signal is None for pane in panes):
            await self._call(listing.REAP)
            panes = await self._list_panes()
        titles = listing.parse_titles((await self._call(listing.list_titles(self.name))).lines)
        shown: list[Pane] = []
        for pane in panes[: listing.MOST_PANES]:
            screen = await self._call(listing.capture_pane(pane.id))
            last = listing.last_lines(screen.lines)
            shown.append(attrs.evolve(pane, title=titles.get(pane.id, ""), lines=last))
        return tuple(shown)

    async def _list_panes(self) -> tuple[Pane, ...]:
        done = await self._call(listing.list_panes(self.name))
        # A session that ended in between has no panes.
        return listing.parse_panes(done.lines) if done.code == 0 else ()

    async def _call(self, arguments: Sequence[str]) -> Output:
        try:
            with trio.fail_after(CALL_TIMEOUT):
                async with self._turn:
                    return await self._program(arguments)
        except trio.TooSlowError:
            raise TmuxUnavailableError(f"tmux does not answer within {CALL_TIMEOUT:g} s") from None


def _one_line(text: str) -> str:
    return quote(" ".join(text.split()))
