"""The documents as a site, built without a warning. Links lead somewhere, there as in the repository's viewer."""

from __future__ import annotations

import logging
import re
import shutil
from typing import TYPE_CHECKING, Final

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.exceptions import Abort

from tools.screenshot import LARGEST, PICTURE
from tools.site.documents import ROOT, attachments, documents, links, targets

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_HEADING: Final = re.compile(r"^#+ (.*)$", re.MULTILINE)
_FENCED: Final = re.compile(r"^(`{3,})[^\n]*\n.*?^\1$", re.MULTILINE | re.DOTALL)
_NO_SLUG: Final = re.compile(r"[^\w\- ]")
_ITEM: Final = re.compile(r"(?:- |\d+\. )\S")
_NEXT_PARAGRAPH: Final = re.compile(r"\n\n( {1,3}(?! )\S.*)")


def build_site(root: Path, site: Path) -> None:
    """As `make docs-check` does. Raises Abort when there is anything to warn of."""
    config = load_config(str(root / "mkdocs.yml"), strict=True, site_dir=str(site))
    config.plugins.on_startup(command="build", dirty=False)
    build(config)


@pytest.fixture(scope="module")
def quiet() -> Iterator[None]:
    """MkDocs' handlers, which a strict build leaves behind where it is aborted, are gone afterwards."""
    logger = logging.getLogger("mkdocs")
    before = list(logger.handlers)
    yield
    logger.handlers[:] = before


@pytest.fixture(scope="module")
def site(quiet: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site of the real documents."""
    path = tmp_path_factory.mktemp("site")
    build_site(ROOT, path)
    return path


@pytest.fixture
def little(tmp_path: Path) -> Path:
    """A repository of one document in docs/, and what the site's configuration names besides."""
    root = tmp_path / "tree"
    (root / "docs").mkdir(parents=True)
    shutil.copytree(ROOT / "tools/site", root / "tools/site", ignore=shutil.ignore_patterns("__pycache__"))
    configuration = (ROOT / "mkdocs.yml").read_text("utf-8")
    (root / "mkdocs.yml").write_text(configuration.rpartition("\nnav:\n")[0] + "\n")
    (root / "README.md").write_text("# Home\n\n[page](docs/page.md)\n")
    (root / "SCRIPT").write_text("echo\n")
    return root


def write_links(root: Path, to: Iterable[str]) -> None:
    """The document, with these links."""
    (root / "docs/page.md").write_text("\n".join(["# Page", "", *(f"[there]({link})" for link in to), ""]))


def slugs(path: Path) -> set[str]:
    """The anchors of a document's headings, as the repository's viewer makes them."""
    found = _HEADING.findall(_FENCED.sub("", path.read_text("utf-8")))
    return {_NO_SLUG.sub("", heading.lower()).replace(" ", "-") for heading in found}


def test_the_site_has_every_document_and_what_they_link_to(site: Path) -> None:
    for path in documents():
        name = "index.html" if path.name == "README.md" else f"{path.stem}.html"
        assert (site / path.relative_to(ROOT)).with_name(name).is_file()
    for path in attachments():
        assert (site / path.relative_to(ROOT)).is_file()


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        assert not re.search(r"<(?:script|link|img)[^>]*(?:src|href)=\"(?:https?:)?//", page.read_text("utf-8")), page


@pytest.mark.usefixtures("quiet")
def test_a_document_without_a_place_is_below_more(little: Path, tmp_path: Path) -> None:
    write_links(little, [])
    (little / "docs/other.md").write_text("# Other\n")
    with (little / "mkdocs.yml").open("a") as configuration:
        configuration.write("nav:\n  - Home: README.md\n  - Pages:\n      - Page: docs/page.md\n")
    build_site(little, tmp_path / "site")
    page = (tmp_path / "site/index.html").read_text("utf-8")
    more = re.search(r">More<(.*?)</ul>", page, re.DOTALL)
    assert more is not None
    assert re.findall(r'href="([^"]+)"', more[1]) == ["docs/other.html"]


@pytest.mark.usefixtures("quiet")
def test_links_that_lead_somewhere_are_good(little: Path, tmp_path: Path) -> None:
    good = ("page.md", "../README.md#home", "../SCRIPT", "#page", "https://example.org/")
    write_links(little, good)
    build_site(little, tmp_path / "site")
    assert (tmp_path / "site/SCRIPT").is_file()


@pytest.mark.usefixtures("quiet")
def test_each_link_that_leads_nowhere_is_a_warning_and_fails(little: Path, tmp_path: Path) -> None:
    bad = ("nowhere.md", "../NOWHERE", "../docs", "../docs/", "#nowhere", "../README.md#nowhere")
    write_links(little, bad)
    with pytest.raises(Abort, match=f"Aborted with {len(bad)} warnings in strict mode"):
        build_site(little, tmp_path / "site")


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere_in_the_repository(path: Path) -> None:
    for target in targets(path):
        assert (ROOT / target).is_file(), target
    for link in links(path.read_text("utf-8")):
        place, _, anchor = link.partition("#")
        if anchor and "://" not in link:
            assert anchor in slugs((path.parent / place) if place else path), link


def test_links_in_code_are_none() -> None:
    assert list(links("[a](b.md) `[c](d.md)`\n\n```text\n[e](f.md)\n```\n\n![g](h.png)\n")) == ["b.md", "h.png"]


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_lists_are_read_alike_by_the_viewer_and_by_the_site(path: Path) -> None:
    """The site wants four spaces before a further paragraph of an item, and an empty line before a list."""
    text = _FENCED.sub("", path.read_text("utf-8"))
    assert _NEXT_PARAGRAPH.findall(text) == []
    before = ""
    for line in text.splitlines():
        if _ITEM.match(line) and before and not before.startswith(("-", " ", "#")):
            assert re.match(r"\d+\. ", before), line
        before = line


def test_the_picture_is_no_burden() -> None:
    assert PICTURE.stat().st_size <= LARGEST
    assert PICTURE in attachments()
