"""Which part the server of a link plays, asked for again and again, and what becomes of a link on a replica."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import trio

from common.redis.errors import RedisConnectionError
from common.redis.handshake import PRIMARY, REPLICA, ROLE_QUESTION, role_of
from common.redis.policy import Replica

if TYPE_CHECKING:
    from common.logs import Logger
    from common.redis.connection import Connection
    from common.redis.policy import LinkPolicy


class RoleWatch:
    """What the server was when it last said so; kept over reconnects, for that is where a change is seen.

    One belongs to a link. `LinkPolicy.replica` says what is put up with; where somebody `appoints` the primary, a
    connection that leads to another server is refused. `where` is the server's address, for messages; the link sets it
    before it tells what the server is. `changes` counts how often it was another part than before.
    """

    def __init__(self, *, policy: LinkPolicy, where: str, appoints: bool = False, log: Logger) -> None:
        self.where = where
        self.changes = 0
        self.demoted = trio.Event()
        """Set while a server is followed that was a primary, is none now, and is to be left for one."""
        self._policy = policy
        self._appoints = appoints
        self._log = log
        self.role: str | None = None
        """As the server last said; None where none has yet."""
        self._replica_told = False

    async def run(self, connection: Connection) -> None:
        """Ask for the role every `role_interval`, whatever else goes on; end the connection where the policy says so.

        It is cancelled with the connection.
        """
        while self._policy.role_interval < math.inf:
            await trio.sleep(self._policy.role_interval)
            reply = connection.probe(*ROLE_QUESTION)
            await reply.wait()
            try:
                self.note(role_of(reply.value))
            except RedisConnectionError as error:
                connection.fail(error)

    def greet(self, role: str | None) -> None:
        """A new connection's server has said what it is. Raises as `note` does."""
        if role == REPLICA and self._appoints:
            raise RedisConnectionError(f"a replica, and a primary is needed: {self.where}")
        self.note(role)

    def note(self, role: str | None) -> None:
        """The server has said what it is. Raises RedisConnectionError where that can't be put up with."""
        if role is None:
            # A proxy that does not tell, or a connection that ends.
            return
        before, self.role = self.role, role
        self.changes += before not in (None, role)
        if role == PRIMARY:
            if self._replica_told:
                self._log.info("redis is a primary again", address=self.where)
            self._replica_told = False
            if self.demoted.is_set():
                self.demoted = trio.Event()
            return
        if self._policy.replica is Replica.REFUSE:
            raise RedisConnectionError(f"a replica, and {self._policy.why_primary}: {self.where}")
        if self._policy.replica is Replica.LEAVE and before == PRIMARY:
            raise RedisConnectionError(f"the primary has become a replica: {self.where}")
        if not self._replica_told:
            self._log.warning("redis is a replica", address=self.where, warning="what it says may be late")
        self._replica_told = True
        if self._policy.replica is Replica.FOLLOW and before == PRIMARY:
            self.demoted.set()
