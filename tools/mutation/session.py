"""`python -m tools.mutation.session`: the process in which one module's tests meet its mutants.

The order is read from standard input, as JSON; a line for each mutant goes to standard output as it ends, and what
pytest says to the file that the order names.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from importlib.machinery import SourceFileLoader
from importlib.util import spec_from_file_location
from typing import TYPE_CHECKING, Final

import attrs
import pytest
from attrs import frozen

from tools.mutation.modules import TREE, dotted
from tools.mutation.trials import Trials

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import CodeType, ModuleType

_MEMORY: Final = 4 << 30
"""Bytes that a process may have: a mutant whose loop has lost its end must not take the machine's."""

_ARGUMENTS: Final = (
    *("-p", "no:cacheprovider"),
    *("-p", "no:xdist"),
    "--capture=sys",
    "--hypothesis-profile=verdict",
    "--override-ini=tmp_path_retention_policy=none",
)
"""A property that fails is not looked into."""


@frozen
class SessionOrder:
    """What a session is asked for."""

    path: str
    """The module's, from the tree's root."""
    code: str
    """What is imported in its place: all mutants, and mutmut's switch for each."""
    tests: Sequence[str]
    left_out: Sequence[str]
    names: Sequence[str]
    """Of the mutants, in the order in which they are tried."""
    jobs: int
    seconds: float
    """After which no mutant is tried any more."""
    log: str

    def text(self) -> str:
        """For a session's standard input."""
        return json.dumps(attrs.asdict(self))


def main() -> int:
    """Run. The exit code is pytest's: 0 unless the tests can't be collected, or fail without a mutant."""
    order = SessionOrder(**json.load(sys.stdin))
    with os.fdopen(os.dup(sys.stdout.fileno()), "w") as told, open(order.log, "w") as log:  # noqa: PTH123
        for output in (sys.stdout, sys.stderr):
            os.dup2(log.fileno(), output.fileno())
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        sys.meta_path.insert(0, MutatedFinder(order.path, order.code))
        trials = Trials(
            order.names,
            order.jobs,
            time.monotonic() + order.seconds,
            lambda name, verdict: print(json.dumps([name, verdict]), file=told, flush=True),
        )
        left_out = (f"--deselect={test}" for test in order.left_out)
        return int(pytest.main([f"--rootdir={TREE}", *_ARGUMENTS, *left_out, *order.tests], plugins=[trials]))


@frozen
class MutatedFinder:
    """Of Python's: imports other code as the module at `path`, and all else as ever."""

    path: str
    code: str

    def find_spec(
        self,
        name: str,
        path: Sequence[str] | None = None,  # noqa: ARG002 - whose names are the import system's
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        """Where the import system asks for a module."""
        if name != dotted(self.path):
            return None
        file = str(TREE / self.path)
        return spec_from_file_location(name, file, loader=_MutatedLoader(name, file, self.code))


class _MutatedLoader(SourceFileLoader):
    def __init__(self, name: str, path: str, code: str) -> None:
        super().__init__(name, path)
        self._code = code

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002
        return compile(self._code, self.path, "exec", dont_inherit=True)


if __name__ == "__main__":
    sys.exit(main())
