"""The workers of all daemons, the state of each as a file, and how many clients follow a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from common.daemons import PREFLIGHT, STATUS
from opsd.api.query import CHANNEL, RUN_ID, name, optional_name
from opsd.sources.interface import SnapshotError

if TYPE_CHECKING:
    from starlette.requests import Request as HTTPRequest

    from opsd.api.parts import Calls, Parts

VIEWERS_TIMEOUT: Final = 5.0
"""Seconds until a question for viewers is given up; each source has less."""


class WorkersApi:
    """See the module."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._board = parts.board

    def calls(self) -> Calls:
        """What answers, by the names of the table."""
        return {
            "workers": self.workers,
            "snapshot": self.snapshot,
            "viewers": self.viewers,
        }

    async def workers(self, request: HTTPRequest) -> Response:
        """Every worker of every source, and how each source is."""
        del request
        workers = self._board.workers()
        meta = self._board.status.meta
        return JSONResponse(
            {
                "connected": len(workers),
                "telemetryStatus": meta.telemetry_status,
                "unavailable": list(meta.unavailable),
                "sources": self._board.sources(),
                "workers": workers,
            }
        )

    async def snapshot(self, request: HTTPRequest) -> Response:
        """A worker's state as a file: JSON, compressed on the way; for who can't undo that, a compressed file."""
        try:
            snapshot = await self._board.snapshot(request.path_params["worker"])
        except SnapshotError as error:
            headers = None if error.retry_after is None else {"Retry-After": str(error.retry_after)}
            raise HTTPException(error.status, error.text, headers) from None
        if _takes_gzip(request.headers.get("accept-encoding", "")):
            name, content_type, encoding = snapshot.filename, "application/json", {"Content-Encoding": "gzip"}
        else:
            name, content_type, encoding = f"{snapshot.filename}.gz", "application/gzip", {}
        headers = {"Content-Disposition": f'attachment; filename="{name}"', "Vary": "Accept-Encoding", **encoding}
        return Response(snapshot.body, headers=headers, media_type=content_type)

    async def viewers(self, request: HTTPRequest) -> Response:
        """How many clients follow a run's log and its checklist."""
        run, channel = name(request, RUN_ID, "run"), optional_name(request, CHANNEL, "channel")
        counts: dict[str, object] = {"log": None}

        async def count(what: str, daemon: str, name: str) -> None:
            counts[what] = (await self._parts.viewers.count(daemon, name)).document()

        with trio.move_on_after(VIEWERS_TIMEOUT) as deadline:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(count, "checklist", PREFLIGHT.name, run)
                if channel is not None:
                    nursery.start_soon(count, "log", STATUS.name, f"{run}:{channel}")
        if deadline.cancelled_caught:
            raise HTTPException(503, "the daemons did not answer in time", {"Retry-After": "5"})
        return JSONResponse({"run": run, "channel": channel, **counts})


def _takes_gzip(accepted: str) -> bool:
    for item in accepted.lower().split(","):
        coding, _, weight = item.partition(";")
        if coding.strip() in {"gzip", "*"}:
            return weight.replace(" ", "") not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}
    return False
