"""A secret: given as text, or as a file that is read anew each time, so that a rotated secret needs no restart.

A `Secret` lives as long as the settings that hold it. Its text leaves it by `read` only: never by `repr`, `str`,
`describe` or an error.
"""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Final

import attrs

from common.quote import quote

FILE_LIMIT: Final = 65536
"""Bytes; a longer file is no password but a mistake."""


class SecretError(Exception):
    """A secret can't be had. The message is one line that names the variable and, for a file, its path."""


@attrs.frozen(repr=False)
class Secret:
    """A secret and the variable that gave it. Made by `Secret.literal` or `Secret.file`."""

    variable: str
    """The environment variable, for messages."""
    path: Path | None
    """The file that holds the secret; None when the variable itself holds it."""
    _text: str

    @classmethod
    def literal(cls, text: str, variable: str) -> Secret:
        """The secret is `text` itself."""
        return cls(variable, None, text)

    @classmethod
    def file(cls, path: str | Path, variable: str) -> Secret:
        """The secret is what the file at `path` holds when it is read."""
        return cls(variable, Path(path), "")

    def read(self) -> str:
        """The secret's text, a file's without the newlines at its end.

        Reads a file with blocking calls: it is small, regular and local. Raises `SecretError` when the file can't be
        read, is not a regular file, is longer than `FILE_LIMIT`, or when the secret is blank or not UTF-8.
        """
        text = self._text if self.path is None else self._read_file(self.path)
        if not text.strip():
            raise SecretError(f"{self._where()} is empty")
        if not _is_utf8(text):
            raise SecretError(f"{self._where()} is not UTF-8")
        return text

    def describe(self) -> str:
        """Where the secret comes from, fit for logs: `file /run/secrets/x`, or `set`."""
        return "set" if self.path is None else f"file {quote(str(self.path))}"

    def __repr__(self) -> str:
        return f"Secret({self.variable}: {self.describe()})"

    def _where(self) -> str:
        return self.variable if self.path is None else f"{self.variable}: {self.describe()}"

    def _read_file(self, path: Path) -> str:
        try:
            # Opening a FIFO would wait for its writer.
            if not stat.S_ISREG(path.stat().st_mode):
                raise SecretError(f"{self._where()} is not a regular file")
            with path.open("rb") as file:
                data = file.read(FILE_LIMIT + 1)
        except OSError as error:
            raise SecretError(f"{self._where()} can't be read: {error.strerror or type(error).__name__}") from None
        except ValueError:
            raise SecretError(f"{self._where()} can't be read: not a path") from None
        if len(data) > FILE_LIMIT:
            raise SecretError(f"{self._where()} is longer than {FILE_LIMIT} bytes")
        return data.decode("utf-8", "surrogateescape").rstrip("\r\n")


def _is_utf8(text: str) -> bool:
    """False for the surrogates that stand for bytes which were not UTF-8."""
    return not any("\ud800" <= character <= "\udfff" for character in text)
