"""The table of opsd's routes: what is served, and all that is said about it. Pure data.

The application makes its routes of it (`opsd.api.routes`), the gate its exceptions (`opsd.app`), the status its number
of endpoints, `GET /api/dev/endpoints` its list and `GET /api/dev/openapi.json` its document (`opsd.openapi`).
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final, Literal

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping

JSON: Final = "application/json"


class Needs(Enum):
    """What a request needs, beside a host that is served (`opsd.auth`); the value is the sentence for a person."""

    NOTHING = "nothing"
    OWN_PAGE = "not to come from a page of another site"
    TOKEN = "the token or a session, where there is a token"  # noqa: S105 - a sentence
    CHANGE = "the header X-Ops-Request: 1, and the token or a session, where there is a token"


@attrs.frozen
class Parameter:
    """One of a path or a query."""

    name: str
    what: str
    schema: Mapping[str, object]
    required: bool = False


@attrs.frozen(kw_only=True)
class Endpoint:
    """One route."""

    method: Literal["GET", "POST", "WS"]
    """A GET serves HEAD too; WS is a WebSocket."""
    path: str
    """With its parameters in braces; `{name:path}` may hold slashes."""
    call: str
    """The name of what answers."""
    what: str
    needs: Needs
    query: tuple[Parameter, ...] = ()
    in_path: tuple[Parameter, ...] = ()
    body: Mapping[str, object] | None = None
    """The schema of the JSON that it takes."""
    answer: str | None = JSON
    """The content type of the good answer; None when it has no body."""
    schema: str | None = None
    """The name of the answer's schema among those of `opsd.openapi`, where it has one."""
    refusals: tuple[int, ...] = ()
    """Statuses of its own, beside those that any request may get."""

    @property
    def plain_path(self) -> str:
        """The path as people and documents write it."""
        return self.path.replace(":path}", "}")

    def document(self) -> dict[str, object]:
        """As a JSON object."""
        return {"method": self.method, "path": self.plain_path, "what": self.what, "needs": self.needs.value}


def _whole(name: str, what: str, default: int, most: int) -> Parameter:
    return Parameter(name, what, {"type": "integer", "minimum": 1, "maximum": most, "default": default})


def _text(name: str, what: str, pattern: str, longest: int, *, required: bool = True) -> Parameter:
    schema = {"type": "string", "pattern": f"^{pattern}$", "minLength": 1, "maxLength": longest}
    return Parameter(name, what, schema, required)


DEFAULT_MINUTES: Final = 60
MOST_MINUTES: Final = 31 * 24 * 60
DEFAULT_POINTS: Final = 300
MOST_POINTS: Final = 2000
DEFAULT_EVENTS: Final = 100
MOST_EVENTS: Final = 500
LONGEST_NAME: Final = 256
"""Characters of a run's id, and of a channel (SPEC 1)."""

LOGIN: Final = "/api/login"
STATUS: Final = "/api/dev/status"

_TOKEN_BODY: Final[Mapping[str, object]] = {
    "type": "object",
    "properties": {"token": {"type": "string"}},
    "required": ["token"],
}

ENDPOINTS: Final = (
    Endpoint(method="GET", path=STATUS, call="status", what="the status vector", needs=Needs.TOKEN, schema="Status"),
    Endpoint(
        method="GET",
        path="/api/dev/status/schema",
        call="schema",
        what="the JSON Schema of the status",
        needs=Needs.TOKEN,
        answer="application/schema+json",
    ),
    Endpoint(
        method="WS",
        path="/api/dev/status/live",
        call="live",
        what="the status now and at every change, a text message each",
        needs=Needs.TOKEN,
    ),
    Endpoint(
        method="GET",
        path="/api/dev/status/history",
        call="history",
        what="samples of the past, downsampled",
        needs=Needs.TOKEN,
        query=(
            _whole("minutes", "how far back", DEFAULT_MINUTES, MOST_MINUTES),
            _whole("points", "how many at most", DEFAULT_POINTS, MOST_POINTS),
        ),
        refusals=(503,),
    ),
    Endpoint(
        method="GET",
        path="/api/dev/metrics",
        call="metrics",
        what="the status vector as Prometheus series",
        needs=Needs.TOKEN,
        answer="text/plain",
    ),
    Endpoint(
        method="GET",
        path="/api/dev/events",
        call="events",
        what="what has changed, newest first",
        needs=Needs.TOKEN,
        query=(_whole("limit", "how many at most", DEFAULT_EVENTS, MOST_EVENTS),),
    ),
    Endpoint(
        method="GET",
        path="/api/dev/endpoints",
        call="endpoints",
        what="this table, and the paths of the daemons",
        needs=Needs.TOKEN,
        schema="Endpoints",
    ),
    Endpoint(
        method="GET",
        path="/api/dev/openapi.json",
        call="openapi",
        what="this table as an OpenAPI 3.1 document",
        needs=Needs.TOKEN,
        answer="application/openapi+json",
    ),
    Endpoint(
        method="GET",
        path="/api/dev/viewers",
        call="viewers",
        what="how many clients follow a run's log and its checklist",
        needs=Needs.TOKEN,
        query=(
            _text("run", "the run's id", "[A-Za-z0-9_.;-]+", LONGEST_NAME),
            _text(
                "channel",
                "that of its log; without it only its checklist counts",
                "[A-Za-z0-9_.-]+",
                LONGEST_NAME,
                required=False,
            ),
        ),
        schema="Viewers",
        refusals=(503,),
    ),
    Endpoint(
        method="GET", path="/api/dev/workers", call="workers", what="every worker of every source", needs=Needs.TOKEN
    ),
    Endpoint(
        method="GET",
        path="/api/workers/snapshot/{worker}",
        call="snapshot",
        what="a worker's state as a file, once in 10 s at most",
        needs=Needs.TOKEN,
        in_path=(_text("worker", "its id among the workers", "[A-Za-z0-9_.-]+", 128),),
        refusals=(404, 429, 502, 504),
    ),
    Endpoint(
        method="GET",
        path="/api/dev/tmux/status",
        call="tmux_status",
        what="the tmux sessions of this machine, and the panes of the daemons' own",
        needs=Needs.TOKEN,
    ),
    Endpoint(
        method="POST",
        path="/api/dev/tmux/start",
        call="tmux_start",
        what="start the daemons in their tmux session",
        needs=Needs.CHANGE,
        refusals=(409, 502, 503),
    ),
    Endpoint(
        method="POST",
        path="/api/dev/tmux/stop",
        call="tmux_stop",
        what="end the daemons, and their tmux session",
        needs=Needs.CHANGE,
        refusals=(409, 502, 503),
    ),
    Endpoint(
        method="GET",
        path="/api/dev/config",
        call="config",
        what="whether a token is needed and, for who has it, where browsers find the daemons and what is good or bad",
        needs=Needs.OWN_PAGE,
        schema="Config",
    ),
    Endpoint(
        method="POST",
        path=LOGIN,
        call="login",
        what="trade the token for a session's cookie",
        needs=Needs.OWN_PAGE,
        body=_TOKEN_BODY,
        answer=None,
        refusals=(408, 413, 415),
    ),
    Endpoint(
        method="POST",
        path="/api/logout",
        call="logout",
        what="end the session of the request's cookie",
        needs=Needs.CHANGE,
        answer=None,
    ),
    Endpoint(
        method="GET",
        path="/health",
        call="health",
        what="whether every source has been asked once",
        needs=Needs.NOTHING,
        refusals=(503,),
    ),
    Endpoint(method="GET", path="/health/live", call="alive", what="whether the process turns", needs=Needs.NOTHING),
    Endpoint(
        method="GET",
        path="/metrics",
        call="own_metrics",
        what="the same series as above and this process's own, where OPS_METRICS_ENABLED says so",
        needs=Needs.TOKEN,
        answer="text/plain",
        refusals=(404,),
    ),
    Endpoint(method="GET", path="/", call="index", what="the operators' page", needs=Needs.NOTHING, answer="text/html"),
    Endpoint(
        method="GET",
        path="/web/{name:path}",
        call="file",
        what="what the page is made of",
        needs=Needs.NOTHING,
        in_path=(Parameter("name", "a file's path", {"type": "string"}, required=True),),
        answer="*/*",
        refusals=(404,),
    ),
)
