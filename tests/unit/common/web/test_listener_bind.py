"""Which addresses are listened on (`bind` of common/web/listener.py), and what is closed where that fails; no port."""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING, Any

import pytest

from common.config import ListenAddress
from common.web import listener
from common.web.listener import ANY_PORT_TRIES, bind, take_over

if TYPE_CHECKING:
    from collections.abc import Callable

V4, V6 = socket.AF_INET, socket.AF_INET6


class Bound:
    """A socket that is bound."""

    def __init__(self, family: int, place: tuple[Any, ...]) -> None:
        self.family, self.place = family, place
        self.closed = False

    def getsockname(self) -> tuple[str, int]:
        return (self.place[0], self.place[1] or 50_001)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Bound]]:
    """Lets the name of a host have two addresses, and each family be refused with an error number."""

    def made(**refusals: int) -> list[Bound]:
        bound: list[Bound] = []

        def listen(family: int, place: tuple[Any, ...]) -> Bound:
            number = refusals.get("v6" if family == V6 else "v4")
            if number is not None:
                raise OSError(number, os.strerror(number))
            bound.append(Bound(family, place))
            return bound[-1]

        def getaddrinfo(host: str, port: int, **_: object) -> list[tuple[Any, ...]]:
            assert host == "localhost"
            found = [(V4, 1, 6, "", ("127.0.0.1", port)), (V6, 1, 6, "", ("::1", port, 0, 0))]
            return [*found, found[0]]

        monkeypatch.setattr(listener, "_listen", listen)
        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        return bound

    return made


def test_every_address_of_a_host_is_listened_on_once_at_one_port(kernel: Callable[..., list[Bound]]) -> None:
    bound = kernel()
    assert len(bind(ListenAddress("localhost", 0))) == 2
    assert [one.place for one in bound] == [("127.0.0.1", 0), ("::1", 50_001, 0, 0)]


@pytest.mark.parametrize("number", [errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL])
def test_a_family_that_is_off_is_done_without(number: int, kernel: Callable[..., list[Bound]]) -> None:
    bound = kernel(v6=number)
    assert len(bind(ListenAddress("localhost", 9002))) == 1
    assert [(one.family, one.closed) for one in bound] == [(V4, False)]
    kernel(v4=number, v6=number)
    with pytest.raises(OSError, match=os.strerror(number)):
        bind(ListenAddress("localhost", 9002))


def test_where_one_is_taken_none_is_kept(kernel: Callable[..., list[Bound]]) -> None:
    bound = kernel(v6=errno.EADDRINUSE)
    with pytest.raises(OSError, match="in use"):
        bind(ListenAddress("localhost", 9002))
    assert [one.closed for one in bound] == [True]


@pytest.mark.parametrize(("port", "taken", "tried"), [(0, 3, 4), (0, 100, ANY_PORT_TRIES + 1), (9002, 1, 1)])
def test_any_port_is_one_that_is_free_at_every_address(
    port: int, taken: int, tried: int, kernel: Callable[..., list[Bound]], monkeypatch: pytest.MonkeyPatch
) -> None:
    bound = kernel()
    listen = listener._listen
    refused: list[int] = []

    def elsewhere_taken(family: int, place: tuple[Any, ...]) -> socket.socket:
        if family == V6 and len(refused) < taken:
            refused.append(place[1])
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        return listen(family, place)

    monkeypatch.setattr(listener, "_listen", elsewhere_taken)
    if tried > taken:
        assert len(bind(ListenAddress("localhost", port))) == 2
    else:
        with pytest.raises(OSError, match="in use"):
            bind(ListenAddress("localhost", port))
    assert sum(one.family == V4 for one in bound) == tried
    assert [one.closed for one in bound].count(False) == (2 if tried > taken else 0)


def test_everywhere_is_both_families_or_the_one_that_there_is(kernel: Callable[..., list[Bound]]) -> None:
    bound = kernel()
    bind(ListenAddress(None, 9002))
    assert [one.place for one in bound] == [("::", 9002)]
    bound = kernel(v6=errno.EAFNOSUPPORT)
    bind(ListenAddress(None, 9002))
    assert [one.place for one in bound] == [("0.0.0.0", 9002)]
    kernel(v6=errno.EADDRINUSE)
    with pytest.raises(OSError, match="in use"):
        bind(ListenAddress(None, 9002))


def test_a_descriptor_that_does_not_listen_is_not_taken_over() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        number = theirs.detach()
        with pytest.raises(OSError, match=f"descriptor {number} is no listening stream socket"):
            take_over([number])
        with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
            os.fstat(number)
