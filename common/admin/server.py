"""The operator's connections: few, bounded in everything, behind a barrier of their own.

`AdminServer.run` is owned by the process that the operator started and lives beside the service, not in it: whatever
goes wrong here is logged, and no client of the daemon notices. Every connection has one request.
"""

from __future__ import annotations

import math
import zlib
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import attrs
import trio

from common.admin.access import GUESSING
from common.admin.feed import PAUSE, Feed
from common.admin.quota import Quota
from common.admin.routes import AdminPage, SnapshotOf, TopicOf, decide
from common.admin.telemetry_source import SilentWorkerError, UnknownWorkerError
from common.exposition import Family, render
from common.fleet import FleetError
from common.web.accepted import LINGER, linger
from common.web.admission import Admission
from common.web.http import BadHead, Head, Response, read_head, refusal
from common.web.listener import accept
from common.web.path import BadPath
from common.web.turns import Turns

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Sequence

    from common.admin.access import Access
    from common.admin.telemetry_source import TelemetrySource
    from common.exposition import Report
    from common.logs import Logger
    from common.web.accepted import Accepted
    from common.web.admission import Ticket

MAX_CONNECTIONS: Final = 32
"""Open connections of operators; more are told so and closed."""

MAX_PER_ADDRESS: Final = 16
"""How many of these one address may have, so that none has them all. Behind a trusted proxy it is the client's."""

TOLD_EVERY: Final = 60.0
"""Seconds between two warnings about wrong tokens at least."""

HEAD_TIMEOUT: Final = 5.0
"""Seconds for a request head."""

WRITE_TIMEOUT: Final = 5.0
"""Seconds in which a client must have taken a piece of its answer."""

PIECE: Final = 64 * 1024
"""Bytes of such a piece."""

ALIVE: Final = 5.0
"""Seconds of silence on `/events` until a comment says that there is still somebody."""

RESTART: Final = 1.0
"""Seconds until the listener is tried again after a failure of its own."""

_COMMENT: Final = b": alive\n\n"
_NOSNIFF: Final = ("X-Content-Type-Options", "nosniff")


class AdminServer:
    """Answers operators. `report` gives the figures of all processes for a scrape; it raises `FleetError`.

    `channel_of` gives the Redis channel that clients follow under a name; it raises `BadPath` for what is no name.
    """

    def __init__(
        self,
        *,
        source: TelemetrySource,
        report: Callable[[], Awaitable[Report]],
        channel_of: Callable[[str], bytes],
        access: Access,
        log: Logger,
    ) -> None:
        self._source = source
        self._report = report
        self._channel_of = channel_of
        self._access = access
        self._log = log
        self._feed = Feed(source)
        self._turns = Turns()
        self._quota = Quota()
        self._admission = Admission(limit=MAX_CONNECTIONS, limit_per_address=MAX_PER_ADDRESS)

    async def run(self, listeners: Sequence[socket.socket]) -> None:
        """Accept on `listeners` until cancelled."""
        while True:
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._feed.run)
                    nursery.start_soon(self._tell_of_guesses)
                    for listener in listeners:
                        nursery.start_soon(accept, listener, self.serve, nursery, self._log)
            except* Exception:  # noqa: BLE001 - the barrier: the daemon serves on without its operator's listener
                self._log.exception("operator's listener failed")
            await trio.sleep(RESTART)

    async def serve(self, client: Accepted) -> None:
        """Serve one connection and close it. Only `Cancelled` comes out."""
        ticket = self._admission.enter()
        try:
            if ticket is None or not ticket.claim(client.address):
                await self._turn_away(client)
            else:
                await self._serve(client, ticket)
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            self._log.debug("admin client gone", remote=str(client.address))
        except Exception:  # noqa: BLE001 - the barrier: a bug in answering is that one connection's end
            self._log.exception("admin request failed", remote=str(client.address))
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
                await self._write(client, _BUG.encode())
        finally:
            if ticket is not None:
                ticket.release()
            await trio.aclose_forcefully(client.stream)

    async def _turn_away(self, client: Accepted) -> None:
        self._log.info("admin request refused", reason=_FULL.reason, remote=str(client.address))
        await self._write(client, _FULL.encode())

    async def _tell_of_guesses(self) -> None:
        while True:
            tally = await self._access.guesses.wait_limited()
            self._log.warning("admin token guessed", **attrs.asdict(tally))
            await trio.sleep(TOLD_EVERY)

    async def _serve(self, client: Accepted, ticket: Ticket) -> None:
        try:
            head = await read_head(client.stream, within=HEAD_TIMEOUT)
        except BadHead as bad:
            if bad.response is not None:
                await self._answer(client, None, bad.response)
            return
        # Until its head was read, a proxy's connection had its place as the proxy's own.
        client = attrs.evolve(client, address=self._access.client(client.address, head))
        if not ticket.claim(client.address):
            await self._turn_away(client)
            return
        match decide(head, self._access, client.address):
            case Response() as response:
                await self._answer(client, head, response)
            case AdminPage.EVENTS:
                await self._events(client, head)
            case AdminPage.STATUS:
                body = (await self._source.status()).render()
                await self._answer(client, head, _json(body))
            case AdminPage.METRICS:
                await self._answer(client, head, await self._metrics(head))
            case SnapshotOf(worker_id):
                await self._answer(client, head, await self._snapshot(worker_id, head))
            case TopicOf(name):
                await self._answer(client, head, await self._topic(name))

    async def _metrics(self, head: Head) -> Response:
        try:
            report = await self._report()
        except FleetError as error:
            return refusal(HTTPStatus.SERVICE_UNAVAILABLE, "fleet", str(error))
        report = (*report, _snapshots(self._source.about.metrics_prefix, self._quota))
        body, content_type = render(report, ",".join(head.values(b"accept")))
        return Response(HTTPStatus.OK, body, headers=(_NOSNIFF,), content_type=content_type)

    async def _topic(self, name: str) -> Response:
        try:
            channel = self._channel_of(name)
        except BadPath as error:
            return refusal(HTTPStatus.BAD_REQUEST, "bad_name", str(error))
        return _json((await self._source.audience(channel)).render(name))

    async def _snapshot(self, worker_id: str, head: Head) -> Response:
        wait = self._quota.begin(worker_id)
        if wait:
            text = "a snapshot of this worker was taken a moment ago"
            return refusal(HTTPStatus.TOO_MANY_REQUESTS, "snapshot_quota", text, retry_after=math.ceil(wait))
        try:
            body = await self._source.snapshot(worker_id)
        except UnknownWorkerError:
            self._quota.withdraw(worker_id)
            return refusal(HTTPStatus.NOT_FOUND, "unknown_worker", "there is no such worker")
        except SilentWorkerError:
            self._quota.failed()
            return refusal(HTTPStatus.GATEWAY_TIMEOUT, "silent_worker", "the worker did not answer in time")
        except Exception:
            # A bug, which `serve` answers and logs.
            self._quota.failed()
            raise
        self._quota.taken()
        name = f"{self._source.about.daemon}-{worker_id}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
        headers = [("Content-Disposition", f'attachment; filename="{name}"'), ("Vary", "Accept-Encoding")]
        if takes_gzip(head):
            return _json(body, ("Content-Encoding", "gzip"), *headers)
        return _json(await trio.to_thread.run_sync(_unzip, body, abandon_on_cancel=True), *headers)

    async def _events(self, client: Accepted, head: Head) -> None:
        self._log.debug("admin request", **_asked(client, head), status=int(HTTPStatus.OK))
        await self._write(client, _events_head())
        if head.method == "HEAD":
            return
        async with trio.open_nursery() as nursery:

            async def until_gone() -> None:
                # It has nothing more to say: what comes is the end of it.
                with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                    while await client.stream.receive_some(4096):
                        pass
                nursery.cancel_scope.cancel()

            nursery.start_soon(until_gone)
            try:
                await self._stream(client)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self._log.debug("admin client gone", remote=str(client.address))
            except trio.TooSlowError:
                self._log.info("admin client dropped", reason="takes nothing", remote=str(client.address))
            except Exception:  # noqa: BLE001 - not for the barrier of `serve`, which would answer a second time
                self._log.exception("admin request failed", remote=str(client.address))
            nursery.cancel_scope.cancel()

    async def _stream(self, client: Accepted) -> None:
        """The status at once, then at every change, then a comment now and then."""
        feed = self._feed
        with feed.listening():
            version = feed.version
            body = (await self._source.status()).render()
            while True:
                await self._write(client, b"event: status\ndata: " + body + b"\n\n")
                sent = trio.current_time()
                while True:
                    with trio.move_on_after(ALIVE) as silence:
                        await feed.wait_newer(version)
                    if not silence.cancelled_caught:
                        break
                    await self._write(client, _COMMENT)
                await trio.sleep_until(sent + PAUSE)
                version, body = feed.version, feed.body

    async def _answer(self, client: Accepted, head: Head | None, response: Response) -> None:
        asked = {"remote": str(client.address)} if head is None else _asked(client, head)
        if response.reason:
            # Guesses are told of by their number.
            log = self._log.debug if response.reason == GUESSING else self._log.info
            why = {"reason": response.reason, **({"error": response.detail} if response.detail else {})}
            log("admin request refused", **asked, status=int(response.status), **why)
        else:
            self._log.debug("admin request", **asked, status=int(response.status))
        await self._write(client, response.encode(head_only=head is not None and head.method == "HEAD"))
        with trio.move_on_after(LINGER):
            await client.stream.send_eof()
        await linger(client, self._turns)

    async def _write(self, client: Accepted, data: bytes) -> None:
        """Write `data`. Raises `trio.TooSlowError` when the client takes nothing of a piece in time."""
        for start in range(0, len(data), PIECE):
            with trio.fail_after(WRITE_TIMEOUT):
                await client.stream.send_all(data[start : start + PIECE])


def takes_gzip(head: Head) -> bool:
    """Whether the request takes a gzipped answer (RFC 9110, section 12.5.3)."""
    for token in head.tokens(b"accept-encoding"):
        coding, *parameters = (part.strip() for part in token.split(";"))
        if coding in {"gzip", "x-gzip"}:
            return not any(parameter in {"q=0", "q=0.0", "q=0.00", "q=0.000"} for parameter in parameters)
    return False


def _asked(client: Accepted, head: Head) -> dict[str, str]:
    return {"remote": str(client.address), **head.asked()}


def _json(body: bytes, *headers: tuple[str, str]) -> Response:
    return Response(HTTPStatus.OK, body, headers=(_NOSNIFF, *headers), content_type="application/json")


def _snapshots(prefix: str, quota: Quota) -> Family:
    name = f"{prefix}_snapshots"
    samples = [(f"{name}_total", (("outcome", outcome),), float(number)) for outcome, number in quota.outcomes.items()]
    return Family(name, "counter", "Snapshots of workers that were asked for", tuple(samples))


def _events_head() -> bytes:
    lines = [
        "HTTP/1.1 200 OK",
        f"Date: {formatdate(usegmt=True)}",
        "Content-Type: text/event-stream",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        "Connection: close",
    ]
    return "".join(line + "\r\n" for line in [*lines, ""]).encode("ascii")


def _unzip(body: bytes) -> bytes:
    return zlib.decompress(body, zlib.MAX_WBITS | 16)


_FULL: Final = refusal(HTTPStatus.SERVICE_UNAVAILABLE, "too_many_connections", "too many connections", retry_after=1)
_BUG: Final = refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "internal_error", "internal error")
