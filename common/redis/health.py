"""How a node of a cluster sees the cluster: what it answers to CLUSTER INFO, and the question, asked again and again.

A node in the minority goes on answering PING, PUBLISH and SSUBSCRIBE, and its CLUSTER SLOTS still lists who is gone;
only here, and in CLUSTERDOWN, it says so. A cluster of which some slots have failed says `fail` too where every slot
has to be served (`cluster-require-full-coverage`, the default): its nodes hear each other and hand on messages, and
there is no better one to go to.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import attrs
import trio

from common.redis.errors import ProtocolError, RedisConnectionError

if TYPE_CHECKING:
    from common.redis.connection import Connection

HEALTH_QUESTION: Final = ("CLUSTER", "INFO")

_FIELD: Final = re.compile(r"^(cluster_\w+):(\w+)\s*$", re.MULTILINE)


@attrs.frozen
class ClusterHealth:
    """`ok` is the node's own word; `failed` the slots whose node the majority has given up."""

    ok: bool
    cut_off: bool
    """It does not hear others, and there is no majority on its side that could give them up."""
    failed: int


def parse_health(answer: object) -> ClusterHealth:
    """What an answer to CLUSTER INFO says. Raises ProtocolError for what is none."""
    if not isinstance(answer, bytes):
        raise ProtocolError("CLUSTER INFO is answered with something else")
    fields = dict(_FIELD.findall(answer.decode("ascii", "replace")))
    state = fields.get("cluster_state")
    if state not in ("ok", "fail"):
        raise ProtocolError("CLUSTER INFO does not say the cluster's state")
    unheard, failed = _count(fields, "cluster_slots_pfail"), _count(fields, "cluster_slots_fail")
    return ClusterHealth(state == "ok", state == "fail" and unheard > 0, failed)


def _count(fields: dict[str, str], name: str) -> int:
    text = fields.get(name, "0")
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text, re.ASCII) else 0


async def watch_health(connection: Connection, where: str, interval: float) -> None:
    """Ask every `interval` seconds; end the connection once its node is cut off. Cancelled with the connection."""
    while True:
        await trio.sleep(interval)
        reply = connection.probe(*HEALTH_QUESTION)
        await reply.wait()
        if reply.error is not None:
            # The connection has ended, or what was allowed before is forbidden now: the next one finds out.
            connection.fail(reply.error)
            return
        try:
            refuse_cut_off(parse_health(reply.value), where)
        except RedisConnectionError as error:
            connection.fail(error)
            return


def refuse_cut_off(health: ClusterHealth, where: str) -> None:
    """Raise RedisConnectionError for a node that is cut off."""
    if health.cut_off:
        raise RedisConnectionError(f"cluster_state:fail, the node is cut off from the majority: {where}")
