"""The catalogue: every row of the bench, with what is done, to whom, how often, and what must come of it.

The numbers of the goals are those of the service that statusd and preflightd replace, divided by what was asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from bench.feed import checklist_feed, status_feed
from bench.goals import Goal
from bench.scenarios.burst import Burst
from bench.scenarios.handshakes import Handshakes
from bench.scenarios.memory import Memory
from bench.scenarios.stalled import Stalled
from bench.scenarios.stream import Stream
from bench.targets import FANOUT_TARGETS, PREFLIGHT_TARGETS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.targets import BenchTarget

SUBJECT: Final = "statusd"
PREFLIGHT_SUBJECT: Final = "preflightd"
LIMIT: Final = "limit"
PEERS: Final = tuple(name for name in FANOUT_TARGETS if name != SUBJECT)
QUICK_PEERS: Final = ("node_ws", LIMIT)
"""For rows that the others need minutes for, or don't get through."""
HONEST: Final = tuple(name for name in PEERS if name != LIMIT)

_CHANNEL: Final = "bench;;fanout;;_base:wepp"
"""Of a composite run id, as the platform's are."""
_PATH: Final = f"/{_CHANNEL}"
_RUN: Final = "bench;;preflight;;_base"
_SIZE: Final = 100
_ONE: Final = status_feed([_CHANNEL], _SIZE)
_CHECKLIST: Final = checklist_feed(_RUN)


@attrs.frozen
class Contestant:
    """A target under conditions: `settings` are variables of the subject without their prefix."""

    label: str
    target: BenchTarget
    settings: Mapping[str, str] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class Row:
    """One kind of measure. `figures` are those of its table, the first of them the one that the plot shows."""

    name: str
    title: str
    scenario: Stream | Burst | Handshakes | Memory | Stalled
    figures: Sequence[str]
    goals: Sequence[Goal] = ()
    subjects: Sequence[Contestant] = (Contestant(SUBJECT, FANOUT_TARGETS[SUBJECT]),)
    """The first is what peers are compared with."""
    targets: Mapping[str, BenchTarget] = FANOUT_TARGETS
    """Who can be asked for: the peers are some of them."""
    peers: Sequence[str] = PEERS
    repeat: int = 3
    database: int = 2

    @property
    def contestants(self) -> Sequence[Contestant]:
        """Everybody, whether they can run here or not."""
        return [*self.subjects, *(Contestant(name, self.targets[name]) for name in self.peers)]

    def with_scenario(self, *, clients: int | None = None, seconds: float | None = None) -> Row:
        """The same, with what is given in place of the scenario's own."""
        scenario = self.scenario
        return attrs.evolve(
            self,
            scenario=attrs.evolve(scenario, clients=clients or scenario.clients, seconds=seconds or scenario.seconds),
        )

    @property
    def paced(self) -> bool:
        """Whether it takes as long as it is told to, and not until something has happened."""
        return isinstance(self.scenario, Stream | Stalled)


def _most(figure: str, limit: float, *, target: str = SUBJECT, against: Sequence[str] = ()) -> Goal:
    return Goal(figure=figure, limit=limit, target=target, against=tuple(against))


_TRAFFIC: Final = ("cpu_us", "p50_ms", "p99_ms", "max_ms")
_IDLE: Final = ("core_percent", "p99_ms", "pause_ms", "dropped")
_DOOR: Final = ("in_s", "again_s", "handshake_us", "again_us")

_TWO: Final = f"{SUBJECT} (2 workers)"
_ONE_AND_TWO: Final = (
    Contestant(SUBJECT, FANOUT_TARGETS[SUBJECT]),
    Contestant(_TWO, FANOUT_TARGETS[SUBJECT], {"WORKERS": "2"}),
)
_PATIENT: Final = (Contestant(SUBJECT, FANOUT_TARGETS[SUBJECT], {"WRITE_TIMEOUT": "30s"}),)
_PREFLIGHTD: Final = (Contestant(PREFLIGHT_SUBJECT, PREFLIGHT_TARGETS[PREFLIGHT_SUBJECT]),)


ROWS: Final[Mapping[str, Row]] = {
    row.name: row
    for row in (
        Row(
            name="fanout-300",
            title="fan-out: 300 clients on a channel, 10 messages/s",
            scenario=Stream(feed=_ONE, clients=300, rate=10, seconds=8),
            figures=_TRAFFIC,
            goals=(_most("cpu_us", 16), _most("p99_ms", 4)),
        ),
        Row(
            name="fanout-1000",
            title="fan-out: 1,000 clients on a channel, 10 messages/s",
            scenario=Stream(feed=_ONE, clients=1000, rate=10, seconds=8),
            figures=_TRAFFIC,
            goals=(
                _most("cpu_us", 14),
                _most("p99_ms", 15),
                _most("cpu_us", 1.4, against=[LIMIT]),
                _most("cpu_us", 0.25, against=HONEST),
                _most("p99_ms", 0.25, against=HONEST),
            ),
        ),
        Row(
            name="fanout-3000",
            title="fan-out: 3,000 clients on a channel, 2 messages/s",
            scenario=Stream(feed=_ONE, clients=3000, rate=2, seconds=8),
            figures=_TRAFFIC,
            goals=(_most("cpu_us", 14), _most("p99_ms", 45)),
            repeat=2,
        ),
        Row(
            name="many-runs",
            title="2,000 channels with a client each, 2,000 messages/s in all",
            scenario=Stream(
                feed=status_feed([f"bench;;run-{number};;_base:wepp" for number in range(2000)], _SIZE),
                clients=2000,
                rate=2000,
                seconds=5,
                warmup=1,
            ),
            figures=_TRAFFIC,
            repeat=2,
        ),
        Row(
            name="burst",
            title="10,000 messages at once to 100 clients",
            scenario=Burst(feed=_ONE, clients=100, messages=10_000, seconds=60),
            figures=("deliveries_per_s", "cpu_us"),
            goals=(_most("deliveries_per_s", 1_000_000),),
            peers=QUICK_PEERS,
        ),
        Row(
            name="idle-1000",
            title="1,000 idle clients, pings every 5 s, 1 message/s",
            scenario=Stream(feed=_ONE, clients=1000, rate=1, seconds=12, warmup=3),
            figures=_IDLE,
            repeat=1,
        ),
        Row(
            name="idle-5000",
            title="5,000 idle clients, pings every 5 s, 1 message/s",
            scenario=Stream(feed=_ONE, clients=5000, rate=1, seconds=15, warmup=3),
            figures=_IDLE,
            goals=(_most("core_percent", 14), _most("p99_ms", 70), _most("pause_ms", 50)),
            peers=QUICK_PEERS,
            repeat=2,
        ),
        Row(
            name="idle-10000",
            title="10,000 idle clients, pings every 5 s",
            scenario=Stream(feed=_ONE, clients=10_000, rate=0.1, seconds=30, warmup=5),
            figures=_IDLE,
            goals=(_most("core_percent", 18), _most("dropped", 0)),
            peers=QUICK_PEERS,
            repeat=1,
        ),
        Row(
            name="handshakes-1000",
            title="1,000 handshakes at once, and again after all were cut off",
            scenario=Handshakes(path=_PATH, clients=1000, seconds=20),
            figures=_DOOR,
            goals=(_most("in_s", 0.4), _most("in_s", 0.25, target=_TWO)),
            subjects=_ONE_AND_TWO,
        ),
        Row(
            name="handshakes-5000",
            title="5,000 handshakes at once, and again after all were cut off, 200 clients being there",
            scenario=Handshakes(path=_PATH, clients=5000, seconds=30, bystanders=200),
            figures=(*_DOOR, "pause_ms"),
            goals=(
                _most("in_s", 2),
                _most("in_s", 1.2, target=_TWO),
                _most("pause_ms", 1000),
                _most("pause_ms", 1000, target=_TWO),
            ),
            subjects=_ONE_AND_TWO,
            peers=QUICK_PEERS,
            repeat=2,
        ),
        Row(
            name="preflight-200",
            title="preflight: 200 clients on a run, 10 writes/s",
            scenario=Stream(feed=_CHECKLIST, clients=200, rate=10, seconds=8),
            figures=_TRAFFIC,
            goals=(_most("cpu_us", 20, target=PREFLIGHT_SUBJECT), _most("p99_ms", 5, target=PREFLIGHT_SUBJECT)),
            subjects=_PREFLIGHTD,
            targets=PREFLIGHT_TARGETS,
            peers=("websockets_preflight",),
            database=0,
        ),
        Row(
            name="preflight-3000",
            title="preflight: 3,000 clients on a run, 2 writes/s",
            scenario=Stream(feed=_CHECKLIST, clients=3000, rate=2, seconds=8),
            figures=_TRAFFIC,
            goals=(_most("cpu_us", 14, target=PREFLIGHT_SUBJECT), _most("p99_ms", 45, target=PREFLIGHT_SUBJECT)),
            subjects=_PREFLIGHTD,
            targets=PREFLIGHT_TARGETS,
            peers=(),
            repeat=2,
            database=0,
        ),
        Row(
            name="memory",
            title="memory of 2,000 idle clients",
            scenario=Memory(path=_PATH, clients=2000, seconds=3),
            figures=("client_kb", "redis_kb", "redis_connections"),
            goals=(_most("client_kb", 11), _most("redis_kb", 0.01), _most("redis_connections", 0)),
            repeat=1,
        ),
        Row(
            name="stalled",
            title="one client of 1,000 never reads: the p99 of the others",
            scenario=Stalled(channel=_CHANNEL, clients=1000, seconds=10),
            figures=("isolation", "p99_ms", "alone_p99_ms"),
            goals=(_most("isolation", 1.2),),
            subjects=_PATIENT,
            peers=(),
            repeat=2,
        ),
    )
}
