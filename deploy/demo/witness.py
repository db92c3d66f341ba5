"""The shows of the demo's two clients: they print to one view, and note what they were shown.

A status line stands as it is; what preflightd says is marked `[checklist]`, and set in a colour where there are any.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs
import trio

from common.watch.show import Note
from preflightd.view import ChecklistLines

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from common.watch.show import Show
    from common.watch.view import View
    from deploy.demo.ledger import ChecklistLedger, DemoLedger

MARK: Final = "[checklist]"
_STYLE: Final = "bold magenta"


@attrs.define
class Witness:
    """A client's show that can be waited for."""

    read: Callable[[Mapping[str, object]], None]
    tell: Callable[[Note, str], None]
    connected: trio.Event = attrs.field(factory=trio.Event, init=False)
    _arrival: trio.Event = attrs.field(factory=trio.Event, init=False)
    """Set by the next frame."""

    def frame(self, frame: Mapping[str, object]) -> None:
        """See `common.watch.show.Show`."""
        self.read(frame)
        self._arrival.set()

    def notice(self, note: Note, text: str) -> None:
        """See `common.watch.show.Show`."""
        if note is Note.CONNECTED:
            self.connected.set()
        self.tell(note, text)

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition`, which only a frame can make true, holds. Has no deadline of its own."""
        while not condition():
            self._arrival = trio.Event()
            await self._arrival.wait()


def status_witness(view: Show, ledger: DemoLedger) -> Witness:
    """Shows statusd's frames on `view`."""

    def read(frame: Mapping[str, object]) -> None:
        if frame.get("type") == "status" and isinstance(data := frame.get("data"), str):
            ledger.receive(data)
        view.frame(frame)

    return Witness(read, view.notice)


def checklist_witness(view: View, ledger: ChecklistLedger) -> Witness:
    """Shows preflightd's frames on `view`, as lines."""
    lines = ChecklistLines()

    def read(frame: Mapping[str, object]) -> None:
        ledger.show(frame)
        for line in lines.of(frame):
            view.line(f"{MARK} {line}", _STYLE)

    return Witness(read, lambda note, text: view.notice(note, f"{MARK} {text}"))
