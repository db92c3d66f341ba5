"""The licence that a package's metadata tells, in SPDX's words where that is certain. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_CERTAIN: Final = {
    "License :: OSI Approved :: Apache Software License": "Apache-2.0",
    "License :: OSI Approved :: ISC License (ISCL)": "ISC",
    "License :: OSI Approved :: MIT License": "MIT",
    "License :: OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}
"""Classifiers that mean one licence: "BSD License" is any of several."""

_KNOWN: Final = {*_CERTAIN.values(), "0BSD", "BSD-2-Clause", "BSD-3-Clause", "MIT-0", "PSF-2.0", "Unlicense"}
"""What is believed of the old free-text field, which holds names, whole texts and nonsense as well."""

_WORDS: Final = re.compile(r"[^\s()]+")
_JOINED: Final = {"AND", "OR", "WITH"}


def licence(expression: str | None, text: str | None, classifiers: Sequence[str]) -> str:
    """An SPDX expression, or empty where none is certain.

    `expression` is the field of that meaning, `text` the one from before, `classifiers` those of all subjects. Several
    classifiers don't say whether all or any of them hold, so they say nothing.
    """
    if expression:
        return expression
    if text and _is_expression(text):
        return text
    named = [_CERTAIN.get(classifier, "") for classifier in classifiers if classifier.startswith("License ::")]
    return named[0] if len(named) == 1 else ""


def _is_expression(text: str) -> bool:
    words = _WORDS.findall(text)
    return bool(words) and all(word in _KNOWN or word in _JOINED for word in words)
