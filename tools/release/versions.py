"""Whether all that names a version names the same, and what the changelog says of it. Pure."""

from __future__ import annotations

import re
from typing import Final

UNRELEASED: Final = "Unreleased"

_SECTION: Final = re.compile(r"^## \[([^\]]+)\](.*)$", re.MULTILINE)
_VERSION: Final = re.compile(r"\d+\.\d+\.\d+(?:rc\d+)?")
_DAY: Final = re.compile(r" - \d{4}-\d{2}-\d{2}")
_IMAGE: Final = re.compile(r"^ARG VERSION=(.*)$", re.MULTILINE)
_HEADING: Final = re.compile(r"^#.*$", re.MULTILINE)


def disagreements(version: str, changelog: str, containerfile: str, tag: str | None) -> list[str]:
    """What is wrong, a line each. Without a tag the changelog's entries may be those of a version to come."""
    found = []
    if not _VERSION.fullmatch(version):
        found.append(f"pyproject.toml: {version!r} is no version such as 1.2.3 or 1.2.3rc1")
    image = _IMAGE.search(containerfile)
    if image is None or image[1] != version:
        found.append(f"Containerfile: ARG VERSION is {image[1] if image else 'missing'}, not {version}")
    if tag is not None:
        if tag != f"v{version}":
            found.append(f"the tag is {tag}, not v{version}")
        found += _unready(version, changelog)
    elif not (notes(changelog, UNRELEASED) or notes(changelog, version)):
        found.append(f"CHANGELOG.md: nothing under [{UNRELEASED}] or [{version}]")
    return found


def notes(changelog: str, version: str) -> str:
    """What the changelog says of a version; empty if nothing."""
    text = _sections(changelog).get(version, ("", ""))[1]
    return text.strip() if _HEADING.sub("", text).strip() else ""


def _unready(version: str, changelog: str) -> list[str]:
    """What of the changelog is not as a release has it."""
    sections = _sections(changelog)
    if version not in sections:
        return [f"CHANGELOG.md: no section [{version}]"]
    found = []
    if not _DAY.fullmatch(sections[version][0]):
        found.append(f"CHANGELOG.md: [{version}] has no day, as in '## [{version}] - 2030-01-31'")
    if not notes(changelog, version):
        found.append(f"CHANGELOG.md: nothing under [{version}]")
    if notes(changelog, UNRELEASED):
        found.append(f"CHANGELOG.md: [{UNRELEASED}] still has entries")
    newest = next(name for name in sections if name != UNRELEASED)
    if newest != version:
        found.append(f"CHANGELOG.md: [{newest}] is above [{version}]")
    return found


def _sections(changelog: str) -> dict[str, tuple[str, str]]:
    """What stands behind each name in its heading, and below it."""
    headings = list(_SECTION.finditer(changelog))
    bounds = [*(heading.start() for heading in headings), len(changelog)]
    return {
        heading[1]: (heading[2], changelog[heading.end() : end])
        for heading, end in zip(headings, bounds[1:], strict=True)
    }
