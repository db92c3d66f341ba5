"""Who is asked whether a daemon lives, and which answers say so (common/healthcheck.py); no port is opened here."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Self

import pytest

from common.healthcheck import ANY, DOES_NOT, LIVES, OWN, TIMEOUT, healthcheck, names

if TYPE_CHECKING:
    from collections.abc import Iterable


class Answering:
    """Takes the place of connections: each address that is in `answers` answers so, in these pieces."""

    def __init__(self, **answers: Iterable[bytes]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, int]] = []
        self.questions: list[bytes] = []
        self._pieces: list[bytes] = []

    def connect(self, address: tuple[str, int], timeout: float) -> Self:
        assert timeout == TIMEOUT
        self.asked.append(address)
        if address[0] not in self.answers:
            raise ConnectionRefusedError
        self._pieces = list(self.answers[address[0]])
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def sendall(self, data: bytes) -> None:
        self.questions.append(data)

    def recv(self, size: int) -> bytes:
        if not self._pieces:
            return b""
        assert len(self._pieces[0]) <= size
        return self._pieces.pop(0)


OK = b"HTTP/1.1 200 OK\r\n\r\n"


def ask(answering: Answering, monkeypatch: pytest.MonkeyPatch, which: str = OWN, **environ: str) -> int:
    monkeypatch.setattr(socket, "create_connection", answering.connect)
    return healthcheck(names("statusd", which), environ)


@pytest.mark.parametrize(
    ("environ", "address"),
    [
        ({}, ("localhost", 9002)),
        ({"STATUS_LISTEN_ADDR": ":81"}, ("localhost", 81)),
        ({"STATUS_LISTEN_ADDR": " 192.0.2.1:82 "}, ("192.0.2.1", 82)),
        ({"STATUS_LISTEN_ADDR": "[::1]:83"}, ("::1", 83)),
        ({"STATUS_LISTEN_ADDR": ""}, ("localhost", 9002)),
        ({"PREFLIGHT_LISTEN_ADDR": ":84"}, ("localhost", 9002)),
    ],
)
def test_it_is_asked_where_it_is_configured_to_serve(
    environ: dict[str, str], address: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    answering = Answering(**{address[0]: [OK]})
    assert ask(answering, monkeypatch, **environ) == LIVES
    assert answering.asked == [address]
    assert answering.questions[0].startswith(b"GET /health/live HTTP/1.1\r\nHost: ")


@pytest.mark.parametrize("pieces", [[OK], [OK[:5], OK[5:]], [OK[index : index + 1] for index in range(len(OK))]])
def test_an_answer_may_come_in_pieces(pieces: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    assert ask(Answering(localhost=pieces), monkeypatch) == LIVES


@pytest.mark.parametrize(
    "pieces", [[], [b"HTTP/1.1 2"], [b"HTTP/1.1 503 no\r\n\r\n"], [b"HTTP/1.1 2000 "], [b"x" * 256]]
)
def test_any_other_answer_is_none(pieces: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    assert ask(Answering(localhost=pieces), monkeypatch) == DOES_NOT


@pytest.mark.parametrize("address", ["localhost", "localhost:http", ":", ":99999999999999999999"])
def test_an_address_that_is_none_is_nobody(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Strict(Answering):
        def connect(self, address: tuple[str, int], timeout: float) -> Self:
            if address[1] > 65535:
                raise OverflowError("port must be 0-65535.")
            return super().connect(address, timeout)

    assert ask(Strict(localhost=[OK]), monkeypatch, STATUS_LISTEN_ADDR=address) == DOES_NOT


def test_of_an_image_of_all_the_first_that_answers_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    places = {"STATUS_LISTEN_ADDR": "a:1", "PREFLIGHT_LISTEN_ADDR": "b:2", "OPS_LISTEN_ADDR": "c:3"}
    for lives in ("a", "b", "c"):
        assert ask(Answering(**{lives: [OK]}), monkeypatch, ANY, **places) == LIVES
    nobody = Answering()
    assert ask(nobody, monkeypatch, ANY, **places) == DOES_NOT
    assert sorted(nobody.asked) == [("a", 1), ("b", 2), ("c", 3)]
