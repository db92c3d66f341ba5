"""How the cyclic collector runs in a serving process."""

from __future__ import annotations

import gc
from typing import Final

THRESHOLDS: Final = (10_000, 2, 20)
"""`gc.set_threshold`: the young are collected when 10,000 containers more were made than freed, the middle-aged at
every third such time, and all at every 21st of those that finds a quarter more of them than the time before.

A conversation that has ended leaves nothing to collect, so these are for what others leave behind. A full collection
comes after some 600,000 containers that were made and not freed: the conversations of 5,000 clients, with what they
take of trio, are half of that, and steady clients never bring one on. Were everything that a conversation takes left
as cyclic garbage, memory would stop growing after 10,000 of them.
"""


def tune_collector() -> None:
    """Keep the collector from stopping every client at once: call it when the process is about to serve.

    What the start has made is never looked at again. With Python's own thresholds a full collection came with every
    70,000 containers, and took longer the more clients there were: at 5,000 up to a second.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
