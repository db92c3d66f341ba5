"""The list of the image's parts, within it: Debian's packages and Python's, which no package manager there names."""

from __future__ import annotations

import hashlib
import subprocess
from typing import TYPE_CHECKING

from common.version import version
from tools.image.contents import BILL, SITE, SUITE
from tools.made import moment_made
from tools.sbom.component import Component, debian_purl
from tools.sbom.document import document
from tools.sbom.lock import read_lock
from tools.sbom.python import installed_licences, packages, project

if TYPE_CHECKING:
    from pathlib import Path


def write_bill(root: Path, tree: Path, debs: Path) -> None:
    """Write it below `root`: of the archives in `debs`, and of the lock's packages that are installed.

    Raises OSError, CalledProcessError.
    """
    subject = project(version())
    licences = installed_licences([str(root / SITE)])
    pins = read_lock((tree / "requirements-runtime.lock").read_text("utf-8"))
    here = {name: pin for name, pin in pins.items() if name in licences}
    parts = [*packages(here, licences, subject), *map(_debian, sorted(debs.glob("*.deb")))]
    bill = root / BILL
    bill.parent.mkdir(parents=True, exist_ok=True)
    bill.write_text(document("container", subject, parts, moment_made()), encoding="utf-8")


def _debian(archive: Path) -> Component:
    """Debian's licences are prose, which stays in the image: /usr/share/doc/<package>/copyright."""
    names = ("Package", "Version", "Architecture", "Source")
    asked = subprocess.run(["dpkg-deb", "--field", archive, *names], check=True, capture_output=True, text=True)
    fields = dict(line.split(": ", 1) for line in asked.stdout.splitlines())
    name, number, architecture = fields["Package"], fields["Version"], fields["Architecture"]
    # It may have a version of its own in brackets.
    source = fields.get("Source", "").partition(" ")[0]
    return Component(
        name=name,
        version=number,
        purl=debian_purl(name, number, architecture, SUITE, source),
        sha256=hashlib.sha256(archive.read_bytes()).hexdigest(),
    )
