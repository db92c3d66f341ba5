"""The image's root file system, assembled as the Containerfile does, entered, and served from."""

from __future__ import annotations

import json
import os
import platform
import shutil
import stat
import subprocess
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
import trio
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from common.healthcheck import ADDRESSES
from tests.support import needs
from tests.support.daemon import open_daemon
from tests.support.raw import PATIENCE, connect, fetch, open_redis, wait_until
from tests.support.wheels import BASE_PYTHON
from tools.image.contents import BILL, DAEMONS, LEFT_OUT, PACKAGES, PYTHON, SITE, USER
from tools.sbom.lock import normalised

if TYPE_CHECKING:
    from collections.abc import Iterator

    from common.embedded import EmbeddedRedis

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("packaging")]

TREE: Final = Path(__file__).resolve().parents[2]
MOST: Final = 50_000_000
"""Bytes: what the services that are replaced were allowed."""
DEADLINE: Final = 500.0

# What a container engine does: a mount namespace, a read-only root, /proc and /dev, and a user without rights.
_ENTER: Final = """
mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && mount -t proc proc "$0/proc" \\
    && mount --rbind /dev "$0/dev" || exit 99
exec chroot --userspec=%d:%d "$0" "$@"
""" % (USER, USER)  # noqa: UP031 - the shell's braces


@pytest.fixture(scope="module")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    for name, package in (("apt-get", "apt"), ("dpkg-deb", "dpkg"), ("unshare", "util-linux"), ("chroot", "coreutils")):
        needs.program(name, package)
    if platform.freedesktop_os_release().get("VERSION_CODENAME") != "bookworm":
        pytest.skip("the image is assembled from Debian 12's packages, on Debian 12")
    if os.geteuid() != 0:
        needs.missing("not root, who alone enters a root file system", "sudo make test")
    apt = needs.program("apt-cache", "apt")
    known = subprocess.run([apt, "show", PACKAGES[0]], check=False, capture_output=True)
    if known.returncode:
        needs.missing(f"no package {PACKAGES[0]}", "apt-get update, on Debian 12")
    root = tmp_path_factory.mktemp("image") / "rootfs"
    made = subprocess.run(
        [BASE_PYTHON, "-m", "tools.image", str(root)],
        cwd=TREE, check=False, capture_output=True, text=True, timeout=DEADLINE,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    yield root
    shutil.rmtree(root)


def entering(root: Path, *command: str) -> list[str]:
    return [
        needs.program("unshare", "util-linux"),
        "--mount",
        "--propagation",
        "private",
        "--",
        "sh",
        "-c",
        _ENTER,
        str(root),
        *command,
    ]


def files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_symlink() or not path.is_dir()]


def test_it_is_small(rootfs: Path) -> None:
    assert sum(path.lstat().st_size for path in files(rootfs)) <= MOST


def test_nothing_but_the_daemons_can_be_run(rootfs: Path) -> None:
    programs = {str(path.relative_to(rootfs)) for path in files(rootfs) if _is_program(path)}
    programs = {name for name in programs if "/ld-linux" not in name and ".so" not in name}
    assert programs == {f"usr/bin/{name}" for name in (f"python{PYTHON}", *DAEMONS)}
    assert not [path for name in ("pip", "pip-*", "ensurepip*") for path in rootfs.rglob(name)]


def test_nobody_gains_rights_by_a_file(rootfs: Path) -> None:
    for path in files(rootfs):
        mode = path.lstat().st_mode
        assert not mode & (stat.S_ISUID | stat.S_ISGID), path
        assert path.is_symlink() or not mode & stat.S_IWOTH, path


def test_no_link_leads_nowhere(rootfs: Path) -> None:
    for path in files(rootfs):
        if path.is_symlink():
            target = path.readlink()
            inside = rootfs / target.relative_to("/") if target.is_absolute() else path.parent / target
            assert inside.exists(), f"{path} -> {target}"


def test_it_says_itself_what_it_is_made_of(rootfs: Path) -> None:
    text = (rootfs / BILL).read_text("utf-8")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    told = json.loads(text)
    parts = {part["purl"].partition("@")[0]: part for part in [*told["components"], told["metadata"]["component"]]}
    installed = {normalised(found.name): found.version for found in distributions(path=[str(rootfs / SITE)])}
    assert {name.rpartition("/")[2]: part["version"] for name, part in parts.items() if "pypi" in name} == installed
    assert {name.rpartition("/")[2] for name in parts if name.startswith("pkg:deb/debian/")} == set(PACKAGES)
    assert all(part.get("licenses") for name, part in parts.items() if "pypi" in name)
    assert all(part["hashes"] for name, part in parts.items() if "deb" in name)


def test_what_is_left_out_is_written_down() -> None:
    text = (TREE / "docs" / "image.md").read_text("utf-8")
    assert {reason for reason in LEFT_OUT.values() if reason not in text} == set()


async def _asked(root: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[bytes]:
    with trio.fail_after(PATIENCE):
        return await trio.run_process(
            entering(root, *command), env={"PATH": os.environ["PATH"], **variables}, check=False, capture_stdout=True
        )


@pytest.mark.parametrize(
    ("module", "settings", "path"),
    [
        ("statusd", {"workers": "1"}, "/run:log"),
        ("statusd", {"workers": "2"}, "/run:log"),
        ("preflightd", {}, "/run"),
    ],
)
async def test_a_daemon_serves_from_it(
    rootfs: Path, redis_server: EmbeddedRedis, module: str, settings: dict[str, str], path: str
) -> None:
    settings = {"allowed_origins": "*.example.gov", "metrics_enabled": "true", **settings}
    async with (
        open_daemon(redis_server, settings, module=module, command=entering(rootfs, f"/usr/bin/{module}")) as daemon,
        open_redis(redis_server) as redis,
        trio.open_nursery() as nursery,
    ):
        client = await connect(nursery, daemon.port, path)
        if module == "statusd":
            assert await redis.call("PUBLISH", "run:log", "line") == 1
            assert await client.receive(1) == [b'{"type":"status","data":"line"}']
        else:
            assert b'"checklist":{"sbs_map":false' in (await client.receive(1))[0]

        async def is_scraped() -> bool:
            return b"_build_info" in (await fetch(daemon.port, "/metrics")).body

        # Of several workers that get no time, none has the figures of all.
        await wait_until(is_scraped, "figures")
        variable = ADDRESSES[module][0]
        for question, code in (("--healthcheck", 0), ("--healthcheck=any", 0)):
            asked = await _asked(rootfs, f"/usr/bin/{module}", question, **{variable: f"127.0.0.1:{daemon.port}"})
            assert asked.returncode == code
        daemon.signal()
        await client.wait_ended()
        assert client.close_code == 1001


async def test_opsd_serves_from_it(rootfs: Path, redis_server: EmbeddedRedis) -> None:
    command = entering(rootfs, "/usr/bin/opsd")
    settings = {"targets": "none", "metrics_enabled": "true"}
    async with open_daemon(redis_server, settings, module="opsd", command=command, healthy=False) as daemon:
        headers = {"Host": "localhost", "Connection": "close"}
        for path in ("/", "/health", "/metrics", "/api/dev/status", "/api/dev/endpoints"):
            assert (await fetch(daemon.port, path, headers=headers)).status == 200, path
        assert json.loads((await fetch(daemon.port, "/api/dev/status", headers=headers)).body)["meta"]


async def test_commands_beside_serving_work_too(rootfs: Path) -> None:
    for command in (
        ["statusd", "--version"],
        ["preflightd", "checklist"],
        ["opsd", "--help"],
        ["statusd", "watch", "-h"],
    ):
        asked = await _asked(rootfs, f"/usr/bin/{command[0]}", *command[1:])
        assert (asked.returncode, bool(asked.stdout)) == (0, True), command


async def test_the_authorities_are_there(rootfs: Path) -> None:
    say = "import ssl; print(len(ssl.create_default_context().get_ca_certs()))"
    asked = await _asked(rootfs, f"/usr/bin/python{PYTHON}", "-I", "-c", say)
    assert int(asked.stdout) > 100


def _is_program(path: Path) -> bool:
    return not path.is_symlink() and bool(path.stat().st_mode & 0o111)
