"""The platform's own daemons as windows of a tmux session: which of them, with what environment. Pure.

A daemon gets opsd's environment, in which its own variables are, without what is meant for opsd. If the operator has
not said where its admin listener is, it is where OPS_TARGETS looks for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from common.activation import PERSONAL
from common.daemons import DAEMONS, OPS
from common.modules import module_command
from opsd.auth import is_loopback
from opsd.tmux.script import Window

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from opsd.sources.target import AdminTarget


def platform_windows(targets: Sequence[AdminTarget], environ: Mapping[str, str]) -> tuple[Window, ...]:
    """A window for each daemon that `targets` expects on this machine."""
    ours = tuple(sorted(name for name in environ if name.startswith(OPS.prefix) or name in PERSONAL))
    inherited = {name: value for name, value in environ.items() if name not in ours}
    windows: list[Window] = []
    for target in targets:
        known, address = DAEMONS.get(target.name), admin_address(target)
        if known is not None and known.admin_port is not None and address is not None:
            own = {known.variable("ADMIN_LISTEN_ADDR"): address} | inherited
            windows.append(Window(target.name, tuple(module_command(target.name)), own, without=ours))
    return tuple(windows)


def admin_address(target: AdminTarget) -> str | None:
    """What the daemon's ADMIN_LISTEN_ADDR has to be; None for a target that is not on this machine."""
    if target.endpoint.socket is not None:
        return f"unix:{target.endpoint.socket}"
    parts = urlsplit(target.endpoint.url)
    if parts.scheme != "http" or parts.path or not is_loopback(parts.hostname):
        return None
    return parts.netloc if parts.port is not None else f"{parts.netloc}:80"
