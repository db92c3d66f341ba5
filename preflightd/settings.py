"""What preflightd can be told: the shared settings with its own prefix and defaults, and the resync (SPEC 2)."""

# ruff: noqa: RUF009 - each call makes an attribute's description for attrs; no instance shares a mutable default

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import attrs

from common.config import Settings, fields
from common.config.settings import LISTEN_ADDR_DOC, REDIS_REQUEST_TIMEOUT_DOC, REDIS_URL_DOC

if TYPE_CHECKING:
    from common.config import ListenAddress
    from common.redis.url import RedisURL


@attrs.frozen(kw_only=True)
class PreflightSettings(Settings):
    """The variables with the prefix `PREFLIGHT_`."""

    prefix: ClassVar[str] = "PREFLIGHT_"

    listen_addr: ListenAddress = fields.listen_address(":9001", LISTEN_ADDR_DOC)
    redis_url: RedisURL = fields.redis_url("redis://localhost:6379/0", REDIS_URL_DOC)
    redis_request_timeout: float = fields.duration("500ms", REDIS_REQUEST_TIMEOUT_DOC)
    resync_interval: float = fields.duration(
        "30s", "how often each watched hash is read again without a notification; 0 is off", zero=True
    )
