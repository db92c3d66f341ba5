"""How many clients follow a run, asked of the daemons that serve them: one answer is everybody's for a second.

`Viewers` lives as long as the board's sources, which it asks over their own connections, few at a time: a hundred open
pages must not take the places that the telemetry needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import attrs
import trio

from opsd.sources.interface import AudienceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from common.telemetry.values import Audience
    from opsd.sources.interface import Reading

FRESH: Final = 1.0
"""Seconds that an answer serves everybody who asks the same."""

TIMEOUT: Final = 3.0
"""Seconds that a source may take, the wait for its turn included."""

AT_ONCE: Final = 2
"""Questions to one source at a time."""

MOST_NAMES: Final = 256
"""Answers that are kept; the one that was asked for first is forgotten first."""


class Countable(Protocol):
    """A source, as far as it is asked here."""

    @property
    def name(self) -> str:
        """As the operator calls it."""

    @property
    def outside(self) -> bool:
        """Whether it is no daemon of this platform."""

    @property
    def reading(self) -> Reading:
        """The newest."""

    async def audience(self, name: str) -> Audience:
        """The clients that follow what a daemon calls by that name. Raises AudienceError."""


@attrs.frozen
class Count:
    """The clients of one name."""

    clients: int | None
    """None when nobody could be asked."""
    unavailable: tuple[str, ...]
    """The sources with clients that are not in the number."""

    def document(self) -> dict[str, object]:
        """As a JSON object."""
        return {"clients": self.clients, "unavailable": list(self.unavailable)}


@attrs.define(eq=False)
class _Kept:
    """An answer, and whose turn it is to ask for a newer one."""

    count: Count = Count(None, ())
    expires: float = float("-inf")
    asking: trio.Lock = attrs.field(factory=trio.Lock)


class Viewers:
    """See the module."""

    def __init__(self, sources: Sequence[Countable]) -> None:
        self._sources = [source for source in sources if not source.outside]
        self._places = {source.name: trio.Semaphore(AT_ONCE) for source in self._sources}
        self._kept: dict[tuple[str, str], _Kept] = {}

    async def count(self, daemon: str, name: str) -> Count:
        """The clients of `name` in all sources that are a `daemon`. The caller sets the deadline."""
        kept = self._kept.get((daemon, name))
        if kept is None:
            while len(self._kept) >= MOST_NAMES:
                del self._kept[next(iter(self._kept))]
            kept = self._kept[daemon, name] = _Kept()
        async with kept.asking:
            if trio.current_time() >= kept.expires:
                kept.count = await self._ask(daemon, name)
                kept.expires = trio.current_time() + FRESH
            return kept.count

    async def _ask(self, daemon: str, name: str) -> Count:
        sources = [source for source in self._sources if _daemon_of(source) == daemon]
        heard: dict[str, Audience] = {}

        async def ask(source: Countable) -> None:
            with trio.move_on_after(TIMEOUT):
                async with self._places[source.name]:
                    try:
                        heard[source.name] = await source.audience(name)
                    except AudienceError:
                        # It is named among the unavailable; why is in the board's log.
                        return

        async with trio.open_nursery() as nursery:
            for source in sources:
                nursery.start_soon(ask, source)
        whole = {source for source, audience in heard.items() if not audience.silent}
        return Count(
            sum(audience.clients for audience in heard.values()) if heard else None,
            tuple(source.name for source in sources if source.name not in whole),
        )


def _daemon_of(source: Countable) -> str:
    """What it says that it is; of one that does not answer, what the operator calls it."""
    status = source.reading.current(trio.current_time()).status
    return source.name if status is None or not status.daemon else status.daemon
