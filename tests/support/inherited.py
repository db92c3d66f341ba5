"""What the processes of a test inherit from whoever runs the suite, and must not: signals that are ignored.

`nohup` ignores SIGHUP, a shell without job control SIGINT for what it runs in the background, and a program that is
started so stays so: daemons too, as their users mean it, which the tests do not.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from types import FrameType

_SIGNALS: Final = (signal.SIGHUP, signal.SIGINT)


def let_signals_through() -> None:
    """Give the processes that this one starts the usual effect of signals that it ignores; it goes on ignoring them."""
    for number in _SIGNALS:
        if signal.getsignal(number) is signal.SIG_IGN:
            # Unlike what is ignored, what is handled is the default again in a program that is started.
            signal.signal(number, _ignore)


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """Do nothing."""
