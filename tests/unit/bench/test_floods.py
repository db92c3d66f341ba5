"""The attackers of `bench.attack` do what their names say: each is played to a statusd in memory, and ends."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import trio

from bench.floods import FLOODS, HEALTHY
from tests.conformance import CASES
from tests.conformance.handshake import OPENINGS
from tests.support.client import handshake
from tests.support.service import PATH, open_service

if TYPE_CHECKING:
    from trio.testing import MockClock

ENDS: Final = {
    "texts": "too_fast",
    "malformed": "too_fast",
    "fragments": "message_too_big",
    "pings": "too_fast",
    "pongs": "too_fast",
    "unread-pings": "slow_consumer",
    "compressed": "protocol_error",
    "garbage": "protocol_error",
    "never-reads": "pong_timeout",
    "half-open": "timeout",
    "silent": None,
    "dribbling": "timeout",
    "over-limit": "too_many_connections",
}
"""The reason of a conversation's end or of a refusal; None for those who get no answer."""

SENT: Final = 600_000
"""Bytes of a flood: more than any may send."""
ATTACKS: Final = (Path(__file__).parents[3] / "docs" / "attacks.md").read_text()


def test_every_kind_has_its_end() -> None:
    assert ENDS.keys() == FLOODS.keys()


@pytest.mark.parametrize("kind", FLOODS)
async def test_a_kind_ends_as_its_name_says(kind: str, autojump_clock: MockClock) -> None:
    flood = FLOODS[kind]
    settings: dict[str, Any] = {name.lower(): value for name, value in flood.settings.items()}
    async with open_service(max_backlog="64KB", **settings) as running:
        for _ in range(int(flood.settings.get("MAX_CONNECTIONS", "0"))):
            await running.open(answers=True)
        running.logbook.lines.clear()
        client = running.arrive(answers=False, reads=flood.reads)
        data = flood.opening(handshake(PATH))
        if flood.pause:
            for byte in data:
                await client.send_raw(bytes([byte]))
                # A head in memory is shorter than a browser's; the pace is what counts.
                await trio.sleep(4 * flood.pause)
        else:
            await client.send_raw(data + flood.again * (SENT // max(1, len(flood.again))))
        await trio.sleep(200)
        reasons = {line["reason"] for line in running.logbook.lines if "reason" in line}
        assert reasons == ({ENDS[kind]} if ENDS[kind] else set())


def test_the_document_names_every_kind_and_no_other() -> None:
    rows = [line.split("|") for line in ATTACKS.splitlines() if line.startswith("| ")]
    assert {row[1].strip(" `") for row in rows if row[1].startswith(" `")} == set(FLOODS)
    measured = [(row[1].split()[-1], row[2].strip(" `")) for row in rows if row[1].strip()[0].isdigit()]
    assert sorted(measured) == sorted(product(FLOODS, ("statusd", "preflightd")))
    assert f"{HEALTHY} healthy clients" in ATTACKS


def test_the_document_has_the_number_of_the_cases() -> None:
    assert f"{len(CASES)} conversations" in ATTACKS
    assert f"{len(OPENINGS)} handshakes" in ATTACKS
