"""MkDocs' hook: the site has each document at its place in the repository, and beside it the files that they link to.

MkDocs knows one folder of documents. Links such as `../deploy/proxies/Caddyfile` lead out of it, and would have to be
written one way for the repository's viewer and another for the site.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.structure.files import File, Files

from tools.site.documents import attachments, documents

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.livereload import LiveReloadServer


def on_config(config: MkDocsConfig) -> None:
    """Called by MkDocs first: what `nav` has no place for is below More."""
    root = Path(config.config_file_path).parent
    placed = set(_places(config.nav or []))
    more = [place for path in documents(root) if (place := path.relative_to(root).as_posix()) not in placed]
    if config.nav and more:
        config.nav = [*config.nav, {"More": more}]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Called by MkDocs with what it has found in docs/ and in its theme; returns what the site is made of."""
    root = Path(config.config_file_path).parent
    ours = [
        File.generated(config, path.relative_to(root).as_posix(), abs_src_path=str(path))
        for path in (*documents(root), *attachments(root))
    ]
    docs = f"{config.docs_dir}/"
    themes = [file for file in files if not (file.abs_src_path or "").startswith(docs)]
    return Files([*ours, *themes])


def on_serve(server: LiveReloadServer, config: MkDocsConfig, **_: object) -> LiveReloadServer:
    """Called by MkDocs before it serves: a page is made anew when its document changes, wherever that lies."""
    for path in documents(Path(config.config_file_path).parent):
        server.watch(str(path))
    return server


def _places(nav: object) -> Iterator[str]:
    """The documents of a nav, or of a part of it: names, lists, and titles with either."""
    match nav:
        case str():
            yield nav
        case dict():
            yield from (place for part in nav.values() for place in _places(part))
        case list():
            yield from (place for part in nav for place in _places(part))
