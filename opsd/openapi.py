"""The OpenAPI 3.1 document of opsd's API, made of the table of its routes. Pure.

OpenAPI has no WebSockets: the live status stands there as the GET that it begins with, answered by 101.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from opsd.auth import COOKIE
from opsd.endpoints import Needs
from opsd.schema import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from opsd.endpoints import Endpoint, Parameter

_ERROR: Final = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
_COUNT: Final = {
    "type": "object",
    "properties": {
        "clients": {"type": ["integer", "null"], "minimum": 0, "description": "null: nobody could be asked"},
        "unavailable": {
            "type": "array",
            "items": {"type": "string"},
            "description": "sources with clients that are not in the number",
        },
    },
    "required": ["clients", "unavailable"],
}
SCHEMAS: Final[Mapping[str, Mapping[str, object]]] = {
    "Error": _ERROR,
    "Status": {name: value for name, value in SCHEMA.items() if name != "$schema"},
    "Endpoints": {
        "type": "object",
        "properties": {
            "total": {"type": "integer", "minimum": 1, "description": "meta.totalEndpoints of the status"},
            "endpoints": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {name: {"type": "string"} for name in ("service", "method", "path", "what", "needs")},
                    "required": ["service", "method", "path", "what", "needs"],
                },
            },
        },
        "required": ["total", "endpoints"],
    },
    "Viewers": {
        "type": "object",
        "properties": {
            "run": {"type": "string"},
            "channel": {"type": ["string", "null"]},
            "log": {"anyOf": [_COUNT, {"type": "null"}], "description": "null: no channel was named"},
            "checklist": _COUNT,
        },
        "required": ["run", "channel", "log", "checklist"],
    },
    "Config": {
        "type": "object",
        "properties": {
            "tokenRequired": {"type": "boolean"},
            "loggedIn": {"type": "boolean", "description": "without it nothing else is told"},
            "statusWsUrl": {"type": "string"},
            "preflightWsUrl": {"type": "string"},
            "version": {"type": "string"},
            "thresholds": {
                "type": "object",
                "properties": {
                    "degradedFrom": {"type": "number", "description": "an error rate of this or more"},
                    "isolatedAbove": {"type": "number", "description": "an error rate above this"},
                    "staleAfter": {"type": "number", "description": "seconds without a status: its figures are old"},
                    "silentAfter": {"type": "number", "description": "seconds without a status: the WebSocket is dead"},
                },
                "required": ["degradedFrom", "isolatedAbove", "staleAfter", "silentAfter"],
            },
        },
        "required": ["tokenRequired", "loggedIn"],
    },
}
"""The answers and refusals that are described in full."""

_SCHEMES: Final = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "devToken": {"type": "apiKey", "in": "header", "name": "X-TES-Dev-Token"},
    "session": {"type": "apiKey", "in": "cookie", "name": COOKIE},
}
_CHANGE: Final = {"name": "X-Ops-Request", "in": "header", "required": True, "schema": {"const": "1"}}
_ANYBODY: Final = (400, 421)
"""The refusals of a request that names no host, or another's."""


def openapi(endpoints: Iterable[Endpoint], version: str, *, token_required: bool) -> dict[str, object]:
    """The document for an opsd of this version, with a token or without."""
    paths: dict[str, dict[str, object]] = {}
    for endpoint in endpoints:
        method = "post" if endpoint.method == "POST" else "get"
        paths.setdefault(endpoint.plain_path, {})[method] = _operation(endpoint, token_required=token_required)
    return {
        "openapi": "3.1.0",
        "info": {"title": "opsd", "version": version, "summary": "The operator's view of the platform"},
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {"schemas": dict(SCHEMAS), **({"securitySchemes": _SCHEMES} if token_required else {})},
    }


def _operation(endpoint: Endpoint, *, token_required: bool) -> dict[str, object]:
    guarded = token_required and endpoint.needs in {Needs.TOKEN, Needs.CHANGE}
    parameters = [
        *(_parameter(parameter, "path") for parameter in endpoint.in_path),
        *(_parameter(parameter, "query") for parameter in endpoint.query),
        *([_CHANGE] if endpoint.needs is Needs.CHANGE else []),
    ]
    operation: dict[str, object] = {
        "operationId": endpoint.call,
        "summary": endpoint.what,
        "description": f"Needs: {endpoint.needs.value}.",
        "security": [{name: []} for name in _SCHEMES] if guarded else [],
        "responses": _responses(endpoint, guarded=guarded, token_required=token_required),
    }
    if parameters:
        operation["parameters"] = parameters
    if endpoint.body is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": endpoint.body}}}
    return operation


def _parameter(parameter: Parameter, place: str) -> dict[str, object]:
    return {
        "name": parameter.name,
        "in": place,
        "description": parameter.what,
        "required": parameter.required,
        "schema": parameter.schema,
    }


def _responses(endpoint: Endpoint, *, guarded: bool, token_required: bool) -> dict[str, object]:
    refusals = {*_ANYBODY, *endpoint.refusals}
    if endpoint.needs is not Needs.NOTHING:
        refusals.add(HTTPStatus.FORBIDDEN)
    if guarded or (token_required and endpoint.body is not None):
        refusals |= {HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS}
    good = HTTPStatus.SWITCHING_PROTOCOLS if endpoint.method == "WS" else HTTPStatus.OK
    if endpoint.answer is None:
        good = HTTPStatus.NO_CONTENT
    answer: dict[str, object] = {"description": good.phrase}
    if good is HTTPStatus.OK:
        schema = {"$ref": f"#/components/schemas/{endpoint.schema}"} if endpoint.schema else {}
        answer["content"] = {endpoint.answer: {"schema": schema}}
    refused = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {
        str(int(good)): answer,
        **{str(int(code)): {"description": HTTPStatus(code).phrase, "content": refused} for code in sorted(refusals)},
    }
