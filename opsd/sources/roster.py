"""All sources that the settings name. The board that they are given to owns them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opsd.sources.daemon import DaemonSource
from opsd.sources.polled import PolledSource
from opsd.sources.target import OUTSIDE

if TYPE_CHECKING:
    import random

    from opsd.settings import OpsSettings


def make_sources(settings: OpsSettings, rng: random.Random) -> list[PolledSource]:
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
