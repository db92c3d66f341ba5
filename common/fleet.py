"""What the server of one process wants to know of the whole daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from common.exposition import Report


class FleetError(Exception):
    """The other processes of the daemon did not answer in time."""


class Fleet(Protocol):
    """The processes of a daemon, seen from one of them."""

    def unready(self) -> str | None:
        """Why the daemon as a whole is not ready, in a line, apart from this process's own reasons; None if it is."""

    def stands_in(self) -> bool:
        """Whether other processes serve, so that this one may be on its way to its first contact with Redis."""

    async def report(self) -> Report:
        """The figures of all processes as one. Raises `FleetError`."""


class Alone:
    """A daemon of one process."""

    def __init__(self, report: Callable[[], Report]) -> None:
        self._report = report

    def unready(self) -> str | None:
        """Nothing that this process doesn't know itself."""
        return None

    def stands_in(self) -> bool:
        """There is nobody else."""
        return False

    async def report(self) -> Report:
        """This process's own figures."""
        return self._report()
