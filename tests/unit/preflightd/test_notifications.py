"""Which values of `notify-keyspace-events` tell preflightd of changed hashes, and what mends the others."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.redis.errors import NoPermissionError, ProtocolError, RedisConnectionError, RedisTimeoutError, StalledError
from preflightd.notifications import look, problem, shortfall, warn
from tests.support.logbook import Logbook

CLASSES = "KEg$lshzxetdmnA"
"""Every flag that Redis knows."""


@pytest.mark.parametrize("flags", ["Kh", "hK", "KA", "AK", "AKE", "KEA", "KEh", "g$lshzxetK", "Khx", "KAh"])
def test_k_with_h_or_a_tells_of_changed_hashes(flags: str) -> None:
    assert problem(flags) is None


@pytest.mark.parametrize("flags", ["", "K", "h", "A", "E", "Eh", "EA", "KE", "Kg$lszxet", "kh", "Ka", "KH", "Ex", "Kx"])
def test_anything_less_does_not(flags: str) -> None:
    text = problem(flags)
    assert text is not None
    assert f"notify-keyspace-events={flags!r}" in text
    assert text.isprintable()


@given(st.sets(st.sampled_from(CLASSES)).map(sorted).map("".join))
def test_the_command_that_mends_it_does(flags: str) -> None:
    text = problem(flags)
    assert (text is None) == ("K" in flags and ("h" in flags or "A" in flags))
    if text is not None:
        command, _, mended = text.partition(": ")[2].rpartition(" ")
        assert command == "redis-cli config set notify-keyspace-events"
        assert (problem(mended), shortfall(mended)) == (None, None)
        assert set(flags) <= set(mended), "somebody else may need what is there"


def test_the_command_for_a_server_that_notifies_of_nothing_is_the_recommended_one() -> None:
    assert str(problem("")).endswith(": redis-cli config set notify-keyspace-events Kghx")


@given(st.sets(st.sampled_from(CLASSES)).map(sorted).map("".join))
def test_what_the_resync_has_to_find_is_a_shortfall_and_no_problem(flags: str) -> None:
    text = shortfall(flags)
    assert (text is not None) == (problem(flags) is None and "A" not in flags and not {"g", "x"} <= set(flags))
    if text is not None:
        assert ("deleted" in text, "expired" in text) == ("g" not in flags, "x" not in flags)
        mended = text.rpartition(" ")[2]
        assert set(flags) <= set(mended)
        assert (problem(mended), shortfall(mended)) == (None, None)


async def test_a_shortfall_is_told_of_and_no_warning() -> None:
    logbook = Logbook()
    link: Any = Answering(answer(b"hK"))
    await warn(link, logbook.log)
    (line,) = logbook.lines
    assert (line["level"], line["hint"]) == ("info", shortfall("hK"))
    assert await look(link) == (True, f"note: {shortfall('hK')}")
    for flags in (b"xghK", b"AK"):
        link = Answering(answer(flags))
        await warn(link, logbook.log)
        assert await look(link) == (
            True,
            f"redis notifies of changed hashes (notify-keyspace-events={flags.decode()!r})",
        )
    assert len(logbook.lines) == 1


class Answering:
    """As much of the link as is asked here: every request ends with this."""

    def __init__(self, *outcomes: object) -> None:
        self.outcomes = outcomes

    async def request_everywhere(self, *args: object) -> dict[str, object]:
        assert args == ("CONFIG", "GET", b"notify-keyspace-events")
        for outcome in self.outcomes:
            if isinstance(outcome, Exception):
                raise outcome
        return {f"node-{number}:6379": outcome for number, outcome in enumerate(self.outcomes)}


def answer(flags: bytes) -> dict[bytes, bytes]:
    return {b"notify-keyspace-events": flags}


@pytest.mark.parametrize(
    ("outcome", "warned"),
    [
        (answer(b"AK"), None),
        (answer(b""), "redis does not notify of changed hashes"),
        (NoPermissionError("NOPERM no CONFIG for you"), "can't tell whether redis notifies of changed hashes: NOPERM"),
        (RedisTimeoutError("no answer to CONFIG for 5s"), "can't tell whether redis notifies of changed hashes: no an"),
        (RedisConnectionError("closed by Redis"), None),
        (ProtocolError("an answer to nothing that was asked"), None),
        (StalledError("nothing came", "CONFIG"), None),
    ],
    ids=["on", "off", "not allowed", "no answer", "lost", "nonsense", "stalled"],
)
async def test_what_is_warned_of_when_the_link_comes_online(outcome: object, warned: str | None) -> None:
    """A connection that is lost on the way is the link's news; the next connection is asked again."""
    logbook = Logbook()
    link: Any = Answering(outcome)
    await warn(link, logbook.log)
    said = [line["warning"] for line in logbook.at_least("warn")]
    assert len(said) == (warned is not None)
    assert all(warned is not None and text.startswith(warned) for text in said)


@pytest.mark.parametrize(
    ("flags", "found"),
    [
        ((b"hK", b"", b"hK"), (False, f"node-1:6379: {problem('')}")),
        ((b"AK", b"", b""), (False, f"node-1:6379, node-2:6379: {problem('')}")),
        ((b"AK", b"hK", b"hK"), (True, f"note: node-1:6379, node-2:6379: {shortfall('hK')}")),
        (
            (b"AK", b"AK"),
            (True, "redis notifies of changed hashes on each of 2 primaries (notify-keyspace-events='AK')"),
        ),
    ],
)
async def test_each_primary_of_a_cluster_is_judged_and_named(flags: tuple[bytes, ...], found: tuple[bool, str]) -> None:
    link: Any = Answering(*map(answer, flags))
    assert await look(link) == found
    logbook = Logbook()
    await warn(link, logbook.log)
    assert bool(logbook.at_least("warn")) is not found[0]


async def test_check_tells_of_a_lost_connection_too() -> None:
    link: Any = Answering(RedisConnectionError("closed by Redis"))
    assert await look(link) == (False, "can't tell whether redis notifies of changed hashes: closed by Redis")
