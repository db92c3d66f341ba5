"""TLS on the way to Redis: what the URL's options and files make of it, and what OpenSSL says when it fails.

An `ssl.SSLError` is an OSError whose `errno` is OpenSSL's own number, not the system's: read as one, "certificate
required" is "operation not permitted". Whoever puts a failure into words asks `tls_reason` first.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from common.redis.url import TLSOptions


class TLSFilesError(Exception):
    """A file that the URL names can't be used; the message says which, and why, in one line."""


def ssl_context(options: TLSOptions) -> ssl.SSLContext:
    """The client's side of TLS as `options` describe it; the files are read now. Raises `TLSFilesError`."""
    for option, path in (
        ("ssl_ca_certs", options.ca_file),
        ("ssl_certfile", options.cert_file),
        ("ssl_keyfile", options.key_file),
    ):
        if path is not None:
            _check_readable(option, path)
    try:
        context = ssl.create_default_context(cafile=options.ca_file)
    except (OSError, ValueError) as error:
        raise TLSFilesError(f"ssl_ca_certs: {options.ca_file} has no usable certificate: {_words(error)}") from error
    # The order matters: ssl refuses to drop verification while names are still checked.
    context.check_hostname = options.verify and options.check_hostname
    context.verify_mode = ssl.CERT_REQUIRED if options.verify else ssl.CERT_NONE
    if options.cert_file is not None:
        encrypted = False

        def no_password() -> str:
            # Without it OpenSSL would ask on the terminal, and of what comes of an empty one it only says "PEM lib".
            nonlocal encrypted
            encrypted = True
            return ""

        try:
            context.load_cert_chain(options.cert_file, options.key_file, password=no_password)
        except (OSError, ValueError) as error:
            if encrypted:
                key = options.key_file or options.cert_file
                raise TLSFilesError(f"ssl_keyfile: the key in {key} is encrypted, and must not be") from error
            files = options.cert_file if options.key_file is None else f"{options.cert_file} and {options.key_file}"
            what = "is no certificate with its key" if options.key_file is None else "are no certificate and its key"
            raise TLSFilesError(f"ssl_certfile: {files} {what}: {_words(error)}") from error
    return context


class LastWords(trio.abc.Stream):
    """A TCP stream under TLS on which a failed write does not hide what the server said before it closed.

    A server that wants a certificate says so after the handshake is over for us, and closes: our next write fails with
    "connection reset", and the reason waits unread. So a failed write is put off until that has been read: the read
    that follows raises what TLS makes of it, or else the connection's own end. Every later write fails at once.
    """

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._broken = False
        self._cause: BaseException | None = None

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """See `trio.abc.SendStream`."""
        if self._broken:
            raise trio.BrokenResourceError from self._cause
        try:
            await self.stream.send_all(data)
        except trio.BrokenResourceError as error:
            self._broken = True
            # Without its traceback, which leads back here: a closed connection must not need the collector.
            self._cause = error.__cause__ and error.__cause__.with_traceback(None)

    async def wait_send_all_might_not_block(self) -> None:
        """See `trio.abc.SendStream`."""
        await self.stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """See `trio.abc.ReceiveStream`."""
        return await self.stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        """See `trio.abc.AsyncResource`."""
        await self.stream.aclose()


def tls_reason(error: BaseException | None) -> str | None:
    """What TLS says went wrong, in OpenSSL's words; None where `error` is not of its making."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate verification failed ({error.verify_message})"
    return f"TLS: {_words(error)}" if isinstance(error, ssl.SSLError) else None


def _check_readable(option: str, path: str) -> None:
    """Read the file once here: OpenSSL does not say which one it could not open."""
    try:
        Path(path).read_bytes()
    except OSError as error:
        raise TLSFilesError(f"{option}: {path} can't be read: {error.strerror or type(error).__name__}") from error
    except ValueError as error:
        raise TLSFilesError(f"{option}: the path can't be read: {error}") from error


def _words(error: BaseException) -> str:
    reason = getattr(error, "reason", None)
    if isinstance(reason, str):
        return reason.replace("_", " ").lower()
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
