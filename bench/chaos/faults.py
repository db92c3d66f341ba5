"""What can go wrong, as values: where it happens, for how long, and which ends of conversations it explains. Pure."""

from __future__ import annotations

from typing import Final

import attrs

DAEMONS: Final = ("statusd", "preflightd")

REDIS_WAY: Final = "redis way"
"""Between a daemon and Redis."""
CLIENT_WAY: Final = "client way"
"""Between a daemon and those of its clients that come through the proxy."""
REDIS: Final = "redis"
"""Redis itself."""
PROCESS: Final = "process"
"""A daemon's own processes."""


@attrs.frozen
class Kind:
    """A kind of fault. `seconds` is the range of its duration, (0, 0) where it is over at once."""

    name: str
    place: str
    seconds: tuple[float, float] = (0.0, 0.0)
    ends: frozenset[str] = frozenset()
    """Reasons of ends that it explains to any client of the daemon."""
    far_ends: frozenset[str] = frozenset()
    """Reasons that it explains to clients behind the proxy, besides."""
    deaths: int = 0
    """Workers whose successors are waited for."""
    alone: bool = False
    """Whether no other fault may go with it: it takes away what the others are told by."""


_LOST: Final = frozenset({"client_gone", "client_closed", "write_error"})
_STUCK: Final = frozenset({"pong_timeout", "slow_consumer", "write_error", "client_gone", "client_closed"})

_ON_ANY_WAY: Final = (
    ("weather", (3.0, 6.0)),
    ("narrow", (2.0, 4.0)),
    ("drip", (1.0, 3.0)),
    ("silence", (0.5, 5.0)),
    ("cut", (0.0, 0.0)),
    ("cut in mid-frame", (0.0, 0.0)),
    ("reset", (0.0, 0.0)),
    ("flap", (1.0, 4.0)),
    ("half-close", (0.0, 0.0)),
    ("refuse", (0.5, 4.0)),
)

KINDS: Final = (
    *(Kind(name, REDIS_WAY, seconds) for name, seconds in _ON_ANY_WAY),
    *(Kind(name, CLIENT_WAY, seconds, far_ends=_LOST | _STUCK) for name, seconds in _ON_ANY_WAY),
    Kind("killed", REDIS, (0.2, 4.0)),
    Kind("stopped", REDIS, (0.3, 4.0)),
    Kind("CLIENT KILL pubsub", REDIS),
    Kind("CLIENT KILL normal", REDIS),
    Kind("CLIENT PAUSE", REDIS, (0.3, 3.0)),
    Kind("maxclients", REDIS, (1.0, 4.0)),
    Kind("output buffer", REDIS),
    Kind("FLUSHALL", REDIS),
    Kind("ACL user deleted", REDIS, (0.5, 3.0)),
    Kind("ACL channels revoked", REDIS, (0.5, 3.0), frozenset({"refused_by_redis"})),
    Kind("ACL reads revoked", REDIS, (0.5, 3.0), frozenset({"refused_by_redis"})),
    Kind("worker killed", PROCESS, deaths=1),
    Kind("worker stopped", PROCESS, (5.5, 9.0)),
    Kind("worker blocked", PROCESS, (0.5, 3.0)),
    Kind("parent killed", PROCESS, ends=frozenset({"drain"}), deaths=2),
    Kind("parent stopped", PROCESS, (1.0, 8.0)),
    Kind("all stopped", PROCESS, (1.0, 9.0)),
    Kind("log full", PROCESS, (1.0, 3.0), alone=True),
    Kind("descriptors", PROCESS, (1.0, 3.0)),
)

BY_NAME: Final = {(kind.place, kind.name): kind for kind in KINDS}


@attrs.frozen
class Fault:
    """One fault of an act. `daemon` is the one that it is done to, empty for Redis itself; `seed` is for what the
    performance draws besides."""

    place: str
    name: str
    daemon: str
    begin: float
    """Seconds after the act's beginning."""
    seconds: float
    seed: int

    @property
    def kind(self) -> Kind:
        """What it is one of."""
        return BY_NAME[self.place, self.name]

    def __str__(self) -> str:
        where = " ".join(part for part in (self.daemon, self.place) if part)
        lasting = f" {self.seconds:.1f} s" if self.seconds else ""
        return f"{where}: {self.name}{lasting}"
