"""Why tmux did not do what it was asked to. Each message is for the operator.

TmuxError
├── TmuxUnavailableError
└── TmuxConflictError
"""

from __future__ import annotations


class TmuxError(Exception):
    """tmux did not do what it was asked to."""


class TmuxUnavailableError(TmuxError):
    """There is no tmux here, or it does not answer."""


class TmuxConflictError(TmuxError):
    """The session runs already, does not run, or is being started or stopped."""
