"""The reverse proxies of `deploy/proxies`, as processes: the files as they are shipped, but for the addresses.

`open_proxy` owns the process for its block.
"""

from __future__ import annotations

import shutil
import ssl
import subprocess
import sys
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import IO, TYPE_CHECKING, Final

import trio

from tests.support import needs
from tests.support.ports import free_port
from tests.support.raw import HOST, fetch, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

FILES: Final = Path(__file__).parents[2] / "deploy" / "proxies"
PREFIX: Final = "/weppcloud-microservices"
ONCE: Final = {"Connection": "close"}
"""A proxy keeps a connection otherwise, and `fetch` reads until it ends."""

KINDS: Final = ("caddy", "nginx", "haproxy")

_NAMES: Final = {"caddy": "Caddyfile", "nginx": "nginx.conf", "haproxy": "haproxy.cfg"}


_NOWHERE: Final = dict.fromkeys(("NEW_STATUS", "NEW_PREFLIGHT", "OLD_STATUS", "OLD_PREFLIGHT"), f"{HOST}:1")
"""Where Caddy looks for what a test is not about: no name is looked up."""


@asynccontextmanager
async def open_proxy(kind: str, statusd: int, preflightd: int) -> AsyncIterator[int]:
    """The port of a proxy of this kind, before daemons on these ports; it answers when the block is entered."""
    if kind == "caddy":
        new = {"NEW_STATUS": f"{HOST}:{statusd}", "NEW_PREFLIGHT": f"{HOST}:{preflightd}"}
        async with open_caddy(new) as port:
            await wait_until(lambda: _answers(port), "caddy has found statusd")
            yield port
        return
    port = free_port()
    async with _running(kind, _adapted(kind, port, statusd, preflightd), lambda: _answers(port)):
        yield port


@asynccontextmanager
async def open_caddy(variables: dict[str, str]) -> AsyncIterator[int]:
    """The port of a Caddy with the shipped file and these variables of it; it listens when the block is entered."""
    port = free_port()
    text = f"{{\n\tadmin off\n\tpersist_config off\n\tdefault_bind {HOST}\n}}\n" + _patient(_shipped("caddy"))
    async with _running("caddy", text, lambda: _listens(port), _NOWHERE | {"SITE": f"http://:{port}"} | variables):
        yield port


@asynccontextmanager
async def open_platform_caddy(statusd: int, preflightd: int, pages: Path) -> AsyncIterator[str]:
    """The address of a Caddy as the platform has it: TLS, the daemons below the prefix, and pages from a directory."""
    port = free_port()
    # The daemons are dialled once for each request: what comes back does so because its page asks again.
    text = f"""\
{{
\tadmin off
\tpersist_config off
\tskip_install_trust
\tauto_https disable_redirects
}}
https://localhost:{port} {{
\tbind {HOST}
\ttls internal
\thandle_path {PREFIX}/status* {{
\t\treverse_proxy {HOST}:{statusd}
\t}}
\thandle_path {PREFIX}/preflight* {{
\t\treverse_proxy {HOST}:{preflightd}
\t}}
\thandle {{
\t\troot * {pages}
\t\tfile_server
\t}}
}}
"""
    async with _running("caddy", text, lambda: _shakes_hands(port)):
        yield f"https://localhost:{port}"


@asynccontextmanager
async def open_hashing_nginx(prefix: str, hashed: str, upstreams: Sequence[str]) -> AsyncIterator[int]:
    """The port of an nginx that does what ingress-nginx does of an Ingress: the expression `prefix` picks the way, its
    group becomes the path, and the value of `hashed` says which of the addresses `upstreams` it is, on a ring."""
    port = free_port()
    servers = " ".join(f"server {upstream};" for upstream in upstreams)
    text = f"""\
events {{}}
http {{
    access_log off;
    upstream pods {{ hash {hashed} consistent; {servers} }}
    server {{
        listen {HOST}:{port};
        location ~* "^{prefix}" {{
            rewrite "(?i){prefix}" $1 break;
            proxy_pass http://pods;
        }}
    }}
}}
"""
    async with _running("nginx", text, lambda: _listens(port)):
        yield port


@asynccontextmanager
async def _running(
    kind: str,
    text: str,
    answers: Callable[[], Awaitable[bool]],
    variables: Mapping[str, str] = MappingProxyType({}),
) -> AsyncIterator[None]:
    """The proxy with this configuration, for the block; entered when it answers."""
    program = _program(kind)
    with tempfile.TemporaryDirectory(prefix="proxy-", ignore_cleanup_errors=True) as directory:
        config = Path(directory) / _NAMES[kind]
        config.write_text(text)
        with (Path(directory) / "log").open("wb") as log:
            process = _started(_command(kind, program, config), directory, log, variables)
        try:
            await wait_until(answers, f"{kind} answers")
            yield
        except BaseException as error:
            error.add_note(f"{kind} said:\n{(Path(directory) / 'log').read_text(errors='replace')[-4000:]}")
            raise
        finally:
            process.terminate()
            with trio.CancelScope(shield=True):
                await wait_until(lambda: process.poll() is not None, f"{kind} has ended")


def _started(
    command: list[str], directory: str, log: IO[bytes], variables: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    homes = dict.fromkeys(("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"), directory)
    environ = {**homes, "PATH": "/usr/sbin:/usr/bin:/bin", **variables}
    return subprocess.Popen(command, cwd=directory, env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def _adapted(kind: str, port: int, statusd: int, preflightd: int) -> str:
    """The shipped file with the test's addresses, each of which must be there."""
    text = _shipped(kind)
    listen = {"nginx": "listen 80;", "haproxy": "bind :80"}[kind]
    ours = {"nginx": f"listen {HOST}:{port};", "haproxy": f"bind {HOST}:{port}"}
    for shipped, tested in (
        (listen, ours[kind]),
        ("statusd:9002", f"{HOST}:{statusd}"),
        ("preflightd:9001", f"{HOST}:{preflightd}"),
    ):
        assert shipped in text, shipped
        text = text.replace(shipped, tested)
    return text


def _patient(caddyfile: str) -> str:
    """A daemon that gets no time on a busy machine is not taken for one that is down."""
    shipped = "health_timeout 2s"
    assert shipped in caddyfile
    return caddyfile.replace(shipped, "health_timeout 1m")


def _shipped(kind: str) -> str:
    return (FILES / _NAMES[kind]).read_text("utf-8")


def _program(kind: str) -> str:
    beside = Path(sys.executable).parent / kind
    if kind == "caddy":
        return str(beside) if beside.exists() else needs.program(kind)
    # Debian puts servers where only root's PATH looks.
    found = shutil.which(kind) or shutil.which(kind, path="/usr/sbin:/usr/local/sbin")
    return found or needs.program(kind)


def _command(kind: str, program: str, config: Path) -> list[str]:
    match kind:
        case "caddy":
            return [program, "run", "--config", str(config), "--adapter", "caddyfile"]
        case "nginx":
            globals_ = f"daemon off; pid {config.parent}/pid; error_log stderr;"
            return [program, "-p", str(config.parent), "-c", str(config), "-e", "stderr", "-g", globals_]
        case _:
            return [program, "-db", "-f", str(config)]


async def _listens(port: int) -> bool:
    try:
        return (await fetch(port, "/", headers=ONCE)).status > 0
    except OSError:
        return False


async def _answers(port: int) -> bool:
    try:
        return (await fetch(port, f"{PREFIX}/status/health", headers=ONCE)).status == 200
    except OSError:
        return False


async def _shakes_hands(port: int) -> bool:
    """Whether it has made its certificate: nobody here trusts it, and nobody has to."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        async with await trio.open_tcp_stream(HOST, port) as link:
            await trio.SSLStream(link, context, server_hostname="localhost").do_handshake()
    except (OSError, trio.BrokenResourceError):
        return False
    return True
