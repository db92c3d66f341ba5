"""Each daemon on a cluster with exactly the rights that its document gives it, and with each of them missing."""

from __future__ import annotations

import io
import re
import shlex
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from common.check import check
from common.config import load
from common.embedded_cluster import EmbeddedCluster, open_embedded_cluster
from opsd.check import check as check_opsd
from opsd.settings import OpsSettings
from preflightd.daemon import PREFLIGHTD
from preflightd.settings import PreflightSettings
from statusd.daemon import STATUSD
from statusd.settings import StatusSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

pytestmark = pytest.mark.integration

DOCUMENT: Final = Path(__file__).parents[2] / "docs/operations.md"

LACKING: Final = {
    "statusd": ("+ping", "+subscribe", "+ssubscribe", "+cluster|info", "+cluster|slots"),
    "preflightd": ("+ping", "+subscribe", "+hgetall", "+cluster|info", "+cluster|slots"),
    "opsd": ("+ping", "+time", "+xadd", "+xrange", "+cluster|info", "+cluster|slots"),
}
"""What `check` can try; an unsubscription's refusal is no answer that anything depends on, and no key is on its way."""


def documented() -> dict[str, list[str]]:
    """The lines that an operator would copy."""
    found = re.findall(r"^ {4}redis-cli ACL SETUSER (.*)$", DOCUMENT.read_text(), re.MULTILINE)
    return {daemon: words for daemon, *words in map(shlex.split, found)}


def test_every_right_is_explained() -> None:
    text = DOCUMENT.read_text().replace("\\|", "|")
    for daemon, words in documented().items():
        assert words[:3] == ["reset", "on", ">PASSWORD"], daemon
        for word in words[3:]:
            assert f"`{word}`" in text.partition("| right | what for |")[2], word


async def checked(daemon: str, url: str) -> tuple[int, str]:
    """What `check` says, and its exit code."""
    out = io.StringIO()
    prefix = {"statusd": "STATUS", "preflightd": "PREFLIGHT", "opsd": "OPS"}[daemon]
    environ: Mapping[str, str] = {
        f"{prefix}_REDIS_URL": url,
        f"{prefix}_REDIS_REQUEST_TIMEOUT": "20s",
        f"{prefix}_REDIS_CONNECT_TIMEOUT": "20s",
        "OPS_TARGETS": "none",
    }
    match daemon:
        case "statusd":
            code = await check(STATUSD, load(StatusSettings, environ).settings, out)
        case "preflightd":
            code = await check(PREFLIGHTD, load(PreflightSettings, environ).settings, out)
        case _:
            code = await check_opsd(load(OpsSettings, environ).settings, out)
    return code, out.getvalue()


def url_of(cluster: EmbeddedCluster, daemon: str) -> str:
    """The user's URL; statusd's needs all its rights."""
    url = cluster.url(options="pubsub=both" if daemon == "statusd" else "")
    return url.replace("redis+cluster://", f"redis+cluster://{daemon}:PASSWORD@")


async def test_each_has_what_it_needs_and_nothing_that_it_does_not(redis_program: Path) -> None:
    rights = documented()
    assert rights.keys() == LACKING.keys()
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(open_embedded_cluster(program=redis_program, replicas=0))
        for daemon, words in rights.items():
            await cluster.ask_all("ACL", "SETUSER", daemon, *words)
            code, said = await checked(daemon, url_of(cluster, daemon))
            assert (daemon, code) == (daemon, 0), said
            assert said.count(": master, slots ") == 3
            assert "warning" not in said
            for word in LACKING[daemon]:
                lesser = [each for each in words if each != word]
                await cluster.ask_all("ACL", "SETUSER", daemon, *lesser)
                code, said = await checked(daemon, url_of(cluster, daemon))
                assert (daemon, word, code) == (daemon, word, 1), said
                (line,) = [line for line in said.splitlines() if line.startswith("redis: FAILED: ")]
                assert re.search(rf"NOPERM.*'{re.escape(word[1:])}'", line), line
        # One who may not have a canary is served all the same, and told what that costs.
        lesser = [each for each in rights["preflightd"] if each != "+ssubscribe"]
        await cluster.ask_all("ACL", "SETUSER", "preflightd", *lesser)
        code, said = await checked("preflightd", url_of(cluster, "preflightd"))
        assert code == 0
        assert "warning: the user may not SSUBSCRIBE: a moved slot is noticed within 2 s" in said
