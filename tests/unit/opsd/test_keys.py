"""Where the past is kept: one place for one set of sources."""

from __future__ import annotations

from common.config import load
from opsd.keys import Keys, keys_of
from opsd.settings import OpsSettings

FAR = "statusd=http://a:9102,preflightd=https://b:9101"
NEAR = "statusd=http://localhost:9102"


def keys(targets: str, host: str = "here", **more: str) -> Keys:
    environ = {"OPS_TARGETS": targets, **{f"OPS_{name.upper()}": value for name, value in more.items()}}
    return keys_of(load(OpsSettings, environ).settings, host)


def test_they_are_of_the_sources_in_whatever_order() -> None:
    first, second = FAR.split(",")
    assert keys(FAR) == keys(f"{second},{first}")
    different = [FAR, first, second, NEAR, "none", "statusd=http://a:9103", "other=http://a:9102"]
    found = [keys(targets) for targets in different] + [keys(FAR, workers_url="http://c:3003")]
    assert len({one.history for one in found} | {one.alerts for one in found}) == 2 * len(found)
    assert all(one.history.startswith("opsd:") and one.alerts.startswith("opsd:") for one in found), "the user's rights"


def test_places_of_this_machine_are_another_machines_elsewhere() -> None:
    assert keys(FAR, "here") == keys(FAR, "there")
    for targets in (NEAR, "statusd=http://127.0.0.2:9102", "statusd=http://[::1]:9102", "statusd=unix:/run/statusd"):
        assert keys(targets, "here") != keys(targets, "there")
        assert keys(targets, "here") == keys(targets, "here")
