"""Which values of `notify-keyspace-events` tell preflightd of changed hashes, and what mends the others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preflightd.notifications import problem

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
        assert problem(mended) is None
