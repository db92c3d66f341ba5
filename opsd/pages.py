"""The page and what it is made of: read once, from the package, before the first request.

Only what was found then can be asked for, so that no path leads anywhere else.
"""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from importlib.resources.abc import Traversable

INDEX: Final = "index.html"

_TYPES: Final = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "json": "application/json",
    "png": "image/png",
    "svg": "image/svg+xml",
    "woff2": "font/woff2",
}
_TEXT: Final = "text/plain; charset=utf-8"


@attrs.frozen
class PageFile:
    """One file."""

    body: bytes = attrs.field(repr=False)
    content_type: str
    etag: str


def load_pages() -> Mapping[str, PageFile]:
    """All files of the page by their path below `web/`, such as `vendor/uplot/uPlot.esm.js`."""
    return dict(_walk(files("opsd") / "web", ""))


def _walk(directory: Traversable, prefix: str) -> Iterator[tuple[str, PageFile]]:
    for entry in directory.iterdir():
        name = prefix + entry.name
        # Caches of tools and editors, and what an installer compiled.
        if entry.name.startswith((".", "__")):
            continue
        if entry.is_dir():
            yield from _walk(entry, f"{name}/")
        elif entry.is_file():
            body = entry.read_bytes()
            _, dot, ending = entry.name.rpartition(".")
            content_type = _TYPES.get(ending.lower(), _TEXT) if dot else _TEXT
            yield name, PageFile(body, content_type, f'"{hashlib.sha256(body).hexdigest()[:32]}"')
