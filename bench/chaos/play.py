"""One run: the crowd arrives, act follows act, each until everything works again; then the books are closed.

Everything is asked of the daemons from outside: by sockets, `/health`, `/metrics`, logs, and /proc.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import attrs
import trio

from bench.chaos.actors import perform
from bench.chaos.audit import audit, check_logs
from bench.chaos.closing import Closing, Holdings
from bench.chaos.crowd import AGAIN, invite
from bench.chaos.journal import read
from bench.chaos.programme import BUSY, CHANNELS, PACE, QUIET, WRITES
from bench.chaos.stage import (
    CONNECT_TIMEOUT,
    DRAIN_TIMEOUT,
    REQUEST_TIMEOUT,
    RESYNC_INTERVAL,
    RETRY_MAX,
    WORKERS,
    open_stage,
)
from bench.chaos.working import Working
from bench.chaos.writer import Writer
from bench.processes import wait_for
from bench.verdicts import Verdict
from tests.support.load import open_traffic

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from bench.chaos.faults import Fault
    from bench.chaos.programme import Size
    from bench.chaos.schedule import Act
    from bench.chaos.stage import Service, Stage

FROM_REDIS: Final = RETRY_MAX + CONNECT_TIMEOUT + REQUEST_TIMEOUT
"""Seconds until a link is back at the latest once Redis is: the delay that is due, after an attempt under way."""

ARRIVAL: Final = 120.0
"""Seconds until the run is given up that does not get going, or does not recover at all."""

NAP: Final = 0.05
"""Seconds between two looks at the clock; what is later than twice that counts as starved."""


SKEWS: Final = 10
"""Looks at how far the two clocks are apart."""


@attrs.frozen
class Recovery:
    """After one act: how long it took until everything worked, and how long it might; and of that time how long this
    process, with its clients and proxies, was not given a core."""

    act: Act
    seconds: float
    bound: float
    starved: float

    def __str__(self) -> str:
        starved = f", of which {self.starved:.1f} without a core" if self.starved >= 1.0 else ""
        return f"{self.seconds:.1f} s{starved} (bound {self.bound:.1f})"


class Play:
    """See the module; `run` is the whole of it. `say` is told what happens; `logs` is where the daemons' logs stay."""

    def __init__(
        self, acts: Sequence[Act], seed: int, size: Size, say: Callable[[str], None], *, logs: Path | None = None
    ) -> None:
        self._acts = acts
        self._seed = seed
        self._size = size
        self._say = say
        self._logs = logs
        self._stage: Stage | None = None
        self._start = 0.0
        self._starved = 0.0
        self.recoveries: list[Recovery] = []
        self.verdicts: list[Verdict] = []

    @property
    def faults(self) -> list[Fault]:
        """All that is done."""
        return [fault for act in self._acts for fault in act.faults]

    async def run(self) -> list[Verdict]:
        """Play it, and say what became of each promise."""
        async with (
            open_stage(self._seed, pong_timeout=self._size.pong_timeout, logs=self._logs) as stage,
            open_traffic(stage.redis, CHANNELS, pace=PACE, subscribers=16 * WORKERS) as traffic,
            trio.open_nursery() as nursery,
        ):
            self._stage = stage
            writer = Writer(stage.redis, BUSY, QUIET, WRITES)
            nursery.start_soon(writer.run)
            nursery.start_soon(self._measure_starvation)
            crowd = invite(
                stage,
                self._seed,
                channels=list(CHANNELS),
                runs=[*BUSY, *QUIET],
                status=self._size.status,
                preflight=self._size.preflight,
            )
            begun = trio.current_time()
            await self._within(stage.healthy, "both daemons healthy")
            # The measure of the machine: how long a start takes.
            self._start = trio.current_time() - begun
            before = {
                name: Holdings(service.descriptors(), await service.tasks()) for name, service in stage.services.items()
            }
            nursery.start_soon(crowd.run)
            working = Working(stage, crowd, traffic, writer)
            await self._within(working.check, "everybody is served", working)
            for number, act in enumerate(self._acts, 1):
                await self._act(number, act, stage, working)
            closing = Closing(stage, crowd, self._size, self.faults)
            await closing.close_books(traffic, writer)
            await closing.check_left_over(before)
            await closing.end(self._start)
            # The largest: between the two looks at a clock we may be without a core.
            skew = max(time.time() - trio.current_time() for _ in range(SKEWS))
            journals = {name: read(service.lines(), skew) for name, service in stage.services.items()}
            stderr = {name: service.stderr() for name, service in stage.services.items()}
            self.verdicts = [
                self._recovered(),
                *closing.verdicts,
                *audit(crowd, traffic, writer, journals, self.faults),
                check_logs(journals, stderr, self.faults),
            ]
            nursery.cancel_scope.cancel()
        return self.verdicts

    def _recovered(self) -> Verdict:
        slowest = max(self.recoveries, key=lambda one: one.seconds / one.bound)
        return Verdict(
            "everything works again within the backoff's bound",
            f"{len(self.recoveries)} acts, longest {max(one.seconds for one in self.recoveries):.1f} s;"
            f" closest to its bound {slowest.seconds:.1f} of {slowest.bound:.1f} s",
            tuple(
                f"{one.act}: {one}"
                for one in self.recoveries
                if one.seconds - one.starved > one.bound + self._size.margin
            ),
        )

    # -- one act ------------------------------------------------------------------------------------------------------

    async def _act(self, number: int, act: Act, stage: Stage, working: Working) -> None:
        self._say(f"act {number} of {len(self._acts)}: {act}")
        dead = {name: len(_deaths(service)) for name, service in stage.services.items()}
        # A hash that nobody writes after the fault: what becomes of it must be found out.
        await working.writer.write_quiet()
        async with trio.open_nursery() as nursery:
            for fault in act.faults:
                nursery.start_soon(perform, fault, stage, CHANNELS[0])
        over = trio.current_time()
        starved = self._starved
        working.begin()
        # What a successor's delay is, the daemon says; and it says it at once.
        await self._within(working.check, "everything works again", working)
        seconds = trio.current_time() - over
        backoff = max(
            (delay for name, service in stage.services.items() for delay in _deaths(service)[dead[name] :]), default=0.0
        )
        self.recoveries.append(Recovery(act, seconds, self._bound(act, backoff), self._starved - starved))
        self._say(f"    works again after {self.recoveries[-1]}; last: {working.obstacle}")

    async def _measure_starvation(self) -> None:
        """What we sleep too long: clients and proxies are as late as that, and so is all that waits for them."""
        while True:
            due = trio.current_time() + NAP
            await trio.sleep_until(due)
            late = trio.current_time() - due
            self._starved += late if late > NAP else 0.0

    def _bound(self, act: Act, backoff: float) -> float:
        bound = FROM_REDIS + RESYNC_INTERVAL + AGAIN[1]
        for fault in act.faults:
            if fault.kind.deaths:
                bound += backoff + self._start
            if fault.name == "parent killed":
                bound += DRAIN_TIMEOUT + self._start
            if fault.name in {"silence", "worker stopped", "all stopped"}:
                # Clients whose connections nobody told of their end notice it by the answer that does not come.
                bound += self._size.pong_timeout
        return bound

    async def _within(
        self, condition: Callable[[], Awaitable[bool]], what: str, working: Working | None = None
    ) -> None:
        if await wait_for(condition, ARRIVAL) < ARRIVAL:
            return
        why = "" if working is None else f": {working.obstacle}"
        services = [] if self._stage is None else self._stage.services.values()
        for service in services:
            self._say(f"{service.name} said at last:\n{service.tail()}")
        raise NeverError(f"{what}, not within {ARRIVAL:g} s{why}")


class NeverError(Exception):
    """Something did not happen within any bound: the run can't go on."""


def _deaths(service: Service) -> list[float]:
    """The delays before each worker's successor, so far."""
    return [line["backoff"] for line in service.lines() if line.get("msg") in {"worker died", "worker ended"}]
