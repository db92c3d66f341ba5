"""TLS on the way to Redis: what OpenSSL says is what is said, and a file that can't be used is told at the start."""

from __future__ import annotations

import errno
import gc
import os
import ssl
import weakref
from typing import TYPE_CHECKING, Final, cast

import pytest
import trio
from trio.testing import memory_stream_pair

from common.config import ConfigError, load
from common.redis.tls import LastWords, TLSFilesError, ssl_context, tls_reason
from common.redis.transport import explain, explain_broken
from common.redis.url import RedisURL, TLSOptions
from opsd.settings import OpsSettings
from preflightd.settings import PreflightSettings
from statusd.settings import StatusSettings
from tests.support.tls import CERTIFICATE

if TYPE_CHECKING:
    from pathlib import Path

    from common.config import Configuration

ENCRYPTED: Final = CERTIFICATE.with_name("localhost_encrypted.key")
"""The certificate's key, under a password."""
URL: Final = RedisURL(scheme="rediss", host="redis.test", db=0, tls=TLSOptions())


def tls_error(number: int, reason: str) -> ssl.SSLError:
    """As OpenSSL's are: `errno` is the kind of its failure, the reason what the other side or it said."""
    error = ssl.SSLError(number, f"[SSL: {reason}] (_ssl.c:2580)")
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        # 1 is EPERM to the system, 8 is ENOEXEC.
        (tls_error(1, "TLSV13_ALERT_CERTIFICATE_REQUIRED"), "TLS: tlsv13 alert certificate required"),
        (tls_error(1, "WRONG_VERSION_NUMBER"), "TLS: wrong version number"),
        (ssl.SSLEOFError(8, "EOF occurred in violation of protocol"), "TLS: "),
        (ssl.SSLZeroReturnError(6, "TLS/SSL connection has been closed (EOF)"), "TLS: "),
    ],
)
def test_an_error_of_tls_is_never_read_as_one_of_the_system(error: ssl.SSLError, words: str) -> None:
    broken = trio.BrokenResourceError()
    broken.__cause__ = error
    for said in (tls_reason(error), explain_broken(broken), explain(error, URL)):
        assert said is not None
        assert words in said
        assert not any(os.strerror(number).lower() in said for number in (errno.EPERM, errno.ENOEXEC, errno.ENXIO))


@pytest.mark.parametrize("error", [None, OSError(errno.ECONNRESET, "reset"), ValueError("x")], ids=repr)
def test_what_tls_has_not_said_is_not_put_into_its_mouth(error: BaseException | None) -> None:
    assert tls_reason(error) is None


# -- files ------------------------------------------------------------------------------------------------------------


def test_one_file_with_certificate_and_key_is_enough() -> None:
    context = ssl_context(TLSOptions(ca_file=str(CERTIFICATE), cert_file=str(CERTIFICATE)))
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert len(context.get_ca_certs()) == 1


@pytest.mark.parametrize("content", [None, "", "not a certificate", "directory", "\0"], ids=repr)
@pytest.mark.parametrize("option", ["ssl_ca_certs", "ssl_certfile", "ssl_keyfile"])
def test_a_file_that_cant_be_used_is_named_with_its_option(option: str, content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "file.pem"
    if content == "directory":
        path.mkdir()
    elif content is not None:
        path.write_text(content)
    bad = str(path)
    options = {
        "ssl_ca_certs": TLSOptions(ca_file=bad),
        "ssl_certfile": TLSOptions(cert_file=bad),
        "ssl_keyfile": TLSOptions(cert_file=str(CERTIFICATE), key_file=bad),
    }[option]
    with pytest.raises(TLSFilesError) as caught:
        ssl_context(options)
    said = str(caught.value)
    assert bad in said
    assert said.startswith(option if option != "ssl_keyfile" or content in {None, "directory"} else "ssl_certfile")
    assert "\n" not in said


@pytest.mark.parametrize("together", [False, True])
def test_a_key_that_is_encrypted_is_called_so_and_no_password_is_asked_for(together: bool, tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    certificate = CERTIFICATE.read_text()
    begin = certificate.index("-----BEGIN CERTIFICATE-----")
    both.write_text(certificate[begin:].partition("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n")
    if together:
        both.write_text(both.read_text() + ENCRYPTED.read_text())
    key = None if together else str(ENCRYPTED)
    with pytest.raises(TLSFilesError) as caught:
        ssl_context(TLSOptions(cert_file=str(both), key_file=key))
    assert str(caught.value) == f"ssl_keyfile: the key in {key or both} is encrypted, and must not be"


def test_a_path_that_is_none_is_said_with_its_option() -> None:
    with pytest.raises(TLSFilesError, match=r"^ssl_ca_certs: the path can't be read: "):
        ssl_context(TLSOptions(ca_file="a\0b"))


@pytest.mark.parametrize("settings", [StatusSettings, PreflightSettings, OpsSettings])
@pytest.mark.parametrize("option", ["ssl_ca_certs", "ssl_certfile"])
def test_at_start_it_is_fatal_and_one_line(settings: type[Configuration], option: str, tmp_path: Path) -> None:
    path = tmp_path / "none.pem"
    name = f"{settings.prefix}REDIS_URL"
    with pytest.raises(ConfigError) as caught:
        load(settings, {name: f"rediss://:hunter2@h/0?{option}={path}"})
    assert str(caught.value) == f"{name}: {option}: {path} can't be read: No such file or directory"


def test_files_that_can_be_used_are_used() -> None:
    query = f"ssl_ca_certs={CERTIFICATE}&ssl_certfile={CERTIFICATE}&ssl_keyfile={CERTIFICATE}"
    loaded = load(StatusSettings, {"STATUS_REDIS_URL": f"rediss://h/2?{query}"})
    assert loaded.warnings == ()
    path = str(CERTIFICATE)
    assert loaded.settings.redis_url.tls == TLSOptions(ca_file=path, cert_file=path, key_file=path)


# -- last words -------------------------------------------------------------------------------------------------------


class Closed(trio.abc.Stream):
    """A connection that the other side has closed, having said `words`."""

    def __init__(self, words: bytes) -> None:
        self.words = words
        self.sent = 0

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        del data
        await trio.lowlevel.checkpoint()
        self.sent += 1
        raise trio.BrokenResourceError from OSError(errno.ECONNRESET, "reset")

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        del max_bytes
        await trio.lowlevel.checkpoint()
        words, self.words = self.words, b""
        return words

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


async def test_what_was_said_before_the_close_is_read_although_a_write_failed() -> None:
    closed = Closed(b"alert")
    stream = LastWords(cast("trio.SocketStream", closed))
    await stream.send_all(b"HELLO")
    assert await stream.receive_some() == b"alert"
    assert await stream.receive_some() == b""
    with pytest.raises(trio.BrokenResourceError) as caught:
        await stream.send_all(b"PING")
    assert explain_broken(caught.value) == "connection broken: connection reset"
    assert closed.sent == 1


async def test_a_failed_write_leaves_no_cycle() -> None:
    stream = LastWords(cast("trio.SocketStream", Closed(b"")))
    await stream.send_all(b"HELLO")
    gone = weakref.ref(stream)
    gc.disable()
    try:
        del stream
        assert gone() is None
    finally:
        gc.enable()


async def test_while_all_is_well_it_passes_everything_on() -> None:
    ours, theirs = memory_stream_pair()
    stream = LastWords(cast("trio.SocketStream", ours))
    await stream.wait_send_all_might_not_block()
    await stream.send_all(b"x")
    assert await theirs.receive_some() == b"x"
    await theirs.send_all(b"y")
    assert await stream.receive_some(10) == b"y"
    await stream.aclose()
    assert await theirs.receive_some() == b""
