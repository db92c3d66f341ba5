"""What the page is made of: found in the package, whole, and safe to serve under its policy."""

from __future__ import annotations

import re

import pytest

from opsd.pages import INDEX, load_pages

PAGES = load_pages()
TEXTS = {name: page.body.decode() for name, page in PAGES.items() if name.endswith((".html", ".css", ".js"))}
OURS = {name: text for name, text in TEXTS.items() if not name.startswith("vendor/")}


def test_the_types_are_those_that_browsers_insist_on() -> None:
    wanted = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
    for name, page in PAGES.items():
        ending = name.rpartition(".")[2]
        assert page.content_type.partition(";")[0] == wanted.get(ending, "text/plain"), name


def test_the_tags_tell_the_files_apart() -> None:
    assert len({page.etag for page in PAGES.values()}) == len({page.body for page in PAGES.values()})
    assert all(re.fullmatch(r'"[0-9a-f]{32}"', page.etag) for page in PAGES.values())


def test_the_page_has_nothing_inline_and_loads_only_what_is_there() -> None:
    index = TEXTS[INDEX]
    assert not re.search(r"<script(?![^>]*\bsrc=)", index)
    assert not re.search(r"<style|\bstyle=|\son[a-z]+=|javascript:", index)
    loaded = re.findall(r'(?:src|href)="([^"#]+)"', index)
    assert loaded
    assert {path for path in loaded if not path.startswith("/web/")} <= {"/"}
    assert {path.removeprefix("/web/") for path in loaded} <= set(PAGES)


@pytest.mark.parametrize("name", [name for name in OURS if name.endswith(".js")])
def test_every_module_imports_only_what_is_there(name: str) -> None:
    folder = name.rpartition("/")[0]
    for path in re.findall(r"""(?:from|import)\s*\(?["']([^"']+)["']""", OURS[name]):
        assert path.startswith(("./", "/web/")), path
        found = path.removeprefix("/web/") if path.startswith("/web/") else f"{folder}/{path[2:]}".lstrip("/")
        assert found in PAGES, path


@pytest.mark.parametrize("name", [name for name in OURS if name.endswith(".js")])
def test_what_comes_from_outside_is_never_markup(name: str) -> None:
    assert not re.search(r"\b(innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval|new Function)\b", OURS[name])


def test_the_vendored_copy_has_its_licence() -> None:
    assert "MIT" in PAGES["vendor/uplot/LICENSE"].body.decode()
