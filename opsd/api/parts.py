"""What the application is made of: the parts that its endpoints read, each as far as they need it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Protocol

import attrs
from starlette.requests import Request as HTTPRequest
from starlette.responses import Response

from opsd.alerts import Outcomes

if TYPE_CHECKING:
    from collections.abc import Sequence

    import trio

    from opsd.auth import Guard
    from opsd.board import Board
    from opsd.pages import PageFile
    from opsd.settings import OpsSettings
    from opsd.tmux.script import Window
    from opsd.tmux.status import TmuxStatus
    from opsd.viewers import Count

Calls = Mapping[str, Callable[[HTTPRequest], Awaitable[Response]]]
"""What answers, by the names of the table `opsd.endpoints`."""


class Records(Protocol):
    """Where the past is kept."""

    @property
    def working(self) -> bool:
        """Whether the last sample was recorded."""

    async def query(self, minutes: int, points: int) -> Sequence[Mapping[str, object]]:
        """Raises HistoryUnavailableError."""


class Counting(Protocol):
    """Who knows how many clients follow something."""

    async def count(self, daemon: str, name: str) -> Count:
        """See `opsd.viewers.Viewers`."""


class Terminals(Protocol):
    """The local tmux."""

    async def status(self) -> TmuxStatus:
        """See `opsd.tmux.session.Tmux`."""

    async def start(self, windows: Sequence[Window]) -> TmuxStatus:
        """See `opsd.tmux.session.Tmux`."""

    async def stop(self) -> TmuxStatus:
        """See `opsd.tmux.session.Tmux`."""


@attrs.frozen(kw_only=True)
class Parts:
    """What the application is made of."""

    settings: OpsSettings
    board: Board
    history: Records
    viewers: Counting
    tmux: Terminals
    windows: tuple[Window, ...]
    """Those of the session that may be started."""
    guard: Guard
    pages: Mapping[str, PageFile]
    closing: trio.Event
    """Set when the daemon ends: WebSockets must go."""
    alerts: Outcomes = attrs.field(factory=Outcomes)
