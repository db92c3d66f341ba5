"""The platform's daemons, as the others have to know them: the health check, the demo, opsd, the bench, the tests.

Values only: nothing of a daemon is imported. Each daemon's own settings say the same, which a test holds together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping


@attrs.frozen(kw_only=True)
class KnownDaemon:
    """One of them, with its defaults."""

    name: str
    """Also that of its package, and of its command."""
    prefix: str
    """Of its environment variables."""
    host: str = ""
    """Where it listens, as LISTEN_ADDR has it; empty is every interface."""
    port: int
    database: int
    """Of Redis."""
    admin_port: int | None = None
    """Where opsd looks for its operator's listener on this machine; None for a daemon that has none."""

    @property
    def listen_addr(self) -> str:
        """The default of its LISTEN_ADDR."""
        return f"{self.host}:{self.port}"

    def variable(self, name: str) -> str:
        """The environment variable of a setting: `REDIS_URL` is `STATUS_REDIS_URL`."""
        return f"{self.prefix}{name.upper()}"


STATUS: Final = KnownDaemon(name="statusd", prefix="STATUS_", port=9002, database=2, admin_port=9102)
PREFLIGHT: Final = KnownDaemon(name="preflightd", prefix="PREFLIGHT_", port=9001, database=0, admin_port=9101)
OPS: Final = KnownDaemon(name="opsd", prefix="OPS_", host="127.0.0.1", port=9003, database=3)

DAEMONS: Final[Mapping[str, KnownDaemon]] = {known.name: known for known in (STATUS, PREFLIGHT, OPS)}
"""All of them, by name."""

WATCHED: Final = tuple(known for known in DAEMONS.values() if known.admin_port is not None)
"""Those that opsd watches."""
