"""What a test needs from the machine: without it the test is skipped, and fails in CI (`CI` is set), which installs it.

Either way in one line, which says what is missing and how it is installed.
"""

from __future__ import annotations

import os
import shutil
import socket
from typing import NoReturn

import pytest


def missing(what: str, install: str) -> NoReturn:
    """Skip the running test, or fail it in CI: `what` is not here, and the command `install` brings it."""
    reason = f"{what}: {install}"
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def program(name: str, package: str = "") -> str:
    """The path of a program that Debian's `package` brings, the one of the same name unless told otherwise."""
    found = shutil.which(name)
    if found is None:
        missing(f"no {name} on PATH", f"apt-get install {package or name}")
    return found


def ipv6() -> None:
    """The loopback address `::1`. A machine that was set up without it is no fault of whoever set up the tests."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError as error:
        pytest.skip(f"no ::1 on this machine ({error}): sysctl net.ipv6.conf.lo.disable_ipv6=0")
