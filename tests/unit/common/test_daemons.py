"""The table of daemons, held against each daemon's own settings, and the targets that opsd has without being told."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from common.config import load
from common.daemons import DAEMONS, OPS, PREFLIGHT, STATUS, WATCHED, KnownDaemon
from opsd.launch import admin_address
from opsd.settings import OpsSettings
from preflightd.daemon import PREFLIGHTD
from preflightd.settings import PreflightSettings
from statusd.daemon import STATUSD
from statusd.settings import StatusSettings

if TYPE_CHECKING:
    from common.config import Settings

SETTINGS: dict[str, type[Settings | OpsSettings]] = {
    STATUS.name: StatusSettings,
    PREFLIGHT.name: PreflightSettings,
    OPS.name: OpsSettings,
}


@pytest.mark.parametrize("known", DAEMONS.values(), ids=lambda known: known.name)
def test_a_daemon_says_the_same_of_itself(known: KnownDaemon) -> None:
    own = SETTINGS[known.name]
    settings = load(own, {}).settings
    assert own.prefix == known.prefix
    assert str(settings.listen_addr) == known.listen_addr
    assert settings.redis_url.db == known.database
    assert find_spec(f"{known.name}.__main__") is not None


def test_every_daemon_is_in_the_table() -> None:
    assert SETTINGS.keys() == DAEMONS.keys()
    assert {STATUSD.name: STATUSD.settings, PREFLIGHTD.name: PREFLIGHTD.settings}.items() <= SETTINGS.items()


def test_opsd_watches_those_that_have_an_operators_listener() -> None:
    targets = load(OpsSettings, {}).settings.targets
    found = [(target.name, admin_address(target)) for target in targets]
    assert found == [(known.name, f"127.0.0.1:{known.admin_port}") for known in WATCHED]
    assert [known.name for known in WATCHED] == [name for name, own in SETTINGS.items() if own is not OpsSettings]
