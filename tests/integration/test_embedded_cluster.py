"""The private cluster: how it forms, what becomes of it at each fault, and that nothing of it stays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from common.embedded_cluster import SLOTS, EmbeddedCluster, SlotView, open_embedded_cluster
from common.embedded_group import RefusedError, ask, fields
from tests.integration.test_embedded_sentinel import exists
from tests.support.partition import open_partition
from tests.support.raw import wait_until
from tests.support.replication import wait_copied

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from common.embedded import EmbeddedRedis

pytestmark = pytest.mark.integration

KEYS = [f"{{run}}:{number}" for number in range(25)]
"""All of one slot."""


async def fill(cluster: EmbeddedCluster) -> tuple[int, EmbeddedRedis]:
    """Write the keys; their slot and its owner."""
    slot = await cluster.slot(KEYS[0])
    owner = await cluster.owner(slot)
    for key in KEYS:
        assert await ask(owner, "SET", key, key) == b"OK"
    return slot, owner


async def state(node: EmbeddedRedis) -> str:
    return fields(await ask(node, "CLUSTER", "INFO"))["cluster_state"]


async def test_it_is_whole_and_a_failover_and_a_kill_move_a_slots_part(redis_program: Path) -> None:
    async with open_embedded_cluster(program=redis_program, password="se cret") as cluster:
        assert await cluster.primaries() == list(cluster.nodes[:3])
        assert await cluster.replicas(0) == [cluster.nodes[3]]
        assert [await cluster.owner(slot) for slot in (0, SLOTS // 2, SLOTS - 1)] == list(cluster.nodes[:3])

        slot, first = await fill(cluster)
        second = await cluster.failover(slot)
        await cluster.wait_whole()
        assert await cluster.replicas(slot) == [first]
        assert await ask(second, "GET", KEYS[0]) == KEYS[0].encode()
        await wait_copied(second, first)

        await second.kill()
        assert await cluster.wait_moved(slot, second) is first
        await second.restart()
        await cluster.wait_whole()
        assert await cluster.replicas(slot) == [second]


async def test_a_halted_primary_is_replaced_and_comes_back_as_a_replica(redis_program: Path) -> None:
    async with open_embedded_cluster(program=redis_program) as cluster:
        slot, first = await fill(cluster)
        first.stop()
        assert await cluster.wait_moved(slot, first) is not first
        first.cont()
        await cluster.wait_whole()
        assert await cluster.replicas(slot) == [first]


async def test_a_slot_moves_key_by_key_and_asks_in_the_middle(redis_program: Path) -> None:
    async with open_embedded_cluster(program=redis_program, replicas=0, password="se cret") as cluster:
        slot, source = await fill(cluster)
        target = next(node for node in cluster.nodes if node is not source)
        move = await cluster.begin_move(slot, target)
        assert await move.step(10)
        assert await ask(source, "CLUSTER", "COUNTKEYSINSLOT", slot) == 15
        answers = [await _answer(source, "GET", key) for key in KEYS]
        assert sorted(answer for answer in answers if answer in KEYS) == sorted(
            key for key, answer in zip(KEYS, answers, strict=True) if not answer.startswith(f"ASK {slot} ")
        )
        assert sum(answer.startswith(f"ASK {slot} ") for answer in answers) == 10
        while await move.step(10):
            pass
        await move.finish()
        assert await cluster.owner(slot) is target
        assert await ask(target, "GET", KEYS[0]) == KEYS[0].encode()

        if await cluster.moves_atomically():
            await cluster.move_slot_atomically(slot, source)
            assert await ask(source, "GET", KEYS[0]) == KEYS[0].encode()
        else:
            with pytest.raises(RefusedError, match=r"(?i)unknown"):
                await cluster.move_slot_atomically(slot, source)
            await cluster.move_slot(slot, source)
        assert await cluster.owner(slot) is source


async def test_a_minority_knows_that_it_is_one_and_its_slots_are_taken_over(redis_program: Path) -> None:
    async with (
        open_partition() as partition,
        open_embedded_cluster(program=redis_program, announced_bus=partition.relay) as cluster,
    ):
        alone, other = cluster.nodes[:2]
        partition.isolate(cluster.ids[alone])

        async def left() -> bool:
            owner = SlotView.read(await ask(other, "CLUSTER", "SLOTS")).of(0)[0]
            return await state(alone) == "fail" and owner == cluster.ids[cluster.nodes[3]]

        await wait_until(left, "the minority has failed, and its slots have a new owner")
        await wait_until(lambda: _is(other, "ok"), "the others are well")
        partition.heal()
        await cluster.wait_whole()
        assert await cluster.replicas(0) == [alone]


async def test_nothing_stays_behind_a_cancellation(redis_program: Path, temporary: Callable[[], list[str]]) -> None:
    pids: list[int] = []
    with trio.CancelScope() as scope:
        async with open_embedded_cluster(program=redis_program, replicas=0) as cluster:
            pids.extend(node.pid for node in cluster.nodes)
            cluster.nodes[0].stop()
            scope.cancel()
            await trio.sleep_forever()
    assert len(pids) == 3
    assert not any(map(exists, pids))
    assert temporary() == []


async def _answer(node: EmbeddedRedis, *args: str) -> str:
    """The answer, or the words of the refusal."""
    try:
        return str(await ask(node, *args), "utf-8")  # type: ignore[call-overload, no-any-return]
    except RefusedError as error:
        return str(error)


async def _is(node: EmbeddedRedis, expected: str) -> bool:
    return await state(node) == expected
