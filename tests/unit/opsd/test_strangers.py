"""Every endpoint of opsd's table, asked by everybody: with no token, a wrong one, the right one or a session, from its
own page and from foreign ones, under its own name and under another that leads here (DNS rebinding).
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Final

import attrs
import pytest

from opsd.endpoints import ENDPOINTS, JSON, LOGIN, Endpoint, Needs
from tests.support.opsd_app import CHANGE, HOST, Opsd, converse
from tests.unit.opsd.test_endpoints import TOKEN, opsd_with, url_of

if TYPE_CHECKING:
    from collections.abc import Mapping

HTTP: Final = [endpoint for endpoint in ENDPOINTS if endpoint.method != "WS"]
(LIVE,) = (endpoint for endpoint in ENDPOINTS if endpoint.method == "WS")

OPEN: Final = frozenset({200, 204, 503})
"""The board has not asked its sources for long: /health may say 503, which is no refusal."""


@attrs.frozen
class Visitor:
    """What a request says of who sends it, and whether that is to be believed."""

    what: str
    headers: Mapping[str, str]
    good: bool


TOKENS: Final = [
    Visitor("no token", {}, good=False),
    Visitor("an empty token", {"Authorization": "Bearer "}, good=False),
    Visitor("a wrong token", {"Authorization": "Bearer the tokem"}, good=False),
    Visitor("a longer token", {"Authorization": f"Bearer {TOKEN}x"}, good=False),
    Visitor("the token in another case", {"Authorization": f"Bearer {TOKEN.upper()}"}, good=False),
    Visitor("another scheme", {"Authorization": f"Basic {TOKEN}"}, good=False),
    Visitor("the token as a cookie", {"Cookie": f"session={TOKEN}"}, good=False),
    Visitor("a wrong token in its own field", {"X-TES-Dev-Token": "wrong"}, good=False),
    Visitor("the token", {"Authorization": f"Bearer {TOKEN}"}, good=True),
    Visitor("the token in its own field", {"X-TES-Dev-Token": TOKEN}, good=True),
]

SITES: Final = [
    Visitor("nobody's page", {}, good=True),
    Visitor("our page", {"Origin": f"http://{HOST}", "Sec-Fetch-Site": "same-origin"}, good=True),
    Visitor("a foreign page", {"Origin": "https://evil.example"}, good=False),
    Visitor("a page that a foreign site leads to", {"Sec-Fetch-Site": "cross-site"}, good=False),
    Visitor("a page of a sandbox", {"Origin": "null"}, good=False),
    Visitor("a page of another port", {"Origin": "http://localhost:9004"}, good=False),
    Visitor("a page over TLS", {"Origin": f"https://{HOST}"}, good=True),
    Visitor("a name that only begins like ours", {"Origin": f"http://{HOST}.evil.example"}, good=False),
    Visitor("a name that only ends like ours", {"Origin": f"http://evil-{HOST}"}, good=False),
]

HOSTS: Final = [
    Visitor("our name", {"Host": HOST}, good=True),
    Visitor("our address", {"Host": "127.0.0.1:9003"}, good=True),
    Visitor("a name that leads here", {"Host": "rebound.example:9003"}, good=False),
    Visitor("a name that begins like ours", {"Host": "localhost.evil.example:9003"}, good=False),
    Visitor("an address in one number", {"Host": "2130706433:9003"}, good=False),
    Visitor("any address", {"Host": "0.0.0.0:9003"}, good=False),
    Visitor("a private address", {"Host": "10.0.0.1:9003"}, good=False),
]


def by_call(endpoint: Endpoint) -> str:
    return endpoint.call


async def ask(opsd: Opsd, endpoint: Endpoint, *visitors: Visitor, headers: Mapping[str, str] = CHANGE) -> int:
    """The status of one request that changes what it may."""
    said = {name: value for visitor in visitors for name, value in visitor.headers.items()} | dict(headers)
    # A login's token is in its body.
    wrong = endpoint.path == LOGIN and any(visitor in TOKENS and not visitor.good for visitor in visitors)
    body = b'{"token":"wrong"}' if wrong else b'{"token":"the token"}'
    if endpoint.body is not None:
        said["Content-Type"] = JSON
    answer = await opsd.ask(
        url_of(endpoint), endpoint.method, content=body if endpoint.body is not None else b"", headers=said
    )
    return answer.status_code


def lets_in(endpoint: Endpoint, token: Visitor, site: Visitor) -> bool:
    """As the table says."""
    if endpoint.needs is Needs.NOTHING:
        return True
    if endpoint.needs is Needs.OWN_PAGE:
        return site.good and (token.good or endpoint.path != LOGIN)
    return site.good and token.good


@pytest.mark.parametrize("endpoint", HTTP, ids=by_call)
async def test_who_gets_in_where_there_is_a_token(endpoint: Endpoint) -> None:
    for token, site in product(TOKENS, SITES):
        status = await ask(opsd_with(TOKEN), endpoint, token, site)
        about = f"{token.what}, {site.what}: {status}"
        assert (status in OPEN) is lets_in(endpoint, token, site), about
        assert status in OPEN | {401, 403}, about


@pytest.mark.parametrize("endpoint", HTTP, ids=by_call)
async def test_who_gets_in_where_there_is_none(endpoint: Endpoint) -> None:
    for site, host in product(SITES, HOSTS):
        # Only pages of the name that was asked are ours.
        if site.what in {"our page", "a page over TLS"} and host.headers["Host"] != HOST:
            continue
        opsd = opsd_with()
        status = await ask(opsd, endpoint, site, host)
        about = f"{site.what}, {host.what}: {status}"
        assert (status == 421) is not host.good, about
        assert (status in OPEN) is (host.good and (site.good or endpoint.needs is Needs.NOTHING)), about
        assert not (opsd.tmux.done and status not in OPEN), about


@pytest.mark.parametrize("endpoint", [endpoint for endpoint in HTTP if endpoint.needs is Needs.CHANGE], ids=by_call)
@pytest.mark.parametrize("value", [None, "", "0", "true", "1, 1"])
async def test_no_change_without_the_field_that_pages_elsewhere_cannot_send(
    endpoint: Endpoint, value: str | None
) -> None:
    for token in (None, TOKEN):
        opsd = opsd_with(token)
        field = {} if value is None else {"X-Ops-Request": value}
        assert await ask(opsd, endpoint, TOKENS[-1], headers=field) == 403
        assert not opsd.tmux.done


@pytest.mark.parametrize("endpoint", HTTP, ids=by_call)
async def test_a_session_is_as_good_as_the_token_until_its_end(endpoint: Endpoint) -> None:
    opsd = opsd_with(TOKEN)
    login = await opsd.ask(LOGIN, "POST", json={"token": TOKEN}, headers=CHANGE)
    cookie = login.headers["set-cookie"].partition(";")[0]
    session = Visitor("a session", {"Cookie": cookie}, good=True)
    for what, bad in {
        "cut": cookie[:-1],
        "longer": cookie + "0",
        "of nobody": cookie.partition("=")[0] + "=",
        "two": f"{cookie}x; {cookie}y",
    }.items():
        status = await ask(opsd, endpoint, Visitor(what, {"Cookie": bad}, good=False))
        needs_none = endpoint.needs in {Needs.NOTHING, Needs.OWN_PAGE}
        assert (status in OPEN) is needs_none, what
    for site in SITES:
        assert (await ask(opsd, endpoint, session, site) in OPEN) is (site.good or endpoint.needs is Needs.NOTHING)
        if endpoint.path == "/api/logout" and site.good:
            return  # it is over now
    await opsd.ask("/api/logout", "POST", headers=CHANGE | dict(session.headers))
    if endpoint.needs in {Needs.TOKEN, Needs.CHANGE}:
        assert await ask(opsd, endpoint, session) == 401


@pytest.mark.parametrize("token", TOKENS, ids=lambda token: token.what)
async def test_who_gets_a_websocket(token: Visitor) -> None:
    for site in SITES:
        async with converse(Opsd(TOKEN), **token.headers, **site.headers) as conversation:
            said = (await conversation.next())["type"]
        assert (said == "websocket.accept") is (token.good and site.good), site.what


@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.what)
async def test_under_which_name_a_websocket_is_had(host: Visitor) -> None:
    async with converse(Opsd(), **host.headers) as conversation:
        said = await conversation.next()
    assert said["type"] == ("websocket.accept" if host.good else "websocket.http.response.start")
    assert said.get("status") == (None if host.good else 421)
