"""One run: the crowd arrives, act follows act, each until everything works again; then the books are closed.

Everything is asked of the daemons from outside: by sockets, `/health`, `/metrics`, logs, and /proc.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Final

import attrs
import trio

from bench.chaos.accounts import Channel, Message, audit_preflight, audit_status
from bench.chaos.actors import BULK, perform
from bench.chaos.crowd import AGAIN, invite, texts
from bench.chaos.ends import DOCUMENTED, explained
from bench.chaos.journal import read
from bench.chaos.stage import (
    CONNECT_TIMEOUT,
    DRAIN_TIMEOUT,
    REQUEST_TIMEOUT,
    RESYNC_INTERVAL,
    RETRY_MAX,
    WORKERS,
    open_stage,
)
from bench.chaos.writer import Writer
from bench.processes import wait_for
from bench.verdicts import Verdict
from common.fanout import LINGER
from tests.support.load import open_traffic
from tests.support.preflight import frame_of, read_hash
from tests.support.raw import open_redis

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from bench.chaos.accounts import Account
    from bench.chaos.crowd import Crowd, Guest, Visit
    from bench.chaos.faults import Fault
    from bench.chaos.journal import Journal
    from bench.chaos.schedule import Act
    from bench.chaos.stage import Service, Stage
    from tests.support.client import Client
    from tests.support.load import Traffic

CHANNELS: Final = ("north:log", "north:status", "south:log", "east;;west:log")
BUSY: Final = ("north", "south")
QUIET: Final = ("quiet",)
PACE: Final = 0.05
"""Seconds between two rounds of messages."""
WRITES: Final = 0.1
"""Seconds between two writes of a busy run."""

FROM_REDIS: Final = RETRY_MAX + CONNECT_TIMEOUT + REQUEST_TIMEOUT
"""Seconds until a link is back at the latest once Redis is: the delay that is due, after an attempt under way."""

ARRIVAL: Final = 120.0
"""Seconds until the run is given up that does not get going, or does not recover at all."""

COUNTED: Final = tuple(b"counted %d" % number for number in range(5))
"""Messages at the end, when nobody publishes anything else."""

NAP: Final = 0.05
"""Seconds between two looks at the clock; what is later than twice that counts as starved."""

CALM: Final = 1.0
"""Seconds without faults in which metrics and clients are counted beside each other."""


@attrs.frozen(kw_only=True)
class Size:
    """How much of everything: clients of each daemon, the seconds until one that is silent is ended, and those that are
    allowed beyond what is promised, for a machine that has other things to do."""

    status: int = 80
    preflight: int = 40
    pong_timeout: float = 7.0
    margin: float = 15.0


@attrs.frozen
class Holdings:
    """What a daemon has for itself, with nobody there: descriptors of all its processes, tasks of its workers."""

    descriptors: int
    tasks: int

    def __str__(self) -> str:
        return f"{self.descriptors} and {self.tasks}"


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
            await self._close_books(stage, crowd, traffic, writer)
            await self._check_left_over(stage, crowd, before)
            await self._end(stage)
            skew = time.time() - trio.current_time()
            journals = {name: read(service.lines(), skew) for name, service in stage.services.items()}
            self._audit(crowd, traffic, writer, journals)
            self._check_logs(stage, journals)
            nursery.cancel_scope.cancel()
        slowest = max(self.recoveries, key=lambda one: one.seconds / one.bound)
        self.verdicts.insert(
            0,
            Verdict(
                "everything works again within the backoff's bound",
                f"{len(self.recoveries)} acts, longest {max(one.seconds for one in self.recoveries):.1f} s;"
                f" closest to its bound {slowest.seconds:.1f} of {slowest.bound:.1f} s",
                tuple(
                    f"{one.act}: {one}"
                    for one in self.recoveries
                    if one.seconds - one.starved > one.bound + self._size.margin
                ),
            ),
        )
        return self.verdicts

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

    # -- the end ------------------------------------------------------------------------------------------------------

    async def _close_books(self, stage: Stage, crowd: Crowd, traffic: Traffic, writer: Writer) -> None:
        """Compare metrics with the clients while only the patient are there; then the last frames with Redis."""
        margin = self._size.margin
        crowd.only_the_steady_stay()
        await self._counts_agree(stage, crowd, margin)
        # Between two moments at which nothing is under way: what went out is what came in.
        writer.pause()
        await trio.sleep(2 * WRITES + CALM)
        findings: list[str] = []
        steady = [guest for guest in crowd.steady if guest.daemon == "statusd"]
        with trio.move_on_after(margin + CALM):
            await traffic.stop([])
            last = {channel: sent[-1].frame for channel, sent in traffic.sent.items()}
            for guest in steady:
                visit = guest.visit
                if visit is not None:
                    await visit.client.wait(partial(_has_got, last[guest.path[1:]]), within=math.inf)
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
        await self._forwarded_agrees(stage, steady)
        await self._last_frames(stage, crowd)

    async def _forwarded_agrees(self, stage: Stage, steady: Sequence[Guest]) -> None:
        """Nobody else publishes any more, and nobody else listens: what is forwarded now can be counted to the last."""
        service = stage.services["statusd"]
        expected = (await service.figures())["messages_forwarded_total"] + len(COUNTED) * len(steady)
        async with open_redis(stage.redis) as control:
            for channel in CHANNELS:
                await control.publish(channel, COUNTED)
        found = 0.0

        async def counted() -> bool:
            nonlocal found
            found = (await service.figures())["messages_forwarded_total"]
            return found >= expected and all(
                guest.visit is not None and _has_got(_status_frame(COUNTED[-1]), guest.visit.client) for guest in steady
            )

        await wait_for(counted, CALM + self._size.margin)
        got = sum(
            guest.visit.client.texts.count(_status_frame(payload))
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

    async def _counts_agree(self, stage: Stage, crowd: Crowd, margin: float) -> None:
        findings: list[str] = []
        told: list[str] = []
        for name, service in stage.services.items():
            steady = sum(guest.daemon == name for guest in crowd.steady)
            figures: dict[str, float] = {}

            async def agree(service: Service = service, steady: int = steady) -> bool:
                nonlocal figures
                try:
                    figures = await service.figures()
                except OSError:
                    return False
                return figures.get("connections_active") == steady and figures.get("redis_up") == 1

            await wait_for(agree, self._size.pong_timeout + margin)
            ended = sum(value for key, value in figures.items() if key.startswith("disconnects_total"))
            active, total = figures.get("connections_active", -1.0), figures.get("connections_total", -1.0)
            if active != steady:
                findings.append(f"{name}: {active:g} connections active, {steady} clients are there")
            if figures.get("redis_up") != 1:
                findings.append(f"{name}: redis_up {figures.get('redis_up')}")
            if any(figures.get(f'disconnects_total{{reason="{reason}"}}') for reason in ("internal_error", "too_fast")):
                findings.append(f"{name}: ends that are nobody's doing here")
            died = any(fault.kind.deaths for fault in self.faults if fault.daemon == name)
            if ended + active > total or (not died and ended + active != total):
                findings.append(f"{name}: {total:g} connections, {ended:g} ended and {active:g} active")
            told.append(f"{name} {active:g} active, {ended:g} ended, {total:g} in all")
        self.verdicts.append(Verdict("metrics agree with the clients", "; ".join(told), tuple(findings)))

    async def _last_frames(self, stage: Stage, crowd: Crowd) -> None:
        guests = [guest for guest in crowd.steady if guest.daemon == "preflightd"]
        async with open_redis(stage.redis) as control:
            expected = {run: frame_of(await read_hash(control, run)) for run in (*BUSY, *QUIET)}

        def stale() -> list[Guest]:
            return [guest for guest in guests if _last(guest) != expected[guest.path[1:]]]

        async def all_true() -> bool:
            return not stale()

        await wait_for(all_true, RESYNC_INTERVAL + self._size.margin)
        findings = [f"{guest.path}: {_last(guest)!r} is not the hash" for guest in stale()]
        self.verdicts.append(
            Verdict("every checklist client's last frame is the hash", f"{len(guests)} clients", tuple(findings))
        )

    async def _check_left_over(self, stage: Stage, crowd: Crowd, before: dict[str, Holdings]) -> None:
        """Everybody leaves; then nothing of them is left in the daemons nor in Redis."""
        crowd.go_home()
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
            async with open_redis(stage.redis) as control:
                channels = await control.call("PUBSUB", "CHANNELS")
                patterns = await control.call("PUBSUB", "NUMPAT")
            assert isinstance(channels, list)
            return [
                *(f"subscribed: {channel!r}" for channel in channels),
                *([f"{patterns} patterns"] if patterns else []),
            ]

        async def clean() -> bool:
            nonlocal findings
            findings = [one for service in stage.services.values() for one in await nothing(service)]
            findings += await subscriptions()
            return not findings

        await wait_for(clean, LINGER + self._size.pong_timeout + self._size.margin)
        told = []
        for name, service in stage.services.items():
            descriptors, tasks = service.descriptors(), await service.tasks()
            told.append(f"{name} {descriptors} descriptors and {tasks} tasks, {before[name]} before")
            if tasks > before[name].tasks:
                findings.append(f"{name}: {tasks - before[name].tasks} tasks more")
        self.verdicts.append(
            Verdict(
                "no connection, topic, task, descriptor or subscription is left over", "; ".join(told), tuple(findings)
            )
        )

    async def _end(self, stage: Stage) -> None:
        for service in stage.services.values():
            service.end()

        async def ended() -> bool:
            return all(service.code is not None for service in stage.services.values())

        await wait_for(ended, DRAIN_TIMEOUT + self._start + self._size.margin)
        codes = {name: service.code for name, service in stage.services.items()}
        self.verdicts.append(
            Verdict(
                "SIGTERM drains and ends with 0",
                ", ".join(f"{name} {code}" for name, code in codes.items()),
                tuple(f"{name}: {code}" for name, code in codes.items() if code != 0),
            )
        )

    def _check_logs(self, stage: Stage, journals: dict[str, Journal]) -> None:
        findings: list[str] = []
        told: list[str] = []
        for name, journal in journals.items():
            findings += [f"{name}: {traceback[-600:]}" for traceback in journal.tracebacks]
            if stderr := stage.services[name].stderr():
                findings.append(f"{name} on standard error: {stderr[-600:]}")
            killed = sum(fault.kind.deaths for fault in self.faults if fault.daemon == name)
            if len(journal.died) > killed:
                findings.append(f"{name}: {len(journal.died)} workers died, and {killed} were killed")
            errors = ", ".join(f"{message} x {count}" for message, count in sorted(journal.errors.items()))
            told.append(f"{name}: {errors or 'no errors'}, {journal.dropped} lines dropped")
        self.verdicts.append(
            Verdict(
                "no traceback, no death that is nobody's doing, nothing on standard error",
                "; ".join(told),
                tuple(findings),
            )
        )

    # -- the books ----------------------------------------------------------------------------------------------------

    def _audit(self, crowd: Crowd, traffic: Traffic, writer: Writer, journals: dict[str, Journal]) -> None:
        channels = {
            name: Channel(
                [Message(sent.at, sent.heard is not None) for sent in account], [sent.frame for sent in account]
            )
            for name, account in traffic.sent.items()
        }
        accounts: dict[str, list[Account]] = {"statusd": [], "preflightd": []}
        findings: dict[str, list[str]] = {"statusd": [], "preflightd": []}
        extras = {_status_frame(payload) for payload in (BULK, *COUNTED)}
        for visit in crowd.visits:
            guest = visit.guest
            if guest.daemon == "statusd":
                journal = journals["statusd"]
                account = audit_status(
                    texts(visit),
                    channels[guest.path[1:]],
                    journal.outages_of(journal.server.get(visit.address)),
                    asked=visit.asked,
                    opened=visit.opened,
                    wants_gap=guest.wants_gap,
                    extras=extras,
                )
            else:
                account = audit_preflight(texts(visit), writer.truths[guest.path[1:]])
            accounts[guest.daemon].append(account)
            findings[guest.daemon] += [f"{_name(visit)}: {finding}" for finding in account.findings]
        status = accounts["statusd"]
        published = sum(map(len, traffic.sent.values()))
        self.verdicts.append(
            Verdict(
                "while the link lives each message comes once, in order, none lost, none foreign",
                f"{len(status)} conversations, {published} messages, {sum(one.received for one in status)} received,"
                f" {sum(one.excused for one in status)} missed in outages that were told,"
                f" {sum(one.gaps for one in status)} gap frames",
                tuple(findings["statusd"]),
            )
        )
        checklists = accounts["preflightd"]
        self.verdicts.append(
            Verdict(
                "checklists are true, none twice in a row, none older than the last",
                f"{len(checklists)} conversations, {writer.number} writes,"
                f" {sum(one.received for one in checklists)} frames",
                tuple(findings["preflightd"]),
            )
        )
        self._audit_ends(crowd, journals)

    def _audit_ends(self, crowd: Crowd, journals: dict[str, Journal]) -> None:
        findings: list[str] = []
        reasons: Counter[str] = Counter()
        for visit in crowd.visits:
            guest, journal = visit.guest, journals[visit.guest.daemon]
            reason = journal.reason.get(visit.address)
            faults = [fault for fault in self.faults if fault.daemon in {"", guest.daemon}]
            if reason is None:
                # Nobody lives to tell of it, or what was told did not fit on the disk.
                silent = any(fault.kind.deaths or fault.kind.alone for fault in faults)
                reasons["process gone" if silent else "untold"] += 1
                if not silent:
                    findings.append(f"{_name(visit)}: an end of which the log says nothing")
                continue
            reasons[reason] += 1
            allowed = explained(guest.manner, far=guest.far, daemon=guest.daemon, faults=faults)
            if reason not in DOCUMENTED & allowed:
                findings.append(f"{_name(visit)}: ended with {reason}, which nothing explains")
        told = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
        refused = ", ".join(f"{why} {count}" for why, count in crowd.refused.most_common())
        self.verdicts.append(
            Verdict(
                "every end has a documented reason", f"{told}; handshakes refused: {refused or 'none'}", tuple(findings)
            )
        )


class NeverError(Exception):
    """Something did not happen within any bound: the run can't go on."""


class Working:
    """Whether everything works: asked again and again after an act. `obstacle` says what does not, in words."""

    def __init__(self, stage: Stage, crowd: Crowd, traffic: Traffic, writer: Writer) -> None:
        self.writer = writer
        self.obstacle = "nothing"
        self._stage = stage
        self._crowd = crowd
        self._traffic = traffic
        self.begin()

    def begin(self) -> None:
        """From now on: what was sent before counts for nothing."""
        self.obstacle = "nothing"
        self._since = {channel: len(sent) for channel, sent in self._traffic.sent.items()}
        self._written = self.writer.number

    async def check(self) -> bool:
        """Both daemons are healthy, with all their workers, and every patient client is there and up to date."""
        for name, service in self._stage.services.items():
            if not await service.healthy():
                self.obstacle = f"{name} is not healthy"
                return False
            if len(service.workers) != WORKERS:
                self.obstacle = f"{name} has {len(service.workers)} workers"
                return False
        async with open_redis(self._stage.redis) as control:
            quiet = {run: frame_of(await read_hash(control, run)) for run in QUIET}
        for guest in self._crowd.steady:
            visit = guest.visit
            if visit is None:
                self.obstacle = f"{guest.daemon} {guest.path} ({'far' if guest.far else 'near'}) has no conversation"
                return False
            if not self._is_current(guest, visit, quiet):
                self.obstacle = f"{guest.daemon} {_name(visit)} is not up to date"
                return False
        return True

    def _is_current(self, guest: Guest, visit: Visit, quiet: dict[str, bytes]) -> bool:
        place = guest.path[1:]
        if guest.daemon == "statusd":
            fresh = {sent.frame for sent in self._traffic.sent[place][self._since[place] :]}
            return any(text in fresh for text in visit.client.texts[-40:])
        if place in quiet:
            return _last(guest) == quiet[place]
        return any(self.writer.truths[place].get(text, 0) > self._written for text in visit.client.texts[-40:])


def _last(guest: Guest) -> bytes | None:
    visit = guest.visit
    frames = [] if visit is None else visit.client.messages
    return frames[-1] if frames else None


def _status_frame(payload: bytes) -> bytes:
    return b'{"type":"status","data":"%b"}' % payload


def _has_got(frame: bytes, client: Client) -> bool:
    return frame in client.texts[-60:]


def _name(visit: Visit) -> str:
    guest = visit.guest
    return f"{visit.address} {guest.path} {guest.manner.value} {'far' if guest.far else 'near'}"


def _deaths(service: Service) -> list[float]:
    """The delays before each worker's successor, so far."""
    return [line["backoff"] for line in service.lines() if line.get("msg") in {"worker died", "worker ended"}]
