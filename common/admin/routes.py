"""What the operator's listener is asked (SPEC 2; every route is a GET). Pure but for the reading of the token."""

from __future__ import annotations

from enum import Enum, auto
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import attrs

from common.web.http import Head, Response, refusal
from common.web.path import BadPath, parse_target

if TYPE_CHECKING:
    from common.admin.access import Access

_SNAPSHOT: Final = "/workers/snapshot/"


class Page(Enum):
    """What has no argument."""

    STATUS = auto()
    EVENTS = auto()
    METRICS = auto()


@attrs.frozen
class SnapshotOf:
    """The snapshot of one worker."""

    worker_id: str


_PAGES: Final = {"/workers/status": Page.STATUS, "/events": Page.EVENTS, "/metrics": Page.METRICS}


def decide(head: Head, access: Access) -> Page | SnapshotOf | Response:
    """What is asked, or the refusal. Who may not ask learns nothing of what there is."""
    refused = access.refusal(head)
    if refused is not None:
        return refused
    try:
        path = parse_target(head.target).path
    except BadPath as error:
        return refusal(HTTPStatus.BAD_REQUEST, "bad_path", str(error))
    page: Page | SnapshotOf | None = _PAGES.get(path)
    if page is None and path.startswith(_SNAPSHOT):
        page = SnapshotOf(path.removeprefix(_SNAPSHOT))
    if page is None:
        return refusal(HTTPStatus.NOT_FOUND, "not_found", "there is nothing here")
    if head.method not in {"GET", "HEAD"}:
        return refusal(
            HTTPStatus.METHOD_NOT_ALLOWED, "method", f"{head.method} is not possible here", [("Allow", "GET, HEAD")]
        )
    return page
