"""What a path means to statusd: `/<runid>:<channel>` is the Redis channel of the same name (SPEC 1). Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from common.web.handshake import Route
from common.web.path import BadPath, Name

if TYPE_CHECKING:
    from common.web.path import Target


RUN_ID: Final = Name("run id", "A-Za-z0-9_.;-")
CHANNEL: Final = Name("channel", "A-Za-z0-9_.-")


def route(target: Target) -> Route:
    """The route of a request target; raises `BadPath` with the reason in a line."""
    run_id, colon, channel = target.path.removeprefix("/").partition(":")
    if not colon:
        raise BadPath("the path must be /<runid>:<channel>")
    RUN_ID.check(run_id)
    CHANNEL.check(channel)
    return Route(
        channel=f"{run_id}:{channel}".encode("ascii"),
        fields={"run_id": run_id, "channel": channel},
        wants_gap=target.query.get("gap") == "1",
    )
