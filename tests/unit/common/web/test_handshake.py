"""From a request head to a WebSocket or a refusal: every rule with its status, reason and headers."""

from __future__ import annotations

import base64
from typing import Final

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock
from websockets.client import ClientProtocol
from websockets.protocol import State
from websockets.uri import parse_uri
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, Request

from common.web.handshake import Upgrade
from common.web.http import Head, Response, read_head
from common.web.origin import OriginPolicy
from tests.support.web import (
    ACCEPT,
    HOST,
    UPGRADE,
    ScriptedStream,
    decision,
    make_head,
    refused,
    request_bytes,
    upgrade_head,
)

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

    match decision(trio.run(read, clock=MockClock(autojump_threshold=0))):
        case Upgrade():
            assert status == 101
        case Response() as response:
            assert response.status == status
        case page:
            pytest.fail(f"{page} is no answer to a handshake")
