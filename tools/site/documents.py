"""The documents of the repository, and what their links lead to."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).resolve().parents[2]

_PLACES: Final = ("*.md", "docs/*.md", "[!.]*/README.md", "bench/results/latest.md")
_LINK: Final = re.compile(r"\]\(([^()\s]+)\)")
_CODE: Final = re.compile(r"^(`{3,})[^\n]*\n.*?^\1$|`[^`\n]+`", re.MULTILINE | re.DOTALL)
_ELSEWHERE: Final = re.compile(r"[a-z]+:|#")


def documents(root: Path = ROOT) -> list[Path]:
    """Every document, README.md first."""
    found = {path for place in _PLACES for path in root.glob(place)}
    return sorted(found, key=lambda path: (path != root / "README.md", path))


def links(text: str) -> Iterator[str]:
    """The targets of a document's links and pictures, with their anchors; what is code has none."""
    yield from _LINK.findall(_CODE.sub("", text))


def targets(path: Path, root: Path = ROOT) -> Iterator[str]:
    """What the links of a document lead to inside of the repository, as paths from its root, without anchors. A path
    that leaves the repository begins with `..`."""
    home = path.parent.relative_to(root).as_posix()
    for link in links(path.read_text("utf-8")):
        if not _ELSEWHERE.match(link):
            yield posixpath.normpath(posixpath.join(home, link.partition("#")[0]))


def attachments(root: Path = ROOT) -> list[Path]:
    """The files that documents link to and that are no documents: configurations, pictures, scripts."""
    pages = set(documents(root))
    found = {root / target for page in pages for target in targets(page, root) if not target.startswith("..")}
    return sorted(path for path in found - pages if path.is_file())
