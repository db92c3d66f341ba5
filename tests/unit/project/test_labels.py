"""The tables of label values (common/labels.py) against the code that counts; what a scrape has before any event."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import disconnect, labels
from common.disconnect import Disconnect
from common.histogram import Histogram
from common.metrics import Counters, DaemonCollector, Gauges, HashFigures
from common.web.peer import classify

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[3]
COUNTING: Final = ("common", "statusd", "preflightd")

REFUSERS: Final = {"refusal": 1, "_unavailable": 0}
"""What makes a refusal of the public listener, and at which place its reason is."""

ELSEWHERE: Final = "common/admin"
"""The operator's listener refuses, too, and counts nothing."""


def calls() -> Iterator[tuple[str, ast.Module, ast.Call, str]]:
    """Every call in the code that counts: file, its tree, the call, the name of what is called."""
    for package in COUNTING:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            tree = ast.parse(path.read_text("utf-8"))
            for node in ast.walk(tree):
                if isinstance(node, ast.Call):
                    match node.func:
                        case ast.Name(called) | ast.Attribute(attr=called):
                            yield name, tree, node, called
                        case _:
                            pass


def literal(tree: ast.Module, node: ast.expr) -> str | None:
    """The text that an argument is, itself or as a constant of its module."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    for statement in tree.body:
        if isinstance(statement, ast.AnnAssign) and ast.dump(statement.target).startswith("Name"):
            target = statement.target
            if isinstance(target, ast.Name) and isinstance(node, ast.Name) and target.id == node.id:
                return None if statement.value is None else literal(tree, statement.value)
    return None


def test_every_reason_of_a_refusal_is_in_the_table_and_nothing_else() -> None:
    found: set[str] = set()
    passed_on = 0
    for name, tree, call, called in calls():
        if called not in REFUSERS or name.startswith(ELSEWHERE):
            continue
        reason = literal(tree, call.args[REFUSERS[called]])
        # The helper hands on what it is called with; its own callers are seen here, too.
        passed_on += reason is None
        found |= {reason} if reason is not None else set()
    assert found == set(labels.REJECTIONS)
    assert passed_on == 1, "one helper more: add it to REFUSERS"


def test_every_end_of_a_conversation_is_in_the_table() -> None:
    ends = [value for value in vars(disconnect).values() if isinstance(value, Disconnect)]
    assert {end.reason for end in ends} == set(labels.DISCONNECTS)


def test_every_kind_of_client_message_is_in_the_table() -> None:
    noted = {
        literal(tree, call.args[1])
        for _, tree, call, called in calls()
        if called == "_observe" and len(call.args) == 2 and isinstance(call.args[1], ast.Constant)
    }
    texts = ('{"type":"pong"}', '{"type":"init"}', "{}", "[]")
    assert noted | {classify(text) for text in texts} | {"binary"} == set(labels.CLIENT_MESSAGES)


@given(st.text() | st.from_regex(r'\{"type": ?"[a-z]+"\}'))
def test_whatever_a_client_says_its_kind_is_in_the_table(text: str) -> None:
    assert classify(text) in labels.CLIENT_MESSAGES


def test_what_is_counted_by_a_literal_is_in_its_table() -> None:
    """Every place that adds to a labelled series by writing the label down."""
    tables = {"dropped": labels.DROPPED, "failures": labels.READ_FAILURES, "outcomes": labels.SNAPSHOTS}
    found: dict[str, set[str]] = {name: set() for name in tables}
    for package in COUNTING:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                match node:
                    case ast.AugAssign(target=ast.Subscript(ast.Attribute(attr=name), ast.Constant(str(label)))):
                        found.setdefault(name, set()).add(label)
                    case ast.Call(func=ast.Attribute(attr="_count_failure"), args=[argument]):
                        constants = [leaf.value for leaf in ast.walk(argument) if isinstance(leaf, ast.Constant)]
                        found["failures"] |= {str(constant) for constant in constants}
                    case _:
                        pass
    assert found == {name: set(table) for name, table in tables.items()}


def test_the_types_say_the_same() -> None:
    assert get_args(labels.ReadFailure) == labels.READ_FAILURES
    assert get_args(labels.Notifications) == labels.NOTIFICATIONS


def families(counters: Counters) -> dict[str, dict[str, float]]:
    """Series -> label value -> number, of those with a label."""
    gauges = Gauges(
        connections_active=0,
        backlog_bytes=0,
        topics_active=0,
        ready=True,
        draining=False,
        workers=1,
        redis_up=True,
        redis_reconnects=1,
        redis_timeouts=0,
        redis_round_trips=Histogram(),
        client_round_trips=None,
        origin_check_disabled=True,
    )
    return {
        family.name.removeprefix("preflight2_"): {
            next(iter(sample.labels.values())): sample.value for sample in family.samples if sample.labels
        }
        for family in DaemonCollector("preflight2", "messages_sent", counters, lambda: gauges).collect()
    }


@pytest.mark.parametrize(
    ("series", "table"),
    [
        ("disconnects", labels.DISCONNECTS),
        ("handshakes_rejected", labels.REJECTIONS),
        ("client_messages", labels.CLIENT_MESSAGES),
        ("messages_dropped", labels.DROPPED),
        ("hgetall_failures", labels.READ_FAILURES),
    ],
)
def test_every_value_is_there_before_its_first_event(series: str, table: tuple[str, ...]) -> None:
    assert families(Counters(hashes=HashFigures()))[series] == dict.fromkeys(table, 0)


def test_an_event_is_added_to_the_zero_and_one_that_nobody_knew_is_not_lost() -> None:
    found = families(Counters(disconnects=Counter({"drain": 2, "new": 1})))["disconnects"]
    assert found == dict.fromkeys(labels.DISCONNECTS, 0) | {"drain": 2, "new": 1}


def test_notifications_are_unknown_until_redis_was_asked() -> None:
    figures = HashFigures()
    counters = Counters(hashes=figures)
    assert families(counters)["notifications"] == {"on": 0, "off": 0, "unknown": 1}
    figures.notifications = "off"
    assert families(counters)["notifications"] == {"on": 0, "off": 1, "unknown": 0}
