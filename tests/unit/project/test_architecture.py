"""docs/architecture.md is true: its arrows are the imports, and every file and function that it names is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Final

import pytest

from tests.unit.project.test_imports import Graph, circles, files, modules, reached

ROOT: Final = Path(__file__).parents[3]
TEXT: Final = (ROOT / "docs/architecture.md").read_text("utf-8")
HOUSE: Final = ("common", "statusd", "preflightd", "opsd")
REST: Final = "all other files of"

_NODE: Final = re.compile(r'(\w+)\["([^"]+)"\](?: --> ([\w &]+))?')
_ROW: Final = re.compile(r"^\| (.+?) \| (.+?) \|", re.MULTILINE)
_FILE: Final = re.compile(r"\b(?:common|statusd|preflightd|opsd)/[\w/]+\.py\b")
_STEP: Final = re.compile(r"^\| `([\w/]+\.py)` \| `([\w.]+)` \|", re.MULTILINE)
_BEHAVIOUR: Final = re.compile(r"^\| ([^|]+) \| `([\w/]+\.py)` \|$", re.MULTILINE)

NODES: Final = {found[1]: found[2] for found in map(_NODE.fullmatch, map(str.strip, TEXT.splitlines())) if found}
"""The names in the diagram, by their marks."""


def drawn() -> Graph:
    found = [match for match in map(_NODE.fullmatch, map(str.strip, TEXT.splitlines())) if match]
    return {match[2]: {NODES[mark] for mark in (match[3] or "").split(" & ") if mark} for match in found}


def groups() -> dict[str, str]:
    """The group of each file that is named in one; of a package, the one that has its rest."""
    table = TEXT.partition("| group |")[2].partition("\n\n")[0]
    found: dict[str, str] = {}
    for name, members in _ROW.findall(table):
        if members.startswith(REST):
            found[members.partition("`")[2].rstrip("/`")] = name
        for path in _FILE.findall(members):
            assert path not in found, f"{path} is in two groups"
            found[path] = name
    return found


def node_of(module: str, path: Path, grouped: dict[str, str]) -> str | None:
    """The node that a file is in; None of a package's docstring."""
    name = path.relative_to(ROOT).as_posix()
    top, *inner = module.split(".")
    if name in grouped:
        return grouped[name]
    if inner and "/".join((top, inner[0])) in NODES.values():
        return "/".join((top, inner[0]))
    if top in NODES.values():
        return top
    return grouped[top] if inner else None


def imported() -> Graph:
    grouped, known = groups(), modules()
    homes = {name: node_of(name, path, grouped) for name, path in known.items() if name.split(".")[0] in HOUSE}
    found: Graph = {home: set() for home in homes.values() if home is not None}
    for name, others in files().items():
        home = homes.get(name)
        if home is not None:
            found[home] |= {to for other in others if (to := homes.get(other)) not in (None, home)}
    return found


def without_what_follows(graph: Graph) -> Graph:
    """The fewest arrows that lead to the same."""
    return {
        name: {to for to in others if not any(to in reached(graph, graph[by]) for by in others - {to})}
        for name, others in graph.items()
    }


def test_what_follows_is_left_out() -> None:
    assert without_what_follows({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == {"a": {"b"}, "b": {"c"}, "c": set()}


def test_the_arrows_are_the_imports() -> None:
    graph = imported()
    assert circles(graph) == set()
    assert drawn() == without_what_follows(graph)


def test_every_package_is_drawn() -> None:
    packages = {path.parent for top in HOUSE for path in (ROOT / top).rglob("__init__.py")} - {ROOT / "common"}
    names = {path.relative_to(ROOT).as_posix() for path in packages}
    assert names - set(NODES.values()) == {"opsd"}


@pytest.mark.parametrize("path", sorted(set(_FILE.findall(TEXT))))
def test_every_file_that_is_named_exists(path: str) -> None:
    assert (ROOT / path).is_file()


@pytest.mark.parametrize(("path", "where"), sorted(set(_STEP.findall(TEXT))))
def test_every_place_of_a_trip_exists(path: str, where: str) -> None:
    scope: ast.AST = ast.parse((ROOT / path).read_text("utf-8"))
    for name in where.split("."):
        kinds = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        scope = next(node for node in ast.iter_child_nodes(scope) if isinstance(node, kinds) and node.name == name)


@pytest.mark.parametrize("path", sorted({path for _, path in _BEHAVIOUR.findall(TEXT)}))
def test_the_maps_lead_to_every_behaviour_in_two_hops(path: str) -> None:
    top, *inner, name = path.removesuffix(".py").split("/")
    for place, word in zip([top, "/".join((top, *inner))], [*inner, name], strict=False):
        docstring = ast.get_docstring(ast.parse((ROOT / place / "__init__.py").read_text("utf-8"))) or ""
        assert re.search(rf"\b{word}\b", docstring), f"{place} has no word of {word}"
    assert len(inner) < 2


def test_each_trip_has_its_places() -> None:
    trips = TEXT.partition("## Four trips")[2].partition("\n## ")[0].split("\n### ")[1:]
    assert len(trips) == 4
    for trip in trips:
        rows = _ROW.findall(trip)
        assert rows[0][0] == "file"
        assert len(_STEP.findall(trip)) == len(rows) - 1
