"""Which modules are mutated, and the unit tests that answer for each."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from attrs import frozen

TREE: Final = Path(__file__).resolve().parents[2]

_UNIT: Final = "tests/unit"
_CONFIG: Final = tuple(
    f"common/config/test_{name}.py" for name in ("config", "fields", "redis", "rules_between", "variables")
)


@frozen
class MutatedModule:
    """A file, and the test files of which one has to fail for each mutant; all as paths from the tree's root."""

    path: str
    tests: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    """Tests in these files that take ten times longer than all the others, and would be run for each survivor."""


def _module(path: str, *tests: str, left_out: tuple[str, ...] = ()) -> MutatedModule:
    files, slow = (tuple(f"{_UNIT}/{name}" for name in names) for names in (tests, left_out))
    return MutatedModule(path, files, slow)


MODULES: Final = (
    _module("common/backoff.py", "common/test_backoff.py"),
    _module("common/redis/resp.py", "common/redis/test_resp.py"),
    _module("common/web/frames.py", "common/web/test_frames.py"),
    _module("common/web/parser.py", "common/web/test_parser.py"),
    _module(
        "common/web/wire.py",
        "common/web/test_wire.py",
        "common/web/test_wire_states.py",
        "common/web/test_wire_torn.py",
    ),
    _module("common/fanout.py", "common/test_fanout.py", "common/test_fanout_tasks.py", "common/test_fanout_traces.py"),
    _module("common/config/addresses.py", "common/config/test_addresses.py", *_CONFIG),
    _module("common/config/fields.py", *_CONFIG),
    _module("common/config/settings.py", *_CONFIG),
    _module("common/config/shared.py", *_CONFIG),
    _module("common/config/values.py", "common/config/test_values.py"),
    _module("common/config/variables.py", *_CONFIG),
    _module(
        "preflightd/checklist.py",
        "preflightd/test_checklist.py",
        "preflightd/test_checklist_frame.py",
        "preflightd/test_rules.py",
    ),
    _module("preflightd/rules.py", "preflightd/test_evaluator.py", "preflightd/test_rules.py"),
    _module("preflightd/language.py", "preflightd/test_language.py", "preflightd/test_rules.py"),
    _module(
        "preflightd/evaluator.py",
        "preflightd/test_checklist.py",
        "preflightd/test_checklist_properties.py",
        "preflightd/test_evaluator.py",
    ),
    _module(
        "preflightd/watcher.py",
        "preflightd/test_watcher.py",
        "preflightd/test_watcher_edges.py",
        "preflightd/test_watcher_figures.py",
        "preflightd/test_watcher_traces.py",
        "preflightd/test_watcher_trouble.py",
        "preflightd/test_watcher_words.py",
    ),
    _module("opsd/windows.py", "opsd/test_windows.py", "opsd/test_windows_counters.py"),
    _module("opsd/traffic.py", "opsd/test_traffic.py", "opsd/test_board.py", "opsd/test_board_figures.py"),
    _module(
        "common/redis/link.py",
        "common/redis/test_link.py",
        "common/redis/test_link_states.py",
        "common/redis/test_outage.py",
        "common/redis/test_outage_newcomers.py",
        "common/redis/test_role.py",
        "common/redis/test_sentinels.py",
        "common/redis/test_trouble.py",
        left_out=(
            "common/redis/test_outage.py::test_a_week_without_redis_neither_overflows_nor_drifts",
            "common/redis/test_outage.py::test_200_links_that_lose_redis_at_one_instant_come_back_spread",
        ),
    ),
    _module(
        "common/workers/supervisor.py", "common/workers/test_supervisor.py", "common/workers/test_supervisor_words.py"
    ),
)
"""From the small and pure to the large."""


def chosen(names: list[str]) -> list[MutatedModule]:
    """Those that `names` name, by path or as `common.web.wire`; all without a name. Raises ValueError for another."""
    by_name = {module.path: module for module in MODULES} | {dotted(module.path): module for module in MODULES}
    if strange := [name for name in names if name not in by_name]:
        raise ValueError(f"no module {', '.join(strange)}; there are: {', '.join(module.path for module in MODULES)}")
    return [by_name[name] for name in names] if names else list(MODULES)


def dotted(path: str) -> str:
    """A file's path as Python and mutmut name the module."""
    return path.removesuffix(".py").replace("/", ".")
