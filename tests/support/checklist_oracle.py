"""The checklist by another way: the table written out as boolean expressions over plain integers, and JSON by hand.

Shares nothing with `preflightd.checklist` but the table that both are drawn from, so a mistake would have to be made
twice, in two ways.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SMALLEST: Final = -(2**63)
LARGEST: Final = 2**63 - 1

_BEFORE_THE_DEBRIS_FLOW: Final = """
    fetch_dem build_channels set_outlet find_outlet build_subcatchments abstract_watershed build_landuse
    build_rangeland_cover build_soils init_sbs_map build_polaris build_rusle build_climate
"""

_ESCAPES: Final = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def expected_checklist(fields: Mapping[bytes, bytes]) -> dict[str, bool]:
    """The booleans of a run hash, in the order of the table."""

    def text(name: str) -> bytes:
        return fields.get(b"timestamps:" + name.encode(), b"")

    def stamp(name: str) -> int | None:
        return number(text(name))

    channels = stamp("build_channels")
    watershed = stamp("abstract_watershed")
    landuse = stamp("build_landuse")
    rangeland = stamp("build_rangeland_cover")
    soils = stamp("build_soils")
    climate = stamp("build_climate")
    watar = stamp("run_watar")
    rusle = stamp("build_rusle")
    contrasts = stamp("run_omni_contrasts")
    scenarios = stamp("run_omni_scenarios")
    ag_fields = stamp("run_ag_fields")
    geneva = stamp("run_geneva")
    burnt = fields.get(b"attrs:has_sbs", b"") == b"true"
    on_watershed = stamp("run_wepp_watershed")
    on_hillslopes = stamp("run_wepp")
    has_run = text("run_wepp_watershed") != b"" or text("run_wepp") != b""
    wepp = on_watershed if text("run_wepp_watershed") != b"" else on_hillslopes
    wepp_or_rusle = wepp if has_run else rusle
    before_contrasts = highest([scenarios, on_watershed, on_hillslopes])
    last_wepp = highest([stamp("run_wepp_hillslopes"), on_watershed, on_hillslopes])

    def after_the_model(name: str) -> bool:
        run = stamp(name)
        return newer(run, landuse) and newer(run, soils) and newer(run, climate) and newer(run, wepp)

    def debris_flow() -> bool:
        flow = stamp("run_postfire_debris_flow")
        if flow is None or flow <= 0:
            return False
        for name in _BEFORE_THE_DEBRIS_FLOW.split():
            if b"timestamps:" + name.encode() in fields:
                before = stamp(name)
                if before is None or before <= 0 or before >= flow:
                    return False
        return True

    return {
        "sbs_map": burnt,
        "channels": b"timestamps:build_channels" in fields,
        "outlet": newer(highest([stamp("set_outlet"), stamp("find_outlet")]), channels),
        "subcatchments": newer(watershed, channels),
        "landuse": newer(landuse, watershed),
        "rangeland_cover": text("build_rangeland_cover") != b"",
        "soils": newer(soils, watershed) and (newer(soils, landuse) or newer(soils, rangeland)),
        "climate": newer(climate, watershed),
        "rap_ts": newer(stamp("build_rap_ts"), climate),
        "openet_ts": newer(stamp("build_openet_ts"), climate),
        "wepp": newer(wepp_or_rusle, landuse) and newer(wepp_or_rusle, soils) and newer(wepp_or_rusle, climate),
        "ag_fields": all(newer(ag_fields, other) for other in (last_wepp, watershed, landuse, soils, climate)),
        "observed": after_the_model("run_observed"),
        "debris": after_the_model("run_debris"),
        "watar": after_the_model("run_watar"),
        "omni_scenarios": newer(scenarios, wepp) if has_run else text("run_omni_scenarios") != b"",
        "omni_contrasts": (
            text("run_omni_contrasts") != b"" if before_contrasts is None else newer(contrasts, before_contrasts)
        ),
        "run_path_ce": newer(stamp("run_path_ce"), wepp),
        "roads": newer(stamp("run_roads"), wepp),
        "rhem": text("run_rhem") != b"",
        "rusle": newer(rusle, climate) and (not has_run or newer(rusle, wepp)),
        "geneva": (
            newer(geneva, landuse)
            and newer(geneva, soils)
            and newer(geneva, climate)
            and (not burnt or newer(geneva, stamp("init_sbs_map")))
        ),
        "postfire_debris_flow": debris_flow(),
        "dss_export": newer(stamp("dss_export"), highest([watar, on_watershed, on_hillslopes])),
    }


def expected_locks(fields: Mapping[bytes, bytes]) -> dict[str, bool]:
    """The lock statuses, in the order of their names; of several spellings of one name any that is held counts."""
    names = [
        (field[len(b"locked:") :], value) for field, value in fields.items() if field[: len(b"locked:")] == b"locked:"
    ]
    decoded = [(name.decode("utf-8", "replace"), value) for name, value in names if name]
    held = {name for name, value in decoded if value == b"true"}
    return {name: name in held for name in sorted({name for name, _ in decoded})}


def expected_last_modified(fields: Mapping[bytes, bytes]) -> int | None:
    """The field of that name if it is an integer, else the largest integer among the timestamps."""
    own = number(fields.get(b"last_modified", b""))
    stamps = [number(value) for field, value in fields.items() if field[: len(b"timestamps:")] == b"timestamps:"]
    return highest(stamps) if own is None else own


def expected_json(fields: Mapping[bytes, bytes]) -> str:
    """The JSON text that a client gets."""
    modified = expected_last_modified(fields)
    return (
        '{"type":"preflight"'
        f',"checklist":{_object(expected_checklist(fields))}'
        f',"lock_statuses":{_object(expected_locks(fields))}'
        + ("" if modified is None else f',"last_modified":{modified}')
        + "}"
    )


def number(text: bytes) -> int | None:
    """The integer that a field's value is, digit by digit; None if it is none, or not within signed 64 bits."""
    digits = text[1:] if text[:1] in (b"+", b"-") else text
    if digits == b"" or digits.strip(b"0123456789") != b"":
        return None
    value = 0
    for digit in digits:
        value = value * 10 + (digit - ord("0"))
        if value > -SMALLEST:
            return None
    value = -value if text[:1] == b"-" else value
    return None if value > LARGEST else value


def newer(left: int | None, right: int | None) -> bool:
    """`left > right`; false unless both are integers."""
    return left is not None and right is not None and left > right


def highest(values: Iterable[int | None]) -> int | None:
    """The largest of those that are integers."""
    integers = sorted(value for value in values if value is not None)
    return integers[-1] if integers else None


def _object(members: Mapping[str, bool]) -> str:
    return "{" + ",".join(f"{_string(name)}:{'true' if value else 'false'}" for name, value in members.items()) + "}"


def _string(text: str) -> str:
    escaped = (_ESCAPES.get(letter, f"\\u{ord(letter):04x}" if letter < " " else letter) for letter in text)
    return '"' + "".join(escaped) + '"'
