"""What statusd can be told: the shared settings with its own prefix and defaults (SPEC 2)."""

# ruff: noqa: RUF009 - each call makes an attribute's description for attrs; no instance shares a mutable default

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import attrs

from common.config import Settings, fields
from common.config.settings import HANGUP_DOC
from common.config.shared import LISTEN_ADDR_DOC, REDIS_URL_DOC
from common.disconnect import HANGUPS, LASTING_HANGUPS

if TYPE_CHECKING:
    from common.config import ListenAddress
    from common.redis.url import RedisURL


@attrs.frozen(kw_only=True)
class StatusSettings(Settings):
    """The variables with the prefix `STATUS_`."""

    prefix: ClassVar[str] = "STATUS_"

    listen_addr: ListenAddress = fields.listen_address(":9002", LISTEN_ADDR_DOC)
    redis_url: RedisURL = fields.redis_url("redis://localhost:6379/2", REDIS_URL_DOC, messages=True)
    # The platform's log panel never comes back after a hangup: it is sent only where coming back is in vain.
    hangup: frozenset[str] = fields.choices(",".join(LASTING_HANGUPS), HANGUP_DOC, HANGUPS)
