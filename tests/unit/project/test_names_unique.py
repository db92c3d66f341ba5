"""One name for each thing: no public class is called as another one is, whatever the packages."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from tests.unit.project.test_imports import ROOT, TOPS

if TYPE_CHECKING:
    from collections.abc import Iterator


def public_classes() -> Iterator[tuple[str, str]]:
    """The name of every public class of the project that is no test's, and where it stands."""
    for top in TOPS:
        for path in sorted((ROOT / top).rglob("*.py")):
            for node in ast.parse(path.read_text("utf-8")).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    yield node.name, f"{path.relative_to(ROOT)}:{node.lineno}"


def test_no_two_public_classes_have_one_name() -> None:
    places: dict[str, list[str]] = {}
    for name, place in public_classes():
        places.setdefault(name, []).append(place)
    assert {"Connection", "Topic", "WorkerSnapshot"} <= places.keys()
    assert {name: found for name, found in places.items() if len(found) > 1} == {}
