"""What a load writes to Redis, and the frame that each client must get for it: one feed for each row. Pure.

Every frame of a feed is distinct, so that a received one tells which write it is of (see `ledger`).
"""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING, Final

import attrs

from bench import wire
from preflightd.checklist import packaged

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_DIGITS: Final = 8
_HEAD: Final = b'{"type":"status","data":"'
_TAIL: Final = b'"}'
_FILLER: Final = b" hillslopes routed to the outlet;"

SMALLEST_SIZE: Final = _DIGITS
"""Bytes of the shortest payload: its number, nothing else."""
LARGEST_COUNT: Final = 10**_DIGITS
"""Payloads that can be told apart."""

_NOW: Final = 1_700_000_000
"""When the run of the checklist's feed was started; seconds since 1970."""


@attrs.frozen
class Write:
    """A command for Redis, in its own protocol, and the frame that tells a client of it.

    `server` is the number of the one that it goes to: 0 is the load's Redis, the others are its `Site.more`.
    """

    command: bytes
    frame: bytes
    server: int = 0


@attrs.frozen(kw_only=True)
class BenchFeed:
    """What clients ask for and what is written meanwhile."""

    paths: Sequence[str]
    """Of the handshake, already percent-encoded. Client and write number n are about the path n modulo their number."""
    prepare: Sequence[bytes] = ()
    """Commands to be given before the first client comes."""
    greeting: bytes | None = None
    """The frame that each client gets at once."""
    coalesced: bool = False
    """Whether one frame may stand for several writes."""
    writes: Callable[[int], list[Write]]
    """So many writes, each of which changes what clients are to be told."""


def status_feed(
    channels: Sequence[str], size: int, verb: str = "PUBLISH", server_of: Callable[[str], int] = lambda _: 0
) -> BenchFeed:
    """Messages of `size` bytes published on `channels` (`<runid>:<channel>`) in turn, each at its server."""

    def writes(count: int) -> list[Write]:
        return [
            publication(channel, payload, verb, server_of(channel))
            for channel, payload in zip(cycle(channels), payloads(count, size), strict=False)
        ]

    return BenchFeed(paths=[f"/{channel}" for channel in channels], writes=writes)


def publication(channel: str, payload: bytes, verb: str = "PUBLISH", server: int = 0) -> Write:
    """One message; `payload` is ASCII without anything to escape in JSON, `verb` PUBLISH or SPUBLISH."""
    return Write(command(verb, channel, payload), wire.server_text(_HEAD + payload + _TAIL), server)


def checklist_feed(run_id: str) -> BenchFeed:
    """A run hash of a project that is nearly done, one of whose timestamps is written again and again."""
    fields = _project()

    def writes(count: int) -> list[Write]:
        made = []
        hash_ = dict(fields)
        for number in range(count):
            stamp = b"%d" % (_NOW + 1000 + number)
            hash_[b"timestamps:run_wepp"] = stamp
            made.append(
                Write(command("HSET", run_id, b"timestamps:run_wepp", stamp), packaged().evaluate(hash_).frame())
            )
        return made

    flat = [part for item in fields.items() for part in item]
    return BenchFeed(
        paths=[f"/{run_id}"],
        prepare=(command("DEL", run_id), command("HSET", run_id, *flat)),
        greeting=packaged().evaluate(fields).frame(),
        coalesced=True,
        writes=writes,
    )


def payloads(count: int, size: int) -> list[bytes]:
    """Distinct ASCII payloads of `size` bytes, nothing to escape in JSON. Raises ValueError if they don't fit."""
    if size < SMALLEST_SIZE or count > LARGEST_COUNT:
        raise ValueError(f"{count} distinct messages need more than {size} bytes each")
    filler = (_FILLER * (size // len(_FILLER) + 1))[: size - _DIGITS]
    return [b"%0*d%s" % (_DIGITS, number, filler) for number in range(count)]


def command(*parts: str | bytes) -> bytes:
    """A command in Redis' own protocol."""
    encoded = [part.encode() if isinstance(part, str) else part for part in parts]
    return b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in encoded)


def _project() -> dict[bytes, bytes]:
    """Steps in the order in which a user takes them, a minute apart, and the locks of a project at rest."""
    steps = ("build_channels", "set_outlet", "abstract_watershed", "build_landuse", "build_soils", "build_climate")
    locks = ("watershed.nodb", "landuse.nodb", "soils.nodb", "climate.nodb", "wepp.nodb")
    return {
        b"attrs:has_sbs": b"false",
        **{b"timestamps:%s" % step.encode(): b"%d" % (_NOW + 60 * minute) for minute, step in enumerate(steps)},
        **{b"locked:%s" % lock.encode(): b"false" for lock in locks},
    }
