"""What a path means to preflightd: `/<runid>` is the run hash of the same name (SPEC 1). Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from common.web.handshake import Route
from common.web.path import Name

if TYPE_CHECKING:
    from common.web.path import Target

RUN_ID: Final = Name("run id", "A-Za-z0-9_.;-")
_SEPARATOR: Final = b"__:"


def route(target: Target, db: int) -> Route:
    """The route of a request target in database `db`; raises `BadPath` with the reason in a line."""
    run_id = RUN_ID.check(target.path.removeprefix("/"))
    return Route(channel=f"__keyspace@{db}__:{run_id}".encode("ascii"), fields={"run_id": run_id})


def run_key(channel: bytes) -> bytes:
    """The key of the run hash whose keyspace channel this is."""
    return channel.partition(_SEPARATOR)[2]
