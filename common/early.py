"""What must hold before a process imports anything: it hears the signals that end it, its standard streams exist, and
nothing is imported that nobody asked for.

The imports of a daemon take half a second. A signal in that time must not be lost, which it is when the process is
number 1 of a container, nor end the process with another code than a drain's. And a descriptor from 0 to 2 that is
missing is given to the next socket, which then is somebody's standard output.

So this is called first by every `__main__`, before its other imports, and imports next to nothing itself. Signals
belong to the process, and so does what is kept here.
"""

from __future__ import annotations

import os
import signal
import sys

ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""The signals that ask a process to end (SPEC 6)."""

_UNASKED = ("opentelemetry", "rich")
"""Extras that others import wherever they are installed: redis-py the one, a quarter of a second and 3.6 MB; structlog
the other, a tenth of a second and 3 MB."""

_noted: list[int] = []
_before: dict[int, object] = {}


def begin() -> None:
    """Note the signals that come from now on, for whoever asks `take_noted`, and open what is missing of 0, 1 and 2."""
    for number in ending_signals():
        _before[number] = signal.signal(number, lambda number, _frame: _noted.append(number))
    open_standard_streams()
    for name in _UNASKED:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # so the import system marks what can't be had


def allow(name: str) -> None:
    """Let this extra be imported from now on: it was asked for. Others have been imported without it."""
    if sys.modules.get(name, sys) is None:
        del sys.modules[name]


def ending_signals() -> tuple[int, ...]:
    """Those of `ENDING` to be heeded: not SIGHUP where the process was started with it ignored (`nohup`)."""
    return tuple(
        number for number in ENDING if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN
    )


def take_noted() -> list[int]:
    """The signals that came since `begin`, or since they were last asked for."""
    taken = _noted[:]
    del _noted[: len(taken)]
    return taken


def release() -> None:
    """Give the signals their usual effect: for a command that has nothing to drain.

    Raises SystemExit with 128 and its number, as shells count, if one has come already.
    """
    for number, handler in _before.items():
        signal.signal(number, handler)  # type: ignore[arg-type]  # what `signal.signal` gave
    _before.clear()
    for number in take_noted():
        raise SystemExit(128 + number)


def leave(code: int) -> None:
    """Exit with `code`, whatever is signalled until the process is gone. Raises SystemExit."""
    for number in _before:
        # The interpreter gives handlers of its own their default back, which is death, before it has ended.
        signal.signal(number, signal.SIG_IGN)
    sys.exit(code)


def open_standard_streams() -> None:
    """Open on the null device what is missing of the descriptors 0, 1 and 2, and of their files in `sys`."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number is taken, so it is this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
        if getattr(sys, name) is None:
            stream = open(number, mode, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)
