"""The packages of a lock as parts; their licences are those of the metadata of whatever copies are installed."""

from __future__ import annotations

from importlib.metadata import distributions
from typing import TYPE_CHECKING, Final

from common.version import DISTRIBUTION
from tools.sbom.component import Component, python_purl
from tools.sbom.licence import licence
from tools.sbom.lock import normalised

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from importlib.metadata import PackageMetadata

    from tools.sbom.lock import Pin

LICENCE: Final = "MIT"


def project(version: str) -> Component:
    """The project itself."""
    return Component(name=DISTRIBUTION, version=version, purl=python_purl(DISTRIBUTION, version), licence=LICENCE)


def packages(pins: Mapping[str, Pin], licences: Mapping[str, str], subject: Component) -> list[Component]:
    """Every package of a lock, whose asker without a pin is the `subject`; `licences` by name."""
    purls = {name: python_purl(name, pin.version) for name, pin in pins.items()}
    asking = {**purls, subject.name: subject.purl}
    return [
        Component(
            name=name,
            version=pin.version,
            purl=purls[name],
            licence=licences.get(name, ""),
            files=pin.hashes,
            marker=pin.marker,
            asked_by=frozenset(asking[asker] for asker in pin.asked_by if asker in asking),
        )
        for name, pin in pins.items()
    ]


def installed_licences(path: Sequence[str] | None = None) -> dict[str, str]:
    """The licences of what is installed, by name; in the directories `path`, else those of this interpreter."""
    found = distributions(path=list(path)) if path is not None else distributions()
    return {
        normalised(about.metadata["Name"]): licence(
            _field(about.metadata, "License-Expression"),
            _field(about.metadata, "License"),
            about.metadata.get_all("Classifier") or [],
        )
        for about in found
    }


def _field(metadata: PackageMetadata, name: str) -> str | None:
    [*found] = metadata.get_all(name) or []
    return found[0] if found else None
