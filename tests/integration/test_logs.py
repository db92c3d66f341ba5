"""A process whose standard output is a pipe that nobody reads, or that is gone: it ends in time, and as it should."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import pytest

from common.logs import CLOSE_TIMEOUT
from tests.support.raw import PATIENCE

pytestmark = pytest.mark.integration

ROOT: Final = Path(__file__).parents[2]

PROGRAM: Final = """
from common.logs import open_logs
with open_logs("info", "statusd") as log:
    for number in range(5000):
        log.info("x" * 100, number=number)
"""


def start(stdout: int, unbuffered: str) -> subprocess.Popen[bytes]:
    environ = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, env=environ, stdout=stdout, stderr=subprocess.PIPE
    )


def end(process: subprocess.Popen[bytes]) -> tuple[int, bytes]:
    """The process's exit code and what it wrote to standard error."""
    try:
        _, stderr = process.communicate(timeout=CLOSE_TIMEOUT + PATIENCE)
    finally:
        process.kill()
        process.wait()
    return process.returncode, stderr


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_pipe_that_nobody_reads_does_not_keep_the_process(unbuffered: str) -> None:
    reader, target = os.pipe()
    try:
        before = time.monotonic()
        process = start(target, unbuffered)
        assert end(process) == (0, b"")
        assert time.monotonic() - before >= CLOSE_TIMEOUT
    finally:
        os.close(reader)
        os.close(target)


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_pipe_whose_reader_is_gone_changes_nothing(unbuffered: str) -> None:
    reader, target = os.pipe()
    os.close(reader)
    try:
        assert end(start(target, unbuffered)) == (0, b"")
    finally:
        os.close(target)
