"""Ports that are chosen before whoever binds them is started, or that are bound again later: no two workers' collide.

Wherever the kernel can choose (port 0), it does. The rest comes from below the range that Linux takes outgoing
connections' ports from, and each worker of pytest-xdist has its own share of that.
"""

from __future__ import annotations

import os
import random
import socket
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

ALL: Final = range(15_000, 32_000)

_HOST: Final = "127.0.0.1"

_given: Final[set[int]] = set()
"""What this process was given: until it is bound it looks free, and no two must have it."""


def share(environ: Mapping[str, str]) -> range:
    """The ports of the worker that pytest-xdist names in its environment, all of them without it."""
    workers = int(environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    number = int(environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % workers
    size = len(ALL) // workers
    return ALL[number * size : (number + 1) * size]


def free_port() -> int:
    """One that nobody listens on at this moment, and that no outgoing connection gets: who comes back finds it free.

    Never the same one twice.
    """
    for port in random.SystemRandom().sample(share(os.environ), 100):
        if port in _given:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((_HOST, port))
            except OSError:
                continue
            _given.add(port)
            return port
    raise AssertionError("no free port")
