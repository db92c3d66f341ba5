"""preflightd's clients and the truth they are held against: the evaluation of the hash that Redis has now."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import trio

from preflightd.checklist import packaged, to_json
from tests.support.raw import PATIENCE, RawClient, connect

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tests.support.raw import RedisConnection

WEPP: Final = (
    b"build_channels",
    b"set_outlet",
    b"abstract_watershed",
    b"build_landuse",
    b"build_soils",
    b"build_climate",
    b"run_wepp_watershed",
)
"""The timestamps of a project's steps, in the order in which they are done."""


def frame_of(fields: Mapping[bytes, bytes]) -> bytes:
    """The text that clients get for this hash."""
    snapshot = packaged().evaluate(fields)
    content: dict[str, object] = {"type": "preflight", **snapshot.content()}
    if snapshot.last_modified is None:
        del content["last_modified"]
    return to_json(content).encode()


async def read_hash(redis: RedisConnection, run_id: str) -> dict[bytes, bytes]:
    """The hash as it is now, read over the test's own (RESP2) connection."""
    reply = await redis.call("HGETALL", run_id)
    assert isinstance(reply, list)
    return dict(zip(reply[::2], reply[1::2], strict=True))


async def gather(nursery: trio.Nursery, port: int, run_ids: Sequence[str], count: int) -> list[RawClient]:
    """`count` clients, taking turns among the runs, each with its first frame."""
    clients = [await connect(nursery, port, f"/{run_ids[number % len(run_ids)]}") for number in range(count)]
    for client in clients:
        await client.receive(1)
    return clients


async def wait_true(
    redis: RedisConnection, clients_of: Mapping[str, Sequence[RawClient]], *, within: float = PATIENCE
) -> None:
    """Wait until the last frame of every client is that of its run's hash, which nobody writes meanwhile."""
    for run_id, clients in clients_of.items():
        expected = frame_of(await read_hash(redis, run_id))
        with trio.move_on_after(within):
            for client in clients:
                await _wait_last(client, expected)
        stale = [client.messages[-1:] for client in clients if client.messages[-1:] != [expected]]
        assert not stale, f"{len(stale)} of {len(clients)} clients of {run_id} are stale: {stale[0]}, not {expected!r}"


async def _wait_last(client: RawClient, expected: bytes) -> None:
    await client.wait(lambda client: client.messages[-1:] == [expected], within=math.inf)


def check_no_repeats(clients: Iterable[RawClient]) -> None:
    """Two consecutive frames to a client always differ."""
    for client in clients:
        assert all(one != other for one, other in pairwise(client.messages)), client.messages
