"""What preflightd can be told: the shared settings with its own prefix and defaults, and the resync (SPEC 2)."""

# ruff: noqa: RUF009 - each call makes an attribute's description for attrs; no instance shares a mutable default

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

import attrs

from common.config import Settings, fields
from common.config.shared import LISTEN_ADDR_DOC, REDIS_REQUEST_TIMEOUT_DOC, REDIS_URL_DOC
from common.config.variables import ConfigError, Variable, quoted, variable
from preflightd.checklist import Checklist, load_checklist, packaged
from preflightd.language import RulesError

if TYPE_CHECKING:
    from common.config import ListenAddress
    from common.config.variables import Environment
    from common.redis.url import RedisURL

PUSHES: Final = ("content", "hash")
CHECKLIST_DOC: Final = "a file with the checklist's rules, instead of the package's"


class _Checklist(Variable[Checklist]):
    """A file that can't be used ends the start: browsers would be told something else than the operator meant."""

    def default_value(self) -> Checklist:
        return packaged()

    def read(self, environment: Environment, attribute: str) -> Checklist:
        name = environment.name(attribute)
        path = environment.get(name)
        if path is None:
            return packaged()
        try:
            return load_checklist(path)
        except RulesError as error:
            raise ConfigError(f"{name}={quoted(path)}: {error}") from None

    def show(self, value: Checklist) -> str:
        return value.source


def _parse_push(text: str) -> str:
    """When a frame is pushed. Raises ValueError."""
    if text.lower() not in PUSHES:
        raise ValueError(f"neither {' nor '.join(PUSHES)}")
    return text.lower()


@attrs.frozen(kw_only=True)
class PreflightSettings(Settings):
    """The variables with the prefix `PREFLIGHT_`."""

    prefix: ClassVar[str] = "PREFLIGHT_"

    listen_addr: ListenAddress = fields.listen_address(":9001", LISTEN_ADDR_DOC)
    redis_url: RedisURL = fields.redis_url("redis://localhost:6379/0", REDIS_URL_DOC, database_matters=True)
    redis_request_timeout: float = fields.duration("500ms", REDIS_REQUEST_TIMEOUT_DOC)
    resync_interval: float = fields.duration(
        "30s", "how often each watched hash is read again without a notification; 0 is off", zero=True
    )
    checklist: Checklist = variable(_Checklist(default="", doc=CHECKLIST_DOC))
    push: str = fields.plain(
        "content", "push a frame when its `content` changes, or at every change of the `hash`", _parse_push
    )
    max_hash: int = fields.size("8MB", "the largest run hash that is read; the clients of a larger one are ended")
