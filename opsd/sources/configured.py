"""All sources that the settings name. The board that they are given to owns them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from opsd.sources.daemon import DaemonSource
from opsd.sources.polled import PolledSource
from opsd.sources.target import OUTSIDE

if TYPE_CHECKING:
    import random

    from common.secret import Secret
    from opsd.sources.target import AdminTarget, SourceEndpoint


class SourceSettings(Protocol):
    """What is named, as `opsd.settings` has it, which knows what a target is from here."""

    @property
    def targets(self) -> tuple[AdminTarget, ...]:
        """The daemons."""

    @property
    def targets_token(self) -> Secret | None:
        """What their listeners ask for."""

    @property
    def workers_url(self) -> SourceEndpoint | None:
        """The API from outside."""

    @property
    def workers_timeout(self) -> float:
        """Seconds for a request to any of them."""


def make_sources(settings: SourceSettings, rng: random.Random) -> list[PolledSource]:
    """All sources that the settings name, not yet running."""
    sources: list[PolledSource] = [
        DaemonSource(target, token=settings.targets_token, seconds=settings.workers_timeout, rng=rng)
        for target in settings.targets
    ]
    if settings.workers_url is not None:
        sources.append(
            # The targets' token is for the targets.
            PolledSource(
                OUTSIDE, settings.workers_url, token=None, seconds=settings.workers_timeout, outside=True, rng=rng
            )
        )
    return sources
