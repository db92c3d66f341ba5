"""The collector's setting is safe by itself: cyclic garbage that has grown old is found (common/collector.py)."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

from common.collector import THRESHOLDS

_SCRIPT: Final = """
import gc, weakref
from common.collector import tune_collector

class Node:
    def __init__(self):
        self.itself = self

tune_collector()
frozen, thresholds = gc.get_freeze_count(), gc.get_threshold()
old = [Node() for _ in range(1000)]
references = [weakref.ref(node) for node in old]
# Two collections older, it is looked at by full ones only.
gc.collect(0)
gc.collect(1)
del old
made = []
while any(reference() for reference in references) and len(made) < 3_000_000:
    made.append([])
print(frozen > 0, thresholds, len(made) < 3_000_000, gc.isenabled())
"""


def test_old_garbage_is_found_without_being_asked_for() -> None:
    ran = subprocess.run([sys.executable, "-c", _SCRIPT], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == f"True {THRESHOLDS} True True"
