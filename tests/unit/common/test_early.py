"""What must hold before a process imports anything (common/early.py): standard streams, and what nobody asked for."""

from __future__ import annotations

import shlex
import subprocess
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Final

import pytest

from common.early import allow

if TYPE_CHECKING:
    from pathlib import Path

LOOK: Final = """
import os, subprocess, sys
from common.early import open_standard_streams
before = [number for number, name in enumerate(("stdin", "stdout", "stderr")) if getattr(sys, name) is None]
open_standard_streams()
with open(sys.argv[1], "w") as told:
    null = os.stat(os.devnull).st_rdev
    opened = [number for number in range(3) if os.fstat(number).st_rdev == null and os.get_inheritable(number)]
    print(before, opened, told.fileno() > 2, file=told)
    print("nobody reads this", flush=True)
    print("nor this", file=sys.__stderr__, flush=True)
    print(repr(sys.stdin.read()), file=told)
"""


@pytest.mark.parametrize("closed", [[0], [1], [2], [0, 1, 2]])
def test_a_stream_that_is_missing_is_the_null_device_and_no_other_descriptor_takes_its_place(
    closed: list[int], tmp_path: Path
) -> None:
    told = tmp_path / "told"
    command = shlex.join([sys.executable, "-c", LOOK, str(told)])
    closing = " ".join(f"{number}>&-" for number in closed)
    done = subprocess.run(
        ["/bin/sh", "-c", f"exec {command} {closing}"],
        stdin=subprocess.DEVNULL if 0 in closed else None,
        input=None if 0 in closed else "",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert told.read_text() == f"{closed} {closed} True\n''\n"
    assert done.stdout == ("" if 1 in closed else "nobody reads this\n")
    assert done.stderr == ("" if 2 in closed else "nor this\n")


@pytest.mark.parametrize("name", ["opentelemetry", "rich"])
def test_what_nobody_asked_for_can_be_had_once_it_is_asked_for(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    allow(name)
    assert name not in sys.modules
    there = ModuleType(name)
    monkeypatch.setitem(sys.modules, name, there)
    allow(name)
    assert sys.modules[name] is there
