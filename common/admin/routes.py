"""What the operator's listener is asked (SPEC 2; every route is a GET). Pure but for the reading of the token."""

from __future__ import annotations

from enum import Enum, auto
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import parse_qsl

import attrs

from common.web.http import Head, Response, refusal
from common.web.path import BadPath, raw_path

if TYPE_CHECKING:
    from common.admin.access import Access
    from common.web.forwarded import IPAddress

_SNAPSHOT: Final = b"/workers/snapshot/"
_TOPICS: Final = b"/topics"


class AdminPage(Enum):
    """What has no argument."""

    STATUS = auto()
    EVENTS = auto()
    METRICS = auto()


@attrs.frozen
class SnapshotOf:
    """The snapshot of one worker."""

    worker_id: str


@attrs.frozen
class TopicOf:
    """The clients of one channel, under the name that the daemon's own path has for it."""

    name: str


_PAGES: Final = {b"/workers/status": AdminPage.STATUS, b"/events": AdminPage.EVENTS, b"/metrics": AdminPage.METRICS}


Asked: TypeAlias = AdminPage | SnapshotOf | TopicOf


def decide(head: Head, access: Access, client: IPAddress | None = None) -> Asked | Response:
    """What is asked, or the refusal. Who may not ask learns nothing of what there is.

    `client` is the address that wrong tokens are counted for, None if it has none.
    """
    refused = access.refusal(head, client)
    if refused is not None:
        return refused
    try:
        path = raw_path(head.target)
    except BadPath as error:
        return refusal(HTTPStatus.BAD_REQUEST, "bad_path", str(error))
    page: Asked | None = _PAGES.get(path)
    if page is None and path.startswith(_SNAPSHOT):
        page = SnapshotOf(path.removeprefix(_SNAPSHOT).decode("ascii", "replace"))
    elif path == _TOPICS:
        page = TopicOf("")
    if page is None:
        return refusal(HTTPStatus.NOT_FOUND, "not_found", "there is nothing here")
    if head.method not in {"GET", "HEAD"}:
        return refusal(
            HTTPStatus.METHOD_NOT_ALLOWED,
            "method",
            f"{head.quoted_method()} is not possible here",
            [("Allow", "GET, HEAD")],
        )
    return _named(head.target) if isinstance(page, TopicOf) else page


def _named(target: bytes) -> TopicOf | Response:
    query = target.partition(b"?")[2].decode("latin-1")
    names = [value for key, value in parse_qsl(query, keep_blank_values=True) if key == "name"]
    if len(names) != 1:
        return refusal(HTTPStatus.BAD_REQUEST, "bad_name", "one name is needed: /topics?name=…")
    return TopicOf(names[0])
