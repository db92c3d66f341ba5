"""A private group under Redis Sentinel for the demo, bench and tests: a primary, replicas and sentinels, on loopback.

`open_embedded_sentinel` owns all of them until its block is left. Nothing is persisted, so a primary that comes back is
empty, and says that it is a primary until a sentinel tells it otherwise: as it is with a cache that has no disk.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import attrs

from common.embedded import EmbeddedRedisError
from common.embedded_group import (
    HOST,
    NodePlan,
    ServerTLS,
    ask,
    information,
    open_group,
    settle,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from common.embedded import EmbeddedRedis

MASTER: Final = "mymaster"
"""What the sentinels call the group."""

_HASTE: Final = ("PUBLISH-PERIOD", "100", "INFO-PERIOD", "200")
_ORDINARY: Final = ("PUBLISH-PERIOD", "2000", "INFO-PERIOD", "10000")
"""Milliseconds after which a sentinel says who it is, and asks who there is: while a group forms, and as is usual."""


@asynccontextmanager
async def open_embedded_sentinel(
    *,
    replicas: int = 1,
    sentinels: int = 3,
    down_after: float = 1.0,
    notify: str = "Kghx",
    password: str | None = None,
    sentinel_password: str | None = None,
    tls: ServerTLS | None = None,
    program: Path | None = None,
) -> AsyncIterator[EmbeddedSentinel]:
    """Start a group whose sentinels have all found each other and the replicas when the block is entered.

    A primary that does not answer for `down_after` seconds is down; a majority of the sentinels has to agree. With
    `tls` all ports speak TLS, the sentinels' too. Raises `EmbeddedRedisError` when there is no server on this machine
    or the group does not form, `NoTLSError` when the server has no TLS.
    """
    size = 1 + replicas
    quorum = sentinels // 2 + 1

    def server(ports: Sequence[int], own: int) -> list[tuple[str, ...]]:
        return _server(ports, own, password, tls)

    def watcher(ports: Sequence[int], own: int) -> list[tuple[str, ...]]:
        return _watcher(ports, own, quorum, down_after, password, sentinel_password, tls)

    servers = [NodePlan(server, password, notify)] * size
    watchers = [NodePlan(watcher, sentinel_password, arguments=("--sentinel",))] * sentinels
    async with open_group([*servers, *watchers], program=program) as nodes:
        group = EmbeddedSentinel(nodes[:size], nodes[size:], password, sentinel_password, tls)
        await group.form()
        yield group


def _server(ports: Sequence[int], own: int, password: str | None, tls: ServerTLS | None) -> list[tuple[str, ...]]:
    settings: list[tuple[str, ...]] = [("repl-diskless-sync-delay", "0"), ("repl-timeout", "10")]
    if tls is not None:
        settings += tls.settings(ports[own])
    if password is not None:
        settings.append(("masterauth", password))
    if own != 0:
        settings.append(("replicaof", HOST, str(ports[0])))
    return settings


def _watcher(
    ports: Sequence[int],
    own: int,
    quorum: int,
    down_after: float,
    password: str | None,
    sentinel_password: str | None,
    tls: ServerTLS | None,
) -> list[tuple[str, ...]]:
    settings: list[tuple[str, ...]] = [] if tls is None else tls.settings(ports[own])
    settings.append(("sentinel", "monitor", MASTER, HOST, str(ports[0]), str(quorum)))
    settings.append(("sentinel", "down-after-milliseconds", MASTER, str(round(down_after * 1000))))
    settings.append(("sentinel", "failover-timeout", MASTER, "10000"))
    if password is not None:
        settings.append(("sentinel", "auth-pass", MASTER, password))
    if sentinel_password is not None:
        settings.append(("sentinel", "sentinel-pass", sentinel_password))
    return settings


@attrs.frozen
class EmbeddedSentinel:
    """The group; made by `open_embedded_sentinel`. Each server is killed, halted, continued, restarted by its own
    methods; `common.embedded_group.ask` asks it."""

    nodes: Sequence[EmbeddedRedis]
    """The servers with the data, whatever their part is now; the first began as the primary."""
    sentinels: Sequence[EmbeddedRedis]
    password: str | None = attrs.field(repr=False)
    sentinel_password: str | None = attrs.field(repr=False)
    tls: ServerTLS | None = None

    def url(self, db: int = 0, *, options: str = "") -> str:
        """The URL of the group for the daemons, with the servers' password and all sentinels. The sentinels' own
        password is not in it; with TLS the authority is, and then `options` (`name=value&…`)."""
        userinfo = "" if self.password is None else f":{quote(self.password, safe='')}@"
        hosts = ",".join(f"{HOST}:{sentinel.port}" for sentinel in self.sentinels)
        scheme = "redis+sentinel" if self.tls is None else "rediss+sentinel"
        asked = [] if self.tls is None else [f"ssl_ca_certs={quote(str(self.tls.authority))}"]
        query = "&".join([*asked, *filter(None, [options])])
        return f"{scheme}://{userinfo}{hosts}/{MASTER}/{db}" + (f"?{query}" if query else "")

    async def form(self) -> None:
        """Wait until every sentinel knows the replicas and the other sentinels, and every replica has the data."""
        await self.wait_synced()
        for sentinel in self.sentinels:
            await ask(sentinel, "SENTINEL", "DEBUG", *_HASTE)
        await settle("the sentinels know each other and the replicas", self._formed)
        for sentinel in self.sentinels:
            await ask(sentinel, "SENTINEL", "DEBUG", *_ORDINARY)

    async def primary(self) -> EmbeddedRedis:
        """The server that the most sentinels name; raises `EmbeddedRedisError` when none answers."""
        votes = await self.votes()
        if not votes:
            raise EmbeddedRedisError("no sentinel answers")
        port = max(set(votes), key=votes.count)
        return next(node for node in self.nodes if node.port == port)

    async def replicas(self) -> list[EmbeddedRedis]:
        """The servers that are not the primary, running or not."""
        primary = await self.primary()
        return [node for node in self.nodes if node is not primary]

    async def votes(self) -> list[int]:
        """The port of the primary that each sentinel names; of those sentinels that answer."""
        named: list[int] = []
        for sentinel in self.sentinels:
            if sentinel.answering:
                reply = await ask(sentinel, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER)
                if isinstance(reply, list):
                    named.append(int(reply[1]))
        return named

    async def failover(self) -> EmbeddedRedis:
        """Move the primary's part to a replica, as an operator does; return the new primary when all sentinels that
        answer name it and it says so itself. The old one may go on as a primary for ten seconds."""
        old = await self.primary()
        asked = next(sentinel for sentinel in self.sentinels if sentinel.answering)

        async def begun() -> bool:
            # Refused while it is not known yet that the replica is fit, and until the failover before is over.
            await ask(asked, "SENTINEL", "FAILOVER", MASTER)
            return True

        await settle("a sentinel begins a failover", begun)
        return await self.wait_moved(old)

    async def wait_moved(self, old: EmbeddedRedis) -> EmbeddedRedis:
        """Wait until all sentinels that answer name one primary that is not `old` and says that it is one; return
        it."""

        async def moved() -> bool:
            votes = set(await self.votes())
            if len(votes) != 1 or old.port in votes:
                return False
            return (await information(await self.primary(), "replication"))["role"] == "master"

        await settle("the sentinels name another primary", moved)
        return await self.primary()

    async def wait_synced(self) -> None:
        """Wait until every server that answers, but one, is a replica that has synchronised with its primary."""

        async def synced() -> bool:
            said = [await information(node, "replication") for node in self.nodes if node.answering]
            return sum(each["role"] == "master" for each in said) == 1 and all(
                each["role"] == "master" or each.get("master_link_status") == "up" for each in said
            )

        await settle("the replicas have the primary's data", synced)

    async def _formed(self) -> bool:
        for sentinel in self.sentinels:
            reply = await ask(sentinel, "SENTINEL", "MASTER", MASTER)
            master = _pairs(reply)
            fit = [_pairs(replica) for replica in _list(await ask(sentinel, "SENTINEL", "REPLICAS", MASTER))]
            if (
                master[b"flags"] != b"master"
                or int(master[b"num-other-sentinels"]) != len(self.sentinels) - 1
                or [replica[b"master-link-status"] for replica in fit] != [b"ok"] * (len(self.nodes) - 1)
            ):
                return False
        return True


def _list(reply: object) -> list[object]:
    if not isinstance(reply, list):
        raise EmbeddedRedisError(f"not a list: {reply!r}")
    return reply


def _pairs(reply: object) -> dict[bytes, bytes]:
    """A list of names and values, in turn."""
    flat = _list(reply)
    return dict(zip(flat[::2], flat[1::2], strict=True))  # type: ignore[arg-type]
