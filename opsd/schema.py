"""The JSON Schema of the status document, as `GET /api/dev/status/schema` serves it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable


def _object(properties: dict[str, object], optional: Iterable[str] = ()) -> dict[str, object]:
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in set(optional)],
        "additionalProperties": False,
    }


def _count(description: str) -> dict[str, object]:
    return {"type": "integer", "minimum": 0, "description": description}


def _number(description: str) -> dict[str, object]:
    return {"type": "number", "minimum": 0, "description": description}


SCHEMA: Final[dict[str, object]] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Status",
    **_object(
        {
            "timestamp": {
                "type": "string",
                "format": "date-time",
                "pattern": r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?Z$",
            },
            "vector": _object(
                {
                    "sessions": _object(
                        {
                            "tmux": _count("sessions of the local tmux"),
                            "activeWorkers": _count("serving processes"),
                            "apiSessions": _count("requests in flight"),
                            "websocketConnections": _count("open WebSockets of all daemons"),
                        }
                    ),
                    "directions": _object(
                        {
                            "primaryRegion": {"type": "string", "minLength": 1},
                            "trafficMode": {"enum": ["normal", "degraded", "isolated"]},
                            "requestFlow": _object(
                                {
                                    "totalRoutes": _count("routes of all daemons that have been seen"),
                                    "activeRoutes": _count("routes of the daemons that answer"),
                                    "avgLatency": _number("milliseconds, over the last minute"),
                                    "requestsPerSecond": _number("over the last minute"),
                                }
                            ),
                            "activeRoutes": _count("the same as in requestFlow"),
                        }
                    ),
                    "others": _object(
                        {
                            "memory": _count("bytes"),
                            "cpu": _count("milliseconds"),
                            "errorRate": {**_number("a share, over five minutes"), "maximum": 1},
                            "uptime": _number("seconds"),
                        }
                    ),
                }
            ),
            "meta": _object(
                {
                    "totalEndpoints": _count("the same as totalRoutes"),
                    "telemetryStatus": {"enum": ["healthy", "degraded", "offline"]},
                    "statusVersion": {"const": "2.0"},
                    "unavailable": {
                        "type": "array",
                        "items": {"type": "string"},
                        "uniqueItems": True,
                        "description": "sources that don't answer and whose figures are 0",
                    },
                },
                optional=("unavailable",),
            ),
        }
    ),
}
