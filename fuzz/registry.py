"""All targets: the one place to add one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fuzz import conversation
from fuzz.targets import checklist, cluster, configuration, frames, http_head, resp, rules, sentinels

if TYPE_CHECKING:
    from fuzz.target import FuzzTarget

TARGETS: Final[tuple[FuzzTarget, ...]] = (
    checklist.TARGET,
    cluster.TARGET,
    configuration.TARGET,
    conversation.TARGET,
    frames.TARGET,
    http_head.TARGET,
    resp.TARGET,
    rules.TARGET,
    sentinels.TARGET,
)
