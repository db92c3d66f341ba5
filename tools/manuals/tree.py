"""Every page and script by the path below `share` at which man and the shells look for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from common.version import version
from opsd.cli import OPSD
from preflightd.cli import PROGRAM as PREFLIGHTD
from statusd.cli import PROGRAM as STATUSD
from tools.manuals.completion import completion
from tools.manuals.documented import documented
from tools.manuals.page import manual_page

if TYPE_CHECKING:
    from datetime import date
    from pathlib import Path

COMMANDS: Final = (documented(STATUSD), documented(PREFLIGHTD), documented(OPSD))

PAGES: Final = "man/man1/{}.1"
SCRIPTS: Final = {
    "bash": "bash-completion/completions/{}",
    "zsh": "zsh/site-functions/_{}",
    "fish": "fish/vendor_completions.d/{}.fish",
}


def manuals(day: date) -> dict[str, str]:
    """The texts by path; the pages are of that `day`."""
    texts = {}
    for command in COMMANDS:
        others = [other.name for other in COMMANDS if other is not command]
        texts[PAGES.format(command.name)] = manual_page(command, others, version(), day)
        for shell, path in SCRIPTS.items():
            texts[path.format(command.name)] = completion(command, shell)
    return texts


def write(share: Path, day: date) -> list[Path]:
    """Write all of them below `share`; return where. Raises OSError."""
    written = []
    for path, text in manuals(day).items():
        target = share / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        written.append(target)
    return written
