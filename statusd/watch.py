"""`statusd watch`: a run's status lines in the terminal, as a browser would get them."""

from __future__ import annotations

from typing import Final

from common.watch.command import Watching, watch_command
from statusd.view import open_status_view

WATCH: Final = watch_command(
    Watching(daemon="statusd", port=9002, path="RUNID:CHANNEL", example="accustomed-pewter:wepp", lossy=True),
    "show a run's status messages in the terminal as they come, reconnecting as needed; Ctrl-C ends it",
    open_status_view,
)
