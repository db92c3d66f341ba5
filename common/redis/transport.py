"""Opening the bytes' way to Redis: TCP, TLS or a unix socket; and saying in few words why it failed.

What is opened belongs to the caller. Nothing here retries or has a deadline: the link gives one to each attempt.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
from typing import TYPE_CHECKING, Final

import trio

from common.redis.errors import RedisConnectionError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from common.redis.url import RedisURL, TLSOptions

_SHORT: Final = {
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: "connection reset",
    errno.ENOENT: "no such socket",
    errno.EHOSTUNREACH: "no route",
    errno.ENETUNREACH: "no route",
    errno.ETIMEDOUT: "connection timed out",
}


async def open_stream(url: RedisURL) -> trio.abc.Stream:
    """Connect to where `url` points, the TLS handshake included.

    Raises OSError as trio does, and redis-py's RedisConnectionError for TLS that fails. Certificates are read anew each
    time.
    """
    if url.scheme == "unix":
        return await trio.open_unix_socket(url.path)
    context = None if url.tls is None else _ssl_context(url.tls)
    # Sets TCP_NODELAY.
    stream = await trio.open_tcp_stream(url.host, url.port)
    if context is None:
        return stream
    secure = trio.SSLStream(stream, context, server_hostname=url.host, https_compatible=True)
    try:
        await secure.do_handshake()
    except trio.BrokenResourceError as error:
        await trio.aclose_forcefully(stream)
        raise RedisConnectionError(f"TLS handshake failed: {_tls_reason(error.__cause__)}: {address(url)}") from error
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return secure


def address(url: RedisURL) -> str:
    """Where `url` points, for messages: `host:port` or the socket's path."""
    if url.scheme == "unix":
        return url.path
    return f"[{url.host}]:{url.port}" if ":" in url.host else f"{url.host}:{url.port}"


def explain(error: OSError | ValueError, url: RedisURL) -> str:
    """One short clause for a connection that could not be opened. trio reports one failure per address, nested."""
    if isinstance(error, socket.gaierror | ValueError):
        return f"name does not resolve: {url.host}"
    reasons = dict.fromkeys(_reason(leaf) for leaf in _leaves(error))
    return f"{', '.join(reasons)}: {address(url)}"


def explain_broken(error: trio.BrokenResourceError | trio.ClosedResourceError) -> str:
    """One short clause for a connection that failed while it was in use."""
    cause = error.__cause__
    return f"connection broken: {_reason(cause)}" if isinstance(cause, OSError) else "connection broken"


def _ssl_context(options: TLSOptions) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=options.ca_file)
        # The order matters: ssl refuses to drop verification while names are still checked.
        context.check_hostname = options.verify and options.check_hostname
        context.verify_mode = ssl.CERT_REQUIRED if options.verify else ssl.CERT_NONE
        if options.cert_file is not None:
            # Without a password given, an encrypted key would have OpenSSL ask for one on the terminal.
            context.load_cert_chain(options.cert_file, options.key_file, password="")
    except (OSError, ValueError) as error:
        raise RedisConnectionError(f"the TLS files can't be used: {_tls_reason(error)}") from error
    return context


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """The failures of single addresses behind trio's "all attempts to connect failed"."""
    group = error.__cause__ if isinstance(error.__cause__, BaseExceptionGroup) else error
    if isinstance(group, BaseExceptionGroup):
        for inner in group.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno is not None:
        return _SHORT.get(error.errno) or os.strerror(error.errno).lower()
    return str(error) or type(error).__name__


def _tls_reason(error: BaseException | None) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate verification failed ({error.verify_message})"
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    return str(error) if error is not None and str(error) else "connection closed"
