"""The kernel's own bad weather, where it has it: netem on the loopback device of a network namespace of our own.

`enter` is for the start of the program, while it has one thread: it moves this process, and with it all that it starts,
into a new namespace, and says why not where that does not work. There, the proxy's delay, jitter and stalls take its
place.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

WEATHER: Final = ("netem", "delay", "200ms", "50ms", "loss", "2%")
"""What `tc` is told."""
_INSIDE: Final = "CHAOS_NETEM"
_TIMEOUT: Final = 10.0


def here() -> bool:
    """Whether this process is in a namespace of its own, where netem works."""
    return os.environ.get(_INSIDE) == "1"


def probe() -> str | None:
    """Why netem can't be used, or None: it is tried, in a namespace that is gone afterwards."""
    missing = [name for name in ("unshare", "ip", "tc") if shutil.which(name) is None]
    if missing:
        return f"no {missing[0]} on PATH"
    tried = "ip link set lo up && tc qdisc add dev lo root {}".format(" ".join(WEATHER))
    try:
        done = subprocess.run(
            ["unshare", "--net", "--map-root-user", "sh", "-c", tried],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return None if done.returncode == 0 else done.stderr.strip().partition("\n")[0] or f"status {done.returncode}"


def enter() -> str | None:
    """Start this program again in a namespace of its own, and not return; or return why not."""
    if here():
        return None
    reason = probe()
    if reason is None:
        again = [sys.executable, "-m", "bench.chaos", *sys.argv[1:]]
        inside = 'ip link set lo up && exec "$@"'
        command = ["unshare", "--net", "--map-root-user", "sh", "-c", inside, "sh", *again]
        os.execvpe("unshare", command, os.environ | {_INSIDE: "1"})  # noqa: S606 - ourselves
    return reason


@contextmanager
def bad_weather() -> Iterator[None]:
    """200 ms, give or take 50, and 2 % loss, on everything here, for the block."""
    _tc("add", *WEATHER)
    try:
        yield
    finally:
        _tc("del")


def _tc(verb: str, *what: str) -> None:
    subprocess.run(["tc", "qdisc", verb, "dev", "lo", "root", *what], check=True, timeout=_TIMEOUT)
