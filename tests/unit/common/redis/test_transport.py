"""Why a connection could not be opened, in a clause that fits into a log line."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

import pytest
import trio

from common.names import Names
from common.redis.errors import RedisConnectionError
from common.redis.transport import Steps, address, explain, explain_broken, open_stream
from common.redis.url import RedisURL, TLSOptions

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TCP = RedisURL(host="redis.test", port=6379, db=2)
UNIX = RedisURL(scheme="unix", path="/run/redis.sock", db=2)


def os_error(number: int) -> OSError:
    return OSError(number, "as the system says it")


def nested(*leaves: OSError) -> OSError:
    error = OSError("all attempts to connect failed")
    error.__cause__ = ExceptionGroup("all attempts to connect failed", leaves)
    return error


@pytest.mark.parametrize(
    ("error", "url", "words"),
    [
        (os_error(errno.ECONNREFUSED), TCP, "connection refused: redis.test:6379"),
        (os_error(errno.ECONNREFUSED), UNIX, "connection refused: /run/redis.sock"),
        (os_error(errno.ENOENT), UNIX, "no such socket: /run/redis.sock"),
        (os_error(errno.EACCES), UNIX, "permission denied: /run/redis.sock"),
        (os_error(errno.ETIMEDOUT), TCP, "connection timed out: redis.test:6379"),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), TCP, "name does not resolve: redis.test"),
        (UnicodeError("label too long"), TCP, "name does not resolve: redis.test"),
        (nested(os_error(errno.ECONNREFUSED)), TCP, "connection refused: redis.test:6379"),
        (
            nested(os_error(errno.ECONNREFUSED), os_error(errno.ENETUNREACH), os_error(errno.ECONNREFUSED)),
            TCP,
            "connection refused, no route: redis.test:6379",
        ),
        (nested(nested(os_error(errno.EHOSTUNREACH))), TCP, "no route: redis.test:6379"),
        (OSError("no number, only words"), TCP, "no number, only words: redis.test:6379"),
        (OSError(), TCP, "OSError: redis.test:6379"),
    ],
)
def test_each_failure_has_a_short_name(error: OSError | ValueError, url: RedisURL, words: str) -> None:
    assert explain(error, url) == words


def test_a_connection_that_breaks_in_use_says_why_if_the_system_did() -> None:
    reset = trio.BrokenResourceError()
    reset.__cause__ = os_error(errno.ECONNRESET)
    assert explain_broken(reset) == "connection broken: connection reset"
    assert explain_broken(trio.ClosedResourceError()) == "connection broken"


def test_an_ipv6_address_is_written_so_that_its_port_can_be_told() -> None:
    assert address(RedisURL(host="::1", port=6379, db=0)) == "[::1]:6379"


@pytest.mark.parametrize(
    "options", [lambda path: TLSOptions(ca_file=path), lambda path: TLSOptions(cert_file=path)], ids=["CA", "ours"]
)
@pytest.mark.parametrize("content", [None, "not a certificate"])
async def test_tls_files_that_cant_be_used_are_told_before_anything_is_connected(
    options: Callable[[str], TLSOptions], content: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "file.pem"
    if content is not None:
        path.write_text(content)
    # There is nobody at this address: it must not be tried.
    url = RedisURL(scheme="rediss", host="redis.invalid", db=0, tls=options(str(path)))
    with pytest.raises(RedisConnectionError, match="the TLS files can't be used: "):
        await open_stream(url, Steps(), Names())
