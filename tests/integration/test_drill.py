"""Short drills, with a real daemon, a real Redis and the proxy: the promises are kept."""

from __future__ import annotations

import random
from typing import Final

import pytest

from bench.drill import DRILLS, judge, moved, run
from bench.verdicts import render
from tests.faultproxy import CLEAR

pytestmark = pytest.mark.integration

CLIENTS: Final = 5
SEED: Final = 3


@pytest.mark.parametrize("drill", DRILLS)
async def test_the_promises_are_kept(drill: str) -> None:
    figures, said = await run(DRILLS[drill], random.Random(SEED), CLIENTS, seconds=0.0)
    # A round trip takes two pings, for which this is over too soon.
    verdicts = judge(figures, CLEAR)
    assert all(verdict.kept for verdict in verdicts), render(verdicts)
    assert f"status2_connections_active  0 -> {CLIENTS}" in moved(figures)
    assert "info      1 x starting" in said
