"""The operator's connections: answers, limits, and what none of it can do (common/admin/server.py)."""

from __future__ import annotations

import gzip
import json
from ipaddress import ip_network
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from common.admin.access import GUESS_EVERY, Access
from common.admin.quota import EVERY as EVERY_SNAPSHOT
from common.admin.quota import Quota
from common.admin.server import (
    HEAD_TIMEOUT,
    MAX_CONNECTIONS,
    MAX_PER_ADDRESS,
    RESTART,
    TOLD_EVERY,
)
from common.admin.telemetry_source import SilentWorkerError
from common.exposition import Family
from common.guesses import BURST
from common.secret import Secret
from common.telemetry.values import Audience
from tests.support.admin import ABOUT, LOOPBACK, Operator, open_admin, worker
from tests.support.web import read_answer

if TYPE_CHECKING:
    from pathlib import Path

    from trio.testing import MockClock

EPSILON = 1e-6
UP = (Family("up", "gauge", "Whether", (("up", (), 1.0),)),)


async def get(operator: Operator, path: str, *headers: tuple[str, str], method: str = "GET") -> tuple[int, bytes]:
    """Status and body of one request."""
    await operator.ask(path, headers, method=method)
    answer = read_answer(await operator.read_to_end(), method=method)
    return answer.status, answer.body


async def test_the_status_is_json_of_every_worker(autojump_clock: MockClock) -> None:
    async with open_admin() as admin:
        admin.source.workers = (worker("1"), worker("2", connections=5))
        operator = admin.operator()
        await operator.ask("/workers/status")
        answer = read_answer(await operator.read_to_end())
        assert answer.headers["content-type"] == ["application/json"]
        assert answer.headers["cache-control"] == ["no-store"]
        document = json.loads(answer.body)
        assert (document["connected"], document["daemon"], document["draining"]) == (2, "statusd", False)
        assert tuple(document["routes"]) == ABOUT.routes
        assert document["workers"]["2"] == worker("2", connections=5).document()
        assert set(document["retired"]) >= {"answers", "disconnects", "messages"}


@pytest.mark.parametrize("path", ["/workers/status", "/metrics", "/workers/snapshot/1", "/topics?name=run:log"])
async def test_head_is_get_without_its_body(path: str, autojump_clock: MockClock) -> None:
    async with open_admin(report=UP) as admin:
        admin.source.snapshots["1"] = gzip.compress(b"{}")
        asked = admin.operator()
        await asked.ask(path)
        full = read_answer(await asked.read_to_end())
        await trio.sleep(EVERY_SNAPSHOT)
        headed = admin.operator()
        await headed.ask(path, method="HEAD")
        head = read_answer(await headed.read_to_end(), method="HEAD")
        assert full.body
        assert not head.body
        assert head.status == full.status == 200
        assert head.headers["content-length"] == full.headers["content-length"] == [str(len(full.body))]


async def test_head_of_the_events_ends_at_once(autojump_clock: MockClock) -> None:
    async with open_admin() as admin:
        operator = admin.operator()
        await operator.ask("/events", method="HEAD")
        answer = await operator.read_to_end()
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.endswith(b"\r\n\r\n")
        assert b"\r\nContent-Type: text/event-stream\r\n" in answer
        assert admin.source.watched == 0


async def test_a_snapshot_is_gzipped_for_those_who_take_it(autojump_clock: MockClock) -> None:
    text = json.dumps({"connections": list(range(100_000))}).encode()
    async with open_admin() as admin:
        admin.source.snapshots["2"] = gzip.compress(text)
        zipped = admin.operator()
        await zipped.ask("/workers/snapshot/2", [("Accept-Encoding", "br, gzip")])
        answer = read_answer(await zipped.read_to_end())
        assert answer.headers["content-encoding"] == ["gzip"]
        assert answer.headers["content-type"] == ["application/json"]
        assert answer.headers["vary"] == ["Accept-Encoding"]
        (disposition,) = answer.headers["content-disposition"]
        assert disposition.startswith('attachment; filename="statusd-2-')
        assert disposition.endswith('Z.json"')
        assert gzip.decompress(answer.body) == text
        await trio.sleep(EVERY_SNAPSHOT)
        plain = admin.operator()
        await plain.ask("/workers/snapshot/2")
        answer = read_answer(await plain.read_to_end())
        assert "content-encoding" not in answer.headers
        assert answer.body == text


async def test_a_snapshot_that_cannot_be_had(autojump_clock: MockClock) -> None:
    async with open_admin() as admin:
        admin.source.snapshots["2"] = SilentWorkerError()
        assert (await get(admin.operator(), "/workers/snapshot/1"))[0] == 404
        assert (await get(admin.operator(), "/workers/snapshot/2"))[0] == 504


async def test_a_worker_is_asked_for_a_snapshot_once_in_ten_seconds_whoever_asks(autojump_clock: MockClock) -> None:
    async with open_admin() as admin:
        admin.source.snapshots |= {"1": gzip.compress(b"{}"), "2": SilentWorkerError(), "4": RuntimeError("a bug")}

        async def ask(worker_id: str, address: str) -> tuple[int, list[str]]:
            operator = admin.operator(address=address)
            await operator.ask(f"/workers/snapshot/{worker_id}")
            answer = read_answer(await operator.read_to_end())
            return answer.status, answer.headers.get("retry-after", [])

        begun = trio.current_time()
        assert await ask("1", "192.0.2.1") == (200, [])
        assert await ask("1", "192.0.2.2") == (429, ["10"])
        # Another worker has a time of its own; one that failed to answer has spent it all the same.
        assert await ask("2", "192.0.2.1") == (504, [])
        assert await ask("2", "192.0.2.2") == (429, ["10"])
        assert await ask("4", "192.0.2.1") == (500, [])
        assert await ask("4", "192.0.2.2") == (429, ["10"])
        # Who is no worker is not remembered.
        assert await ask("3", "192.0.2.1") == (404, [])
        assert await ask("3", "192.0.2.1") == (404, [])
        await trio.sleep_until(begun + 9.5)
        assert await ask("1", "192.0.2.1") == (429, ["1"])
        await trio.sleep_until(begun + 10)
        assert await ask("1", "192.0.2.1") == (200, [])
        assert await ask("1", "192.0.2.1") == (429, ["10"])
        metrics = (await get(admin.operator(), "/metrics"))[1].decode()
        counted = {
            outcome: f'status2_snapshots_total{{outcome="{outcome}"}}' for outcome in ("taken", "refused", "failed")
        }
        assert f"{counted['taken']} 2.0\n" in metrics
        assert f"{counted['refused']} 5.0\n" in metrics
        assert f"{counted['failed']} 2.0\n" in metrics
        assert [line["reason"] for line in admin.logbook.said("admin request refused")].count("snapshot_quota") == 5


async def test_the_quota_forgets_what_is_over(autojump_clock: MockClock) -> None:
    quota = Quota()
    for number in range(1000):
        assert quota.begin(str(number)) == 0
        await trio.sleep(EVERY_SNAPSHOT / 10)
    assert len(quota._begun) <= 10


@pytest.mark.parametrize(
    ("name", "channel", "audience"),
    [
        ("run:log", b"run:log", Audience(3)),
        ("batch%3B%3Bname:log", b"batch;;name:log", Audience(0)),
        ("run:log", b"run:log", Audience(2, ("2", "3"))),
    ],
)
async def test_how_many_clients_a_channel_has(
    name: str, channel: bytes, audience: Audience, autojump_clock: MockClock
) -> None:
    async with open_admin() as admin:
        admin.source.audiences[channel] = audience
        status, body = await get(admin.operator(), f"/topics?name={name}")
        assert status == 200
        assert json.loads(body) == {
            "name": channel.decode(),
            "clients": audience.clients,
            "silent": list(audience.silent),
        }


@pytest.mark.parametrize(
    "name", ["", "run", "run:", ":log", "/run:log", "run:log/", "r%20n:log", "x" * 257 + ":log", "%FF:a"]
)
async def test_what_is_no_channel_is_not_asked_for(name: str, autojump_clock: MockClock) -> None:
    async with open_admin() as admin:
        status, body = await get(admin.operator(), f"/topics?name={name}")
        assert status == 400
        assert body.count(b"\n") == 1
        assert admin.logbook.said("admin request refused")[0]["reason"] == "bad_name"


async def test_metrics_are_served(autojump_clock: MockClock) -> None:
    async with open_admin(report=UP) as admin:
        status, body = await get(admin.operator(), "/metrics")
        assert status == 200
        assert b"\nup 1.0\n" in body


async def test_requests_are_logged_for_debugging_and_refusals_for_everybody(autojump_clock: MockClock) -> None:
    async with open_admin(Access(LOOPBACK, Secret.literal("s3cret", "T"))) as admin:
        assert (await get(admin.operator(), "/workers/status"))[0] == 401
        assert (await get(admin.operator(), "/workers/status", ("Authorization", "Bearer s3cret")))[0] == 200
        (refused,) = admin.logbook.said("admin request refused")
        assert (refused["level"], refused["status"], refused["path"]) == ("info", 401, "/workers/status")
        (served,) = admin.logbook.said("admin request")
        assert (served["level"], served["status"]) == ("debug", 200)
        assert "s3cret" not in json.dumps(admin.logbook.lines)


@pytest.mark.parametrize(
    ("sent", "status"), [(b"GET / HTTP/1.1\r\nHost: x\r\nhalf", 408), (b"nonsense\r\n\r\n", 400), (b"", None)]
)
async def test_a_head_that_does_not_come_is_not_waited_for(
    sent: bytes, status: int | None, autojump_clock: MockClock
) -> None:
    async with open_admin() as admin:
        operator = admin.operator()
        started = trio.current_time()
        await operator.stream.send_all(sent)
        answer = await operator.read_to_end()
        assert trio.current_time() - started <= HEAD_TIMEOUT + EPSILON
        assert (read_answer(answer).status if answer else None) == status


async def test_connections_are_few_and_a_place_comes_free_again(autojump_clock: MockClock) -> None:
    async with open_admin() as admin:
        idle = [admin.operator() for _ in range(MAX_CONNECTIONS)]
        await trio.testing.wait_all_tasks_blocked()
        assert read_answer(await admin.operator().read_to_end()).status == 503
        await idle[0].stream.aclose()
        await idle[0].ended.wait()
        assert (await get(admin.operator(), "/workers/status"))[0] == 200


async def test_one_address_never_has_all_places(autojump_clock: MockClock) -> None:
    async with open_admin() as admin:
        for number in range(MAX_PER_ADDRESS):
            admin.operator(address=f"2001:db8::{number:x}")
        await trio.testing.wait_all_tasks_blocked()
        assert read_answer(await admin.operator(address="2001:db8::ffff").read_to_end()).status == 503
        for other in ("2001:db8:0:1::1", "192.0.2.1", None):
            assert (await get(admin.operator(address=other), "/workers/status"))[0] == 200


async def test_behind_a_proxy_the_places_are_the_forwarded_clients(autojump_clock: MockClock) -> None:
    access = Access(LOOPBACK, None, (ip_network("127.0.0.0/8"),))
    async with open_admin(access) as admin:

        async def listen(forwarded: str) -> bytes:
            operator = admin.operator(address="127.0.0.1")
            await operator.ask("/events", [("X-Forwarded-For", forwarded)])
            return (await operator.head()).split(b" ")[1]

        heard = [await listen("198.51.100.1") for _ in range(MAX_PER_ADDRESS + 1)]
        assert heard == [b"200"] * MAX_PER_ADDRESS + [b"503"]
        assert await listen("198.51.100.2") == b"200"
        assert await listen("9.9.9.9, 198.51.100.1") == b"503"


@pytest.mark.parametrize(
    "headers",
    [
        [("Sec-Fetch-Site", "cross-site")],
        [("Origin", "https://evil.example")],
        [("Origin", "null")],
    ],
)
async def test_pages_of_other_sites_hold_no_place(headers: list[tuple[str, str]], autojump_clock: MockClock) -> None:
    async with open_admin() as admin:
        for _ in range(2 * MAX_CONNECTIONS):
            operator = admin.operator(address="127.0.0.1")
            assert (await get(operator, "/events", *headers))[0] == 403
        assert admin.source.watched == 0
        assert (await get(admin.operator(address="127.0.0.1"), "/workers/status"))[0] == 200


async def test_where_an_unreadable_token_is_kept_is_told_to_the_log_only(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    path = tmp_path / "token"
    async with open_admin(Access(LOOPBACK, Secret.file(path, "STATUS_ADMIN_TOKEN_FILE"))) as admin:
        status, body = await get(admin.operator(), "/metrics", ("Authorization", "Bearer x"))
        assert (status, str(path) in body.decode()) == (503, False)
        (refused,) = admin.logbook.said("admin request refused")
        assert (refused["reason"], str(path) in refused["error"]) == ("token_unreadable", True)


async def test_who_guesses_has_to_wait_and_nobody_else(autojump_clock: MockClock) -> None:
    async with open_admin(Access(LOOPBACK, Secret.literal("s3cret", "T"))) as admin:

        async def guess(token: str, address: str | None = "192.0.2.1") -> int:
            return (await get(admin.operator(address=address), "/metrics", ("Authorization", f"Bearer {token}")))[0]

        assert [await guess(f"{n}") for n in range(BURST)] == [401] * BURST
        assert [await guess(f"{n}") for n in range(90)] == [429] * 90
        assert await guess("s3cret") == 429, "an answer would be what the guesser wants"
        assert await guess("s3cret", "192.0.2.2") == 200
        assert await guess("s3cret", None) == 200
        assert (await get(admin.operator(address="192.0.2.1"), "/metrics"))[0] == 401, "no token is no guess"

        (told,) = admin.logbook.said("admin token guessed")
        assert (told["level"], told["guesses"], told["addresses"], told["remote"]) == ("warn", BURST, 1, "192.0.2.1")
        await trio.sleep(TOLD_EVERY + EPSILON)
        _, told = admin.logbook.said("admin token guessed")
        assert told["guesses"] == 91
        assert await guess("s3cret") == 200
        await trio.sleep(3 * TOLD_EVERY)
        assert len(admin.logbook.said("admin token guessed")) == 2
        refused = [line["reason"] for line in admin.logbook.at_least("info") if "refused" in line["msg"]]
        assert refused == ["token"] * (BURST + 1), "guesses are told of by their number"


async def test_the_answer_to_a_guess_says_when_to_come_back(autojump_clock: MockClock) -> None:
    async with open_admin(Access(LOOPBACK, Secret.literal("s3cret", "T"))) as admin:
        for _ in range(BURST):
            await get(admin.operator(address="::1"), "/metrics", ("Authorization", "Bearer x"))
        operator = admin.operator(address="::1")
        await operator.ask("/metrics", [("Authorization", "Bearer x")])
        answer = read_answer(await operator.read_to_end())
        assert (answer.status, answer.headers["retry-after"]) == (429, [f"{GUESS_EVERY:.0f}"])
        assert answer.line == "too many wrong tokens"


async def test_a_bug_in_answering_ends_that_connection_only(autojump_clock: MockClock) -> None:
    async with open_admin() as admin:
        admin.source.snapshots["1"] = ZeroDivisionError("bug")
        listener = admin.operator()
        await listener.ask("/events")
        await listener.head()
        await listener.event()
        assert (await get(admin.operator(), "/workers/snapshot/1"))[0] == 500
        assert "ZeroDivisionError" in admin.logbook.said("admin request failed")[0]["traceback"]
        admin.source.change(connections=9)
        assert (await listener.event()).data["workers"]["1"]["connections"] == 9


async def test_a_failure_of_the_whole_listener_is_logged_and_it_starts_again(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    async with open_admin() as admin:
        broken = admin.source.newest
        monkeypatch.setattr(admin.source, "newest", lambda: 1 / 0)
        monkeypatch.setattr(admin.source, "status", lambda: _status(broken()))
        listener = admin.operator()
        await listener.ask("/events")
        await listener.head()
        await listener.event()
        admin.source.change(connections=9)
        await trio.sleep(RESTART / 2)
        assert admin.logbook.said("operator's listener failed")
        monkeypatch.undo()
        await trio.sleep(RESTART)
        admin.source.change(connections=10)
        assert (await listener.event()).data["workers"]["1"]["connections"] == 10


async def _status(value: object) -> object:
    await trio.lowlevel.checkpoint()
    return value


async def test_an_answer_that_nobody_takes_is_given_up(autojump_clock: MockClock) -> None:
    async with open_admin() as admin:
        operator = admin.operator(lockstep=True)
        await operator.ask("/workers/status")
        await operator.ended.wait()
        assert trio.current_time() > 0
        assert admin.logbook.said("admin client gone")
