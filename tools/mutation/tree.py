"""A copy of the source tree in which mutmut may write, and its configuration."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Final

from tools.mutation.modules import TREE

if TYPE_CHECKING:
    from pathlib import Path

    from tools.mutation.modules import MutatedModule

PACKAGES: Final = ("common", "opsd", "preflightd", "statusd")
"""What the tests must import from the copy, where the mutated file is, and not from the tree."""

_BESIDE: Final = ("bench", "deploy", "fuzz", "tests", "tools", "docs", "pyproject.toml", "README.md")
# Bytecode goes along: to compile all of it again takes longer than most modules' tests.
_LEFT_OUT: Final = shutil.ignore_patterns("results", "*.egg-info")

_CONSTANT: Final = 5.0
_TIMES: Final = 10.0
"""How many times longer than unmutated (and five seconds) a mutant's tests may take; one that waits for ever is ended.

The clock goes on while others have the processor, so this is long. What computes for long is ended by the plugin."""


def copy_tree(to: Path, module: MutatedModule) -> None:
    """What the tests of `module` need is in `to`, which is empty, and mutmut's configuration."""
    for name in (*PACKAGES, *_BESIDE):
        if (TREE / name).is_dir():
            shutil.copytree(TREE / name, to / name, ignore=_LEFT_OUT)
        else:
            shutil.copy2(TREE / name, to / name)
    (to / "setup.cfg").write_text(configuration(module))


def configuration(module: MutatedModule) -> str:
    """mutmut's, for the tests of this module alone, the quick ones first. A property that fails is not looked into."""
    settings: dict[str, tuple[str, ...]] = {
        "source_paths": (module.path,),
        "also_copy": (*PACKAGES, *(name for name in _BESIDE if name != "tests")),
        "pytest_add_cli_args_test_selection": (
            *module.tests,
            *(f"--deselect={test}" for test in module.left_out),
        ),
        "pytest_add_cli_args": (
            "-p",
            "no:cacheprovider",
            "-p",
            "no:xdist",
            "-p",
            "tools.mutation.plugin",
            "--hypothesis-profile=verdict",
        ),
        "process_isolation": ("fork",),
        "timeout_multiplier": (str(_TIMES),),
        "timeout_constant": (str(_CONSTANT),),
        "use_git_change_detection": ("false",),
        "track_dependencies": ("false",),
    }
    lists = {"source_paths", "also_copy", "pytest_add_cli_args_test_selection", "pytest_add_cli_args"}
    lines = ["[mutmut]"]
    for name, values in settings.items():
        lines += [f"{name} =", *(f"    {value}" for value in values)] if name in lists else [f"{name} = {values[0]}"]
    return "\n".join(lines) + "\n"
