"""Results as files: `<time>.json`, `.md` and `.svg` of each run, and `latest.*` of the last that was whole."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import attrs

from bench.plot import render_plot
from bench.table import render_document

if TYPE_CHECKING:
    from pathlib import Path

    from bench.report import Document

_DIGITS: Final = 4


def store(document: Document, directory: Path, *, latest: bool) -> list[Path]:
    """Write, or write again, and say where. Raises OSError."""
    directory.mkdir(parents=True, exist_ok=True)
    texts = {
        "json": json.dumps(attrs.asdict(document, value_serializer=_rounded), indent=1) + "\n",
        "md": render_document(document),
        "svg": render_plot(document),
    }
    stamp = document.started[:19].replace(":", "").replace("-", "")
    written = []
    for name in (stamp, *(["latest"] if latest else [])):
        for suffix, text in texts.items():
            path = directory / f"{name}.{suffix}"
            path.write_text(text)
            written.append(path)
    return written


def _rounded(_instance: object, _field: object, value: object) -> object:
    """More digits than the clocks have would only be noise."""
    return round(value, _DIGITS) if isinstance(value, float) else value
