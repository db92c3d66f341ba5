"""The conversation's state machine, briefly (fuzz/conversation.py), and that it notices a daemon which errs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from common.fanout import Hub, Topic
from common.web.frames import PING
from common.web.wire import Wire
from fuzz.conversation import no_order_of_events_breaks_a_promise, play
from fuzz.scenario import Connect, Drain, Publish, Redis, Scenario, Step, Turn, Wait

if TYPE_CHECKING:
    from common.web.frames import Frames

_BRIEFLY = settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])


def test_no_order_of_events_breaks_a_promise() -> None:
    no_order_of_events_breaks_a_promise.run(_BRIEFLY)


def _talk_on(wire: Wire, close_frame: bytes) -> None:
    wire.send_nowait(close_frame + PING)


def _tell_no_gap(hub: Hub, channel: bytes, gap: float | None) -> None:
    del hub, channel, gap


def _tell_nobody(hub: Hub) -> None:
    del hub


async def _lose(topic: Topic, frames: Frames) -> int:
    del topic, frames
    return 0


@pytest.mark.parametrize(
    ("owner", "name", "broken", "steps"),
    [
        (Wire, "close_nowait", _talk_on, [Connect(0, True, False, "socket"), Drain(), Publish(0, 1, 10)]),
        (Hub, "on_active", _tell_no_gap, [Connect(0, True, True, "socket"), Redis("drops"), Wait(4.0)]),
        (Hub, "on_exhausted", _tell_nobody, [Connect(0, True, True, "socket"), Redis("goes"), Wait(66.0)]),
        (Topic, "broadcast", _lose, [Connect(0, True, True, "socket"), Publish(0, 1, 10)]),
    ],
)
def test_a_broken_daemon_is_noticed(
    owner: type, name: str, broken: object, steps: list[Step], monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario = Scenario("all", "0s", [Turn(step, settled=True) for step in steps])
    play(scenario)
    monkeypatch.setattr(owner, name, broken)
    with pytest.raises(BaseExceptionGroup) as caught:
        play(scenario)
    assert caught.group_contains(AssertionError)
