"""`preflightd watch`: a run's checklist in the terminal, as a browser would get it."""

from __future__ import annotations

from typing import Final

from common.daemons import PREFLIGHT
from common.watch.command import Plan, Watching, watch_command
from preflightd.route import RUN_ID
from preflightd.view import open_preflight_view

WATCH: Final = watch_command(
    # Not lossy: the first frame after an absence says all there is to know.
    Watching(
        daemon=PREFLIGHT.name,
        port=PREFLIGHT.port,
        path="RUNID",
        example="accustomed-pewter",
        lossy=False,
        check=RUN_ID.check,
        plan=lambda _options: Plan(open_view=open_preflight_view),
    ),
    "show a run's checklist in the terminal as it changes, reconnecting as needed; Ctrl-C ends it",
)
