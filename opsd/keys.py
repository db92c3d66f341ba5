"""Under which Redis keys the past is kept. Pure but for the name of this machine.

Several opsd may have one Redis. Those that look at the same sources have one past, others have their own. A source on
loopback or on a Unix socket is this machine's: the same words mean another one elsewhere.
"""

from __future__ import annotations

import hashlib
import platform
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import attrs

from opsd.auth import is_loopback
from opsd.sources.target import OUTSIDE

if TYPE_CHECKING:
    from opsd.settings import OpsSettings
    from opsd.sources.target import SourceEndpoint

_DIGITS: Final = 16


@attrs.frozen
class Keys:
    """Those of one set of sources."""

    history: str
    alerts: str


def keys_of(settings: OpsSettings, host: str | None = None) -> Keys:
    """The keys for the sources that the settings name, in whatever order; `host` is this machine's name."""
    here = platform.node() if host is None else host
    sources = {target.name: target.endpoint for target in settings.targets}
    if settings.workers_url is not None:
        sources[OUTSIDE] = settings.workers_url
    named = sorted(f"{name}={_place(endpoint, here)}" for name, endpoint in sources.items())
    digest = hashlib.sha256("\n".join(named).encode()).hexdigest()[:_DIGITS]
    return Keys(f"opsd:history:{digest}", f"opsd:alerts:{digest}")


def _place(endpoint: SourceEndpoint, host: str) -> str:
    local = endpoint.socket is not None or is_loopback(urlsplit(endpoint.url).hostname)
    return f"{host} {endpoint}" if local else str(endpoint)
