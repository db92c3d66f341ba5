"""The CycloneDX document of what is shipped: https://cyclonedx.org/docs/1.6/json/. Pure.

The same parts at the same moment give the same bytes, the serial number included.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final
from uuid import NAMESPACE_URL, uuid5

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from tools.sbom.component import Component

SPECIFICATION: Final = "1.6"
MARKER: Final = "run-status-daemons:marker"
"""The property that says where a package of a lock for every system is needed."""

Json = dict[str, Any]


def document(kind: str, subject: Component, parts: Sequence[Component], moment: datetime) -> str:
    """The text. `kind` is CycloneDX's word for the subject: `application`, `container`."""
    ordered = sorted(parts, key=lambda part: part.purl)
    body: Json = {
        "bomFormat": "CycloneDX",
        "specVersion": SPECIFICATION,
        "version": 1,
        "metadata": {
            "timestamp": moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "lifecycles": [{"phase": "build"}],
            "tools": {"components": [{"type": "application", "name": "tools.sbom", "version": subject.version}]},
            "component": _component(subject, kind),
        },
        "components": [_component(part, "library") for part in ordered],
        "dependencies": [_needs(component, ordered) for component in (subject, *ordered)],
    }
    serial = uuid5(NAMESPACE_URL, json.dumps(body, sort_keys=True))
    return json.dumps({**body, "serialNumber": f"urn:uuid:{serial}"}, indent=1) + "\n"


def _component(component: Component, kind: str) -> Json:
    told: Json = {
        "type": kind,
        "bom-ref": component.purl,
        "name": component.name,
        "version": component.version,
        "purl": component.purl,
    }
    if component.marker:
        told["scope"] = "optional"
        told["properties"] = [{"name": MARKER, "value": component.marker}]
    if component.sha256:
        told["hashes"] = _hashes([component.sha256])
    if component.licence:
        told["licenses"] = [_licence(component.licence)]
    if component.files:
        # Each is a hash of another file, so that they are none of the component: it has one.
        told["externalReferences"] = [
            {"type": "distribution", "url": component.purl, "hashes": _hashes(component.files)},
        ]
    return told


def _licence(expression: str) -> Json:
    if " " in expression:
        return {"expression": expression}
    return {"license": {"id": expression}}


def _hashes(digests: Iterable[str]) -> list[Json]:
    return [{"alg": "SHA-256", "content": digest} for digest in digests]


def _needs(component: Component, parts: Iterable[Component]) -> Json:
    needed = [part.purl for part in parts if component.purl in part.asked_by]
    return {"ref": component.purl, **({"dependsOn": needed} if needed else {})}
