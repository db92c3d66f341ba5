"""What a process reads of its service manager in the environment (common/notify, common/activation)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from common.activation import passed_descriptors, without_personal
from common.notify import Notifier, manager_address, watchdog_interval
from tests.support.logbook import Logbook

if TYPE_CHECKING:
    from trio.testing import MockClock

PID = 4711


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("/run/systemd/notify", "/run/systemd/notify"),
        ("@abstract/name", "\0abstract/name"),
        ("vsock:2:1234", None),
        ("relative", None),
        ("", None),
    ],
)
def test_the_address_is_a_path_or_an_abstract_name(text: str, address: str | None) -> None:
    assert manager_address({"NOTIFY_SOCKET": text}) == address


def test_without_a_manager_nobody_is_told() -> None:
    assert manager_address({}) is None
    assert watchdog_interval({}, PID) is None


@pytest.mark.parametrize(
    ("variables", "seconds"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(PID)}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(PID + 1)}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_PID": str(PID)}, None),
    ],
)
def test_life_is_told_twice_in_the_time_that_the_manager_waits(
    variables: dict[str, str], seconds: float | None
) -> None:
    assert watchdog_interval(variables, PID) == seconds


@pytest.mark.parametrize(
    ("variables", "descriptors"),
    [
        ({"LISTEN_FDS": "2", "LISTEN_PID": str(PID)}, [3, 4]),
        # What was meant for a parent, or for nobody, is not ours.
        ({"LISTEN_FDS": "2", "LISTEN_PID": str(PID - 1)}, []),
        ({"LISTEN_FDS": "2"}, []),
        ({"LISTEN_FDS": "0", "LISTEN_PID": str(PID)}, []),
        ({"LISTEN_FDS": "x", "LISTEN_PID": str(PID)}, []),
        ({"LISTEN_FDS": "99999", "LISTEN_PID": str(PID)}, []),
        ({}, []),
    ],
)
def test_descriptors_are_those_that_were_passed_to_this_very_process(
    variables: dict[str, str], descriptors: list[int]
) -> None:
    assert list(passed_descriptors(variables, PID)) == descriptors


def test_a_child_inherits_nothing_that_was_meant_for_its_parent() -> None:
    environ = {"LISTEN_FDS": "1", "LISTEN_PID": "1", "NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "1", "STATUS_WORKERS": "2"}
    assert without_personal(environ) == {"STATUS_WORKERS": "2"}


class Recorder(Notifier):
    """Notes what would be said, and when; what is said first takes `slow` seconds."""

    def __init__(self, interval: float | None, *, slow: float = 0.0) -> None:
        super().__init__("/nowhere", interval, Logbook().log)
        self.said: list[tuple[float, str]] = []
        self._slow = slow

    async def _say(self, state: str) -> None:
        self.said.append((trio.current_time(), state))
        await trio.sleep(self._slow)
        self._slow = 0.0

    async def accompanied(self, seconds: float, *, stops: bool = True) -> None:
        """A daemon that is ready after half of these seconds, and told to end at the end of them."""
        ready, stop = trio.Event(), trio.Event()

        async def run(stop: trio.Event) -> int:
            await trio.sleep(seconds / 2)
            ready.set()
            await trio.sleep(seconds / 2)
            if stops:
                stop.set()
                await trio.sleep(0.1)
            return 3

        self.start = trio.current_time()
        assert await self.accompany(run, ready, stop) == 3

    def times(self, state: str) -> list[float]:
        """When this was said, in seconds from the start."""
        return [round(at - self.start, 6) for at, said in self.said if said == state]


async def test_life_is_told_at_each_interval_from_the_first_moment(autojump_clock: MockClock) -> None:
    recorder = Recorder(2.0)
    await recorder.accompanied(9.0)
    assert recorder.times("WATCHDOG=1") == [0, 2, 4, 6, 8]
    assert (recorder.times("READY=1"), recorder.times("STOPPING=1")) == ([4.5], [9])


async def test_what_was_missed_is_not_made_up_for(autojump_clock: MockClock) -> None:
    recorder = Recorder(2.0, slow=7.0)
    await recorder.accompanied(12.0)
    assert recorder.times("WATCHDOG=1") == [0, 7, 9, 11]


async def test_a_manager_that_waits_for_no_life_hears_of_the_rest(autojump_clock: MockClock) -> None:
    recorder = Recorder(None)
    await recorder.accompanied(4.0, stops=False)
    assert [state for _, state in recorder.said] == ["READY=1"]
