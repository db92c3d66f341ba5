"""Ports: bound for the addresses that were asked for, or refused with the system's own reason."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING, Final

import pytest
import trio

from common.config import ListenAddress
from common.web.listener import accept, bind, bound_to
from tests.support import needs
from tests.support.logbook import Logbook
from tests.support.ports import free_port
from tests.support.raw import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from common.web.accepted import Accepted

pytestmark = pytest.mark.integration

NOTSENT_LOWAT: Final = 25
"""Linux' TCP_NOTSENT_LOWAT, which the socket module does not name."""


@pytest.fixture
def ipv6() -> None:
    """Both kinds of address."""
    needs.ipv6()


class Bound:
    """Binds for a test and closes what was bound."""

    def __init__(self) -> None:
        self.sockets: list[socket.socket] = []

    def __call__(self, host: str | None, port: int = 0) -> list[socket.socket]:
        """The listening sockets for `host:port`."""
        sockets = bind(ListenAddress(host, port))
        self.sockets += sockets
        return sockets


@pytest.fixture
def bound() -> Iterator[Bound]:
    """A `bind` whose sockets are closed after the test."""
    bound = Bound()
    yield bound
    for sock in bound.sockets:
        sock.close()


def port_of(sock: socket.socket) -> int:
    port: int = sock.getsockname()[1]
    return port


def reachable(host: str, port: int) -> bool:
    """Whether something listens there."""
    try:
        socket.create_connection((host, port), timeout=PATIENCE).close()
    except ConnectionRefusedError:
        return False
    return True


def test_one_ipv4_address(bound: Bound) -> None:
    (sock,) = bound("127.0.0.1")
    assert bound_to([sock]) == [f"127.0.0.1:{port_of(sock)}"]
    assert reachable("127.0.0.1", port_of(sock))
    assert not reachable("127.0.0.2", port_of(sock))


@pytest.mark.usefixtures("ipv6")
def test_one_ipv6_address(bound: Bound) -> None:
    # Not the kernel's choice, which at 127.0.0.1 may be another test's.
    (sock,) = bound("::1", free_port())
    assert bound_to([sock]) == [f"[::1]:{port_of(sock)}"]
    assert reachable("::1", port_of(sock))
    assert not reachable("127.0.0.1", port_of(sock))


def test_a_name_is_all_of_its_addresses_on_one_port(bound: Bound) -> None:
    sockets = bound("localhost")
    assert len({port_of(sock) for sock in sockets}) == 1
    assert all(reachable(sock.getsockname()[0], port_of(sock)) for sock in sockets)


@pytest.mark.usefixtures("ipv6")
@pytest.mark.parametrize("host", [None, "::"])
def test_no_host_is_every_address_of_both_kinds(bound: Bound, host: str | None) -> None:
    (sock,) = bound(host)
    assert bound_to([sock]) == [f"[::]:{port_of(sock)}"]
    assert reachable("127.0.0.1", port_of(sock))
    assert reachable("::1", port_of(sock))


@pytest.mark.parametrize("number", [errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL])
def test_a_machine_without_ipv6_listens_on_ipv4(monkeypatch: pytest.MonkeyPatch, bound: Bound, number: int) -> None:
    real = socket.socket

    def without_ipv6(family: int = -1, kind: int = -1, proto: int = -1, fileno: int | None = None) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(number, "no IPv6")
        return real(family, kind, proto, fileno)

    monkeypatch.setattr("common.web.listener.socket.socket", without_ipv6)
    (sock,) = bound(None)
    monkeypatch.undo()
    assert bound_to([sock]) == [f"0.0.0.0:{port_of(sock)}"]
    assert reachable("127.0.0.1", port_of(sock))


@pytest.mark.parametrize("host", ["127.0.0.1", None])
def test_a_taken_port_is_said_to_be_taken(bound: Bound, host: str | None) -> None:
    (first,) = bound(host)
    with pytest.raises(OSError, match="Address already in use") as caught:
        bound(host, port_of(first))
    assert caught.value.errno == errno.EADDRINUSE


@pytest.mark.parametrize("host", ["no-such-host.invalid", "192.0.2.1"])
def test_a_host_that_is_not_here_is_refused(bound: Bound, host: str) -> None:
    with pytest.raises(OSError):  # noqa: PT011 - the system's own words differ
        bound(host)
    assert bound.sockets == []


def test_a_port_can_be_bound_again_at_once(bound: Bound) -> None:
    # A port that the kernel gives to nobody in between.
    (first,) = bound("127.0.0.1", free_port())
    port = port_of(first)
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE):
        served, _ = first.accept()
        served.close()
    first.close()
    (second,) = bound("127.0.0.1", port)
    assert port_of(second) == port


async def test_accepted_sockets_are_set_up_for_small_frames_and_slow_clients(bound: Bound) -> None:
    (listener,) = bound("127.0.0.1")
    served: list[Accepted] = []
    done = trio.Event()

    async def serve(client: Accepted) -> None:
        async with client.stream:
            served.append(client)
            assert client.sock is not None
            assert client.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert client.sock.getsockopt(socket.IPPROTO_TCP, NOTSENT_LOWAT) == 16384
            await client.stream.send_all(b"hello")
        done.set()

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as handlers:
            handlers.start_soon(accept, listener, serve, handlers, Logbook().log)
            async with await trio.open_tcp_stream("127.0.0.1", port_of(listener)) as stream:
                assert await stream.receive_some() == b"hello"
                assert await stream.receive_some() == b""
            await done.wait()
            handlers.cancel_scope.cancel()
    assert [str(client.address) for client in served] == ["127.0.0.1"]
