"""The end of a run, while the daemons still live: their figures beside the clients', then that nothing is left over.

Everything is asked of the daemons from outside: by sockets, `/metrics`, Redis, and /proc.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Final

import attrs
import trio

from bench.chaos.crowd import has_got, last_message
from bench.chaos.programme import BUSY, CHANNELS, COUNTED, QUIET, WRITES, status_frame
from bench.chaos.stage import DRAIN_TIMEOUT, RESYNC_INTERVAL
from bench.processes import wait_for
from bench.verdicts import Verdict
from common.fanout import LINGER
from tests.support.preflight import frame_of, read_hash
from tests.support.raw import open_redis

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.chaos.crowd import Crowd, Guest
    from bench.chaos.faults import Fault
    from bench.chaos.programme import Size
    from bench.chaos.stage import Service, Stage
    from bench.chaos.writer import Writer
    from tests.support.load import Traffic

CALM: Final = 1.0
"""Seconds without faults in which metrics and clients are counted beside each other."""


@attrs.frozen
class Holdings:
    """What a daemon has for itself, with nobody there: descriptors of all its processes, tasks of its workers."""

    descriptors: int
    tasks: int

    def __str__(self) -> str:
        return f"{self.descriptors} and {self.tasks}"


class Closing:
    """See the module. `faults` is all that was done; each step adds its `verdicts`, in order."""

    def __init__(self, stage: Stage, crowd: Crowd, size: Size, faults: Sequence[Fault]) -> None:
        self._stage = stage
        self._crowd = crowd
        self._size = size
        self._faults = faults
        self.verdicts: list[Verdict] = []

    async def close_books(self, traffic: Traffic, writer: Writer) -> None:
        """Compare metrics with the clients while only the patient are there; then the last frames with Redis."""
        self._crowd.only_the_steady_stay()
        await self._counts_agree()
        # Between two moments at which nothing is under way: what went out is what came in.
        writer.pause()
        await trio.sleep(2 * WRITES + CALM)
        findings: list[str] = []
        steady = [guest for guest in self._crowd.steady if guest.daemon == "statusd"]
        with trio.move_on_after(self._size.margin + CALM):
            await traffic.stop([])
            last = {channel: sent[-1].frame for channel, sent in traffic.sent.items()}
            for guest in steady:
                visit = guest.visit
                if visit is not None:
                    await visit.client.wait(partial(has_got, last[guest.path[1:]]), within=math.inf)
        for guest in steady:
            visit = guest.visit
            frame = traffic.sent[guest.path[1:]][-1].frame
            if visit is None or frame not in visit.client.texts[-60:]:
                findings.append(f"{guest.path} ({'far' if guest.far else 'near'}): the last message is missing")
        self.verdicts.append(
            Verdict(
                "whoever is there at the end gets the last message",
                f"{len(steady)} clients, {sum(map(len, traffic.sent.values()))} messages",
                tuple(findings),
            )
        )
        await self._forwarded_agrees(steady)
        await self._last_frames()

    async def _forwarded_agrees(self, steady: Sequence[Guest]) -> None:
        """Nobody else publishes any more, and nobody else listens: what is forwarded now can be counted to the last."""
        service = self._stage.services["statusd"]
        expected = (await service.figures())["messages_forwarded_total"] + len(COUNTED) * len(steady)
        async with open_redis(self._stage.redis) as control:
            for channel in CHANNELS:
                await control.publish(channel, COUNTED)
        found = 0.0

        async def counted() -> bool:
            nonlocal found
            found = (await service.figures())["messages_forwarded_total"]
            return found >= expected and all(
                guest.visit is not None and has_got(status_frame(COUNTED[-1]), guest.visit.client) for guest in steady
            )

        await wait_for(counted, CALM + self._size.margin)
        got = sum(
            guest.visit.client.texts.count(status_frame(payload))
            for guest in steady
            for payload in COUNTED
            if guest.visit is not None
        )
        wanted = len(COUNTED) * len(steady)
        findings = [] if found == expected else [f"messages_forwarded_total is {found:g}, not {expected:g}"]
        findings += [] if got == wanted else [f"the clients got {got}"]
        self.verdicts.append(
            Verdict("messages_forwarded_total counts what clients get", f"{got} of {wanted} messages", tuple(findings))
        )

    async def _counts_agree(self) -> None:
        findings: list[str] = []
        told: list[str] = []
        for name, service in self._stage.services.items():
            steady = sum(guest.daemon == name for guest in self._crowd.steady)
            figures: dict[str, float] = {}

            async def agree(service: Service = service, steady: int = steady) -> bool:
                nonlocal figures
                try:
                    figures = await service.figures()
                except OSError:
                    return False
                return figures.get("connections_active") == steady and figures.get("redis_up") == 1

            await wait_for(agree, self._size.pong_timeout + self._size.margin)
            ended = sum(value for key, value in figures.items() if key.startswith("disconnects_total"))
            active, total = figures.get("connections_active", -1.0), figures.get("connections_total", -1.0)
            if active != steady:
                findings.append(f"{name}: {active:g} connections active, {steady} clients are there")
            if figures.get("redis_up") != 1:
                findings.append(f"{name}: redis_up {figures.get('redis_up')}")
            if any(figures.get(f'disconnects_total{{reason="{reason}"}}') for reason in ("internal_error", "too_fast")):
                findings.append(f"{name}: ends that are nobody's doing here")
            died = any(fault.kind.deaths for fault in self._faults if fault.daemon == name)
            if ended + active > total or (not died and ended + active != total):
                findings.append(f"{name}: {total:g} connections, {ended:g} ended and {active:g} active")
            told.append(f"{name} {active:g} active, {ended:g} ended, {total:g} in all")
        self.verdicts.append(Verdict("metrics agree with the clients", "; ".join(told), tuple(findings)))

    async def _last_frames(self) -> None:
        guests = [guest for guest in self._crowd.steady if guest.daemon == "preflightd"]
        async with open_redis(self._stage.redis) as control:
            expected = {run: frame_of(await read_hash(control, run)) for run in (*BUSY, *QUIET)}

        def stale() -> list[Guest]:
            return [guest for guest in guests if last_message(guest) != expected[guest.path[1:]]]

        async def all_true() -> bool:
            return not stale()

        await wait_for(all_true, RESYNC_INTERVAL + self._size.margin)
        findings = [f"{guest.path}: {last_message(guest)!r} is not the hash" for guest in stale()]
        self.verdicts.append(
            Verdict("every checklist client's last frame is the hash", f"{len(guests)} clients", tuple(findings))
        )

    async def check_left_over(self, before: dict[str, Holdings]) -> None:
        """Everybody leaves; then nothing of them is left in the daemons nor in Redis."""
        self._crowd.go_home()
        findings: list[str] = []

        async def nothing(service: Service) -> list[str]:
            try:
                figures = await service.figures()
            except OSError as error:
                return [f"{service.name}: {error}"]
            left = [
                f"{service.name}: {figures[name]:g} {name}"
                for name in ("connections_active", "topics_active", "backlog_bytes")
                if figures[name]
            ]
            more = service.descriptors() - before[service.name].descriptors
            return [*left, *([f"{service.name}: {more} descriptors more"] if more > 0 else [])]

        async def subscriptions() -> list[str]:
            async with open_redis(self._stage.redis) as control:
                channels = await control.call("PUBSUB", "CHANNELS")
                patterns = await control.call("PUBSUB", "NUMPAT")
            assert isinstance(channels, list)
            return [
                *(f"subscribed: {channel!r}" for channel in channels),
                *([f"{patterns} patterns"] if patterns else []),
            ]

        async def clean() -> bool:
            nonlocal findings
            findings = [one for service in self._stage.services.values() for one in await nothing(service)]
            findings += await subscriptions()
            return not findings

        bound = LINGER + self._size.pong_timeout + self._size.margin
        await wait_for(clean, bound)
        told = []
        for name, service in self._stage.services.items():
            tasks = 0

            async def let_go(service: Service = service) -> bool:
                nonlocal tasks
                tasks = await service.tasks()
                return tasks <= before[service.name].tasks

            # Whoever asked just now may still be on its way out.
            await wait_for(let_go, bound)
            told.append(f"{name} {service.descriptors()} descriptors and {tasks} tasks, {before[name]} before")
            if tasks > before[name].tasks:
                findings.append(f"{name}: {tasks - before[name].tasks} tasks more")
        self.verdicts.append(
            Verdict(
                "no connection, topic, task, descriptor or subscription is left over", "; ".join(told), tuple(findings)
            )
        )

    async def end(self, start: float) -> None:
        """Both daemons are told to end; `start` is how long one took to start, the measure of the machine."""
        for service in self._stage.services.values():
            service.end()

        async def ended() -> bool:
            return all(service.code is not None for service in self._stage.services.values())

        await wait_for(ended, DRAIN_TIMEOUT + start + self._size.margin)
        codes = {name: service.code for name, service in self._stage.services.items()}
        self.verdicts.append(
            Verdict(
                "SIGTERM drains and ends with 0",
                ", ".join(f"{name} {code}" for name, code in codes.items()),
                tuple(f"{name}: {code}" for name, code in codes.items() if code != 0),
            )
        )
