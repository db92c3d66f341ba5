"""Subscribe, unsubscribe, publish and lose Redis in any order: each listener hears its own, once, in order."""

from __future__ import annotations

import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.support.links import open_link
from tests.support.scripted_redis import message, push

CHANNEL = b"run:status"

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["subscribe", "unsubscribe", "publish", "publish", "settle", "hold", "release", "drop"]),
        st.sampled_from([b"a", b"b"]),
    ),
    max_size=40,
)


@given(steps=STEPS)
def test_any_interleaving_delivers_nothing_from_before_its_acknowledgement_and_everything_after(
    steps: list[tuple[str, bytes]],
) -> None:
    trio.run(_interleave, steps, clock=MockClock(autojump_threshold=0))


async def _interleave(steps: list[tuple[str, bytes]]) -> None:
    """Each payload names the subscription (a generation per channel) that is wanted when it is published."""
    generation = dict.fromkeys((b"a", b"b"), 0)
    must_hear: list[tuple[bytes, bytes]] = []
    async with open_link() as bench:
        for number, (step, channel) in enumerate(steps):
            subscription = bench.link._subscriptions.get(channel)
            match step:
                case "subscribe":
                    generation[channel] += subscription is None
                    bench.link.subscribe(channel)
                case "unsubscribe":
                    bench.link.unsubscribe(channel)
                    must_hear = [heard for heard in must_hear if heard[0] != channel]
                    bench.handler.heard.pop(channel, None)
                case "publish":
                    payload = b"%d:%d" % (generation[channel], number)
                    bench.redis.publish(channel, payload)
                    if subscription is not None and subscription.active and not bench.redis.peer.closed:
                        must_hear.append((channel, payload))
                case "hold":
                    bench.redis.holding = True
                case "release":
                    bench.redis.release()
                case "drop":
                    await wait_all_tasks_blocked()
                    bench.redis.drop_all()
                    bench.redis.release()
                    await wait_all_tasks_blocked()
                    await bench.link.wait_online()
                case "settle":
                    await wait_all_tasks_blocked()
            _check_what_was_heard(bench.handler.heard, generation)
        bench.redis.release()
        await wait_all_tasks_blocked()
        _check_what_was_heard(bench.handler.heard, generation)
        for channel, payload in must_hear:
            assert payload in bench.handler.heard[channel]
        for channel in generation:
            assert bench.redis.subscribers(channel) == (channel in bench.link._subscriptions)
        # The order of answers has survived: the link still understands what it is told.
        assert await bench.link.request("PING") == b"PONG"


def _check_what_was_heard(heard: dict[bytes, list[bytes]], generation: dict[bytes, int]) -> None:
    for channel, payloads in heard.items():
        assert {int(payload.partition(b":")[0]) for payload in payloads} == {generation[channel]}
        numbers = [int(payload.partition(b":")[2]) for payload in payloads]
        assert numbers == sorted(set(numbers))


async def test_subscribe_unsubscribe_subscribe_before_any_answer_hears_only_the_last() -> None:
    async with open_link() as bench:
        bench.redis.holding = True
        bench.link.subscribe(CHANNEL)
        bench.link.unsubscribe(CHANNEL)
        last = bench.link.subscribe(CHANNEL)
        await wait_all_tasks_blocked()
        bench.redis.peer.send(
            push(b"subscribe", CHANNEL, 1)
            + message(CHANNEL, b"for the first")
            + push(b"unsubscribe", CHANNEL, 0)
            + push(b"subscribe", CHANNEL, 1)
            + message(CHANNEL, b"for the last")
        )
        await bench.link.wait_active(last)
        assert bench.handler.heard == {CHANNEL: [b"for the last"]}
