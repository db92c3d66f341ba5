"""Targets, bodies and fields that mean to mislead: what each daemon makes of them, what Redis is asked, what the log
says. Whatever comes, nothing but a name of the contract reaches Redis, and no line is anything but one of ours.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote_to_bytes

import attrs
import pytest
import trio.testing

from preflightd.daemon import PREFLIGHTD
from statusd.daemon import STATUSD
from tests.support.client import close_frame
from tests.support.logbook import WrittenLogbook
from tests.support.opsd_app import Opsd
from tests.support.service import open_service
from tests.support.web import KEY

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from trio.testing import MockClock

    from common.daemon import Daemon

RUN: Final = b"run"

# The target for statusd (for preflightd without `:log`), and the run that it names, or the status of the refusal.
TARGETS: Final[dict[str, bytes | int]] = {
    "/run:log": RUN,
    # Absolute form: the path counts, wherever it is said to be.
    "http://example.org/run:log": RUN,
    "http://evil.example/run:log": RUN,
    "HTTP://EXAMPLE.ORG/run:log": RUN,
    "http://example.org:99999/run:log": RUN,
    "http://user:password@example.org/run:log": RUN,
    "http://example.org/evil/../run:log": 400,
    "http://example.org//run:log": 400,
    "http:/run:log": 400,
    "http:run:log": 400,
    "ftp://example.org/run:log": 400,
    "ws://example.org/run:log": 400,
    "redis://example.org/run:log": 400,
    "//example.org/run:log": 400,
    # Decoded once, and never to anything that separates.
    "/%72un:log": RUN,
    "/%72%75%6e:log": RUN,
    "/%2572un:log": 400,
    "/run%00:log": 400,
    "/run:log%00": 400,
    "/%00run:log": 400,
    "/run%2f:log": 400,
    "/run%2F..%2Fother:log": 400,
    "/run/other:log": 400,
    "/x%2frun:log": 400,
    "/run%5c:log": 400,
    "/run\\other:log": 400,
    "/run%3alog%3aother:log": 400,
    "/..:log": 400,
    "/.:log": 400,
    "/../run:log": 400,
    "/./run:log": 400,
    "/%2e%2e:log": 400,
    "/%2e:log": 400,
    "/%2e%2e%2frun:log": 400,
    "/%252e%252e:log": 400,
    "/..%c0%af..:log": 400,
    "/..;/run:log": 400,
    # Overlong and mixed encodings.
    "/%c0%afrun:log": 400,
    "/%c1%b2un:log": 400,
    "/%e0%80%afrun:log": 400,
    "/%f0%80%80%afrun:log": 400,
    "/%u0072un:log": 400,
    "/%uff0erun:log": 400,
    "/r\xfcn:log": 400,
    "/r%c3%bcn:log": 400,
    "/r%fcn:log": 400,
    "/%ef%bd%92un:log": 400,
    "/run%e2%80%8b:log": 400,
    "/%ff%fe:log": 400,
    "/%:log": 400,
    "/%7:log": 400,
    "/%zz:log": 400,
    "/%%72un:log": 400,
    "/run+:log": 400,
    "/run%20:log": 400,
    # Line ends, and what Redis' own protocol and patterns are made of.
    "/run%0d%0aSUBSCRIBE%20other:log": 400,
    "/run%0a:log": 400,
    "/run%0d:log": 400,
    "/run:log%0d%0aX:%20y": 400,
    "/%0d%0arun:log": 400,
    "/run%c2%85:log": 400,
    "/run%e2%80%a8:log": 400,
    "/run*:log": 400,
    "/%2a:log": 400,
    "/run?:log": 400,
    "/ru[n]:log": 400,
    "/{run}:log": 400,
    "/$3%0d%0afoo:log": 400,
    "/__keyspace@0__:log": 400,
    "/run'%3b--:log": 400,
    "/run\":log": 400,
    "/<script>:log": 400,
    "/run,other:log": 400,
    # Queries, parameters and fragments belong to no name.
    "/run:log?run=other": RUN,
    "/run:log?x=%0d%0a": RUN,
    "/run:log?/../other:log": RUN,
    "/run:log?gap=1&gap=0": RUN,
    "/run;x=/../other:log": 400,
    "/run:log#other": 400,
    # A trailing slash is one, and is a slash.
    "/run:log/": RUN,
    "/run:log//": 400,
    "/run:log/.": 400,
    "/run:log/..": 400,
    "/run:log%2f": 400,
    "*": 400,
    "": 400,
}  # fmt: skip


@attrs.frozen
class Subject:
    """A daemon, what its targets end with, and the channel of a run."""

    daemon: Daemon[Any]
    end: str
    channel: bytes

    def target(self, text: str) -> str:
        """The target as this daemon's clients would write it."""
        return text.replace(":log", self.end)


SUBJECTS: Final = [Subject(STATUSD, ":log", b"%b:log"), Subject(PREFLIGHTD, "", b"__keyspace@0__:%b")]
both = pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.daemon.name)

# `/run?:log` of statusd is the run id alone; of preflightd it is a run and a query.
DIFFERENT: Final = {
    ("preflightd", "/run?:log"): RUN,
    ("preflightd", "/.:log"): 400,
    ("preflightd", "/run%3alog%3aother:log"): 400,
}


class Written(WrittenLogbook):
    """A logbook whose lines can be checked."""

    def check(self, about: str) -> None:
        """Every line is one, and steers nothing."""
        for line in self.written:
            assert line.isprintable(), (about, line)
        self.written.clear()


def request(target: str, *lines: str, method: str = "GET") -> bytes:
    """A handshake for this target with these lines besides."""
    usual = ["Host: example.org", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
    text = [f"{method} {target} HTTP/1.1", *usual, f"Sec-WebSocket-Key: {KEY}", *lines, "", ""]
    return "\r\n".join(text).encode("latin-1")


@both
async def test_what_a_target_names(
    subject: Subject, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    monkeypatch.setattr("tests.support.service.Logbook", Written)
    async with open_service(of=subject.daemon) as running:
        logbook: Any = running.logbook
        for target, expected in TARGETS.items():
            outcome = DIFFERENT.get((subject.daemon.name, target), expected)
            running.redis.commands.clear()
            client = running.arrive(answers=False)
            await client.send_raw(request(subject.target(target)))
            await client.wait(lambda client: client.status is not None)
            await trio.testing.wait_all_tasks_blocked()
            assert (target, client.status) == (target, 101 if isinstance(outcome, bytes) else outcome)
            asked = [command for command in running.redis.commands if command[0] in {b"SUBSCRIBE", b"HGETALL"}]
            # A run that was listened to a moment ago may still be: then Redis is asked nothing.
            allowed = (
                [] if isinstance(outcome, int) else [[b"SUBSCRIBE", subject.channel % outcome], [b"HGETALL", outcome]]
            )
            assert all(command in allowed for command in asked), (target, asked)
            logbook.check(target)
            await client.send_raw(close_frame(1000))
            await client.wait_ended()


SECOND: Final = b"GET /other:log HTTP/1.1\r\nHost: example.org\r\n\r\n"
_HEAD: Final = "POST /run:log HTTP/1.1\r\nHost: example.org\r\n"

SMUGGLED: Final = {
    # What one server takes for a body another may take for the next request. Here there is no next request.
    "a length": _HEAD + f"Content-Length: {len(SECOND)}\r\n\r\n",
    "a length of nothing": _HEAD + "Content-Length: 0\r\n\r\n",
    "chunks": _HEAD + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a length and chunks": _HEAD + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and a length": _HEAD + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "a coding in another spelling": _HEAD + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "a coding behind a tab": _HEAD + "Transfer-Encoding:\tchunked\r\n\r\n0\r\n\r\n",
    "a coding in two fields": _HEAD + "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n",
    "a coding in a line that goes on": _HEAD + "X: y\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a blank before the colon": _HEAD + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "two lengths": _HEAD + "Content-Length: 0\r\nContent-Length: 50\r\n\r\n",
    "two lengths in one": _HEAD + "Content-Length: 0, 50\r\n\r\n",
    "a signed length": _HEAD + "Content-Length: +0\r\n\r\n",
    "a length in hexadecimal": _HEAD + "Content-Length: 0x0\r\n\r\n",
    "a length with a blank": _HEAD + "Content-Length: 0 0\r\n\r\n",
    "a huge length": _HEAD + f"Content-Length: {'9' * 30}\r\n\r\n",
    "LF alone": _HEAD.replace("\r\n", "\n") + "Content-Length: 0\n\n",
    "CR alone": _HEAD + "X: y\rContent-Length: 50\r\n\r\n",
    "a body of a GET": _HEAD.replace("POST", "GET") + "Content-Length: 5\r\n\r\nhello",
    "an answer in place of a request": "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "keep-alive": _HEAD + "Connection: keep-alive\r\nContent-Length: 0\r\n\r\n",
    "a page before": "GET /health HTTP/1.1\r\nHost: example.org\r\nConnection: keep-alive\r\n\r\n",
    "an upgrade that is refused": request("/run:log", "Content-Length: 5").decode() + "hello",
    "an upgrade with chunks": request("/run:log", "Transfer-Encoding: chunked").decode() + "0\r\n\r\n",
    "h2c": _HEAD.replace("POST", "GET")
    + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: A\r\n\r\n",
}


@both
async def test_there_is_never_a_second_request(subject: Subject, autojump_clock: MockClock) -> None:
    async with open_service(of=subject.daemon) as running:
        for what, first in SMUGGLED.items():
            running.redis.commands.clear()
            client = running.arrive(answers=False)
            await client.send_raw(subject.target(first).encode() + SECOND)
            await client.wait_ended()
            assert (what, client.body.count(b"HTTP/1.1 ")) == (what, 0)
            assert (what, client.header("Connection") or "") in {(what, "close"), (what, "Upgrade, close")}
            assert not running.redis.asked(b"SUBSCRIBE"), what


@both
async def test_what_follows_an_upgrade_is_frames(subject: Subject, autojump_clock: MockClock) -> None:
    async with open_service(of=subject.daemon) as running:
        client = running.arrive(answers=False)
        await client.send_raw(request(subject.target("/run:log")) + SECOND)
        await client.wait_ended()
        assert (client.status, client.close_code) == (101, 1002)
        assert len(running.redis.asked(b"SUBSCRIBE")) == 1


FIELDS: Final = (
    "Host",
    "Origin",
    "Upgrade",
    "Connection",
    "Sec-WebSocket-Key",
    "Sec-WebSocket-Version",
    "Sec-WebSocket-Protocol",
    "Sec-WebSocket-Extensions",
    "X-Forwarded-For",
    "Content-Length",
    "Transfer-Encoding",
    "User-Agent",
    "Cookie",
    "Accept",
)
FORGED: Final = '{"level":"error","msg":"forged"}'
BREAKS: Final = {
    "CRLF": f"x\r\n{FORGED}",
    "CRLF and a field": f"x\r\nX-Forged: {FORGED}",
    "LF": f"x\n{FORGED}",
    "LF and a field": f"x\nX-Forged: {FORGED}",
    "CR": f"x\r{FORGED}",
    "a line that goes on": f"x\r\n {FORGED}",
    "NEL": f"x\x85{FORGED}",
    "VT and FF": f"x\x0b\x0c{FORGED}",
    "NUL": f"x\x00{FORGED}",
    "encoded": f"x%0d%0a{FORGED}",
    "escaped": f"x\\r\\n{FORGED}",
    "in UTF-8": "x" + "\u2028".encode().decode("latin-1") + FORGED,
}


@both
async def test_no_field_ends_a_line(
    subject: Subject, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    monkeypatch.setattr("tests.support.service.Logbook", Written)
    async with open_service(
        of=subject.daemon, allowed_origins="*.example.gov", trusted_proxies="192.0.2.0/24"
    ) as running:
        logbook: Any = running.logbook
        for name in FIELDS:
            for kind, value in BREAKS.items():
                about = f"{name}: {kind}"
                usual = re.sub(
                    rf"^{name}: .*?\r\n", "", request(subject.target("/run:log")).decode(), flags=re.MULTILINE
                )
                client = running.arrive(answers=False)
                await client.send_raw(f"{usual[:-2]}{name}: {value}\r\n\r\n".encode("latin-1"))
                await client.wait(lambda client: client.status is not None)
                answer = client.head.decode("latin-1")
                assert "forged" not in answer.lower(), about
                assert all(line.isprintable() for line in answer.split("\r\n")), about
                assert not logbook.said("forged"), about
                logbook.check(about)
                await client.send_raw(close_frame(1000))
                await client.wait_ended()
        assert {command[1] for command in running.redis.asked(b"SUBSCRIBE")} <= {subject.channel % RUN}


async def status_of(opsd: Opsd, target: str, token: str | None) -> int:
    """Ask for the target as it is: libraries of HTTP would tidy it up."""
    raw_path, _, query = target.encode("latin-1").partition(b"?")
    headers = [(b"host", b"localhost:9003")]
    if token is not None:
        headers.append((b"authorization", f"Bearer {token}".encode()))
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": unquote_to_bytes(raw_path).decode("utf-8", "replace"),
        "raw_path": raw_path,
        "root_path": "",
        "query_string": query,
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("localhost", 9003),
    }
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    await opsd.app(scope, receive, send)
    (status,) = statuses
    return status


@pytest.mark.parametrize("token", [None, "sesame"])
@pytest.mark.parametrize("prefix", ["", "/api/dev/status", "/web"])
async def test_opsd_serves_no_other_spelling(prefix: str, token: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not in its table of routes, byte for byte, is nothing: it is not looked for in any other spelling."""
    monkeypatch.setattr("tests.support.opsd_app.Logbook", Written)
    opsd = Opsd(token)
    logbook: Any = opsd.logbook
    for target in filter(None, TARGETS):
        status = await status_of(opsd, prefix + target, token)
        assert (target, status) == (target, 404)
        assert not opsd.history.asked, target
        assert not opsd.tmux.done, target
        logbook.check(target)
