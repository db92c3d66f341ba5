"""Which node of a cluster owns which slot: values, without I/O.

A `SlotMap` is what CLUSTER SLOTS has said, corrected by what MOVED says since. A node whose host is unknown (`?`) owns
its slots in the map of nobody: it can't be asked, and another node may know better.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Final

import attrs
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from common.redis.errors import ProtocolError, node_host
from common.redis.handshake import PRIMARY, REPLICA

if TYPE_CHECKING:
    from collections.abc import Iterable

    from common.redis.errors import RedirectionError

SLOTS: Final = REDIS_CLUSTER_HASH_SLOTS
"""How many there are, in every cluster."""

Address = tuple[str, int]
"""Host and port of a node, as the cluster names it."""


def slot_of(name: bytes | str) -> int:
    """The slot of a key or a shard channel: of what is between its first braces, if there is something."""
    return int(key_slot(name.encode() if isinstance(name, str) else name))


def target_of(redirection: RedirectionError, answered: Address) -> Address | None:
    """Where a redirection of the node at `answered` leads; None where it does not know itself."""
    if redirection.host is None:
        return None
    return redirection.host or answered[0], redirection.port


@attrs.define
class SlotMap:
    """See the module. `owners` has the primary of each slot, None where nobody owns it, or nobody says who does.

    Until somebody was asked nobody owns anything.
    """

    owners: list[Address | None] = attrs.Factory(lambda: [None] * SLOTS)
    replicas: dict[Address, tuple[Address, ...]] = attrs.Factory(dict)
    """The replicas of each primary that owns a slot."""

    def owner(self, slot: int) -> Address | None:
        """The primary of `slot`."""
        return self.owners[slot]

    @property
    def primaries(self) -> tuple[Address, ...]:
        """Every primary that owns a slot, in the order of the slots."""
        return tuple(dict.fromkeys(owner for owner in self.owners if owner is not None))

    @property
    def nodes(self) -> tuple[Address, ...]:
        """Primaries, then replicas, each once."""
        replicas = (replica for primary in self.primaries for replica in self.replicas.get(primary, ()))
        return tuple(dict.fromkeys([*self.primaries, *replicas]))

    @property
    def unserved(self) -> int:
        """Slots without an owner."""
        return self.owners.count(None)

    def ranges(self) -> dict[Address, str]:
        """The slots of each primary as people write them: `0-5460,10923`."""
        found: dict[Address, list[str]] = {}
        slot = 0
        for owner, run in groupby(self.owners):
            first, slot = slot, slot + sum(1 for _ in run)
            if owner is not None:
                found.setdefault(owner, []).append(str(first) if first == slot - 1 else f"{first}-{slot - 1}")
        return {owner: ",".join(parts) for owner, parts in found.items()}

    def roles(self) -> dict[Address, str]:
        """`PRIMARY` or `REPLICA` of each node that is known."""
        return dict.fromkeys(self.nodes, REPLICA) | dict.fromkeys(self.primaries, PRIMARY)

    def move(self, slot: int, node: Address) -> bool:
        """`node` owns `slot` from now on, which is what MOVED says; return whether that is news."""
        news = self.owners[slot] != node
        self.owners[slot] = node
        return news

    def changes(self, newer: SlotMap) -> list[int]:
        """The slots that have another owner in `newer`, in order."""
        pairs = zip(self.owners, newer.owners, strict=True)
        return [slot for slot, (before, after) in enumerate(pairs) if before != after]


def parse_slots(reply: object, answered: Address) -> SlotMap:
    """The map of an answer to CLUSTER SLOTS that the node at `answered` gave, RESP2 and RESP3 alike.

    Raises ProtocolError for what is no such answer. Where two lines name one slot, the last one counts.
    """
    if not isinstance(reply, list):
        raise ProtocolError("CLUSTER SLOTS is answered with something else")
    owners: list[Address | None] = [None] * SLOTS
    replicas: dict[Address, dict[Address, None]] = {}
    for entry in reply:
        match entry:
            case [int(start), int(end), primary, *others] if 0 <= start <= end < SLOTS:
                owner = _address(primary, answered)
                owners[start : end + 1] = [owner] * (end + 1 - start)
                if owner is not None:
                    replicas.setdefault(owner, {}).update(_known(others, answered))
            case _:
                raise ProtocolError("a line of CLUSTER SLOTS can't be read")
    return SlotMap(owners, {owner: tuple(found) for owner, found in replicas.items()})


def _known(nodes: Iterable[object], answered: Address) -> dict[Address, None]:
    addresses = (_address(node, answered) for node in nodes)
    return {address: None for address in addresses if address is not None}


def _address(node: object, answered: Address) -> Address | None:
    match node:
        case [bytes() | None as host, int(port), *_] if 0 < port < 65536:
            # Without a name of its own, a node is where it has been reached.
            name = node_host("" if host is None else host.decode("utf-8", "replace"))
            return None if name is None else (name or answered[0], port)
        case _:
            raise ProtocolError("a node of CLUSTER SLOTS can't be read")
