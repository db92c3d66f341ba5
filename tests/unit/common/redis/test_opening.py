"""Opening a connection: one deadline for all of it, which step took the time, which address it leads to."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final

import attrs
import pytest
import trio
from trio.testing import MockClock, memory_stream_pair

from common.names import HEAD_START, Names
from common.redis.errors import RedisConnectionError
from common.redis.opening import Opener
from common.redis.transport import Steps, open_stream, peer_address
from common.redis.url import RedisURL, TLSOptions

if TYPE_CHECKING:
    from collections.abc import Callable

PLAIN: Final = RedisURL(host="redis.test", port=6379, db=0)
SECURE: Final = RedisURL(
    scheme="rediss", host="redis.test", port=6379, db=0, tls=TLSOptions(verify=False, check_hostname=False)
)
ADDRESSES: Final = ["192.0.2.1", "192.0.2.2", "2001:db8::1"]
GREETING: Final = b"%1\r\n+proto\r\n:3\r\n"


class Network:
    """Names and addresses on a virtual clock. `names` takes that long to resolve, each address that long to connect."""

    def __init__(self) -> None:
        self.addresses = ADDRESSES
        self.names = 0.0
        self.connects: dict[str, float] = {}
        self.refused: set[str] = set()
        self.asked: list[str] = []
        self.tried: list[tuple[str, float]] = []
        self.greeting = b""
        self.streams: list[trio.abc.Stream] = []

    async def getaddrinfo(self, host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        self.asked.append(host)
        await trio.sleep(self.names)
        return [
            (socket.AF_INET6 if ":" in name else socket.AF_INET, socket.SOCK_STREAM, 6, "", (name, port))
            for name in self.addresses
        ]

    async def open_tcp_stream(self, host: str, port: int) -> trio.abc.Stream:
        assert port == 6379
        self.tried.append((host, trio.current_time()))
        await trio.sleep(self.connects.get(host, 0.0))
        if host in self.refused:
            raise ConnectionRefusedError(111, "Connection refused")
        ours, _ = memory_stream_pair()
        if self.greeting:
            ours.receive_stream.put_data(self.greeting)
        self.streams.append(ours)
        return ours


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    """A network in place of the system's."""
    network = Network()
    monkeypatch.setattr(trio.socket, "getaddrinfo", network.getaddrinfo)
    monkeypatch.setattr(trio, "open_tcp_stream", network.open_tcp_stream)
    return network


def opener(url: RedisURL, timed_out: list[str]) -> Opener:
    return Opener(url=url, within=5.0, reply_limit=1 << 20, on_timeout=timed_out.append)


def dead_name_server(network: Network) -> None:
    network.names = 3600


def slow_name_server(network: Network) -> None:
    network.names = 4.0
    network.connects = dict.fromkeys(ADDRESSES, 3600)


def dropped_packets(network: Network) -> None:
    network.connects = dict.fromkeys(ADDRESSES, 3600)


def nothing(network: Network) -> None:
    del network


@pytest.mark.parametrize(
    ("url", "trouble", "words", "timed_out"),
    [
        (PLAIN, dead_name_server, "resolving the name took 5.0s", []),
        (PLAIN, slow_name_server, "resolving the name took 4.0s", []),
        (PLAIN, dropped_packets, "TCP took 5.0s", []),
        (SECURE, nothing, "the TLS handshake took 5.0s", []),
        (PLAIN, nothing, "HELLO took 5.0s", ["HELLO"]),
    ],
    ids=["name", "name, then TCP", "TCP", "TLS", "HELLO"],
)
async def test_the_message_says_which_step_took_the_time(
    network: Network,
    url: RedisURL,
    trouble: Callable[[Network], None],
    words: str,
    timed_out: list[str],
    autojump_clock: MockClock,
) -> None:
    trouble(network)
    told: list[str] = []
    with pytest.raises(RedisConnectionError) as caught:
        await opener(url, told).open("statusd")
    assert str(caught.value) == f"no connection within 5s, {words}: redis.test:6379"
    assert told == timed_out
    assert autojump_clock.current_time() == 5


async def test_a_first_name_server_that_is_dead_costs_one_attempt_and_no_more(
    network: Network, autojump_clock: MockClock
) -> None:
    """The system's resolver asks the next one after five seconds: just longer than an attempt may take."""
    network.names = 5.02
    network.greeting = GREETING + b"+PONG\r\n"
    redis = opener(PLAIN, [])
    with pytest.raises(RedisConnectionError, match=r"resolving the name took 5\.0s"):
        await redis.open("statusd")
    assert (await redis.open("statusd")).role is None
    assert autojump_clock.current_time() == 5.02
    assert network.asked == ["redis.test"]
    # What the next attempt leads to is asked anew.
    network.names = 0.0
    await redis.open("statusd")
    assert network.asked == ["redis.test"] * 2


async def test_what_was_opened_is_closed_when_the_time_is_over(network: Network, autojump_clock: MockClock) -> None:
    with pytest.raises(RedisConnectionError):
        await opener(PLAIN, []).open("statusd")
    (ours,) = network.streams
    with pytest.raises(trio.ClosedResourceError):
        await ours.send_all(b"x")
    assert autojump_clock.current_time() == 5


# -- addresses --------------------------------------------------------------------------------------------------------


async def test_the_addresses_of_a_name_are_tried_beside_each_other_either_family_early(
    network: Network, autojump_clock: MockClock
) -> None:
    network.connects = dict.fromkeys(ADDRESSES, 3600) | {"192.0.2.2": 0.1}
    stream = await open_stream(PLAIN, Steps(), Names())
    assert network.tried == [("192.0.2.1", 0), ("2001:db8::1", HEAD_START), ("192.0.2.2", 2 * HEAD_START)]
    assert network.streams == [stream]
    assert autojump_clock.current_time() == 2 * HEAD_START + 0.1


async def test_an_address_that_refuses_gives_way_at_once(network: Network, autojump_clock: MockClock) -> None:
    network.refused = {"192.0.2.1", "2001:db8::1"}
    assert [await open_stream(PLAIN, Steps(), Names())] == network.streams
    assert autojump_clock.current_time() == 0


async def test_when_every_address_refuses_it_is_said_once(network: Network) -> None:
    network.refused = set(ADDRESSES)
    with pytest.raises(RedisConnectionError, match=r"^connection refused: redis\.test:6379$"):
        await opener(PLAIN, []).open("statusd")


async def test_two_that_connect_at_once_leave_one_open(network: Network, autojump_clock: MockClock) -> None:
    network.connects = {"192.0.2.1": HEAD_START + 0.1, "2001:db8::1": 0.1}
    stream = await open_stream(PLAIN, Steps(), Names())
    for spare in network.streams:
        if spare is not stream:
            with pytest.raises(trio.ClosedResourceError):
                await spare.send_all(b"x")
    assert autojump_clock.current_time() == HEAD_START + 0.1


async def test_an_address_that_is_given_is_taken_and_the_name_not_asked(network: Network) -> None:
    await open_stream(PLAIN, Steps(), Names(), "192.0.2.9")
    assert network.asked == []
    assert [name for name, _ in network.tried] == ["192.0.2.9"]


async def test_a_stream_without_a_choice_of_addresses_has_none() -> None:
    ours, _ = memory_stream_pair()
    assert peer_address(ours) is None


@pytest.mark.parametrize(("url", "hinted"), [(PLAIN, True), (attrs.evolve(PLAIN, scheme="unix", path="/s"), False)])
async def test_who_is_hung_up_on_without_a_word_hears_of_tls_where_that_may_be_it(url: RedisURL, hinted: bool) -> None:
    async def connect(_host: str, _port: int) -> trio.abc.Stream:
        ours, theirs = memory_stream_pair()
        await theirs.send_eof()
        return ours

    opener = Opener(url=url, connect=connect, within=5, reply_limit=1 << 20, on_timeout=lambda _: None)
    with pytest.raises(RedisConnectionError) as caught:
        await opener.open("statusd")
    assert ("must begin with rediss://" in str(caught.value)) is hinted
