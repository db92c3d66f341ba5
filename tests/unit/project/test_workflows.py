"""The workflows of `.github`: of GitHub's schema, by targets that exist, with no more rights than they need."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml
from check_jsonschema.cli import main as check_jsonschema
from click.testing import CliRunner

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[3]
FILES: Final = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
WORKFLOWS: Final[dict[str, dict[str, Any]]] = {
    path.stem: yaml.load(path.read_text("utf-8"), Loader=yaml.BaseLoader)  # noqa: S506 - of texts alone: `on` is no boolean
    for path in FILES
}
MAKEFILE: Final = (ROOT / "Makefile").read_text("utf-8")
TARGETS: Final = set(re.findall(r"^([a-z-]+):.*## ", MAKEFILE, re.MULTILINE))

EXPRESSION: Final = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)
MAKE: Final = re.compile(r"\bmake((?: +[A-Za-z_]+=(?:\"[^\"]*\"|\S+)| +[a-z-]+)+)")
FROM_OUTSIDE: Final = re.compile(r"github\.(?:event|head_ref|ref|ref_name|actor)|inputs\.")
"""What whoever opens a pull request or pushes a tag writes: in a script it would be code."""


def jobs() -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    for name, workflow in WORKFLOWS.items():
        for job_name, job in workflow["jobs"].items():
            yield f"{name}/{job_name}", workflow, job


JOBS: Final = [pytest.param(workflow, job, id=name) for name, workflow, job in jobs()]
STEPS: Final = [(name, step) for name, _, job in jobs() for step in job["steps"]]


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for found in value.values():
            yield from texts(found)
    elif isinstance(value, list):
        for found in value:
            yield from texts(found)
    else:
        yield str(value)


def judged(path: Path, schema: str) -> str:
    """What check-jsonschema says of a file by a schema that comes with it; empty if nothing is wrong."""
    result = CliRunner().invoke(check_jsonschema, ["--builtin-schema", schema, "--output-format", "json", str(path)])
    return "" if result.exit_code == 0 else result.output


@pytest.mark.parametrize("schema", ["vendor.github-workflows", "custom.github-workflows-require-timeout"])
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_is_one_by_githubs_schema_and_each_job_ends(path: Path, schema: str) -> None:
    assert judged(path, schema) == ""


def test_a_broken_one_is_found_broken(tmp_path: Path) -> None:
    broken = tmp_path / "broken.yml"
    broken.write_text(FILES[0].read_text("utf-8").replace("runs-on:", "runs-off:", 1))
    assert "runs-off" in judged(broken, "vendor.github-workflows")


def test_all_of_them_are_looked_at() -> None:
    assert set(WORKFLOWS) >= {"ci", "nightly", "release"}


def commands() -> set[str]:
    """What is given to make, each expression being one word."""
    return {given for _, step in STEPS for given in MAKE.findall(EXPRESSION.sub("word", step.get("run", "")))}


def test_each_target_of_make_exists_and_takes_what_it_is_given() -> None:
    assert len(commands()) >= 10
    for given in commands():
        words = re.findall(r"([A-Za-z_]+)=|([a-z-]+)(?= |$)", re.sub(r"=(\"[^\"]*\"|\S+)", "=", given))
        targets = {target for variable, target in words if not variable}
        assert targets, given
        assert targets <= TARGETS, given
        for variable, _ in words:
            assert not variable or re.search(rf"^#   {variable}=", MAKEFILE, re.MULTILINE), f"{variable} of make{given}"


def test_every_part_of_the_night_is_there() -> None:
    nightly = {word for given in commands() for word in given.split()}
    assert nightly >= {"test", "fuzz", "chaos", "load", "soak", "bench", "compare", "wheels"}


def test_the_scripts_that_are_run_exist_and_may_be() -> None:
    named = {word for _, step in STEPS for word in re.findall(r"(?:^|\s)(\.ci/\w+)", step.get("run", ""))}
    assert named == {".ci/run", ".ci/install"}
    assert all((ROOT / name).stat().st_mode & 0o100 for name in named)


@pytest.mark.parametrize(("workflow", "job"), JOBS)
def test_what_an_expression_names_is_there(workflow: dict[str, Any], job: dict[str, Any]) -> None:
    said = [*texts(job), *(f"${{{{ {condition} }}}}" for condition in _conditions(job))]
    expressions = " ".join(found for text in said for found in EXPRESSION.findall(text))
    steps = {step["id"] for step in job["steps"] if "id" in step}
    assert set(re.findall(r"\bsteps\.([\w-]+)", expressions)) <= steps
    matrix = job.get("strategy", {}).get("matrix", {})
    assert set(re.findall(r"\bmatrix\.([\w-]+)", expressions)) <= set(matrix)
    inputs = (workflow["on"].get("workflow_dispatch") or {}).get("inputs", {})
    assert set(re.findall(r"\binputs\.([\w-]+)", expressions)) <= set(inputs)
    assert set(re.findall(r"\benv\.([\w-]+)", expressions)) <= set(job.get("env", {}))
    assert set(_needs(job)) <= set(workflow["jobs"])


def _conditions(job: dict[str, Any]) -> Iterator[str]:
    for part in (job, *job["steps"]):
        if "if" in part:
            yield part["if"]


def _needs(job: dict[str, Any]) -> list[str]:
    needed = job.get("needs", [])
    return [needed] if isinstance(needed, str) else list(needed)


def test_no_script_has_words_from_outside_in_it() -> None:
    for name, step in STEPS:
        for expression in EXPRESSION.findall(step.get("run", "")):
            assert not FROM_OUTSIDE.search(expression), f"{name}: hand it over as a variable: {expression}"


def test_an_action_is_of_one_version_everywhere_and_of_a_fixed_one() -> None:
    used: dict[str, set[str]] = {}
    for _, step in STEPS:
        if "uses" in step:
            action, _, version = step["uses"].partition("@")
            repository = "/".join(action.split("/")[:2])
            used.setdefault(repository, set()).add(version)
    assert all(len(versions) == 1 for versions in used.values()), used
    assert all(re.fullmatch(r"v\d+(\.\d+)*|release/v\d+|[0-9a-f]{40}", next(iter(found))) for found in used.values())


def test_nobody_may_write_but_who_publishes() -> None:
    for workflow in WORKFLOWS.values():
        assert workflow["permissions"] == {"contents": "read"}
    writing = {name for name, _, job in jobs() if "write" in job.get("permissions", {}).values()}
    assert writing == {"release/image", "release/sign", "release/publish", "release/announce"}


def test_a_dry_run_publishes_nothing() -> None:
    guard = "github.ref_type == 'tag' && !inputs.dry-run"
    release = WORKFLOWS["release"]
    assert release["on"]["workflow_dispatch"]["inputs"]["dry-run"]["default"] == "true"
    for name, job in release["jobs"].items():
        if "permissions" in job and name != "image":
            assert job["if"] == guard, name
    image = release["jobs"]["image"]
    assert image["env"]["PUBLISH"].startswith(f"${{{{ {guard} && ")
    for step in image["steps"]:
        outside = {"push", "push-to-registry", "registry"} & step.get("with", {}).keys()
        assert ("if" in step) is bool(outside), step
        assert step.get("if", "env.PUBLISH == 'true'") == "env.PUBLISH == 'true'"


def test_what_is_published_was_built_and_tested_before() -> None:
    release = WORKFLOWS["release"]["jobs"]

    def before(name: str) -> set[str]:
        return {name, *(earlier for needed in _needs(release[name]) for earlier in before(needed))}

    for name in ("image", "sign", "publish", "announce"):
        assert before(name) >= {"build", "test"}, name
    assert before("announce") >= {"sign", "publish", "image"}


def test_each_artifact_that_is_fetched_was_kept_by_a_job_before() -> None:
    for workflow in WORKFLOWS.values():
        kept: dict[str, set[str]] = {}
        for name, job in workflow["jobs"].items():
            names = {step["with"]["name"] for step in job["steps"] if "upload-artifact" in step.get("uses", "")}
            kept[name] = names
        for job in workflow["jobs"].values():
            for step in job["steps"]:
                if "download-artifact" in step.get("uses", ""):
                    assert any(step["with"]["name"] in kept[needed] for needed in _needs(job)), step
        assert sum(map(len, kept.values())) == len(set().union(*kept.values())), "two artifacts of one name"


def test_every_python_that_is_supported_is_tried() -> None:
    tried = re.search(r"^VERSIONS := (.*)$", MAKEFILE, re.MULTILINE)
    assert tried is not None
    matrices = [job["strategy"]["matrix"]["python"] for _, _, job in jobs() if "strategy" in job]
    assert len(matrices) == 3
    assert all(pythons == tried[1].split() for pythons in matrices)


def test_a_pipe_fails_with_its_first_part() -> None:
    """Only where the shell is named does GitHub set `pipefail`."""
    for name, workflow, job in jobs():
        for step in job["steps"]:
            if re.search(r"[^|]\|[^|]", step.get("run", "").replace("run: |", "")):
                shell = step.get("shell", workflow.get("defaults", {}).get("run", {}).get("shell"))
                assert shell == "bash", name


def test_the_files_of_a_cache_key_exist() -> None:
    named = {
        step["with"]["cache-dependency-path"] for _, step in STEPS if "cache-dependency-path" in step.get("with", {})
    }
    assert named
    assert all(list(ROOT.glob(pattern)) for pattern in named)


def test_the_last_good_night_is_kept_only_when_it_was_good_or_is_accepted() -> None:
    steps = WORKFLOWS["nightly"]["jobs"]["bench"]["steps"]
    kept = [step for step in steps if "cache/save" in step.get("uses", "") or "build/last/" in step.get("run", "")]
    compared, *keeping = kept
    assert compared["id"] == "compare"
    for step in keeping:
        assert step["if"] == (
            "always() && (steps.compare.outcome == 'success' || steps.compare.outcome == 'failure' && inputs.accept)"
        )
    restored = next(step for step in steps if "cache/restore" in step.get("uses", ""))
    saved = keeping[-1]
    assert (restored["with"]["path"], restored["with"]["key"]) == (saved["with"]["path"], saved["with"]["key"])
    assert saved["with"]["key"].startswith(restored["with"]["restore-keys"])
    assert "LAST=build/last/latest.json" in compared["run"]
