"""Configuration: environment variables -> one frozen settings value, with what is wrong as warnings (SPEC 2).

Nothing here outlives the call of `load`; the settings live as long as the process.

values       text <-> durations, sizes, counts, booleans, levels, lists (pure)
addresses    text <-> listen addresses, networks, origin patterns (pure)
variables    the machinery: a settings class whose attributes say how each is read, shown and documented
fields       the kinds of variable: `duration("5s", …)`, `secret(…)`, `redis_url(…)`
shared       what every daemon has: where it listens, its Redis, its log; opsd's own class derives from it
settings     what statusd and preflightd have besides; their own classes derive from it

This package imports nothing of `common` but leaves: `common.disconnect`, `common.quote`, `common.secret`, and of
`common.redis` the URL and its TLS files.
"""

from common.config.addresses import IPNetwork, ListenAddress, UnixAddress
from common.config.settings import Settings
from common.config.shared import DaemonSettings
from common.config.variables import ConfigError, Configuration, Loaded, VariableRow, describe, load, rows

__all__ = [
    "ConfigError",
    "Configuration",
    "DaemonSettings",
    "IPNetwork",
    "ListenAddress",
    "Loaded",
    "Settings",
    "UnixAddress",
    "VariableRow",
    "describe",
    "load",
    "rows",
]
