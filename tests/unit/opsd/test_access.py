"""Who may ask opsd for what: tokens, logins, foreign pages, guesses, shares, and what every answer says of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio

from common.guesses import BURST
from opsd.api.page import BODY_TIMEOUT
from opsd.places import MOST_OF_ONE
from tests.support.opsd_app import CHANGE, HOST, Conversation, Opsd
from tests.support.raw import PATIENCE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, MutableMapping

    from trio.testing import MockClock


GETS = [
    "/api/dev/status",
    "/api/dev/status/schema",
    "/api/dev/status/history",
    "/api/dev/metrics",
    "/api/dev/events",
    "/api/dev/workers",
    "/api/workers/snapshot/statusd-1",
    "/api/dev/tmux/status",
]
POSTS = ["/api/dev/tmux/start", "/api/dev/tmux/stop", "/api/logout"]


async def test_every_answer_has_the_security_headers() -> None:
    opsd = Opsd()
    for path in ("/", "/health", "/nope", "/api/dev/status", "/web/a/b.js"):
        headers = (await opsd.ask(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]


async def test_the_policy_of_the_page_names_the_daemons() -> None:
    policy = (await Opsd().ask("/")).headers["content-security-policy"]
    connect = next(part.strip() for part in policy.split(";") if "connect-src" in part)
    assert connect.split() == [
        *("connect-src", "'self'", "ws://localhost:9003", "wss://localhost:9003"),
        *("ws://localhost:9002", "ws://localhost:9001"),
    ]
    assert "unsafe" not in policy
    configured = Opsd(status_ws_url="wss://run.example.gov/status", preflight_ws_url="ws://10.0.0.1:7")
    policy = (await configured.ask("/")).headers["content-security-policy"]
    assert "wss://run.example.gov ws://10.0.0.1:7;" in policy


async def test_with_a_token_every_call_of_the_api_needs_it() -> None:
    opsd = Opsd(token="sesame", metrics_enabled="true")
    for path in [*GETS, "/metrics", "/api/nope"]:
        answer = await opsd.ask(path)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Bearer realm="opsd"')
        assert (await opsd.ask(path, headers={"Authorization": "Bearer sesame"})).status_code != 401
        assert (await opsd.ask(path, headers={"X-TES-Dev-Token": "sesame"})).status_code != 401
    for path in POSTS:
        assert (await opsd.ask(path, "POST", headers=CHANGE)).status_code == 401
        assert (await opsd.ask(path, "POST", headers={**CHANGE, "X-TES-Dev-Token": "sesame"})).status_code < 300
    for path in ("/", "/web/a/b.js", "/health", "/health/live"):
        assert (await opsd.ask(path)).status_code == 200


async def test_a_stranger_learns_only_that_a_token_is_needed() -> None:
    opsd = Opsd(token="sesame")
    assert (await opsd.ask("/api/dev/config")).json() == {"tokenRequired": True, "loggedIn": False}
    known = (await opsd.ask("/api/dev/config", headers={"Authorization": "Bearer sesame"})).json()
    assert (known["loggedIn"], known["statusWsUrl"]) == (True, "ws://localhost:9002")
    assert known["thresholds"] == {"degradedFrom": 0.1, "isolatedAbove": 0.5, "staleAfter": 3, "silentAfter": 5}
    open_to_all = (await Opsd().ask("/api/dev/config", headers={"X-Forwarded-Proto": "https"})).json()
    assert (open_to_all["tokenRequired"], open_to_all["preflightWsUrl"]) == (False, "wss://localhost:9001")


async def test_a_login_gives_a_cookie_and_a_logout_ends_it() -> None:
    opsd = Opsd(token="sesame")
    answer = await opsd.ask("/api/login", "POST", json={"token": "sesame"})
    assert answer.status_code == 204
    cookie = answer.headers["set-cookie"].partition(";")[0]
    assert (await opsd.ask("/api/dev/status", cookies=cookie)).status_code == 200
    assert (await opsd.ask("/api/logout", "POST", cookies=cookie)).status_code == 403
    assert (await opsd.ask("/api/logout", "POST", cookies=cookie, headers=CHANGE)).status_code == 204
    assert (await opsd.ask("/api/dev/status", cookies=cookie)).status_code == 401


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b'{"token":"wrong"}', "application/json", 401),
        (b'{"token":"sesame"}', "application/json; charset=utf-8", 204),
        (b'{"token":"sesame"}', "text/plain", 415),
        (b'{"token":"sesame"}', "application/x-www-form-urlencoded", 415),
        (b'{"token":1}', "application/json", 400),
        (b"[]", "application/json", 400),
        (b"\xff", "application/json", 400),
        (b"", "application/json", 400),
        (b"[" * 8000, "application/json", 400),
        (b'{"token":"\\ud800"}', "application/json", 400),
        (b" " * 9000, "application/json", 413),
    ],
)
async def test_what_a_login_takes(body: bytes, content_type: str, status: int) -> None:
    answer = await Opsd(token="sesame").ask("/api/login", "POST", content=body, headers={"Content-Type": content_type})
    assert answer.status_code == status


@pytest.mark.parametrize("path", ["/api/login", "/api/dev/config", "/api/dev/status", "/api/dev/tmux/stop"])
async def test_guesses_are_limited_wherever_they_are_made(autojump_clock: MockClock, path: str) -> None:
    opsd = Opsd(token="sesame")
    for _ in range(BURST):
        if path == "/api/login":
            assert (await opsd.ask(path, "POST", json={"token": "wrong"})).status_code == 401
        else:
            method = "POST" if "tmux" in path else "GET"
            await opsd.ask(path, method, headers={**CHANGE, "Authorization": "Bearer wrong"})
    answer = await opsd.ask("/api/dev/status", headers={"Authorization": "Bearer sesame"})
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "2")
    login = await opsd.ask("/api/login", "POST", json={"token": "sesame"})
    assert (login.status_code, login.json()) == (429, {"error": "too many wrong tokens"})
    assert not (await opsd.ask("/api/dev/config", headers={"Authorization": "Bearer sesame"})).json()["loggedIn"]


async def test_without_a_token_there_is_nothing_to_guess() -> None:
    opsd = Opsd()
    for _ in range(2 * BURST):
        assert (await opsd.ask("/api/login", "POST", json={"token": "wrong"})).status_code == 204


@pytest.mark.parametrize("path", [*GETS, "/metrics", "/api/dev/config"])
async def test_what_a_browser_asks_for_a_foreign_page_is_refused(path: str) -> None:
    opsd = Opsd()
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://evil.example"}):
        assert (await opsd.ask(path, headers=headers)).status_code == 403
    # A link to the page itself is no harm.
    assert (await opsd.ask("/", headers={"Sec-Fetch-Site": "cross-site"})).status_code == 200


async def test_another_name_of_this_machine_is_refused_everywhere() -> None:
    opsd = Opsd()
    for path in ("/", "/api/dev/status", "/health"):
        assert (await opsd.ask(path, headers={"Host": "rebound.example:9003"})).status_code == 421
    assert (await Opsd(token="sesame").ask("/", headers={"Host": "ops.example.gov"})).status_code == 200


@pytest.mark.parametrize("path", POSTS)
async def test_a_foreign_page_changes_nothing(path: str) -> None:
    opsd = Opsd()
    assert (await opsd.ask(path, "POST")).status_code == 403
    assert (await opsd.ask(path, "POST", headers={**CHANGE, "Origin": "http://evil.example"})).status_code == 403
    assert (await opsd.ask(path, "POST", headers=CHANGE, remote="10.0.0.1")).status_code == 403
    assert (await opsd.ask(path, "POST", headers={**CHANGE, "Origin": f"http://{HOST}"})).status_code < 300
    assert len(opsd.tmux.done) <= 1


async def test_a_login_is_as_long_as_it_may_be_though_its_length_is_not_said() -> None:
    said: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        await trio.lowlevel.checkpoint()
        return {"type": "http.request", "body": b" " * 1000, "more_body": True}

    async def send(message: MutableMapping[str, Any]) -> None:
        await trio.lowlevel.checkpoint()
        said.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/api/login",
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", HOST.encode()), (b"content-type", b"application/json")],
        "client": ("127.0.0.1", 1),
    }
    with trio.fail_after(PATIENCE):
        await Opsd(token="sesame").app(scope, receive, send)
    assert [(message["type"], message.get("status")) for message in said] == [
        ("http.response.start", 413),
        ("http.response.body", None),
    ]


async def test_a_login_that_does_not_come_to_its_end_is_left(autojump_clock: MockClock) -> None:
    async def never() -> AsyncIterator[bytes]:
        yield b'{"token":'
        await trio.sleep_forever()

    opsd, begun = Opsd(token="sesame"), trio.current_time()
    answer = await opsd.ask("/api/login", "POST", content=never(), headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()) == (408, {"error": "the request did not come in time"})
    assert trio.current_time() - begun == pytest.approx(BODY_TIMEOUT)


async def test_one_address_has_its_share_of_what_runs() -> None:
    opsd = Opsd()
    stranger = {"Host": HOST, "X-Forwarded-For": "2001:db8::1"}
    async with trio.open_nursery() as nursery:
        for _ in range(MOST_OF_ONE):
            client = Conversation()
            nursery.start_soon(client.run, opsd, stranger)
            assert (await client.next())["type"] == "websocket.accept"
        # Of the same /64.
        refused = await opsd.ask("/api/dev/status", headers={"X-Forwarded-For": "2001:db8::2"})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        assert (await opsd.ask("/api/dev/status", headers={"X-Forwarded-For": "2001:db8:0:1::"})).status_code == 200
        assert (await opsd.ask("/api/dev/status")).status_code == 200
        nursery.cancel_scope.cancel()
    assert (await opsd.ask("/api/dev/status", headers={"X-Forwarded-For": "2001:db8::2"})).status_code == 200


async def test_what_strangers_say_is_short_and_harmless_in_the_log() -> None:
    opsd = Opsd()
    path = "/%C2%9B31m%E2%80%A8%E2%80%AE%7F%00" + "x" * 16_000
    await opsd.ask(path, headers={"Host": "evil.example"})
    (line,) = opsd.logbook.said("request refused")
    assert line["path"].startswith("/\\u009b31m\\u2028\\u202e\\u007f\\u0000xxx")
    assert len(line["path"]) <= 200
