"""From a request head to a WebSocket, a page or a refusal: every rule with its status, reason and headers."""

from __future__ import annotations

import base64
from functools import partial
from typing import TYPE_CHECKING, Final

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.protocol import State
from websockets.uri import parse_uri
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, Request

from common.web.handshake import Decision, Page, Upgrade, decide
from common.web.http import Head, Response, read_head
from common.web.origin import OriginPolicy
from preflightd.route import route as preflight_route
from statusd.route import route
from tests.support.web import (
    ACCEPT,
    HOST,
    UPGRADE,
    Answer,
    ScriptedStream,
    make_head,
    read_answer,
    request_bytes,
    upgrade_head,
)

if TYPE_CHECKING:
    from collections.abc import Callable

ANY_ORIGIN: Final = OriginPolicy([])


def decision(head: Head, *, origins: OriginPolicy = ANY_ORIGIN, metrics: bool = True) -> Decision:
    return decide(head, route=route, origins=origins, metrics_enabled=metrics)


def refused(head: Head, *, origins: OriginPolicy = ANY_ORIGIN, metrics: bool = True) -> tuple[str, Answer]:
    """The metric's reason and the answer of a refusal, which has one line of text and closes."""
    response = decision(head, origins=origins, metrics=metrics)
    assert isinstance(response, Response)
    answer = read_answer(response.encode())
    assert answer.headers["content-type"] == ["text/plain; charset=utf-8"]
    assert "close" in answer.headers["connection"][0].split(", ")
    assert answer.line
    return response.reason, answer


# -- accepted ----------------------------------------------------------------------------------------------------------


def test_a_handshake_in_order_is_accepted_with_these_bytes() -> None:
    accepted = decision(upgrade_head())
    assert isinstance(accepted, Upgrade)
    assert accepted.response == (
        b"HTTP/1.1 101 Switching Protocols\r\n"
        b"Upgrade: websocket\r\n"
        b"Connection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + ACCEPT.encode() + b"\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("target", "channel", "wants_gap"),
    [
        ("/run:log", b"run:log", False),
        ("/run:log/", b"run:log", False),
        ("/run%3Alog", b"run:log", False),
        ("/%72un:l%6fg/", b"run:log", False),
        ("/batch;;name;;_base:log", b"batch;;name;;_base:log", False),
        ("/batch%3B%3bname%3b%3B_base:log", b"batch;;name;;_base:log", False),
        ("/run:log?gap=1", b"run:log", True),
        ("/run:log/?token=x&gap=1", b"run:log", True),
        ("/run:log?gap=0", b"run:log", False),
        ("/run:log?anything", b"run:log", False),
        ("http://elsewhere:9002/run:log", b"run:log", False),
        (f"/{'r' * 256}:{'c' * 256}", b"r" * 256 + b":" + b"c" * 256, False),
        # Reserved are exactly the pages.
        ("/health:live", b"health:live", False),
        ("/metrics:log", b"metrics:log", False),
        ("/health;:log", b"health;:log", False),
    ],
)
def test_the_path_names_the_channel(target: str, channel: bytes, wants_gap: bool) -> None:
    accepted = decision(upgrade_head(target))
    assert isinstance(accepted, Upgrade)
    assert (accepted.route.channel, accepted.route.wants_gap) == (channel, wants_gap)


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(upgrade_head(upgrade="WebSocket"), id="upgrade in another case"),
        pytest.param(upgrade_head(upgrade="h2c, websocket"), id="an offer of several"),
        pytest.param(upgrade_head(upgrade=["h2c", "websocket"]), id="in several headers"),
        pytest.param(upgrade_head(upgrade=["websocket", "websocket"]), id="an Upgrade that a proxy doubled"),
        pytest.param(upgrade_head(connection="keep-alive, Upgrade"), id="Firefox' Connection"),
        pytest.param(upgrade_head(connection="UPGRADE"), id="connection in another case"),
        pytest.param(upgrade_head(connection=["keep-alive", "upgrade"]), id="Connection twice"),
        pytest.param(upgrade_head(content_length="0"), id="an empty body"),
        pytest.param(upgrade_head(sec_websocket_protocol="chat, superchat"), id="subprotocols are not taken up"),
        pytest.param(upgrade_head(sec_websocket_extensions="permessage-deflate"), id="nor extensions"),
        pytest.param(upgrade_head(origin="https://evil.example"), id="any origin where none is configured"),
    ],
)
def test_handshakes_that_are_in_order(head: Head) -> None:
    accepted = decision(head)
    assert isinstance(accepted, Upgrade)
    assert b"Sec-WebSocket-Protocol" not in accepted.response
    assert b"Sec-WebSocket-Extensions" not in accepted.response


@given(st.binary(min_size=16, max_size=16))
def test_every_key_of_16_bytes_is_accepted_and_answered_as_websockets_expects(nonce: bytes) -> None:
    key = base64.b64encode(nonce).decode()
    accepted = decision(upgrade_head(sec_websocket_key=key))
    assert isinstance(accepted, Upgrade)
    client = ClientProtocol(parse_uri("ws://h/run:log"))
    client.key = key
    client.send_request(client.connect())
    client.receive_data(accepted.response)
    assert client.state is State.OPEN


async def test_wsproto_takes_the_answer_to_its_own_handshake() -> None:
    client = WSConnection(ConnectionType.CLIENT)
    data = client.send(Request(host=HOST, target="/run%3Alog?gap=1"))
    accepted = decision(await read_head(ScriptedStream([data]), within=1))
    assert isinstance(accepted, Upgrade)
    client.receive_data(accepted.response)
    (event,) = client.events()
    assert isinstance(event, AcceptConnection)
    assert (event.subprotocol, event.extensions) == (None, [])


async def test_websockets_takes_the_answer_to_its_own_handshake() -> None:
    client = ClientProtocol(parse_uri(f"ws://{HOST}/batch;;name:log"))
    client.send_request(client.connect())
    accepted = decision(await read_head(ScriptedStream(client.data_to_send()), within=1))
    assert isinstance(accepted, Upgrade)
    client.receive_data(accepted.response)
    assert (client.state, client.handshake_exc) == (State.OPEN, None)


# -- pages -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("target", "page"),
    [
        ("/health", Page.HEALTH),
        ("/health?x=1", Page.HEALTH),
        ("/health/live", Page.LIVE),
        ("/metrics", Page.METRICS),
        ("/metrics?x=1", Page.METRICS),
        ("http://host/metrics", Page.METRICS),
        ("HTTPS://user@host:1/metrics?x", Page.METRICS),
    ],
)
def test_pages(method: str, target: str, page: Page) -> None:
    assert decision(make_head(target, method=method)) is page
    assert decision(make_head(target, [], method=method, version="1.0")) is page


# What each target gives on statusd and preflightd, asked for plainly, with and without an upgrade. Only the exact
# bytes are a page; what a decoder or a careless proxy may take for one is nothing; the rest are names, good or bad.
SPELLINGS: Final = [
    ("/metrics", 200, 200),
    ("/metrics?x", 200, 200),
    ("http://h/metrics", 200, 200),
    ("http://h:1/metrics?x", 200, 200),
    ("/metrics/", 404, 404),
    ("/metrics/?x", 404, 404),
    ("/%6detrics", 404, 404),
    ("/%6Detrics/", 404, 404),
    ("/metric%73", 404, 404),
    ("http://h/%6detrics", 404, 404),
    ("http://h/metrics/", 404, 404),
    ("/health", 200, 200),
    ("/health/", 404, 404),
    ("/%68ealth", 404, 404),
    ("/health/live", 200, 200),
    ("/health/live/", 404, 404),
    ("/health%2flive", 404, 404),
    ("/health/liv%65", 404, 404),
    ("/", 404, 404),
    ("//", 404, 404),
    ("http://h", 404, 404),
    # Other names, as far as a run may be called so.
    ("/HEALTH", 400, 426),
    ("/Metrics", 400, 426),
    ("/metrics;x", 400, 426),
    ("/metrics%3Bx", 400, 426),
    ("/metrics.", 400, 426),
    ("//metrics", 400, 400),
    ("/./metrics", 400, 400),
    ("/../metrics", 400, 400),
    ("/%2e/metrics", 400, 400),
    ("/%2Fmetrics", 400, 400),
    ("/metrics//", 400, 400),
    ("/metrics%2F", 400, 400),
    ("/metrics%00", 400, 400),
    ("/metrics%20", 400, 400),
    ("/metrics%09", 400, 400),
    ("/metrics%3Fx", 400, 400),
    ("/metrics#x", 400, 400),
    ("/%256detrics", 400, 400),
    ("/health/../metrics", 400, 400),
    ("metrics", 400, 400),
    ("http:/metrics", 400, 400),
    ("ftp://h/metrics", 400, 400),
]


@pytest.mark.parametrize(("target", "on_statusd", "on_preflightd"), SPELLINGS)
def test_only_its_exact_bytes_are_a_page(target: str, on_statusd: int, on_preflightd: int) -> None:
    for rule, status in ((route, on_statusd), (partial(preflight_route, db=0), on_preflightd)):
        for head, upgraded in ((make_head(target), False), (upgrade_head(target), True)):
            match decide(head, route=rule, origins=ANY_ORIGIN, metrics_enabled=True):
                case Page():
                    assert status == 200
                case Upgrade():
                    assert (upgraded, status) == (True, 426)
                case Response() as response:
                    assert response.status == status


@given(st.binary(max_size=12), st.sampled_from([b"/metrics", b"/health", b"/health/live"]), st.data())
def test_no_other_spelling_is_a_page(junk: bytes, page: bytes, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(page)))
    target = page[:position] + junk + page[position:]
    head = Head("GET", target, "1.1", ((b"host", b"h"),))
    for rule in (route, partial(preflight_route, db=0)):
        if isinstance(decide(head, route=rule, origins=ANY_ORIGIN, metrics_enabled=True), Page):
            assert target.partition(b"?")[0] in {b"/metrics", b"/health", b"/health/live"}


@pytest.mark.parametrize(
    ("target", "origin", "allowed"),
    [
        ("http://status.example.net/run:log", "http://status.example.net", True),
        ("http://user@status.example.net/run:log", "http://status.example.net", True),
        ("http://status.example.net?/run:log", "http://status.example.net", None),
        ("http://elsewhere.example/run:log", f"http://{HOST}", False),
    ],
)
def test_the_host_of_an_absolute_target_counts_more_than_the_header(
    target: str, origin: str, allowed: bool | None
) -> None:
    made = decision(upgrade_head(target, origin=origin), origins=OriginPolicy(["other.example"]))
    if allowed is None:
        assert isinstance(made, Response)
        assert made.status == 404
    else:
        assert isinstance(made, Upgrade) is allowed


def test_a_page_is_a_page_whatever_the_request_wants_to_become() -> None:
    assert decision(upgrade_head("/health")) is Page.HEALTH


# -- refused: the path -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", [upgrade_head, make_head])
@pytest.mark.parametrize("target", ["/", "/?gap=1", "http://host", "http://host/"])
def test_nothing_is_at_the_root(head: Callable[[str], Head], target: str) -> None:
    reason, answer = refused(head(target))
    assert (answer.status, answer.phrase, reason) == (404, "Not Found", "not_found")
    assert answer.line == "there is nothing here"


def test_metrics_are_not_found_where_they_are_disabled() -> None:
    reason, answer = refused(make_head("/metrics"), metrics=False)
    assert (answer.status, reason, answer.line) == (404, "not_found", "there is nothing here")
    assert decision(make_head("/health"), metrics=False) is Page.HEALTH


BAD_PATHS: Final = [
    ("/run", "the path must be /<runid>:<channel>"),
    ("/healthy", "the path must be /<runid>:<channel>"),
    ("/Health", "the path must be /<runid>:<channel>"),
    ("/health/ready", "the path must be /<runid>:<channel>"),
    ("/health//", "the path must be /<runid>:<channel>"),
    ("/metrics/all", "the path must be /<runid>:<channel>"),
    ("//metrics", "the path must be /<runid>:<channel>"),
    ("/run%253Alog", "the path must be /<runid>:<channel>"),
    ("/%", "the path must be /<runid>:<channel>"),
    ("/:log", "the run id is empty"),
    ("/:", "the run id is empty"),
    ("/run:", "the channel is empty"),
    ("/run:/", "the channel is empty"),
    ("/run:log:more", "the channel may only have the characters A-Za-z0-9_.-"),
    ("/run:l;og", "the channel may only have the characters A-Za-z0-9_.-"),
    ("/run:log//", "the channel may only have the characters A-Za-z0-9_.-"),
    ("/run:log%2F", "the channel may only have the characters A-Za-z0-9_.-"),
    ("/run:log%3Fgap=1", "the channel may only have the characters A-Za-z0-9_.-"),
    ("/run:log%0A", "the channel may only have the characters A-Za-z0-9_.-"),
    ("/run:*", "the channel may only have the characters A-Za-z0-9_.-"),
    ("/run:log#top", "the channel may only have the characters A-Za-z0-9_.-"),
    ("//run:log", "the run id may only have the characters A-Za-z0-9_.;-"),
    ("/a/run:log", "the run id may only have the characters A-Za-z0-9_.;-"),
    ("/../run:log", "the run id may only have the characters A-Za-z0-9_.;-"),
    ("/run%20:log", "the run id may only have the characters A-Za-z0-9_.;-"),
    ("/run+:log", "the run id may only have the characters A-Za-z0-9_.;-"),
    ("/run%253B:log", "the run id may only have the characters A-Za-z0-9_.;-"),
    ("/run%00:log", "the run id may only have the characters A-Za-z0-9_.;-"),
    ("/run%0d%0aX:log", "the run id may only have the characters A-Za-z0-9_.;-"),
    ("/run%zz:log", "the run id may only have the characters A-Za-z0-9_.;-"),
    ("/*:log", "the run id may only have the characters A-Za-z0-9_.;-"),
    (f"/{'r' * 257}:log", "the run id is longer than 256 characters"),
    (f"/run:{'c' * 257}", "the channel is longer than 256 characters"),
    (f"/{'%72' * 257}:log", "the run id is longer than 256 characters"),
    ("/r%C3%A4n:log", "the path has characters that no name has"),
    ("/run:%FF", "the path has characters that no name has"),
    ("*", "the path does not begin with a slash"),
    ("run:log", "the path does not begin with a slash"),
    ("ws://host/run:log", "the path does not begin with a slash"),
]


@pytest.mark.parametrize("head", [upgrade_head, make_head])
@pytest.mark.parametrize(("target", "line"), BAD_PATHS)
def test_bad_paths(head: Callable[[str], Head], target: str, line: str) -> None:
    reason, answer = refused(head(target))
    assert (answer.status, answer.phrase, reason, answer.line) == (400, "Bad Request", "bad_path", line)


@pytest.mark.parametrize("target", ["/.:log", "/..:log", "/%2e%2E:log", "/run:.", "/run:.."])
def test_the_directories_are_bad_paths(target: str) -> None:
    reason, answer = refused(upgrade_head(target))
    assert (answer.status, reason) == (400, "bad_path")


# -- refused: the method -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "target", "allowed"),
    [
        ("POST", "/run:log", "GET"),
        ("HEAD", "/run:log", "GET"),
        ("OPTIONS", "/run:log", "GET"),
        ("get", "/run:log", "GET"),
        ("BREW", "/run:log", "GET"),
        ("HEAD", "/", "GET"),
        ("POST", "/health", "GET, HEAD"),
        ("DELETE", "/health/live", "GET, HEAD"),
        ("PUT", "/metrics", "GET, HEAD"),
    ],
)
def test_other_methods(method: str, target: str, allowed: str) -> None:
    reason, answer = refused(make_head(target, method=method))
    assert (answer.status, answer.phrase, reason) == (405, "Method Not Allowed", "method")
    assert (answer.headers["allow"], answer.line) == ([allowed], f"{method} is not possible here")


# -- refused: the upgrade ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(make_head(), id="a plain request"),
        pytest.param(make_head(headers=[], version="1.0"), id="a plain request of HTTP/1.0"),
        pytest.param(upgrade_head(without="upgrade"), id="no Upgrade"),
        pytest.param(upgrade_head(without="connection"), id="no Connection"),
        pytest.param(upgrade_head(upgrade="h2c"), id="another protocol"),
        pytest.param(upgrade_head(upgrade="websockets"), id="nearly"),
        pytest.param(upgrade_head(connection="close"), id="a Connection that closes"),
        pytest.param(upgrade_head(connection="upgraded"), id="nearly too"),
    ],
)
def test_a_good_path_without_an_upgrade(head: Head) -> None:
    reason, answer = refused(head)
    assert (answer.status, answer.phrase, reason) == (426, "Upgrade Required", "no_upgrade")
    assert answer.line == "this is a WebSocket: connect with an upgrade"
    # RFC 9110, section 15.5.22: the answer names the protocol.
    assert (answer.headers["upgrade"], answer.headers["connection"]) == (["websocket"], ["Upgrade, close"])
    assert "sec-websocket-version" not in answer.headers


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(upgrade_head(sec_websocket_version="8"), id="an old version"),
        pytest.param(upgrade_head(sec_websocket_version="14"), id="a version to come"),
        pytest.param(upgrade_head(sec_websocket_version="013"), id="not the number"),
        pytest.param(upgrade_head(sec_websocket_version=""), id="an empty version"),
        pytest.param(upgrade_head(sec_websocket_version="13, 8"), id="a list"),
        pytest.param(upgrade_head(sec_websocket_version=["13", "8"]), id="two versions"),
        pytest.param(upgrade_head(sec_websocket_version=["13", "13"]), id="twice the same"),
        pytest.param(upgrade_head(without="sec-websocket-version"), id="no version"),
    ],
)
def test_wrong_versions_are_told_the_right_one(head: Head) -> None:
    reason, answer = refused(head)
    assert (answer.status, answer.phrase, reason) == (426, "Upgrade Required", "bad_version")
    assert answer.line == "only WebSocket version 13 is spoken here"
    assert answer.headers["sec-websocket-version"] == ["13"]
    assert answer.headers["upgrade"] == ["websocket"]


BAD_KEY: Final = "Sec-WebSocket-Key must be 16 bytes in base64"
BODY: Final = "a handshake has no body"


@pytest.mark.parametrize(
    ("head", "line"),
    [
        pytest.param(upgrade_head(without="sec-websocket-key"), BAD_KEY, id="no key"),
        pytest.param(upgrade_head(sec_websocket_key=""), BAD_KEY, id="an empty key"),
        pytest.param(upgrade_head(sec_websocket_key="short"), BAD_KEY, id="a short key"),
        pytest.param(upgrade_head(sec_websocket_key="AAAAAAAAAAAAAAAAAAAA"), BAD_KEY, id="15 bytes"),
        pytest.param(upgrade_head(sec_websocket_key="AAAAAAAAAAAAAAAAAAAAAAA="), BAD_KEY, id="17 bytes"),
        pytest.param(upgrade_head(sec_websocket_key="AAAAAAAAAAAAAAAAAAAAAA"), BAD_KEY, id="no padding"),
        pytest.param(upgrade_head(sec_websocket_key="AAAAAAAAAAAAAAAAAAAA_-=="), BAD_KEY, id="the other alphabet"),
        pytest.param(upgrade_head(sec_websocket_key="AAAAAAAAAAAAAAAAAAAAAA== x"), BAD_KEY, id="more after it"),
        pytest.param(upgrade_head(sec_websocket_key="AAAAAAAAAA AAAAAAAAAAAA=="), BAD_KEY, id="a space in it"),
        pytest.param(upgrade_head(sec_websocket_key="\xe4" * 24), BAD_KEY, id="not ASCII"),
        pytest.param(upgrade_head(sec_websocket_key=[UPGRADE["Sec-WebSocket-Key"]] * 2), BAD_KEY, id="two keys"),
        pytest.param(upgrade_head(content_length="5"), BODY, id="a body"),
        pytest.param(upgrade_head(transfer_encoding="chunked"), BODY, id="a chunked body"),
        pytest.param(upgrade_head(version="1.0"), "a WebSocket needs HTTP/1.1", id="HTTP/1.0"),
        pytest.param(upgrade_head(version="0.9"), "a WebSocket needs HTTP/1.1", id="HTTP/0.9"),
        pytest.param(upgrade_head(version="2.0"), "a WebSocket needs HTTP/1.1", id="HTTP/2.0"),
        pytest.param(upgrade_head(origin=[f"https://{HOST}"] * 2), "more than one Origin header", id="two Origins"),
    ],
)
def test_malformed_upgrades(head: Head, line: str) -> None:
    reason, answer = refused(head)
    assert (answer.status, answer.phrase, reason, answer.line) == (400, "Bad Request", "bad_upgrade", line)


@pytest.mark.parametrize(
    "line",
    [
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET /run:log HTTP/2.0\r\nHost: h\r\n\r\n",
        "GET * HTTP/1.1\r\nHost: h\r\n\r\n",
    ],
)
async def test_other_protocols_preambles_are_refused(line: str) -> None:
    head = await read_head(ScriptedStream([line.encode()]), within=1)
    _, answer = refused(head)
    assert answer.status in {400, 405, 426}


# -- refused: the origin -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "", "https://example.gov", "http://[", "\xe4"])
def test_foreign_origins(origin: str) -> None:
    reason, answer = refused(upgrade_head(origin=origin), origins=OriginPolicy(["*.example.org"]))
    assert (answer.status, answer.phrase, reason) == (403, "Forbidden", "origin")
    assert answer.line == "this origin is not allowed"
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(upgrade_head(), id="no origin"),
        pytest.param(upgrade_head(origin="https://app.example.org"), id="a pattern's"),
        pytest.param(upgrade_head(origin=f"https://{HOST.upper()}"), id="the request's own host"),
    ],
)
def test_origins_that_pass(head: Head) -> None:
    assert isinstance(decision(head, origins=OriginPolicy(["*.example.org"])), Upgrade)


def test_a_foreign_page_learns_nothing_before_its_upgrade_is_in_order() -> None:
    head = upgrade_head(origin="https://evil.example", without="sec-websocket-key")
    assert refused(head, origins=OriginPolicy(["*.example.org"]))[0] == "bad_upgrade"


# -- from the wire -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (request_bytes("/run:log", UPGRADE.items(), version="1.0"), 400),
        (request_bytes("/run:log", UPGRADE.items(), version="2.0"), 400),
        (request_bytes("/run:log", UPGRADE.items(), method="POST"), 405),
        (request_bytes("/run:log", [*UPGRADE.items(), ("Content-Length", "0, 0")]), 101),
        (request_bytes("/run:log", [*UPGRADE.items(), ("Content-Length", "1")]), 400),
        (request_bytes("/run:log", [("HOST", "h"), *((k.upper(), v) for k, v in UPGRADE.items() if k != "Host")]), 101),
        (request_bytes("/run:log", [(k, f"\t {v}  ") for k, v in UPGRADE.items()]), 101),
    ],
)
def test_what_h11_makes_of_a_request_is_decided(data: bytes, status: int) -> None:
    async def read() -> Head:
        return await read_head(ScriptedStream([data]), within=1)

    match decision(trio.run(read)):
        case Upgrade():
            assert status == 101
        case Response() as response:
            assert response.status == status
        case page:
            pytest.fail(f"{page} is no answer to a handshake")
