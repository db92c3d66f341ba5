"""The files of `deploy` against the code: every variable exists, ports and times are those of the daemons."""

from __future__ import annotations

import re
from configparser import ConfigParser
from pathlib import Path
from typing import Final

import pytest

from common.config import Settings, load
from common.config.values import parse_duration
from common.healthcheck import ADDRESSES
from common.workers.supervisor import DRAIN_MARGIN
from opsd.settings import OpsSettings
from preflightd.settings import PreflightSettings
from statusd.settings import StatusSettings
from tests.unit.test_documents import known

ROOT: Final = Path(__file__).parents[2]
DEPLOYED: Final = [
    ROOT / "Containerfile",
    *sorted(path for path in (ROOT / "deploy").rglob("*") if path.is_file() and path.suffix not in {".py", ".pyc"}),
]
SYSTEMD: Final = ROOT / "deploy" / "systemd"
SETTINGS: Final[dict[str, type[Settings | OpsSettings]]] = {
    "statusd": StatusSettings,
    "preflightd": PreflightSettings,
    "opsd": OpsSettings,
}

_VARIABLE: Final = re.compile(r"\b(?:STATUS|PREFLIGHT|OPS)_[A-Z][A-Z0-9_]*[A-Z0-9]\b")


@pytest.mark.parametrize("path", DEPLOYED, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_variable_of_a_deployment_exists(path: Path) -> None:
    assert set(_VARIABLE.findall(path.read_text("utf-8"))) - known() == set()


def unit(name: str) -> ConfigParser:
    """A unit; of a key that is there twice the last."""
    parser = ConfigParser(strict=False, interpolation=None, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment, method-assign]  # the documented way to keep the case
    parser.read_string((SYSTEMD / name).read_text("utf-8"))
    return parser


@pytest.mark.parametrize("name", SETTINGS)
def test_a_socket_is_where_the_daemon_would_listen_by_itself(name: str) -> None:
    address = str(load(SETTINGS[name], {}).settings.listen_addr)
    assert unit(f"{name}.socket")["Socket"]["ListenStream"] == address.removeprefix(":")


@pytest.mark.parametrize("name", ["statusd", "preflightd"])
def test_systemd_waits_for_the_drain(name: str) -> None:
    settings = load(SETTINGS[name], {}).settings
    assert not isinstance(settings, OpsSettings)
    waits = parse_duration(unit(f"{name}.service")["Service"]["TimeoutStopSec"])
    assert waits > settings.drain_delay + settings.drain_timeout + DRAIN_MARGIN


@pytest.mark.parametrize("name", SETTINGS)
def test_the_health_check_asks_where_the_daemon_listens(name: str) -> None:
    variable, address = ADDRESSES[name]
    settings = load(SETTINGS[name], {}).settings
    assert (variable, address) == (f"{settings.prefix}LISTEN_ADDR", str(settings.listen_addr))
