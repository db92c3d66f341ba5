"""Imports go one way: no circle between files, nor between the parts of a package; and no part loads what it needn't.

What is imported for types alone counts too: a reader follows it all the same.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.support.raw import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

ROOT: Final = Path(__file__).parents[3]
TOPS: Final = ("common", "statusd", "preflightd", "opsd", "bench", "deploy", "fuzz", "tools")

Graph = dict[str, set[str]]
"""Names, and those that each imports."""


def modules() -> dict[str, Path]:
    """Every file of the project by its name as a module, a package's `__init__` by the package's."""
    found = {}
    for top in TOPS:
        for path in (ROOT / top).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(path: Path, known: Mapping[str, Path]) -> Iterator[str]:
    """The modules in `known` that the file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports by a relative name"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield from [name for name in (whole, str(node.module)) if name in known][:1]


def files() -> Graph:
    known = modules()
    return {name: set(imported(path, known)) for name, path in known.items()}


def siblings(graph: Graph, package: str) -> Graph:
    """The parts of `package` (its files, and its packages each as one), or of the project if that is empty."""

    def part(name: str) -> str | None:
        if package and not name.startswith(f"{package}."):
            return None
        return ".".join(name.split(".")[: package.count(".") + 2 if package else 1])

    parts: Graph = {}
    for name, others in graph.items():
        if (own := part(name)) is not None:
            parts.setdefault(own, set()).update(other for found in others if (other := part(found)) not in (None, own))
    return parts


def circles(graph: Graph) -> set[tuple[str, ...]]:
    """The groups of names each of which leads to all the others of its group (and those that lead to themselves)."""
    ways = {name: reached(graph, graph[name]) for name in graph}
    return {
        tuple(sorted({name, *(other for other in ways[name] if name in ways[other])}))
        for name in graph
        if name in ways[name]
    }


def reached(graph: Graph, names: Iterable[str]) -> set[str]:
    """All that `names` lead to, themselves included."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(graph.get(name, ()))
    return found


def test_circles_are_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set(), "e": {"e"}}) == {("b", "c"), ("e",)}
    graph = {"p": set[str](), "p.q.x": {"p.r"}, "p.r": {"p.q.y"}, "p.q.y": {"p.s"}, "p.s": {"o"}, "o": set()}
    assert circles(graph) == set()
    assert circles(siblings(graph, "p")) == {("p.q", "p.r")}
    assert siblings(graph, "") == {"p": {"o"}, "o": set()}


def test_no_file_imports_itself_by_way_of_others() -> None:
    assert circles(files()) == set()


def test_no_part_of_a_package_imports_itself_by_way_of_others() -> None:
    graph = files()
    packages = {"", *(name.rpartition(".")[0] for name in graph)}
    found = {circle for package in packages for circle in circles(siblings(graph, package))}
    assert found == set()


@pytest.mark.parametrize(
    ("module", "foreign"),
    [
        ("common.web.listener", "common.web.peer"),
        ("common.web.listener", "wsproto"),
        ("common.web.peer", "redis"),
        ("common.redis.link", "common.web"),
        ("statusd.watch", "rich.progress"),
        ("preflightd.watch", "rich.live"),
    ],
)
def test_a_part_does_not_load(module: str, foreign: str) -> None:
    # In a process of its own, for here everything is loaded.
    program = f"import sys, {module}; sys.exit({foreign!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=PATIENCE, check=False).returncode == 0


@pytest.mark.parametrize("module", ["statusd.daemon", "preflightd.daemon", "common.daemon_cli", "opsd.cli"])
@pytest.mark.parametrize("extra", ["opentelemetry", "rich"])
def test_a_daemon_loads_no_extra_that_others_would(extra: str, module: str) -> None:
    """redis-py would load OpenTelemetry, structlog rich, where they are installed."""
    program = (
        "import sys; from common.early import begin; begin();"
        f"import redis, structlog, {module};"
        f"loaded = [name for name, module in sys.modules.items() if name.startswith({extra!r}) and module];"
        "sys.exit(' '.join(loaded) or 0)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, timeout=PATIENCE, check=False, capture_output=True
    )
    assert (ended.returncode, ended.stderr) == (0, b""), ended.stderr
