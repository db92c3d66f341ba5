"""The login for sentinels that the document gives: enough, and each of its rights needed or said to be optional."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Final

import pytest

from common.embedded_group import ask
from common.embedded_sentinel import EmbeddedSentinel, open_embedded_sentinel
from tests.support.daemon import environment, run_to_end

pytestmark = pytest.mark.integration

DOCUMENT: Final = Path(__file__).parents[2] / "docs/operations.md"
OPTIONAL: Final = {"+subscribe", "&+switch-master", "&+promoted-slave"}


def documented() -> list[str]:
    """The user's name and the words of the line that an operator would copy."""
    (line,) = re.findall(r"^ {4}redis-cli -p 26379 ACL SETUSER (.*)$", DOCUMENT.read_text(), re.MULTILINE)
    return shlex.split(line)


def url(group: EmbeddedSentinel) -> str:
    """With the user's login at the sentinels."""
    return group.url(2, options="sentinel_username=daemons&sentinel_password=PASSWORD")


async def grant(group: EmbeddedSentinel, *without: str) -> None:
    """Make the user at every sentinel, with all of it but `without`."""
    user, *words = documented()
    for sentinel in group.sentinels:
        await ask(sentinel, "ACL", "SETUSER", user, *(word for word in words if word not in without))


def test_every_right_is_explained() -> None:
    text = DOCUMENT.read_text().replace("\\|", "|").partition("| right on a Sentinel | what for |")[2]
    user, *words = documented()
    assert (user, words[:3]) == ("daemons", ["reset", "on", ">PASSWORD"])
    for word in words[3:]:
        assert f"`{word}`" in text, word


async def test_it_is_enough_and_none_of_it_can_be_done_without(redis_program: Path) -> None:
    async with open_embedded_sentinel(sentinel_password="another", program=redis_program) as group:
        await grant(group)
        for module in ("statusd", "preflightd"):
            checked = await run_to_end("check", environ=environment(url(group), module=module), module=module)
            assert (checked.code, checked.stdout.count(": names ")) == (0, 3), checked.stdout
            assert "does not tell" not in checked.stdout
        for right in documented()[4:]:
            await grant(group, right)
            checked = await run_to_end("check", environ=environment(url(group)))
            told = next(line for line in checked.stdout.splitlines() if "NOPERM" in line)
            if right in OPTIONAL:
                assert (checked.code, "does not tell of failovers: NOPERM" in told) == (0, True)
            else:
                assert checked.code == 1
                assert told.startswith("redis: FAILED: no sentinel names a primary for mymaster: ")
