"""Request targets and the names in them (SPEC 1). Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, unquote_to_bytes

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME_LIMIT: Final = 256
"""Characters of a name."""


class BadPath(ValueError):  # noqa: N818 - what came, not a fault of ours
    """The path names nothing here; the message is the one line that a person gets."""


@attrs.frozen
class Target:
    """A request target: `path` percent-decoded once, without its one tolerated trailing slash; the query's options."""

    path: str
    query: Mapping[str, str]


@attrs.frozen
class Name:
    """A kind of name: what it is called, and which characters it is made of."""

    kind: str
    characters: str
    _pattern: re.Pattern[str] = attrs.field(init=False, eq=False, repr=False)

    @_pattern.default
    def _compile(self) -> re.Pattern[str]:
        return re.compile(f"[{self.characters}]+", re.ASCII)

    def check(self, value: str) -> str:
        """Return `value`, or raise `BadPath` if it is not such a name."""
        if not value:
            raise BadPath(f"the {self.kind} is empty")
        if len(value) > NAME_LIMIT:
            raise BadPath(f"the {self.kind} is longer than {NAME_LIMIT} characters")
        if value in {".", ".."}:
            raise BadPath(f"the {self.kind} may not be . or ..")
        if self._pattern.fullmatch(value) is None:
            raise BadPath(f"the {self.kind} may only have the characters {self.characters}")
        return value


def raw_path(target: bytes) -> bytes:
    """The path of a request target as it was sent, without the query.

    Pages are found by it: a proxy's rule for one is about these very bytes, so that no other spelling may lead there.
    Raises `BadPath` if it does not begin with a slash.
    """
    return _split(target)[0]


def parse_target(target: bytes) -> Target:
    """Split a request target, in origin or absolute form (RFC 9112, section 3.2).

    Raises `BadPath` if it does not begin with a slash or is not ASCII once decoded.
    """
    raw, query = _split(target)
    if len(raw) > 1:
        raw = raw.removesuffix(b"/")
    try:
        path = unquote_to_bytes(raw).decode("ascii")
    except UnicodeDecodeError:
        raise BadPath("the path has characters that no name has") from None
    return Target(path, dict(parse_qsl(query.decode("latin-1"))))


def authority(target: bytes) -> bytes | None:
    """The host, and the port if there is one, of a target in absolute form, without a user's name; None for others."""
    if not _is_absolute(target):
        return None
    return re.split(rb"[/?#]", target.partition(b"://")[2], maxsplit=1)[0].rpartition(b"@")[2]


def _split(target: bytes) -> tuple[bytes, bytes]:
    """Raw path and query."""
    if _is_absolute(target):
        _, _, rest = target.partition(b"://")
        after = re.sub(rb"\A[^/?#]*", b"", rest)
        target = after if after.startswith(b"/") else b"/" + after
    raw, _, query = target.partition(b"?")
    if not raw.startswith(b"/"):
        raise BadPath("the path does not begin with a slash")
    return raw, query


def _is_absolute(target: bytes) -> bool:
    return target[:8].lower().startswith((b"http://", b"https://"))
