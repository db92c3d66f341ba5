"""A redis-server that speaks TLS itself: certificates it wants, certificates it has, and what is said when they differ.

Not every build can: where the server of this run can't, the tests are skipped by name (in CI only if it is Valkey's).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING
from urllib.parse import quote

import attrs
import pytest

from common.embedded import open_embedded_redis
from tests.support.daemon import environment, open_daemon, run_to_end
from tests.support.ports import free_port
from tests.support.preflight import wait_true
from tests.support.raw import HOST, PATIENCE, connect, open_redis

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import trio

    from common.embedded import EmbeddedRedis

pytestmark = pytest.mark.integration


@attrs.frozen
class Certificates:
    """An authority with a certificate for the server and one for clients, and a stranger that nobody vouches for."""

    directory: Path

    def certificate(self, name: str) -> str:
        return str(self.directory / f"{name}.pem")

    def key(self, name: str) -> str:
        return str(self.directory / f"{name}.key")


@attrs.frozen
class TLSRedis:
    """A server with a TLS port beside its own. It asks clients for a certificate."""

    redis: EmbeddedRedis
    port: int
    certificates: Certificates

    def url(self, *, host: str = HOST, db: int = 2, ca: str | None = "authority", client: str | None = "client") -> str:
        made = self.certificates
        options = {"ssl_ca_certs": made.certificate(ca)} if ca else {}
        if client:
            options |= {"ssl_certfile": made.certificate(client), "ssl_keyfile": made.key(client)}
        return f"rediss://{host}:{self.port}/{db}?" + "&".join(f"{k}={quote(v)}" for k, v in options.items())


def openssl(*arguments: str) -> None:
    program = shutil.which("openssl")
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("no openssl command here to make certificates with")
        pytest.skip("no openssl command here to make certificates with")
    subprocess.run([program, *arguments], check=True, capture_output=True, timeout=PATIENCE)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Made anew for each run."""
    made = Certificates(tmp_path_factory.mktemp("certificates"))
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    for name in ("authority", "stranger"):
        openssl("req", "-x509", *key, "-subj", f"/CN={name}", "-keyout", made.key(name), "-out", made.certificate(name))
    for name in ("server", "client"):
        request, names = made.directory / f"{name}.csr", made.directory / f"{name}.ext"
        names.write_text(f"subjectAltName=IP:{HOST}\n")
        openssl("req", "-new", *key[:-2], "-subj", f"/CN={name}", "-keyout", made.key(name), "-out", str(request))
        openssl(
            *("x509", "-req", "-days", "2", "-in", str(request), "-out", made.certificate(name), "-CAcreateserial"),
            *("-CA", made.certificate("authority"), "-CAkey", made.key("authority"), "-extfile", str(names)),
        )
    return made


@pytest.fixture(scope="session")
def tls_program(redis_program: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The server's program, if it was built with TLS: then it won't listen without a certificate, and says so."""
    command = [str(redis_program), "--port", "0", "--tls-port", "1", "--save", ""]
    directory = tmp_path_factory.mktemp("probe")
    said = subprocess.run(command, cwd=directory, check=False, capture_output=True, timeout=PATIENCE, text=True).stdout
    if "tls-cert-file" not in said:
        reason = f"{redis_program} speaks no TLS"
        if os.environ.get("CI") and "valkey" not in redis_program.name:
            pytest.fail(reason)
        pytest.skip(reason)
    return redis_program


@pytest.fixture
async def tls_redis(tls_program: Path, certificates: Certificates) -> AsyncIterator[TLSRedis]:
    """A server with a TLS port beside its own."""
    files = {
        "tls-cert-file": certificates.certificate("server"),
        "tls-key-file": certificates.key("server"),
        "tls-ca-cert-file": certificates.certificate("authority"),
    }
    async with open_embedded_redis(program=tls_program) as server, open_redis(server) as redis:
        for name, value in files.items():
            assert await redis.call("CONFIG", "SET", name, value) == b"OK"
        port = free_port()
        assert await redis.call("CONFIG", "SET", "tls-port", port) == b"OK"
        yield TLSRedis(server, port, certificates)


async def test_statusd_shows_its_certificate_and_is_let_in(tls_redis: TLSRedis, nursery: trio.Nursery) -> None:
    async with open_daemon(tls_redis.url()) as daemon, open_redis(tls_redis.redis) as redis:
        client = await connect(nursery, daemon.port, "/run:log")
        large = "x" * (3 << 20)
        assert await redis.publish("run:log", [large, "after"]) == [1, 1]
        assert [len(text) for text in await client.receive(2)] == [(3 << 20) + 27, 32]


async def test_preflightd_reads_over_tls_too(tls_redis: TLSRedis, nursery: trio.Nursery) -> None:
    settings = {"resync_interval": "0"}
    async with (
        open_daemon(tls_redis.url(db=0), settings, module="preflightd") as daemon,
        open_redis(tls_redis.redis) as redis,
    ):
        client = await connect(nursery, daemon.port, "/run")
        await client.receive(1)
        await redis.call("HSET", "run", "timestamps:build_channels", 1, "note", "x" * (1 << 20))
        await wait_true(redis, {"run": [client]})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"client": None}, r"TLS: \S+ alert (certificate required|handshake failure)"),
        ({"client": "stranger"}, r"TLS: \S+ alert (unknown ca|handshake failure|bad certificate|decrypt error)"),
        ({"ca": "stranger"}, "certificate verification failed"),
        ({"ca": None}, "certificate verification failed"),
        ({"host": "localhost"}, r"certificate verification failed \(Hostname mismatch"),
    ],
    ids=["no certificate", "a stranger's certificate", "a stranger's server", "no authority", "another host"],
)
@pytest.mark.parametrize("module", ["statusd", "preflightd"])
async def test_what_tls_says_is_what_is_said(
    tls_redis: TLSRedis, module: str, options: dict[str, str | None], words: str
) -> None:
    url = tls_redis.url(**options)  # type: ignore[arg-type]
    checked = await run_to_end("check", environ=environment(url, module=module), module=module)
    assert checked.code == 1
    (line,) = [line for line in checked.stdout.splitlines() if line.startswith("redis: FAILED: ")]
    assert re.search(words, line), line
    assert "not permitted" not in line
    assert "exec format" not in line


async def test_an_authority_of_ones_own_may_stand_for_the_systems(tls_redis: TLSRedis) -> None:
    trusted = {"SSL_CERT_FILE": tls_redis.certificates.certificate("authority")}
    for environ, code in (({}, 1), (trusted, 0)):
        checked = await run_to_end("check", environ=environment(tls_redis.url(ca=None)) | environ)
        assert checked.code == code, checked.stdout


async def test_a_client_without_tls_is_told_what_the_url_must_begin_with(tls_redis: TLSRedis) -> None:
    checked = await run_to_end("check", environ=environment(f"redis://{HOST}:{tls_redis.port}/2"))
    assert checked.code == 1
    (line,) = [line for line in checked.stdout.splitlines() if line.startswith("redis: FAILED: ")]
    assert re.search("closed by Redis|connection reset|not a Redis reply", line), line
    assert line.endswith("where the port speaks TLS the URL must begin with rediss://")


@pytest.mark.parametrize("command", [[], ["check"]], ids=["serve", "check"])
@pytest.mark.parametrize("module", ["statusd", "preflightd", "opsd"])
async def test_a_file_that_is_not_there_is_the_end_at_once_in_one_line(
    module: str, command: list[str], tmp_path: Path
) -> None:
    missing = tmp_path / "none.pem"
    url = f"rediss://{HOST}:1/0?ssl_ca_certs={missing}"
    ended = await run_to_end(*command, environ=environment(url, module=module), module=module)
    assert ended.code == 2
    lines = (ended.stdout + ended.stderr).splitlines()
    assert len(lines) == 1
    assert f"ssl_ca_certs: {missing} can't be read: No such file or directory" in lines[0]


async def test_an_encrypted_key_is_called_so(certificates: Certificates, tmp_path: Path) -> None:
    """OpenSSL itself only says "PEM lib"; and it must not ask for the passphrase."""
    key = str(tmp_path / "encrypted.pem")
    openssl("ec", "-in", certificates.key("client"), "-aes128", "-passout", "pass:unsaid", "-out", key)
    url = f"rediss://{HOST}:1/2?ssl_certfile={quote(certificates.certificate('client'))}&ssl_keyfile={quote(key)}"
    ended = await run_to_end("check", environ=environment(url))
    assert ended.code == 2
    (line,) = (ended.stdout + ended.stderr).splitlines()
    assert f"ssl_keyfile: the key in {key} is encrypted" in line
