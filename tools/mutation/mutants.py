"""What mutmut makes of a module: each change, under a name that outlives other changes of the file."""

from __future__ import annotations

import ast
from collections import Counter
from contextlib import chdir
from difflib import SequenceMatcher
from typing import Final

from attrs import frozen
from mutmut.mutation.file_mutation import mutate_file_contents

from tools.mutation.modules import TREE, dotted

_MARK: Final = "__mutmut_"
_SEPARATOR: Final = "ǁ"


@frozen(order=True)
class Mutant:
    """What a mutant is, whatever its number: reasons are kept under it."""

    module: str
    function: str
    lines: str
    """Those that went, with `-`, and those that came, with `+`, each without its indentation."""
    occurrence: int = 1
    """Which of several that read the same, from the top of the function."""


def mutated(path: str) -> tuple[str, dict[str, Mutant]]:
    """The code of the file at `path`, with all of its mutants in it, and what each is, by mutmut's name for it."""
    with chdir(TREE):  # mutmut looks for its configuration there, once in a process
        code = mutate_file_contents(path, (TREE / path).read_text(), None, None).code
    return code, changes(code, path)


def changes(code: str, path: str) -> dict[str, Mutant]:
    """The same of the code that mutmut wrote: of each function the original and all mutants, beside each other."""
    lines = code.splitlines()
    bodies = {
        node.name: [line.strip().replace(node.name, "") for line in lines[node.lineno - 1 : node.end_lineno]]
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and _MARK in node.name
    }
    found: dict[str, Mutant] = {}
    seen: Counter[tuple[str, str]] = Counter()
    for name in sorted(bodies, key=_order):
        mangled, _, number = name.partition(_MARK)
        if number == "orig":
            continue
        change = _difference(bodies[f"{mangled}{_MARK}orig"], bodies[name])
        function = _readable(mangled)
        seen[function, change] += 1
        found[f"{dotted(path)}.{name}"] = Mutant(path, function, change, seen[function, change])
    return found


def _order(name: str) -> tuple[str, int]:
    mangled, _, number = name.partition(_MARK)
    return mangled, int(number) if number.isdecimal() else 0


def _readable(mangled: str) -> str:
    """`x_name` is a function, `xǁClassǁname` a method."""
    return mangled[2:].replace(_SEPARATOR, ".") if mangled.startswith("x" + _SEPARATOR) else mangled[2:]


def _difference(before: list[str], after: list[str]) -> str:
    told: list[str] = []
    for kind, start, stop, other_start, other_stop in SequenceMatcher(
        None, before, after, autojunk=False
    ).get_opcodes():
        if kind != "equal":
            told += [f"- {line}" for line in before[start:stop]]
            told += [f"+ {line}" for line in after[other_start:other_stop]]
    return "\n".join(told)
