"""What of a release can be judged without one: versions, the changelog, the sdist's bytes, what pipx shows."""

from __future__ import annotations

import gzip
import io
import tarfile
import tomllib
from pathlib import Path
from typing import Final

import pytest

from tools.made import day_made, moment_made
from tools.release import __main__ as command
from tools.release import build as building
from tools.release.archive import normalised
from tools.release.build import ReleaseError, build
from tools.release.installed import COMMANDS, check_installed
from tools.release.source import FILES, copy_source
from tools.release.versions import UNRELEASED, disagreements, notes

TREE: Final = Path(__file__).resolve().parents[3]
PROJECT: Final = tomllib.loads((TREE / "pyproject.toml").read_text("utf-8"))["project"]
IMAGE: Final = "FROM scratch\nARG VERSION=1.2.3\n"
COMING: Final = (
    "# Changelog\n\nWords.\n\n## [Unreleased]\n\n### Added\n\n- A thing.\n\n## [1.2.2] - 2020-01-31\n\n- Older.\n"
)
READY: Final = COMING.replace("## [Unreleased]\n", "## [Unreleased]\n\n## [1.2.3] - 2020-02-29\n")
EPOCH: Final = 1_580_473_800


def test_the_project_itself_agrees() -> None:
    changelog, containerfile = ((TREE / name).read_text("utf-8") for name in ("CHANGELOG.md", "Containerfile"))
    assert disagreements(PROJECT["version"], changelog, containerfile, None) == []


@pytest.mark.parametrize("tag", [None, "v1.2.3"])
def test_a_release_that_is_ready_agrees(tag: str | None) -> None:
    assert disagreements("1.2.3", READY, IMAGE, tag) == []
    assert disagreements("1.2.3", COMING, IMAGE, None) == []
    changelog, containerfile = (text.replace("1.2.3", "1.2.3rc1") for text in (READY, IMAGE))
    assert disagreements("1.2.3rc1", changelog, containerfile, tag and f"{tag}rc1") == []


@pytest.mark.parametrize(
    ("changelog", "containerfile", "tag", "said"),
    [
        (READY, IMAGE, "v1.2.4", "the tag is v1.2.4, not v1.2.3"),
        (READY, IMAGE, "1.2.3", "the tag is 1.2.3, not v1.2.3"),
        (READY, IMAGE.replace("1.2.3", "1.2.2"), "v1.2.3", "Containerfile: ARG VERSION is 1.2.2, not 1.2.3"),
        (READY, "FROM scratch\n", None, "Containerfile: ARG VERSION is missing, not 1.2.3"),
        (COMING, IMAGE, "v1.2.3", "CHANGELOG.md: no section [1.2.3]"),
        (READY.replace(" - 2020-02-29", ""), IMAGE, "v1.2.3", "CHANGELOG.md: [1.2.3] has no day"),
        (READY.replace("- A thing.", ""), IMAGE, "v1.2.3", "CHANGELOG.md: nothing under [1.2.3]"),
        (READY.replace("## [1.2.3]", "- B.\n\n## [1.2.3]"), IMAGE, "v1.2.3", "CHANGELOG.md: [Unreleased] still has"),
        (READY.replace("[1.2.2]", "[1.2.3]").replace("[1.2.3]", "[1.3]", 1), IMAGE, "v1.2.3", "[1.3] is above [1.2.3]"),
        ("# Changelog\n", IMAGE, None, "CHANGELOG.md: nothing under [Unreleased] or [1.2.3]"),
    ],
)
def test_what_disagrees_is_said(changelog: str, containerfile: str, tag: str | None, said: str) -> None:
    [found] = disagreements("1.2.3", changelog, containerfile, tag)
    assert said in found


@pytest.mark.parametrize("version", ["1.2", "1.2.3.dev1", "1.2.3a1", "v1.2.3", "unknown"])
def test_an_odd_version_is_no_release(version: str) -> None:
    [found] = disagreements(version, COMING, f"ARG VERSION={version}\n", None)
    assert found.startswith(f"pyproject.toml: {version!r} is no version")


def test_the_notes_are_the_changelogs_words() -> None:
    assert notes(READY, "1.2.3") == "### Added\n\n- A thing."
    assert notes(READY, "1.2.2") == "- Older."
    assert notes(READY, UNRELEASED) == notes(READY, "9.9.9") == ""


def sdist(names: list[str], *, when: float, owner: str) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", format=tarfile.PAX_FORMAT) as archive:
        for name in names:
            member = tarfile.TarInfo(f"one-1.0/{name}")
            member.size, member.mtime, member.uname, member.uid = len(name), when, owner, 1000
            member.mode = 0o775 if name == "run" else 0o664
            archive.addfile(member, io.BytesIO(name.encode()))
    return packed.getvalue()


def test_an_sdist_is_the_same_whoever_made_it_and_when() -> None:
    names = ["setup", "run", f"{'deep/' * 40}file"]
    one = normalised(sdist(names, when=1.25, owner="one"), EPOCH)
    other = normalised(sdist(names[::-1], when=1_700_000_000.123456789, owner="other"), EPOCH)
    assert one == other
    with tarfile.open(fileobj=io.BytesIO(one)) as archive:
        members = archive.getmembers()
        texts = {member.name: archive.extractfile(member).read() for member in members}  # type: ignore[union-attr]
    assert texts == {f"one-1.0/{name}": name.encode() for name in names}
    assert {(member.mtime, member.uid, member.uname) for member in members} == {(EPOCH, 0, "")}
    assert {member.name: member.mode for member in members}["one-1.0/run"] == 0o755
    assert one != normalised(sdist(["other"], when=1.25, owner="one"), EPOCH)
    assert one != normalised(sdist(names, when=1.25, owner="one"), EPOCH + 1)


def test_what_is_no_archive_is_refused() -> None:
    with pytest.raises(tarfile.TarError):
        normalised(gzip.compress(b"no archive" * 100), EPOCH)


def test_the_source_is_what_is_installed_and_the_pages(tmp_path: Path) -> None:
    (tmp_path / "share" / "man").mkdir(parents=True)
    (tmp_path / "share" / "man" / "page").write_text("page")
    copy_source(TREE, tmp_path / "share", tmp_path / "source")
    top = {path.name for path in (tmp_path / "source").iterdir()}
    assert top == {*FILES, "common", "opsd", "preflightd", "statusd", "share"}
    assert (tmp_path / "source/share/man/page").read_text() == "page"
    assert not list((tmp_path / "source").rglob("__pycache__"))


def test_two_builds_that_differ_are_no_release(monkeypatch: pytest.MonkeyPatch) -> None:
    builds = iter([{"one.whl": b"1", "one.tar.gz": b"1"}, {"one.whl": b"1", "one.tar.gz": b"2"}])
    monkeypatch.setattr(building, "_build_once", lambda *_: next(builds))
    with pytest.raises(ReleaseError, match=r"^built twice, and not the same: one\.tar\.gz$"):
        build(TREE, TREE, EPOCH)


def test_two_builds_that_are_the_same_are_what_was_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "_build_once", lambda *_: {"one.whl": b"1"})
    assert build(TREE, TREE, EPOCH) == {"one.whl": b"1"}


def installed(home: Path, version: str, pages: list[str]) -> Path:
    """A home as pipx leaves it."""
    (home / "bin").mkdir()
    for name in COMMANDS:
        program = home / "bin" / name
        program.write_text(f"#!/bin/sh\necho {name} {version}\n")
        program.chmod(0o755)
    for page in pages:
        (home / "share" / page).parent.mkdir(parents=True, exist_ok=True)
        (home / "share" / page).touch()
    return home


def test_what_is_installed_is_looked_at(tmp_path: Path) -> None:
    told = check_installed(installed(tmp_path, "1.2.3", ["man/man1/one.1"]), "1.2.3", ["man/man1/one.1"])
    assert told == ["statusd 1.2.3", "preflightd 1.2.3", "opsd 1.2.3", "1 man pages and completion scripts"]


def test_another_version_or_a_page_that_is_missing_is_no_release(tmp_path: Path) -> None:
    home = installed(tmp_path, "1.2.3", ["man/man1/one.1"])
    with pytest.raises(ReleaseError, match=r"^statusd --version says 'statusd 1\.2\.3\\n', not 1\.2\.4$"):
        check_installed(home, "1.2.4", [])
    with pytest.raises(ReleaseError, match=r"^pipx shows its user no man/man1/two\.1$"):
        check_installed(home, "1.2.3", ["man/man1/one.1", "man/man1/two.1"])


def test_a_tag_of_another_version_ends_it_before_anything_is_built(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "build", lambda *_: pytest.fail("built"))
    assert command.main(["--tag", "v0.0.0", "--output", str(tmp_path / "dist")]) == 1
    assert f"no release: the tag is v0.0.0, not v{PROJECT['version']}" in capsys.readouterr().err
    assert not (tmp_path / "dist").exists()


def test_without_pages_there_is_no_release(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "share").mkdir()
    words = tmp_path / "notes.md"
    assert command.main(["--share", str(tmp_path / "share"), "--notes", str(words)]) == 1
    assert "make manuals" in capsys.readouterr().err
    assert words.read_text("utf-8").startswith("### Added")


def test_what_was_built_earlier_is_not_published_with_it(tmp_path: Path) -> None:
    (tmp_path / "old-0.9-py3-none-any.whl").touch()
    (tmp_path / "old-0.9.tar.gz").touch()
    files = command._store({"new-1.0-py3-none-any.whl": b"w", "new-1.0.tar.gz": b"s"}, tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(files)
    assert [file.read_bytes() for file in files] == [b"w", b"s"]


def test_the_moment_is_the_environments_or_now() -> None:
    assert moment_made({"SOURCE_DATE_EPOCH": str(EPOCH)}).isoformat() == "2020-01-31T12:30:00+00:00"
    assert day_made({"SOURCE_DATE_EPOCH": str(EPOCH)}).isoformat() == "2020-01-31"
    before = moment_made({"SOURCE_DATE_EPOCH": str(EPOCH)})
    assert moment_made({}) > before
    assert moment_made({"SOURCE_DATE_EPOCH": ""}) > before
    with pytest.raises(ValueError, match="invalid literal"):
        moment_made({"SOURCE_DATE_EPOCH": "yesterday"})
