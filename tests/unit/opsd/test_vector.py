"""The status document and its schema."""

from __future__ import annotations

import copy
import json
from typing import Any

import jsonschema
import pytest

from opsd.schema import SCHEMA
from opsd.vector import Directions, Meta, Others, RequestFlow, Sessions, Status, Vector

EXAMPLE = """
{
  "timestamp": "2025-01-15T12:34:56.789Z",
  "vector": {
    "sessions": {"tmux": 3, "activeWorkers": 47, "apiSessions": 2, "websocketConnections": 5},
    "directions": {
      "primaryRegion": "us-east-1",
      "trafficMode": "normal",
      "requestFlow": {"totalRoutes": 65, "activeRoutes": 65, "avgLatency": 0, "requestsPerSecond": 0},
      "activeRoutes": 65
    },
    "others": {"memory": 52428800, "cpu": 1234, "errorRate": 0.0, "uptime": 86400}
  },
  "meta": {"totalEndpoints": 65, "telemetryStatus": "healthy", "statusVersion": "2.0"}
}
"""
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def example() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(EXAMPLE)
    return document


def test_the_schema_is_one_and_takes_the_example_of_version_2() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    VALIDATOR.validate(example())


def test_a_status_with_the_same_figures_is_the_example_and_says_what_is_unavailable() -> None:
    status = Status(
        "2025-01-15T12:34:56.789Z",
        Vector(
            Sessions(3, 47, 2, 5),
            Directions("us-east-1", "normal", RequestFlow(65, 65)),
            Others(52428800, 1234, 0.0, 86400),
        ),
        Meta(65, "healthy"),
    )
    wanted = example()
    wanted["meta"]["unavailable"] = []
    assert status.document() == wanted
    VALIDATOR.validate(status.document())


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("vector", "sessions", "tmux"), -1),
        (("vector", "sessions", "tmux"), 1.5),
        (("vector", "sessions", "other"), 1),
        (("vector", "directions", "trafficMode"), "fine"),
        (("vector", "directions", "requestFlow", "avgLatency"), "0"),
        (("vector", "others", "errorRate"), 1.01),
        (("meta", "telemetryStatus"), "up"),
        (("meta", "statusVersion"), "1.0"),
        (("meta", "unavailable"), "statusd"),
        (("timestamp",), "yesterday"),
        (("more",), 1),
    ],
)
def test_the_schema_refuses_what_is_not_a_status(path: tuple[str, ...], value: object) -> None:
    document = example()
    inner = document
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    assert not VALIDATOR.is_valid(document)


@pytest.mark.parametrize("group", ["timestamp", "vector", "meta"])
def test_nothing_may_be_missing(group: str) -> None:
    document = copy.deepcopy(example())
    del document[group]
    assert not VALIDATOR.is_valid(document)
