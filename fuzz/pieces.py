"""Bytes in pieces: what a network does to them."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Sequence

CUTS: Final[st.SearchStrategy[list[float] | None]] = st.none() | st.lists(st.floats(0, 1), max_size=8)
"""Where to cut, as parts of the whole; None is everywhere."""


def cut(data: bytes, cuts: Sequence[float] | None) -> list[bytes]:
    """The same bytes in order, in pieces that are not empty."""
    if cuts is None:
        return [data[at : at + 1] for at in range(len(data))]
    bounds = [0, *sorted(round(part * len(data)) for part in cuts), len(data)]
    return [data[start:stop] for start, stop in pairwise(bounds) if start < stop]


@st.composite
def damaged(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """Bytes that are nearly right: some were changed, lost, repeated or put in."""
    data = bytearray(draw(whole))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(data)))
        stop = at + draw(st.integers(0, 4))
        match draw(st.sampled_from(["change", "lose", "repeat", "put in"])):
            case "change" if at < len(data):
                data[at] ^= draw(st.integers(1, 255))
            case "lose":
                del data[at:stop]
            case "repeat":
                data[at:at] = data[at:stop]
            case _:
                data[at:at] = draw(st.binary(max_size=4))
    return bytes(data)
