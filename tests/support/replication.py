"""When a replica has what its primary was told, and what a server says whose part may just be changing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.embedded_group import ask, information, settle

if TYPE_CHECKING:
    from common.embedded import EmbeddedRedis


async def wait_copied(primary: EmbeddedRedis, replica: EmbeddedRedis) -> None:
    """Wait until `replica` has everything that `primary` had been told when this was called.

    WAIT can't tell: it answers for what its own connection wrote, and each question has a connection of its own.
    """
    told = int((await information(primary, "replication"))["master_repl_offset"])

    async def copied() -> bool:
        said = await information(replica, "replication")
        return said.get("master_link_status") == "up" and int(said["slave_repl_offset"]) >= told

    await settle(f"the server of port {replica.port} has what that of port {primary.port} was told", copied)


async def question(node: EmbeddedRedis, *args: bytes | str | int) -> object:
    """The answer to what changes nothing, asked again where the connection is ended first.

    Each sentinel that gives a server another part ends all its clients.
    """
    answers: list[object] = []

    async def answered() -> bool:
        answers.append(await ask(node, *args))
        return True

    await settle(f"the server of port {node.port} answers {args[0]!r}", answered)
    return answers[0]
