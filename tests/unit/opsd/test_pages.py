"""What the page is made of: found in the package, whole, and safe to serve under its policy."""

from __future__ import annotations

import re
from graphlib import TopologicalSorter

import pytest

from opsd.pages import INDEX, load_pages

PAGES = load_pages()
IMPORT = re.compile(r"""(?:from|import)\s*\(?["']([^"']+)["']""")
TEXTS = {name: page.body.decode() for name, page in PAGES.items() if name.endswith((".html", ".css", ".js"))}
OURS = {name: text for name, text in TEXTS.items() if not name.startswith("vendor/")}
MODULES = {name: text for name, text in OURS.items() if name.endswith(".js")}
SHEETS = {name: text for name, text in OURS.items() if name.endswith(".css")}


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


@pytest.mark.parametrize("name", MODULES)
def test_every_module_imports_only_what_is_there(name: str) -> None:
    folder = name.rpartition("/")[0]
    for path in IMPORT.findall(OURS[name]):
        assert path.startswith(("./", "/web/")), path
        found = path.removeprefix("/web/") if path.startswith("/web/") else f"{folder}/{path[2:]}".lstrip("/")
        assert found in PAGES, path


@pytest.mark.parametrize("name", MODULES)
def test_what_comes_from_outside_is_never_markup(name: str) -> None:
    assert not re.search(r"\b(innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval|new Function)\b", OURS[name])


def test_no_module_imports_itself_on_a_detour() -> None:
    imported = {name: [path.removeprefix("./") for path in IMPORT.findall(text)] for name, text in MODULES.items()}
    assert len(list(TopologicalSorter(imported).static_order())) >= len(MODULES)


@pytest.mark.parametrize("name", [name for name, text in MODULES.items() if re.search(r"\bPure[;.]", text)])
def test_what_is_pure_knows_no_document(name: str) -> None:
    assert not re.search(r"\b(document|window|location|fetch|performance)\b[.(]|dom\.js", MODULES[name])


def test_every_template_is_used_and_every_one_that_is_used_is_there() -> None:
    there = re.findall(r'<template id="([^"]+)"', TEXTS[INDEX])
    code = "\n".join(MODULES.values())
    used = re.findall(r'\bmake\("([^"]+)"\)', code) + re.findall(r'customElements\.define\("([^"]+)"', code)
    assert len(set(there)) == len(there)
    assert set(there) == set(used)


def test_every_part_that_a_panel_names_is_in_its_template() -> None:
    parts = {
        re.sub(r"-(\w)", lambda found: found[1].upper(), part)
        for part in re.findall(r'data-part="([^"]+)"', TEXTS[INDEX])
    }
    for name, text in MODULES.items():
        named = set(re.findall(r"\bparts\.(\w+)", text))
        for listed in re.findall(r"const \{([^}]+)\} = (?:this\.#?parts;|partsOf\()", text):
            named |= {part.partition(":")[0].strip() for part in listed.split(",")}
        assert named <= parts, name


@pytest.mark.parametrize("name", SHEETS)
def test_what_a_sheet_styles_is_there(name: str) -> None:
    used = TEXTS[INDEX] + "".join(MODULES.values())
    rules = re.sub(r"/\*.*?\*/", "", SHEETS[name], flags=re.DOTALL)
    for selector in re.findall(r"([^{};]+)\{", rules):
        for found in re.findall(r"(?<![\w-])[.#]([a-z][\w-]*)|\[([a-z-]+)", selector):
            named = next(filter(None, found))
            # The classes of uPlot, and what the attributes are in a module.
            dataset = re.sub(r"-(\w)", lambda match: match[1].upper(), named.removeprefix("data-"))
            assert named.startswith("u-") or named in used or f"dataset.{dataset}" in used, named


def test_the_vendored_copy_has_its_licence() -> None:
    assert "MIT" in PAGES["vendor/uplot/LICENSE"].body.decode()
