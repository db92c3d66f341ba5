"""One call of the tmux program: a list of arguments, the output, and the end of a program that hangs.

The program is a client of the user's tmux server; whoever cancels a call kills it, and the server lives on.
"""

from __future__ import annotations

import os
import subprocess
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import trio

from opsd.tmux.errors import TmuxUnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LARGEST_OUTPUT: Final = 1 << 20
"""Bytes of output, and of complaints, that are kept of one call; more is read and thrown away."""


@attrs.frozen
class Output:
    """What one call of the program gave."""

    code: int
    lines: tuple[str, ...]
    error: str


async def call(socket_name: str | None, arguments: Sequence[str]) -> Output:
    """Call tmux for the user's own server, or for the one named `socket_name`; without a deadline of its own.

    Raises TmuxUnavailableError where there is no tmux, or where it can't be started.
    """
    server = [] if socket_name is None else ["-L", socket_name]
    run = partial(
        trio.run_process,
        ["tmux", *server, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        check=False,
        deliver_cancel=_kill,
    )
    out, err = bytearray(), bytearray()
    code, failure = 0, None
    async with trio.open_nursery() as nursery:
        try:
            process: trio.Process = await nursery.start(run)
        except OSError as error:
            # Raised here it would be a group.
            failure = error
        else:
            nursery.start_soon(_read, process.stdout, out)
            nursery.start_soon(_read, process.stderr, err)
            code = await process.wait()
    if isinstance(failure, FileNotFoundError):
        raise TmuxUnavailableError("tmux is not installed here")
    if failure is not None:
        raise TmuxUnavailableError(f"tmux can't be started: {failure.strerror or failure}")
    return Output(code, tuple(_text(out).removesuffix("\n").split("\n")), _text(err).strip())


def socket_path(environ: Mapping[str, str], socket_name: str | None, uid: int) -> Path:
    """Where a tmux that is called from this environment finds its server (tmux(1), -L, -S and ENVIRONMENT)."""
    inherited = environ.get("TMUX", "").partition(",")[0]
    if socket_name is None and inherited:
        return Path(inherited)
    base = environ.get("TMUX_TMPDIR", "")
    found = base if base and os.path.exists(base) else "/tmp"  # noqa: S108, PTH110 - as tmux does
    return Path(os.path.realpath(found), f"tmux-{uid}", socket_name or "default")


async def _kill(process: trio.Process) -> None:
    """Not asked first: a client holds nothing, and one that hangs may not hear."""
    process.kill()


async def _read(stream: trio.abc.ReceiveStream | None, kept: bytearray) -> None:
    """Read to the end, so that the program is never held up, and keep `LARGEST_OUTPUT`."""
    assert stream is not None  # noqa: S101 - a pipe was asked for
    async with stream:
        async for chunk in stream:
            kept += chunk[: LARGEST_OUTPUT - len(kept)]


def _text(data: bytearray) -> str:
    return data.decode("utf-8", "backslashreplace")
