"""Run hashes and the checklist's keys, as the specification's table has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from preflightd.checklist import packaged

if TYPE_CHECKING:
    from collections.abc import Mapping

KEYS: Final = [
    *("sbs_map", "channels", "outlet", "subcatchments", "landuse", "rangeland_cover", "soils", "climate", "rap_ts"),
    *("openet_ts", "wepp", "ag_fields", "observed", "debris", "watar", "omni_scenarios", "omni_contrasts"),
    *("run_path_ce", "roads", "rhem", "rusle", "geneva", "postfire_debris_flow", "dss_export"),
]

evaluate: Final = packaged().evaluate

LARGEST: Final = 2**63 - 1
SMALLEST: Final = -(2**63)

Value = int | str | None
"""Of a field: a number or a text, or None for a field that is missing."""


def stamps(**values: Value) -> dict[bytes, bytes]:
    """A run hash with these timestamps."""
    return {f"timestamps:{name}".encode(): str(value).encode() for name, value in values.items() if value is not None}


def checked(fields: Mapping[bytes, bytes], key: str) -> bool:
    """One row of the checklist."""
    return dict(evaluate(fields).checklist)[key]
