"""The files of `deploy` against the code and their schemas: every variable exists, ports and times are the daemons'."""

from __future__ import annotations

import json
import re
from configparser import ConfigParser
from pathlib import Path
from typing import Any, Final

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft201909Validator

from common.config import Settings, load
from common.config.values import parse_duration
from common.healthcheck import ADDRESSES, FLAG
from common.workers.supervisor import DRAIN_MARGIN
from opsd.settings import OpsSettings
from preflightd.settings import PreflightSettings
from statusd.settings import StatusSettings
from tests.unit.project.test_documents import known

ROOT: Final = Path(__file__).parents[3]
DEPLOYED: Final = [
    ROOT / "Containerfile",
    # In `__pycache__` files come and go under names of their own while another process compiles.
    *sorted(
        path
        for path in (ROOT / "deploy").rglob("*")
        if path.is_file() and path.suffix != ".py" and "__pycache__" not in path.parts
    ),
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


# -- Compose ----------------------------------------------------------------------------------------------------------

COMPOSE: Final[dict[str, Any]] = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text("utf-8"))
SERVICES: Final[dict[str, dict[str, Any]]] = COMPOSE["services"]
DAEMONS: Final = {name: service for name, service in SERVICES.items() if name.partition("-")[0] in SETTINGS}

_SUBSTITUTION: Final = re.compile(r"\$\{[A-Z_]+:-([^}]*)\}")


def configured(name: str, environ: dict[str, str], secrets: Path) -> Settings | OpsSettings:
    """The settings of a daemon with this environment, whose secrets are in `secrets`; a warning fails the test."""
    for variable, value in environ.items():
        if value.startswith("/run/secrets/"):
            environ[variable] = str(secrets / Path(value).name)
            Path(environ[variable]).write_text("secret")
    loaded = load(SETTINGS[name], environ)
    assert not loaded.warnings
    return loaded.settings


def test_compose_is_what_its_specification_says() -> None:
    schema = json.loads((ROOT / "tests" / "data" / "compose-spec" / "compose-spec.json").read_text("utf-8"))
    assert [error.message for error in Draft201909Validator(schema).iter_errors(COMPOSE)] == []


def test_compose_has_two_of_what_users_connect_to() -> None:
    assert sorted(DAEMONS) == ["opsd", "preflightd-1", "preflightd-2", "statusd-1", "statusd-2"]
    assert set(SERVICES) - set(DAEMONS) == {"redis", "caddy", "prometheus", "grafana"}
    assert "--notify-keyspace-events Kghx" in SERVICES["redis"]["command"][-1]


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_has_limits_and_says_how_it_is(name: str) -> None:
    service = SERVICES[name]
    assert {"healthcheck", "mem_limit", "pids_limit", "restart", "logging"} <= set(service)
    assert service["cap_drop"] == ["ALL"]
    given = {*service.get("secrets", ())}
    assert given <= set(COMPOSE["secrets"])
    assert set(re.findall(r"/run/secrets/([a-z-]+)", json.dumps(service))) <= given


@pytest.mark.parametrize("name", DAEMONS)
def test_a_daemon_in_compose_is_configured_without_a_warning(name: str, tmp_path: Path) -> None:
    service, module = SERVICES[name], name.partition("-")[0]
    environ = {key: _SUBSTITUTION.sub(r"\1", value) for key, value in service["environment"].items()}
    settings = configured(module, environ, tmp_path)
    assert settings.redis_url.host == "redis"
    assert settings.redis_url.db == load(SETTINGS[module], {}).settings.redis_url.db
    assert service["command"] == [module]
    assert service["healthcheck"]["test"] == ["CMD", module, FLAG]
    assert service["read_only"] is True
    if isinstance(settings, OpsSettings):
        assert {target.name for target in settings.targets} == set(DAEMONS) - {"opsd"}
    else:
        patience = settings.drain_delay + settings.drain_timeout + DRAIN_MARGIN
        assert parse_duration(service["stop_grace_period"]) > patience


def test_prometheus_scrapes_each_daemon_of_compose() -> None:
    text = (ROOT / "deploy" / "prometheus" / "compose.yml").read_text("utf-8")
    jobs = yaml.safe_load(text)["scrape_configs"]
    scraped = {target for job in jobs for config in job["static_configs"] for target in config["targets"]}
    ports = {name: load(SETTINGS[name.partition("-")[0]], {}).settings.listen_addr.port for name in DAEMONS}
    assert scraped == {f"{name}:{port}" for name, port in ports.items()}
    alone = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text("utf-8"))
    assert [job["job_name"] for job in jobs] == [job["job_name"] for job in alone["scrape_configs"]]


def test_what_compose_mounts_is_there() -> None:
    mounts = [volume for service in SERVICES.values() for volume in service.get("volumes", ())]
    places = [mount.partition(":")[0] for mount in mounts]
    assert [place for place in places if place.startswith("./") and not (ROOT / "deploy" / place).exists()] == []
    assert {place for place in places if not place.startswith("./")} == set(COMPOSE["volumes"])


# -- Kubernetes -------------------------------------------------------------------------------------------------------

MANIFESTS: Final = sorted((ROOT / "deploy" / "kubernetes").glob("*.yaml"))
OBJECTS: Final[list[dict[str, Any]]] = [
    manifest for path in MANIFESTS for manifest in yaml.safe_load_all(path.read_text("utf-8"))
]
KUBERNETES: Final = ("1.34", kubernetes_validate.latest_version())
"""The first version that has all of it without a switch, and the newest that the validator knows."""


def of_kind(kind: str) -> dict[str, dict[str, Any]]:
    """The objects of a kind, by name."""
    return {manifest["metadata"]["name"]: manifest for manifest in OBJECTS if manifest["kind"] == kind}


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("manifest", OBJECTS, ids=lambda each: f"{each['kind']}-{each['metadata']['name']}")
def test_kubernetes_takes_every_object(manifest: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(manifest, version, strict=True)


def test_what_users_connect_to_stays_up_and_grows() -> None:
    for name in ("statusd", "preflightd"):
        assert of_kind("PodDisruptionBudget")[name]["spec"]["maxUnavailable"] == 1
        scaler = of_kind("HorizontalPodAutoscaler")[name]["spec"]
        assert scaler["minReplicas"] >= 2
        prefix = {"statusd": "status2", "preflightd": "preflight2"}[name]
        assert [metric["pods"]["metric"]["name"] for metric in scaler["metrics"]] == [f"{prefix}_connections_active"]
    assert set(of_kind("Deployment")) == set(SETTINGS)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_pod_is_configured_without_a_warning_and_has_no_rights(name: str, tmp_path: Path) -> None:
    pod = of_kind("Deployment")[name]["spec"]["template"]["spec"]
    [container] = pod["containers"]
    settings = configured(name, {each["name"]: each["value"] for each in container["env"]}, tmp_path)
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert settings.listen_addr.port in ports.values()
    assert {path.name for path in tmp_path.iterdir()} <= {item["key"] for item in pod["volumes"][0]["secret"]["items"]}
    for probe in ("readinessProbe", "livenessProbe"):
        assert ports[container[probe]["httpGet"]["port"]] == settings.listen_addr.port
    assert container["readinessProbe"]["httpGet"]["path"] == "/health"
    assert container["livenessProbe"]["httpGet"]["path"] == "/health/live"
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    if isinstance(settings, Settings):
        before = container["lifecycle"]["preStop"]["sleep"]["seconds"]
        patience = before + settings.drain_delay + settings.drain_timeout + DRAIN_MARGIN
        assert pod["terminationGracePeriodSeconds"] > patience
        probe = container["readinessProbe"]
        assert settings.drain_delay > probe["periodSeconds"] * probe["failureThreshold"] + probe["timeoutSeconds"]
        assert settings.drain_spread > 0


def test_an_ingress_routes_by_the_path_alone_to_the_ports_of_clients() -> None:
    ingresses = of_kind("Ingress")
    for name, prefix in (("statusd", "status"), ("preflightd", "preflight")):
        annotations = ingresses[name]["metadata"]["annotations"]
        assert annotations["nginx.ingress.kubernetes.io/upstream-hash-by"] == "$uri"
        [path] = ingresses[name]["spec"]["rules"][0]["http"]["paths"]
        found = re.fullmatch(path["path"], f"/weppcloud-microservices/{prefix}/run:wepp")
        assert found is not None
        assert found.expand(annotations["nginx.ingress.kubernetes.io/rewrite-target"].replace("$", "\\")) == "/run:wepp"
        settings = load(SETTINGS[name], {}).settings
        assert isinstance(settings, Settings)
        silence = float(annotations["nginx.ingress.kubernetes.io/proxy-read-timeout"])
        assert silence > max(settings.ping_interval, settings.pong_timeout)
    reserved = [path["path"] for path in ingresses["run-status-reserved"]["spec"]["rules"][0]["http"]["paths"]]
    for path, prefix in zip(reserved, ("status", "preflight"), strict=True):
        assert re.fullmatch(path, f"/weppcloud-microservices/{prefix}/metrics")
        assert not re.fullmatch(path, f"/weppcloud-microservices/{prefix}/metrics:wepp")
    for ingress in ingresses.values():
        for path in ingress["spec"]["rules"][0]["http"]["paths"]:
            service = path["backend"]["service"]
            ports = {port["name"] for port in of_kind("Service")[service["name"]]["spec"]["ports"]}
            assert service["port"]["name"] in ports
