"""Whether the daemon that this environment configures lives, as the exit code: `statusd --healthcheck`.

`--healthcheck=any` is for an image with all of them, one to a container: the one that answers is the one. A container's
health check runs it every few seconds, so `answer_if_asked` comes before the imports of a daemon, which take a hundred
times as long as the question.
"""

from __future__ import annotations

import os
import socket
import sys
from typing import TYPE_CHECKING, Final

from common.daemons import DAEMONS
from common.early import release

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Mapping

FLAG: Final = "--healthcheck"
OWN: Final = "own"
ANY: Final = "any"

TIMEOUT: Final = 2.0
"""Seconds without a byte after which nobody is there."""

ADDRESSES: Final = {known.name: (known.variable("LISTEN_ADDR"), known.listen_addr) for known in DAEMONS.values()}
"""The variable that says where each daemon serves, and where it does without."""

LIVES: Final = 0
DOES_NOT: Final = 1

_QUESTION: Final = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
_ANSWER: Final = b"HTTP/1.1 200 "


def answer_if_asked(name: str) -> None:
    """Raise SystemExit with the answer where this process's only argument is the question."""
    for which, question in ((OWN, FLAG), (ANY, f"{FLAG}={ANY}")):
        if sys.argv[1:] == [question]:
            release()
            sys.exit(healthcheck(names(name, which), os.environ))


def add_healthcheck(parser: argparse.ArgumentParser, name: str) -> None:
    """The same for any command line, and its line of help."""
    import argparse  # noqa: PLC0415 - not needed by `answer_if_asked`

    class Ask(argparse.Action):
        def __call__(self, _parser: object, _options: object, which: object, _flag: object = None) -> None:
            parser.exit(healthcheck(names(name, str(which)), os.environ))

    parser.add_argument(
        FLAG,
        action=Ask,
        nargs="?",
        const=OWN,
        choices=(OWN, ANY),
        metavar=ANY,
        help=f"exit 0 if the daemon that is configured so lives, with `={ANY}` any of the platform's, else 1",
    )


def names(name: str, which: str) -> Iterable[str]:
    """The daemons that `name` asks for when it is asked so."""
    return ADDRESSES if which == ANY else (name,)


def healthcheck(daemons: Iterable[str], environ: Mapping[str, str]) -> int:
    """Ask the daemons at the addresses that `environ` gives them; return `LIVES` if one does, else `DOES_NOT`."""
    addresses = (environ.get(variable, "").strip() or usual for variable, usual in map(ADDRESSES.__getitem__, daemons))
    return LIVES if any(map(_lives, addresses)) else DOES_NOT


def _lives(address: str) -> bool:
    host, _, port = address.rpartition(":")
    received = b""
    try:
        with socket.create_connection((host.strip("[]") or "localhost", int(port)), TIMEOUT) as link:
            link.sendall(_QUESTION)
            while len(received) < len(_ANSWER) and (data := link.recv(256)):
                received += data
    except (OSError, ValueError, OverflowError):
        return False
    return received.startswith(_ANSWER)
