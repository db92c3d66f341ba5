"""Whether this container's daemon lives, as the exit code: what the image's HEALTHCHECK runs.

A container runs one daemon; the one that answers at its address is the one.
"""

from __future__ import annotations

import http.client
import os
import sys
from typing import Final

from common.daemons import DAEMONS

TIMEOUT: Final = 1.0
"""Seconds for one address."""

ADDRESSES: Final = {known.variable("LISTEN_ADDR"): known.listen_addr for known in DAEMONS.values()}
"""The variables that say where each daemon serves, and where it does without."""


def lives(address: str) -> bool:
    """Whether a daemon answers at `address`, as `LISTEN_ADDR` has it."""
    host, _, port = address.strip().rpartition(":")
    try:
        link = http.client.HTTPConnection(host.strip("[]") or "localhost", int(port), timeout=TIMEOUT)
        try:
            link.request("GET", "/health/live")
            return link.getresponse().status == http.client.OK
        finally:
            link.close()
    except (OSError, ValueError, http.client.HTTPException):
        return False


if __name__ == "__main__":
    sys.exit(not any(lives(os.environ.get(variable) or usual) for variable, usual in ADDRESSES.items()))
