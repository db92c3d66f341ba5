"""The document as a picture: bars of every target, row by row, and how near the goals are. Pure.

Plain SVG, drawn here: no script, no style sheet, nothing that is fetched from elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree as ET

import attrs

from bench.figures import FIGURES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.report import Document, RowReport

SVG: Final = "http://www.w3.org/2000/svg"

_WIDTH: Final = 860
_COLUMNS: Final = (240, 500)
"""Where bars begin, and how long the longest is."""
_GOAL_COLUMNS: Final = (620, 170)
_MOST_SHARE: Final = 4.0
"""A bar that is longer is cut."""
_LINE: Final = 18
_GAP: Final = 12
_SUBJECT: Final = "#1f6feb"
_PEER: Final = "#8c959f"
_LIMIT: Final = "#1a7f37"
_BAD: Final = "#cf222e"
_TEXT: Final = "#24292f"
_PANELS: Final = ("cpu_us", "p99_ms", "core_percent", "in_s", "client_kb")


@attrs.frozen
class Bar:
    """`value` in the panel's unit, `text` what is written beside it."""

    label: str
    value: float
    text: str
    colour: str


@attrs.frozen
class Group:
    """Bars that share a scale of their own."""

    title: str
    bars: Sequence[Bar]


def render_plot(document: Document) -> str:
    """An SVG document."""
    root = ET.Element("svg", xmlns=SVG)
    y = 10.0
    for title, groups in panels(document):
        y = _draw_panel(root, y, title, groups)
    root.set("viewBox", f"0 0 {_WIDTH} {y:g}")
    root.set("width", str(_WIDTH))
    root.set("height", f"{y:g}")
    root.set("font-family", "sans-serif")
    root.set("font-size", "12")
    background = ET.Element("rect", width="100%", height="100%", fill="#ffffff")
    root.insert(0, background)
    return ET.tostring(root, encoding="unicode") + "\n"


def panels(document: Document) -> list[tuple[str, list[Group]]]:
    """What is drawn, those panels only for which there is something."""
    found = []
    for name in _PANELS:
        groups = [group for row in document.rows if name in row.table and (group := _group(row, name)).bars]
        if groups:
            found.append((FIGURES[name].title, groups))
    if goals := [bar for row in document.rows for bar in _goal_bars(row)]:
        found.append(("Goals: measured, as a share of what is allowed (1 is the limit)", [Group("", goals)]))
    return found


def _group(row: RowReport, name: str) -> Group:
    return Group(
        row.name,
        [
            Bar(target, values[name].median, FIGURES[name].text(values[name].median), _colour(row, target))
            for target, values in row.targets.items()
            if name in values
        ],
    )


def _colour(row: RowReport, target: str) -> str:
    if target in row.subjects:
        return _SUBJECT
    return _LIMIT if target == "limit" else _PEER


def _goal_bars(row: RowReport) -> list[Bar]:
    """Goals whose share can be told: those of zero have none, and are in the table."""
    return [
        Bar(f"{row.name}, {verdict.goal}", verdict.share, f"{verdict.share:.2f}", _LIMIT if verdict.met else _BAD)
        for verdict in row.goals
        if verdict.share is not None
    ]


def _draw_panel(root: ET.Element, y: float, title: str, groups: Sequence[Group]) -> float:
    """Returns where the next begins."""
    _text(root, 10, y + 16, title, weight="bold", size="15")
    y += 28
    for group in groups:
        wide = not group.title
        if group.title:
            _text(root, 10, y + 13, group.title)
        labels, bars = _GOAL_COLUMNS if wide else _COLUMNS
        top = max(bar.value for bar in group.bars) or 1.0
        if wide:
            top = min(max(top, 1.25), _MOST_SHARE)
        begin = y
        for bar in group.bars:
            length = max(1.0, min(1.0, bar.value / top) * bars)
            _text(root, labels - 6, y + 13, bar.label, anchor="end", size="10" if wide else "12")
            ET.SubElement(
                root,
                "rect",
                x=str(labels),
                y=f"{y + 2:g}",
                width=f"{length:.1f}",
                height=str(_LINE - 4),
                fill=bar.colour,
            )
            _text(root, labels + length + 5, y + 13, bar.text)
            y += _LINE
        if wide:
            x = f"{labels + bars / top:.1f}"
            ET.SubElement(root, "line", x1=x, x2=x, y1=f"{begin:g}", y2=f"{y:g}", stroke=_TEXT)
        y += _GAP
    return y + _GAP


def _text(
    root: ET.Element,
    x: float,
    y: float,
    content: str,
    *,
    anchor: str = "start",
    weight: str = "normal",
    size: str = "12",
) -> None:
    element = ET.SubElement(root, "text", x=f"{x:.1f}", y=f"{y:g}", fill=_TEXT)
    element.set("text-anchor", anchor)
    element.set("font-weight", weight)
    element.set("font-size", size)
    element.text = content
