"""The command line, the catalogue behind it, and the schedule that follows from both."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bench.figures import FIGURES
from bench.options import QUICK, RESULTS, estimate, parse_options
from bench.rows import HONEST, LIMIT, PEERS, ROWS
from bench.scenarios.handshakes import Handshakes
from bench.scenarios.memory import parse_info, pss_kb
from bench.scenarios.stalled import Pair, Stalled
from bench.scenarios.stream import Stream
from bench.schedule import make_schedule

if TYPE_CHECKING:
    from bench.rows import Row

_NAMES = [
    "fanout-300", "fanout-1000", "fanout-3000", "many-runs", "burst", "idle-1000", "idle-5000", "idle-10000",
    "handshakes-1000", "handshakes-5000", "preflight-200", "preflight-3000", "memory", "stalled",
]  # fmt: skip


def test_without_arguments_everything_is_measured_as_it_is_in_the_catalogue() -> None:
    options = parse_options([])
    assert options.rows == list(ROWS.values())
    assert list(ROWS) == _NAMES
    assert (options.whole, options.output, options.left_out, options.list) == (True, RESULTS, [], False)
    assert 20 * 60 <= sum(map(estimate, options.rows)) <= 32 * 60


@pytest.mark.parametrize("row", ROWS.values(), ids=list(ROWS))
def test_every_row_has_figures_that_exist_and_goals_of_its_own_targets(row: Row) -> None:
    labels = {contestant.label for contestant in row.contestants}
    assert set(row.figures) <= set(FIGURES)
    assert {goal.figure for goal in row.goals} <= set(row.figures)
    assert {goal.target for goal in row.goals} <= {subject.label for subject in row.subjects}
    assert {peer for goal in row.goals for peer in goal.against} <= labels
    assert set(row.peers) <= set(row.targets) - {subject.target.name for subject in row.subjects}


@pytest.mark.parametrize("name", _NAMES)
def test_a_row_by_itself_takes_less_than_a_minute_and_says_what_it_leaves_out(name: str) -> None:
    options = parse_options([name])
    (row,) = options.rows
    assert estimate(row) <= QUICK
    assert not options.whole
    whole = ROWS[name]
    for peer in whole.peers:
        assert (peer in options.left_out) == (peer not in row.peers)
    assert any("round" in left for left in options.left_out) == (row.repeat < whole.repeat)


def test_the_best_peers_are_kept_in_a_short_run() -> None:
    (row,) = parse_options(["fanout-300"]).rows
    assert row.peers == ["node_ws", "limit"]
    assert (row.repeat, row.scenario.seconds) == (2, 5.0)


def test_what_is_said_of_a_row_holds() -> None:
    options = parse_options(
        ["fanout-300", "--against", "websockets", "--clients", "50", "--seconds", "30", "--repeat", "1"]
    )
    (row,) = options.rows
    assert (row.peers, row.scenario.clients, row.scenario.seconds, row.repeat) == (["websockets"], 50, 30, 1)
    assert [left for left in options.left_out if left in PEERS] == []


def test_goals_are_for_the_row_s_own_number_of_clients() -> None:
    assert parse_options(["fanout-300", "--clients", "50"]).rows[0].goals == ()
    assert parse_options(["fanout-300", "--seconds", "3"]).rows[0].goals == ROWS["fanout-300"].goals


def test_two_rows_are_not_shortened() -> None:
    assert parse_options(["burst", "memory"]).rows == [ROWS["burst"], ROWS["memory"]]


@pytest.mark.parametrize(
    ("row", "arguments", "labels"),
    [
        ("burst", ["--subject", "node_ws", "--against", "limit"], ["node_ws", "limit"]),
        ("preflight-200", ["--subject", "node_ws", "--against", "limit"], ["preflightd", "websockets_preflight"]),
        ("burst", ["--against", "websockets_preflight"], ["statusd", "node_ws", "limit"]),
        ("preflight-3000", ["--against", "websockets_preflight"], ["preflightd", "websockets_preflight"]),
        ("preflight-200", ["--subject", "websockets_preflight"], ["websockets_preflight"]),
        ("preflight-200", ["--against", "limit", "--against", "none"], ["preflightd"]),
        ("preflight-200", ["--against", "none"], ["preflightd"]),
    ],
)
def test_options_for_all_rows_leave_those_alone_of_which_nobody_is_asked_for(
    row: str, arguments: list[str], labels: list[str]
) -> None:
    options = parse_options(arguments)
    (found,) = (changed for changed in options.rows if changed.name == row)
    assert [contestant.label for contestant in found.contestants] == labels
    assert not options.whole


def test_a_row_of_preflightd_keeps_its_peer_in_a_short_run() -> None:
    (row,) = parse_options(["preflight-200"]).rows
    assert [contestant.label for contestant in row.contestants] == ["preflightd", "websockets_preflight"]


def test_a_target_can_be_measured_alone() -> None:
    (row,) = parse_options(["burst", "--subject", "node_ws", "--against", "none"]).rows
    assert [contestant.label for contestant in row.contestants] == ["node_ws"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["unheard-of"],
        ["burst", "burst"],
        ["burst", "--against", "statusd"],
        ["burst", "--against", "limit", "--against", "limit"],
        ["burst", "--against", "unheard_of"],
        ["burst", "--clients", "0"],
        ["burst", "--seconds", "-1"],
        ["burst", "--repeat", "0"],
        ["preflight-200", "--against", "limit"],
        ["preflight-200", "--subject", "limit"],
        ["preflight-200", "--against", "preflightd"],
        ["preflight-200", "burst", "--against", "websockets_preflight"],
        ["preflight-200", "--subject", "websockets_preflight", "--against", "websockets_preflight"],
        ["--subject", "node_ws", "--against", "preflightd"],
        ["burst", "--subject", "preflightd"],
    ],
)
def test_options_that_make_no_sense_end_with_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_options(arguments)
    assert ended.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_the_goal_against_peers_leaves_the_limit_out() -> None:
    assert LIMIT not in HONEST
    assert set(HONEST) == set(PEERS) - {LIMIT}


@pytest.mark.parametrize(
    ("warmup", "seconds", "rate", "unmeasured", "total"),
    [(2, 20, 10, 20, 220), (0, 20, 10, 0, 200), (0.5, 1.5, 2, 1, 4), (0, 0.01, 1, 0, 1)],
)
def test_a_stream_is_a_whole_number_of_messages_and_at_least_one_is_measured(
    warmup: float, seconds: float, rate: float, unmeasured: int, total: int
) -> None:
    scenario = ROWS["fanout-300"].scenario
    assert isinstance(scenario, Stream)
    stream = Stream(feed=scenario.feed, clients=1, rate=rate, warmup=warmup, seconds=seconds)
    assert (stream.unmeasured, stream.total) == (unmeasured, total)


def test_bystanders_cost_the_time_in_which_a_late_ping_would_show() -> None:
    alone = Handshakes(path="/a:b", clients=1000, seconds=20)
    watched = Handshakes(path="/a:b", clients=1000, seconds=20, bystanders=1)
    assert watched.estimate - alone.estimate >= 10


def test_the_stalled_are_measured_in_pairs() -> None:
    assert Pair(alone=2, beside=3).ratio == 1.5
    assert Stalled(channel="a:b", clients=2, seconds=0.1).pairs == 1
    assert Stalled(channel="a:b", clients=2, seconds=10).pairs == 10


def test_rounds_are_interleaved_and_the_time_left_follows_the_pace() -> None:
    row = ROWS["idle-10000"]
    schedule = make_schedule([row], [row.contestants[:2]])
    assert [step.contestant.label for step in schedule.steps] == ["statusd", "node_ws"]
    one = schedule.steps[0].estimate
    assert (
        schedule.line() == f"[1/2] idle-10000 round 1 of 1: statusd, {one:.0f} s   (about {2 * one / 60:.0f} min left)"
    )
    schedule.done(took=one * 2)
    assert schedule.remaining() == pytest.approx(one * 2)
    assert schedule.line().startswith("[2/2] idle-10000 round 1 of 1: node_ws,")
    schedule.skipped()
    assert schedule.remaining() == 0


def test_every_round_has_every_target_once() -> None:
    row = ROWS["burst"]
    steps = make_schedule([row], [row.contestants]).steps
    assert [(step.round, step.contestant.label) for step in steps] == [
        (number, label) for number in (1, 2, 3) for label in ("statusd", "node_ws", "limit")
    ]


def test_memory_is_read_from_what_the_kernel_and_redis_say() -> None:
    assert pss_kb("Rss:     900 kB\nPss:     812 kB\nPss_Dirty:  7 kB\n") == 812
    with pytest.raises(ValueError, match="no Pss"):
        pss_kb("Rss: 1 kB\n")
    assert parse_info(b"# Clients\r\nconnected_clients:3\r\n\r\nused_memory:10\r\n") == {
        "connected_clients": "3",
        "used_memory": "10",
    }
