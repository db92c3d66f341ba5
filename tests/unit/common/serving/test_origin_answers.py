"""Who gets in with which `Origin` fields, as both daemons answer (SPEC 1, Origin). The patterns' own table:
test_web_origin.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from preflightd.daemon import PREFLIGHTD
from statusd.daemon import STATUSD
from tests.support.client import close_frame, handshake
from tests.support.service import open_service

if TYPE_CHECKING:
    from typing import Any

    from trio.testing import MockClock

    from common.daemon import Daemon

ALLOWED: Final = "example.gov,*.example.gov,https://tls.example.net,http://port.example.net:8080,xn--grn-hoa.example"
PASSES: Final = 101
FOREIGN: Final = 403
UNCLEAR: Final = 400

ORIGINS: Final[dict[tuple[str, ...], int]] = {
    (): PASSES,
    # Schemes.
    ("https://example.gov",): PASSES,
    ("http://example.gov",): PASSES,
    ("ws://example.gov",): PASSES,
    ("capacitor://example.gov",): PASSES,
    ("https://tls.example.net",): PASSES,
    ("http://tls.example.net",): FOREIGN,
    ("wss://tls.example.net",): FOREIGN,
    ("HTTPS://TLS.EXAMPLE.NET",): PASSES,
    ("httpss://tls.example.net",): FOREIGN,
    ("javascript://example.gov",): PASSES,  # whoever leaves the scheme open allows any
    ("example.gov",): FOREIGN,
    ("//example.gov",): FOREIGN,
    ("https:example.gov",): FOREIGN,
    ("https:/example.gov",): FOREIGN,
    ("https:///example.gov",): FOREIGN,
    ("file://",): FOREIGN,
    ("about:blank",): FOREIGN,
    ("data:text/html,x",): FOREIGN,
    ("blob:https://example.gov/1-2",): FOREIGN,
    ("filesystem:https://example.gov/x",): FOREIGN,
    # Ports.
    ("https://example.gov:443",): PASSES,
    ("https://example.gov:8443",): PASSES,
    ("http://port.example.net:8080",): PASSES,
    ("http://port.example.net",): FOREIGN,
    ("http://port.example.net:80",): FOREIGN,
    ("http://port.example.net:80800",): FOREIGN,
    ("http://port.example.net:08080",): FOREIGN,
    ("https://example.gov:",): FOREIGN,
    ("https://example.gov:0",): FOREIGN,
    ("https://example.gov:65536",): FOREIGN,
    ("https://example.gov:-1",): FOREIGN,
    ("https://example.gov:+443",): FOREIGN,
    ("https://example.gov:443:443",): FOREIGN,
    ("https://example.gov:evil.example",): FOREIGN,
    # Case.
    ("https://EXAMPLE.gov",): PASSES,
    ("https://App.Example.GOV",): PASSES,
    # Names as they are on the wire: Punycode, in any case, and nothing that only looks alike.
    ("https://xn--grn-hoa.example",): PASSES,
    ("https://XN--GRN-HOA.example",): PASSES,
    ("https://gr\xfcn.example",): FOREIGN,
    ("https://gr%C3%BCn.example",): FOREIGN,
    ("https://xn--xample-2of.gov",): FOREIGN,
    ("https://ex\xe0mple.gov",): FOREIGN,
    # Dots.
    ("https://example.gov.",): FOREIGN,
    ("https://app.example.gov.",): FOREIGN,
    ("https://example.gov..",): FOREIGN,
    ("https://.example.gov",): PASSES,  # the wildcard may be empty; no browser has such a page
    ("https://..example.gov",): PASSES,
    ("https://example..gov",): FOREIGN,
    # Prefixes and suffixes.
    ("https://evil-example.gov",): FOREIGN,
    ("https://evilexample.gov",): FOREIGN,
    ("https://example.gov.evil",): FOREIGN,
    ("https://example.gov.evil.net",): FOREIGN,
    ("https://app.example.gov.evil.net",): FOREIGN,
    ("https://example.gov-evil.net",): FOREIGN,
    ("https://example.govevil",): FOREIGN,
    ("https://example-gov",): FOREIGN,
    ("https://examplexgov",): FOREIGN,
    ("https://evil.net/.example.gov",): FOREIGN,
    ("https://evil.net?.example.gov",): FOREIGN,
    ("https://evil.net#.example.gov",): FOREIGN,
    ("https://evil.net\\.example.gov",): FOREIGN,
    ("https://evil.net:80@example.gov",): FOREIGN,
    ("https://example.gov@evil.net",): FOREIGN,
    ("https://example.gov%00.evil.net",): FOREIGN,
    ("https://example.gov%2eevil.net",): FOREIGN,
    ("https://evil.net%2f.example.gov",): FOREIGN,
    ("https://example.gov/",): FOREIGN,
    ("https://example.gov/run",): FOREIGN,
    ("*",): FOREIGN,
    ("https://*.example.gov",): FOREIGN,
    ("https://[example.gov]",): FOREIGN,
    # Nobody's.
    ("null",): FOREIGN,
    ("NULL",): FOREIGN,
    ("",): FOREIGN,
    ("undefined",): FOREIGN,
    # Several in one field, and several fields.
    ("https://example.gov https://evil.net",): FOREIGN,
    ("https://example.gov,https://evil.net",): FOREIGN,
    ("https://example.gov, https://example.gov",): FOREIGN,
    ("https://example.gov", "https://evil.net"): UNCLEAR,
    ("https://evil.net", "https://example.gov"): UNCLEAR,
    ("https://example.gov", "https://example.gov"): UNCLEAR,
    ("https://example.gov", ""): UNCLEAR,
    ("null", "https://example.gov"): UNCLEAR,
    # The server's own name (`Host: example.org` in these requests) is no other site.
    ("https://example.org",): PASSES,
    ("http://example.org",): PASSES,
    ("http://example.org:80",): PASSES,
    ("http://example.org:8080",): FOREIGN,
    ("http://example.org.",): FOREIGN,
    ("http://www.example.org",): FOREIGN,
    ("http://evil-example.org",): FOREIGN,
    ("http://example.org.evil.net",): FOREIGN,
}  # fmt: skip


@pytest.mark.parametrize(
    ("daemon", "path"), [(STATUSD, "/run:log"), (PREFLIGHTD, "/run")], ids=["statusd", "preflightd"]
)
async def test_who_gets_in(daemon: Daemon[Any], path: str, autojump_clock: MockClock) -> None:
    async with open_service(of=daemon, allowed_origins=ALLOWED) as running:
        got: dict[tuple[str, ...], int | None] = {}
        for number, origins in enumerate(ORIGINS):
            # Each on a topic of its own: what Redis was asked tells who got as far.
            lines = "".join(f"Origin: {origin}\r\n" for origin in origins).encode("latin-1")
            client = running.arrive(answers=False)
            await client.send_raw(handshake(path.replace("run", f"run{number}"))[:-2] + lines + b"\r\n")
            await client.wait(lambda client: client.status is not None)
            got[origins] = client.status
            await client.send_raw(close_frame(1000))
            await client.wait_ended()
        assert got == ORIGINS
        listened = [b"run%d" % number for number, status in enumerate(ORIGINS.values()) if status == PASSES]
        channels = [command[1] for command in running.redis.asked(b"SUBSCRIBE")]
        assert [channel.removeprefix(b"__keyspace@0__:").removesuffix(b":log") for channel in channels] == listened


async def test_an_origin_in_another_field_is_none(autojump_clock: MockClock) -> None:
    """The field of the drafts before the RFC, and what proxies add, decide nothing."""
    async with open_service(allowed_origins=ALLOWED) as running:
        for name in ("Sec-WebSocket-Origin", "X-Forwarded-Host", "Referer", "X-Origin"):
            client = await running.ask(headers={name: "https://example.gov", "Origin": "https://evil.net"})
            assert (name, client.status) == (name, 403)
