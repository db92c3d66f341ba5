"""How the demo ends: its exit code says whether what was published arrived, unless somebody has ended it before."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest
import trio

from common.watch.show import OutputClosedError
from deploy.demo import __main__ as demo
from deploy.demo.backends import Topology
from deploy.demo.daemon_process import ChildError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from deploy.demo.ledger import ChecklistLedger, DemoLedger

    Play = Callable[..., Awaitable[None]]

TROUBLE = "statusd ended unexpectedly, with status -2"


async def all_arrives(ledger: DemoLedger, checklist: ChecklistLedger, *asked: object) -> None:
    del asked
    ledger.publish("line")
    ledger.receive("line")
    checklist.due = {"type": "preflight"}
    checklist.show({"type": "preflight"})


async def a_message_is_lost(ledger: DemoLedger, checklist: ChecklistLedger, *asked: object) -> None:
    await all_arrives(ledger, checklist, *asked)
    ledger.publish("another")


async def the_checklist_is_wrong(ledger: DemoLedger, checklist: ChecklistLedger, *asked: object) -> None:
    await all_arrives(ledger, checklist, *asked)
    checklist.show({"type": "preflight", "locks": {}})


async def a_part_ends(ledger: DemoLedger, checklist: ChecklistLedger, *asked: object) -> None:
    await all_arrives(ledger, checklist, *asked)
    raise ChildError(TROUBLE)


async def it_is_interrupted(ledger: DemoLedger, checklist: ChecklistLedger, *asked: object) -> None:
    await a_message_is_lost(ledger, checklist, *asked)
    os.kill(os.getpid(), signal.SIGINT)
    await trio.sleep_forever()


async def a_part_hears_of_the_interrupt_first(ledger: DemoLedger, checklist: ChecklistLedger, *asked: object) -> None:
    os.kill(os.getpid(), signal.SIGINT)
    await a_part_ends(ledger, checklist, *asked)


async def nobody_reads_any_more(ledger: DemoLedger, checklist: ChecklistLedger, *asked: object) -> None:
    await a_message_is_lost(ledger, checklist, *asked)
    raise OutputClosedError


@pytest.mark.parametrize(
    ("play", "code", "complaint"),
    [
        (all_arrives, 0, ""),
        (a_message_is_lost, 1, "demo: 1 messages were published and not received\n"),
        (the_checklist_is_wrong, 1, "demo: the last checklist is not what the hash says: "),
        (a_part_ends, 1, f"demo: {TROUBLE}\n"),
        (it_is_interrupted, 0, ""),
        (a_part_hears_of_the_interrupt_first, 0, ""),
        (nobody_reads_any_more, 0, ""),
    ],
)
async def test_the_code_says_how_it_went(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], play: Play, code: int, complaint: str
) -> None:
    monkeypatch.setattr(demo, "play", play)
    monkeypatch.setattr(demo, "discard_output", lambda: None)
    assert await demo._run(None, Topology.SINGLE) == code
    errors = capsys.readouterr().err
    assert errors.startswith(complaint) if complaint else errors == ""
