"""One part of what is shipped, with the package URL (purl) by which databases of vulnerabilities know it."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote


@dataclass(frozen=True, kw_only=True)
class Component:
    """A package; `licence` is an SPDX expression, or empty for one that is not known."""

    name: str
    version: str
    purl: str
    licence: str = ""
    sha256: str = ""
    """Of the one file that it came in, where that is certain."""
    files: tuple[str, ...] = ()
    """SHA-256 of each of several files of which one was, or will be, installed."""
    marker: str = ""
    """Where it is needed; empty is everywhere."""
    asked_by: frozenset[str] = frozenset()
    """The purls of those that need it."""


def python_purl(name: str, version: str) -> str:
    return f"pkg:pypi/{quote(name, safe='')}@{quote(version, safe='')}"


def debian_purl(name: str, version: str, architecture: str, release: str, source: str = "") -> str:
    """`release`, and `source`, the source package where its name is another, are what advisories are written for."""
    upstream = f"&upstream={quote(source, safe='')}" if source else ""
    place = f"arch={architecture}&distro={release}{upstream}"
    return f"pkg:deb/debian/{quote(name, safe='')}@{quote(version, safe='')}?{place}"
