"""opsd's table of routes: it is what is served, what is asked for, what is counted, and a good OpenAPI document."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from starlette.routing import Route, WebSocketRoute

from opsd.api.routes import make_calls, make_routes
from opsd.endpoints import ENDPOINTS, JSON, Endpoint, Needs
from opsd.openapi import SCHEMAS, openapi
from opsd.viewers import Count
from tests.support.opsd_app import CHANGE, Opsd, converse

if TYPE_CHECKING:
    from trio.testing import MockClock

TOKEN = "the token"
FILLED = {"worker": "statusd-1", "name": "a/b.js"}
QUERIES = {"viewers": "?run=run&channel=log"}
HTTP = [endpoint for endpoint in ENDPOINTS if endpoint.method != "WS"]

_TEXT = {"type": "string", "minLength": 1}
_CONTENT = {
    "type": "object",
    "minProperties": 1,
    "additionalProperties": {
        "type": "object",
        "required": ["schema"],
        "properties": {"schema": {"type": ["object", "boolean"]}},
        "additionalProperties": False,
    },
}
OPERATION = {
    "type": "object",
    "required": ["operationId", "summary", "description", "security", "responses"],
    "additionalProperties": False,
    "properties": {
        "operationId": {"type": "string", "pattern": "^[a-z_]+$"},
        "summary": _TEXT,
        "description": _TEXT,
        "security": {
            "type": "array",
            "items": {"type": "object", "minProperties": 1, "additionalProperties": {"const": []}},
        },
        "parameters": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["name", "in", "required", "schema"],
                "additionalProperties": False,
                "properties": {
                    "name": _TEXT,
                    "in": {"enum": ["path", "query", "header"]},
                    "description": _TEXT,
                    "required": {"type": "boolean"},
                    "schema": {"type": "object"},
                },
                "if": {"properties": {"in": {"const": "path"}}},
                "then": {"properties": {"required": {"const": True}}},
            },
        },
        "requestBody": {
            "type": "object",
            "required": ["content"],
            "additionalProperties": False,
            "properties": {"required": {"type": "boolean"}, "content": _CONTENT},
        },
        "responses": {
            "type": "object",
            "minProperties": 1,
            "patternProperties": {
                "^[1-5][0-9]{2}$": {
                    "type": "object",
                    "required": ["description"],
                    "additionalProperties": False,
                    "properties": {"description": _TEXT, "content": _CONTENT},
                }
            },
            "additionalProperties": False,
        },
    },
}
DOCUMENT: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["openapi", "info", "paths"],
    "additionalProperties": False,
    "properties": {
        "openapi": {"type": "string", "pattern": r"^3\.1\.\d+$"},
        "info": {
            "type": "object",
            "required": ["title", "version"],
            "additionalProperties": False,
            "properties": {"title": _TEXT, "version": _TEXT, "summary": _TEXT},
        },
        "jsonSchemaDialect": {"const": "https://json-schema.org/draft/2020-12/schema"},
        "servers": {"type": "array", "items": {"type": "object", "required": ["url"]}},
        "paths": {
            "type": "object",
            "patternProperties": {
                "^/": {
                    "type": "object",
                    "minProperties": 1,
                    "additionalProperties": False,
                    "properties": {"get": OPERATION, "post": OPERATION},
                }
            },
            "additionalProperties": False,
        },
        "components": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "schemas": {"type": "object", "additionalProperties": {"type": "object"}},
                "securitySchemes": {
                    "type": "object",
                    "additionalProperties": {
                        "oneOf": [
                            {
                                "required": ["type", "scheme"],
                                "additionalProperties": False,
                                "properties": {"type": {"const": "http"}, "scheme": {"const": "bearer"}},
                            },
                            {
                                "required": ["type", "in", "name"],
                                "additionalProperties": False,
                                "properties": {
                                    "type": {"const": "apiKey"},
                                    "in": {"enum": ["header", "cookie", "query"]},
                                    "name": _TEXT,
                                },
                            },
                        ]
                    },
                },
            },
        },
    },
}
"""What the OpenAPI Specification 3.1 (sections 4.8.1 to 4.8.27) asks of a document, as far as ours goes."""


def opsd_with(token: str | None = None) -> Opsd:
    """An application in which every route has something to answer."""
    opsd = Opsd(token, metrics_enabled="true")
    opsd.viewers.counts |= {("statusd", "run:log"): Count(1, ()), ("preflightd", "run"): Count(2, ())}
    return opsd


def url_of(endpoint: Endpoint) -> str:
    """A path that leads there."""
    return endpoint.plain_path.format_map(FILLED) + QUERIES.get(endpoint.call, "")


def refs(value: object) -> list[str]:
    """All references in a document."""
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [ref for item in value.values() for ref in refs(item)]
    return [ref for item in value for ref in refs(item)] if isinstance(value, list) else []


def schemas(value: object) -> list[Any]:
    """All schemas in a document but for the components'."""
    if isinstance(value, dict):
        own = [value["schema"]] if "schema" in value else []
        return own + [schema for item in value.values() for schema in schemas(item)]
    return [schema for item in value for schema in schemas(item)] if isinstance(value, list) else []


def test_the_table_is_what_is_served_and_nothing_else_is() -> None:
    parts = Opsd().parts
    served = []
    for route in make_routes(parts):
        if isinstance(route, WebSocketRoute):
            served.append(("WS", route.path))
        else:
            assert isinstance(route, Route)
            assert route.methods is not None
            served += [(method, route.path) for method in route.methods - {"HEAD"}]
    assert served == [(endpoint.method, endpoint.path) for endpoint in ENDPOINTS]
    assert len(set(served)) == len(served)
    assert set(make_calls(parts)) == {endpoint.call for endpoint in HTTP}
    assert len({endpoint.call for endpoint in ENDPOINTS}) == len(ENDPOINTS)


def test_every_parameter_of_a_path_is_in_the_table() -> None:
    for endpoint in ENDPOINTS:
        assert re.findall(r"\{(\w+)(?::path)?\}", endpoint.path) == [found.name for found in endpoint.in_path]


@pytest.mark.parametrize("endpoint", HTTP, ids=lambda endpoint: endpoint.call)
async def test_each_route_needs_what_the_table_says(endpoint: Endpoint) -> None:
    foreign = {"Sec-Fetch-Site": "cross-site"}
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    body, kind = (b'{"token":"the token"}', {"Content-Type": JSON}) if endpoint.body else (b"", {})

    async def ask(headers: dict[str, str]) -> int:
        url, method = url_of(endpoint), endpoint.method
        return (await opsd_with(TOKEN).ask(url, method, content=body, headers=kind | headers)).status_code

    # The board has not asked its sources for long: /health may say 503, which is no refusal.
    open_to_all = {200, 204, 503}
    assert await ask(bearer | CHANGE) in open_to_all
    assert (await ask({}) in open_to_all) == (endpoint.needs in {Needs.NOTHING, Needs.OWN_PAGE})
    assert (await ask(bearer) in open_to_all) == (endpoint.needs is not Needs.CHANGE)
    assert (await ask(bearer | CHANGE | foreign) in open_to_all) == (endpoint.needs is Needs.NOTHING)
    if endpoint.needs in {Needs.TOKEN, Needs.CHANGE}:
        assert await ask(CHANGE) == 401


async def test_a_websocket_needs_what_the_table_says() -> None:
    (live,) = [endpoint for endpoint in ENDPOINTS if endpoint.method == "WS"]
    assert live.needs is Needs.TOKEN
    for headers, answer in (({}, "websocket.http.response.start"), ({"Authorization": f"Bearer {TOKEN}"}, None)):
        async with converse(Opsd(TOKEN), **headers) as conversation:
            assert (await conversation.next())["type"] == (answer or "websocket.accept")


@pytest.mark.parametrize("endpoint", HTTP, ids=lambda endpoint: endpoint.call)
async def test_each_answer_is_of_the_kind_that_the_table_says(endpoint: Endpoint) -> None:
    options: dict[str, Any] = {"headers": dict(CHANGE)}
    if endpoint.body is not None:
        options |= {"content": b'{"token":"x"}', "headers": {**CHANGE, "Content-Type": JSON}}
    answer = await opsd_with().ask(url_of(endpoint), endpoint.method, **options)
    kind = answer.headers.get("content-type", "").partition(";")[0]
    if endpoint.answer is None:
        assert (answer.status_code, answer.content) == (204, b"")
    elif endpoint.answer != "*/*":
        assert kind == endpoint.answer
    if endpoint.schema is not None:
        jsonschema.validate(answer.json(), SCHEMAS[endpoint.schema])


async def test_the_endpoints_are_those_of_the_status() -> None:
    opsd = Opsd()
    listed = (await opsd.ask("/api/dev/endpoints")).json()
    status = (await opsd.ask("/api/dev/status")).json()
    assert listed["total"] == len(listed["endpoints"]) == status["meta"]["totalEndpoints"] == len(ENDPOINTS)
    assert listed["endpoints"][0] == {
        "service": "opsd",
        "method": "GET",
        "path": "/api/dev/status",
        "what": "the status vector",
        "needs": "the token or a session, where there is a token",
    }


@pytest.mark.parametrize("token", [None, TOKEN])
async def test_the_openapi_document_is_one(token: str | None) -> None:
    answer = await opsd_with(token).ask("/api/dev/openapi.json", headers={"Authorization": f"Bearer {TOKEN}"})
    document = answer.json()
    jsonschema.Draft202012Validator.check_schema(DOCUMENT)
    jsonschema.Draft202012Validator(DOCUMENT).validate(document)
    components = document["components"]
    assert {f"#/components/schemas/{name}" for name in components["schemas"]} == set(refs(document))
    for schema in [*schemas(document["paths"]), *components["schemas"].values()]:
        jsonschema.Draft202012Validator.check_schema(schema)
    operations = {
        (method.upper(), path): operation
        for path, item in document["paths"].items()
        for method, operation in item.items()
    }
    listed = {("POST" if endpoint.method == "POST" else "GET", endpoint.plain_path) for endpoint in ENDPOINTS}
    assert set(operations) == listed
    assert len({operation["operationId"] for operation in operations.values()}) == len(ENDPOINTS)
    for (_, path), operation in operations.items():
        named = [found["name"] for found in operation.get("parameters", []) if found["in"] == "path"]
        assert named == re.findall(r"\{(\w+)\}", path)
        used = {name for requirement in operation["security"] for name in requirement}
        assert used <= set(components.get("securitySchemes", {}))
        assert ("401" in operation["responses"]) == (bool(used) or (token is not None and path == "/api/login"))
    assert bool(operations["GET", "/api/dev/workers"]["security"]) == (token is not None)


def test_a_document_that_is_none_is_found_out() -> None:
    document: Any = openapi(ENDPOINTS, "1", token_required=True)
    del document["paths"]["/health"]["get"]["responses"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(DOCUMENT).validate(document)


# -- viewers -----------------------------------------------------------------------------------------------------------


async def test_viewers_are_those_of_the_log_and_of_the_checklist() -> None:
    opsd = Opsd()
    opsd.viewers.counts |= {
        ("statusd", "batch;;name:log"): Count(3, ("statusd-2",)),
        ("preflightd", "batch;;name"): Count(None, ("preflightd",)),
    }
    answer = await opsd.ask("/api/dev/viewers?run=batch%3B%3Bname&channel=log")
    assert answer.json() == {
        "run": "batch;;name",
        "channel": "log",
        "log": {"clients": 3, "unavailable": ["statusd-2"]},
        "checklist": {"clients": None, "unavailable": ["preflightd"]},
    }
    answer = await opsd.ask("/api/dev/viewers?run=batch%3B%3Bname")
    assert (answer.json()["channel"], answer.json()["log"]) == (None, None)


@pytest.mark.parametrize(
    "query",
    [
        *("", "?run=", "?run=a%20b", "?run=..", "?run=a&run=b", f"?run={'x' * 257}", "?run=a/b", "?channel=log"),
        *("?run=a&channel=", "?run=a&channel=b;c", "?run=a&channel=b&channel=c", f"?run=a&channel={'x' * 257}"),
    ],
)
async def test_viewers_of_nonsense_are_refused(query: str) -> None:
    answer = await Opsd().ask(f"/api/dev/viewers{query}")
    assert answer.status_code == 400
    assert len(answer.json()["error"]) < 200


async def test_daemons_that_do_not_answer_are_not_waited_for(autojump_clock: MockClock) -> None:
    answer = await Opsd().ask("/api/dev/viewers?run=run&channel=log")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"
