"""What there is to tell: the newest state of each condition, and nothing twice."""

from __future__ import annotations

import pytest

from opsd.events import MODE, TELEMETRY, EventTopic
from opsd.ledger import LONGEST, SETTLE, UNKNOWN, Ledger

SOURCE = EventTopic("source", "statusd")
WORKERS = EventTopic("workers", "statusd")


def see(ledger: Ledger, now: float, **states: str) -> None:
    topics = {"mode": MODE, "telemetry": TELEMETRY, "source": SOURCE, "workers": WORKERS}
    ledger.observe({topics[name]: state for name, state in states.items()}, now, f"at {now:g}", 0.5)


def told(ledger: Ledger, now: float) -> list[tuple[str, str, str]]:
    """All that is due, as a receiver takes it."""
    found: list[tuple[str, str, str]] = []
    while (event := ledger.due(now)) is not None:
        ledger.attempted(event, taken=True)
        found.append((event.topic.kind, event.before, event.after))
    return found


def fail(ledger: Ledger, now: float) -> None:
    """One attempt in vain."""
    event = ledger.due(now)
    assert event is not None
    ledger.attempted(event, taken=False)


def test_that_all_is_well_is_not_told() -> None:
    ledger = Ledger()
    see(ledger, 0, mode="normal", telemetry="healthy", source="up", workers="ready")
    assert (ledger.due(1e9), ledger.due_at()) == (None, None)
    assert ledger.dump() == "[]"


def test_what_is_wrong_is_told_once_in_the_order_in_which_it_came_when_it_has_settled() -> None:
    ledger = Ledger()
    see(ledger, 0, source="down")
    see(ledger, 1, mode="isolated", telemetry="degraded")
    assert told(ledger, 1) == [("mode", "normal", "isolated")], "it is settled already"
    assert ledger.due_at() == SETTLE
    assert told(ledger, SETTLE) == [("source", "up", "down")]
    assert told(ledger, 1 + SETTLE) == [("telemetry", "healthy", "degraded")]
    assert told(ledger, 1e9) == []
    see(ledger, 50, source="up", mode="normal", telemetry="healthy")
    assert len(told(ledger, 1e9)) == 3


def test_a_moment_is_not_told_but_what_was_told_is_taken_back() -> None:
    ledger = Ledger()
    see(ledger, 0, workers="1 of 2 ready")
    see(ledger, 1, workers="ready")
    assert told(ledger, 1e9) == []
    see(ledger, 10, workers="1 of 2 ready")
    see(ledger, 11, workers="0 of 2 ready")
    assert told(ledger, 11 + SETTLE) == [("workers", "ready", "0 of 2 ready")]
    see(ledger, 20, workers="ready")
    assert told(ledger, 20 + SETTLE) == [("workers", "0 of 2 ready", "ready")]


def test_the_newest_state_wins_while_the_receiver_is_away() -> None:
    ledger = Ledger()
    see(ledger, 0, mode="degraded")
    fail(ledger, 0)
    see(ledger, 10, mode="isolated")
    assert told(ledger, 10) == [("mode", "normal", "isolated")]
    # That it came and went is told when somebody may have heard of it, and else not.
    for attempts, wanted in ((0, []), (1, [("mode", "isolated", "normal")])):
        ledger = Ledger()
        see(ledger, 0, mode="isolated")
        for _ in range(attempts):
            fail(ledger, 0)
        see(ledger, 10, mode="normal")
        assert told(ledger, 10) == wanted


def test_all_of_it_outlives_the_process() -> None:
    ledger = Ledger()
    see(ledger, 0, mode="isolated", source="down")
    assert len(told(ledger, 0)) == 1
    see(ledger, 100, telemetry="degraded")
    fail(ledger, SETTLE)
    text = ledger.dump()
    successor = Ledger()
    assert successor.load(text) == {MODE: "isolated", SOURCE: "down", TELEMETRY: "degraded"}
    assert successor.dump() == text
    see(successor, 5, mode="normal", source="up", telemetry="healthy")
    # It was told of the mode; that the source was down may have reached somebody; of the telemetry nobody heard.
    assert told(successor, 100) == [("mode", "isolated", "normal"), ("source", "down", "up")]
    assert successor.dump() == "[]"


def test_what_is_known_better_is_not_overwritten() -> None:
    old, new = Ledger(), Ledger()
    see(old, 0, mode="isolated", telemetry="degraded")
    told(old, 100)
    see(new, 0, mode="degraded")
    told(new, 0)
    new.load(old.dump())
    assert new.told == {MODE: "degraded", TELEMETRY: "degraded"}


def test_where_it_is_not_known_what_was_told_it_is_told_how_things_are() -> None:
    ledger = Ledger()
    ledger.forget()
    assert told(ledger, 1e9) == [], "that isn't known either"
    see(ledger, 0, mode="normal", telemetry="healthy", source="up")
    assert told(ledger, 100) == [("mode", UNKNOWN, "normal"), ("telemetry", UNKNOWN, "healthy")]
    # What is found later is older.
    old = Ledger()
    see(old, 0, mode="isolated")
    told(old, 0)
    ledger.load(old.dump())
    assert told(ledger, 1e9) == []


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "x",
            "{}",
            "1",
            "[1]",
            '[["mode","","a","b"]]',
            '[["other","","a",null,"b"]]',
            '[["mode","",1,null,"b"]]',
        ),
        "[" * 100_000,
        "[" * 60_000,
        "[" + " " * LONGEST + "]",
    ],
)
def test_what_somebody_else_wrote_is_of_no_use(text: str) -> None:
    ledger = Ledger()
    with pytest.raises(ValueError, match=r".+"):
        ledger.load(text)
    assert ledger == Ledger()
