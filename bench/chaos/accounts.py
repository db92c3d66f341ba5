"""Each conversation's frames against what was published, written, and said by the daemon of itself. Pure.

The claim is that of SPEC 1: while the daemon's link lives, each message comes once and in order. What stands against it
is a list of findings, empty if all is well.

A message that is missing between two that came is excused by an outage of the link of the worker that served the
client, which the worker itself told of: it began between the sending of the former and the coming of the latter, and
the message was sent before the worker was online again. Whoever asked for gap frames must have got one in between.
Messages of which Redis never said whether it took them owe nobody anything.
"""

from __future__ import annotations

import bisect
import math
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from bench.chaos.journal import Outage

PING: Final = b'{"type":"ping"}'
HANGUP: Final = b'{"type":"hangup"}'
GAP: Final = b'{"type":"gap","seconds":'


@attrs.frozen
class Message:
    """One that was published: when it was about to be, and whether Redis has answered for it."""

    at: float
    certain: bool


@attrs.frozen
class Account:
    """What came of one conversation, in numbers."""

    findings: tuple[str, ...] = ()
    received: int = 0
    excused: int = 0
    """Messages that are missing, and excused."""
    gaps: int = 0


class Channel:
    """Everything that was published on one channel, by the frame that clients get for it."""

    def __init__(self, messages: Sequence[Message], frames: Sequence[bytes]) -> None:
        self.messages = messages
        self.places = {frame: place for place, frame in enumerate(frames)}
        self._times = [message.at for message in messages]

    def first_after(self, time: float) -> int:
        """The place of the first message that was published at `time` or later."""
        return bisect.bisect_left(self._times, time)


def audit_status(
    texts: Sequence[tuple[float, bytes]],
    channel: Channel,
    outages: Sequence[Outage],
    *,
    asked: float,
    opened: float,
    wants_gap: bool,
    extras: Collection[bytes] = (),
) -> Account:
    """Judge one conversation of statusd. `texts` are its frames, each with the time at which it came; `extras` are
    frames that may come besides."""
    findings: list[str] = []
    arrived: list[tuple[float, int]] = []
    gaps_behind: dict[int, int] = {}
    for came, text in texts:
        place = channel.places.get(text)
        if place is not None:
            arrived.append((came, place))
        elif text.startswith(GAP):
            gaps_behind[len(arrived)] = gaps_behind.get(len(arrived), 0) + 1
        elif text not in {PING, HANGUP} and text not in extras:
            findings.append(f"foreign: {text[:80]!r}")
    places = [place for _, place in arrived]
    if places != sorted(set(places)):
        findings.append("repeated or out of order")
        return Account(tuple(findings), len(arrived))
    if gaps_behind and not wants_gap:
        findings.append("a gap frame that was not asked for")
    excused = 0
    # What was sent before the end of the handshake is owed to nobody; from then on, everything is.
    since, last = asked, channel.first_after(opened) - 1
    for index, (came, place) in enumerate(arrived):
        missing = [
            message for message in channel.messages[last + 1 : place] if message.certain and message.at >= opened
        ]
        meanwhile = [outage for outage in outages if since <= outage.begin <= came]
        back = max((outage.end for outage in meanwhile), default=-math.inf)
        lost = sum(message.at > back for message in missing)
        told = gaps_behind.get(index, 0)
        if lost:
            findings.append(f"{lost} lost before number {place}, while the link lived")
        elif missing and wants_gap and index and not told:
            findings.append(f"{len(missing)} lost before number {place}, and no gap frame")
        if told > len(meanwhile):
            findings.append(f"{told} gap frames before number {place}, and {len(meanwhile)} outages")
        excused += len(missing) - lost
        since, last = channel.messages[place].at, place
    return Account(tuple(findings), len(arrived), excused, sum(gaps_behind.values()))


def audit_preflight(texts: Sequence[tuple[float, bytes]], truths: Mapping[bytes, int]) -> Account:
    """Judge one conversation of preflightd. `truths` are the frames of every state that its hash had, with the state's
    number, 0 for no hash at all."""
    contents = [text for _, text in texts if text not in {PING, HANGUP}]
    findings = [f"foreign: {text[:200]!r}" for text in contents if text not in truths]
    findings += [f"twice in a row: {one[:80]!r}" for one, other in pairwise(contents) if one == other]
    numbers = [number for text in contents if (number := truths.get(text, 0))]
    if numbers != sorted(numbers):
        findings.append("an older state after a newer one")
    return Account(tuple(findings), len(contents))
