"""What a node of a cluster says of it, and what that is taken for."""

from __future__ import annotations

import pytest

from common.redis.errors import ProtocolError, RedisConnectionError
from common.redis.health import ClusterHealth, parse_health, refuse_cut_off


def info(state: str, *, unheard: int = 0, failed: int = 0) -> bytes:
    """The fields that count, as Redis 7 and Valkey 9 write them."""
    return (
        f"cluster_state:{state}\r\ncluster_slots_assigned:16384\r\ncluster_slots_ok:{16384 - unheard - failed}\r\n"
        f"cluster_slots_pfail:{unheard}\r\ncluster_slots_fail:{failed}\r\ncluster_known_nodes:6\r\n"
    ).encode()


@pytest.mark.parametrize(
    ("said", "health"),
    [
        (info("ok"), ClusterHealth(ok=True, cut_off=False, failed=0)),
        # It has just lost sight of one, which is no minority yet.
        (info("ok", unheard=5461), ClusterHealth(ok=True, cut_off=False, failed=0)),
        (info("fail", unheard=10922), ClusterHealth(ok=False, cut_off=True, failed=0)),
        (info("fail", failed=5461), ClusterHealth(ok=False, cut_off=False, failed=5461)),
        (info("fail", unheard=5461, failed=5461), ClusterHealth(ok=False, cut_off=True, failed=5461)),
        (b"cluster_state:ok", ClusterHealth(ok=True, cut_off=False, failed=0)),
        (b"cluster_state:fail\ncluster_slots_pfail:many\n", ClusterHealth(ok=False, cut_off=False, failed=0)),
    ],
)
def test_a_node_is_cut_off_if_it_has_failed_and_does_not_hear_others(said: bytes, health: ClusterHealth) -> None:
    assert parse_health(said) == health


@pytest.mark.parametrize(
    "said", [b"", b"cluster_state:", b"cluster_state:maybe", b"state:ok", None, [b"cluster_state:ok"], 7]
)
def test_what_is_no_health_is_told(said: object) -> None:
    with pytest.raises(ProtocolError):
        parse_health(said)


def test_only_one_that_is_cut_off_is_refused() -> None:
    refuse_cut_off(parse_health(info("fail", failed=1)), "node:1")
    with pytest.raises(RedisConnectionError, match="cluster_state:fail, the node is cut off from the majority: node:1"):
        refuse_cut_off(parse_health(info("fail", unheard=1)), "node:1")
