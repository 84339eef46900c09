"""The OpenAPI 3.1 document, made from a table of the operations and the models of `schemas`.

    python -m app.api.openapi > openapi.yaml

The committed openapi.yaml is what this makes; a test says so, and that it has exactly the routes of the application.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from app.api import event_schemas, handoff_schemas, schemas
from app.api.capture import CAPTURE_TYPE, CaptureQuery
from app.api.events import EVENTS_TYPE
from app.api.handoffs import MAX_KEY_LENGTH, MAX_WAIT_S
from app.api.metrics import METRICS_TYPE
from app.api.problems import PROBLEM_TYPE
from app.api.static import OPENAPI_TYPE

JSON_TYPE: Final = "application/json"
_REF: Final = "#/components/schemas/"

_PROBLEM_TEXTS: Final = {
    400: "The body is not JSON, or there is none",
    401: "No token, or a wrong one",
    403: "Not allowed: the locator's scheme or command, or the Host or Origin header",
    404: "There is none of that name or id",
    408: "The body did not arrive in time",
    409: "The name or the directory is taken, a hand-off is under way, or the state does not allow it",
    413: "The body is too large",
    422: "The body, the query or the locator is not valid",
    502: "The other side cannot be connected; nothing is kept",
    503: "The service is not ready, or is stopping",
}
_BODY_PROBLEMS: Final = (400, 408, 413)
_GUARDED: Final = (401, 403)


@dataclass(frozen=True, slots=True)
class Operation:
    """One method on one path.

    Attributes:
        method, path: as OpenAPI writes them.
        operation_id: for generated clients.
        summary: one line.
        answer: the model of the answer that went well, or the media type of what is not JSON.
        body, query: models of the request, None where it has none.
        status: of the answer that went well.
        other_answers: by status, the models of other answers that went well.
        headers: parameters in the request's header.
        problems: statuses of the problem documents.
        public: whether no token is needed.
        item: the model of what a stream of text consists of.
    """

    method: str
    path: str
    operation_id: str
    summary: str
    answer: type[BaseModel] | str
    body: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    status: int = 200
    other_answers: Mapping[int, Sequence[type[BaseModel]]] = field(default_factory=dict)
    headers: Sequence[dict[str, Any]] = ()
    problems: Sequence[int] = ()
    public: bool = False
    item: type[BaseModel] | None = None


_HANDOFF_HEADERS: Final = (
    {
        "name": "Prefer",
        "in": "header",
        "required": False,
        "description": (
            f"`wait=SECONDS`: answer 200 once it is over, or 202 after so many seconds (RFC 7240; at most {MAX_WAIT_S})"
        ),
        "schema": {"type": "string"},
        "example": "wait=30",
    },
    {
        "name": "Idempotency-Key",
        "in": "header",
        "required": False,
        "description": (
            "a text of your own; the same request with the same key begins no second hand-off, but answers with the"
            " first; kept for as long as the hand-off"
        ),
        "schema": {"type": "string", "minLength": 1, "maxLength": MAX_KEY_LENGTH},
    },
)
_EVENT_HEADERS: Final = (
    {
        "name": "Last-Event-ID",
        "in": "header",
        "required": False,
        "description": "the id of the last event that was seen: what has happened since is told first",
        "schema": {"type": "string"},
        "example": "5f3a91c2-42",
    },
)
_LOCATED: Final = frozenset({201, 202})
"""Statuses of answers that say where to look."""
_SUCCESS_TEXTS: Final = {200: "Done", 201: "Made", 202: "Begun"}

OPERATIONS: Final = (
    Operation(
        "GET", "/links", "listLinks", "The links, oldest first", schemas.LinkList,
        query=schemas.LinkListQuery, problems=(404, 422),
    ),
    Operation(
        "POST", "/links", "createLink", "Dial a link; answers when it is up", schemas.Link,
        body=schemas.LinkCreate, status=201, problems=(404, 409, 422, 502),
    ),
    Operation(
        "GET", "/links/{link_id}", "getLink", "A link, by id or by name", schemas.Link, problems=(404, 422)
    ),
    Operation(
        "PATCH", "/links/{link_id}", "updateLink", "Change a link's name, its role or the watch over it", schemas.Link,
        body=schemas.LinkPatch, problems=(404, 409, 422),
    ),
    Operation(
        "DELETE", "/links/{link_id}", "deleteLink", "Drain a link and close it; answers when it is closed",
        schemas.Link, query=schemas.LinkDeleteQuery, problems=(404, 409, 422),
    ),
    Operation("GET", "/multilinks", "listMultilinks", "The multilinks", schemas.MultilinkList, problems=(422,)),
    Operation(
        "POST", "/multilinks", "createMultilink", "Make a multilink; answers when clients can join it",
        schemas.Multilink, body=schemas.MultilinkCreate, status=201, problems=(409, 422, 502),
    ),
    Operation("GET", "/multilinks/{name}", "getMultilink", "A multilink", schemas.Multilink, problems=(404, 422)),
    Operation(
        "PATCH", "/multilinks/{name}", "updateMultilink", "Change what is done with duplicates and degraded links",
        schemas.Multilink, body=schemas.MultilinkPatch, problems=(404, 422),
    ),
    Operation(
        "DELETE", "/multilinks/{name}", "deleteMultilink", "End a multilink with its links, remove its directory",
        schemas.Multilink, problems=(404, 422),
    ),
    Operation(
        "GET", "/handoffs", "listHandoffs", "The last 100 hand-offs, oldest first", handoff_schemas.HandoffList,
        problems=(422,),
    ),
    Operation(
        "POST", "/handoffs", "createHandoff", "Move a host to another link: make it, verify it, overlap, drain the old",
        handoff_schemas.Handoff, body=handoff_schemas.HandoffCreate, query=handoff_schemas.HandoffCreateQuery,
        status=202, other_answers={200: (handoff_schemas.Handoff, handoff_schemas.HandoffPlan)},
        headers=_HANDOFF_HEADERS, problems=(404, 409, 422),
    ),
    Operation(
        "GET", "/handoffs/{handoff_id}", "getHandoff", "A hand-off, as it stands now", handoff_schemas.Handoff,
        problems=(404, 422),
    ),
    Operation(
        "DELETE", "/handoffs/{handoff_id}", "abortHandoff", "Abort a hand-off; answers when it is rolled back",
        handoff_schemas.Handoff, problems=(404, 409, 422),
    ),
    Operation(
        "GET", "/links/{link_id}/history", "getLinkHistory", "A link's last five minutes, a sample a second",
        event_schemas.History, problems=(404, 422),
    ),
    Operation(
        "GET", "/links/{link_id}/capture", "captureLink", "The link's frames as they pass, as a pcapng file",
        CAPTURE_TYPE, query=CaptureQuery, problems=(404, 422, 503),
    ),
    Operation(
        "GET", "/events", "getEvents", "What happens, as it happens: server-sent events", EVENTS_TYPE,
        query=event_schemas.EventsQuery, headers=_EVENT_HEADERS, problems=(422,), item=event_schemas.Event,
    ),
    Operation(
        "GET", "/metrics", "getMetrics", "Every number, for Prometheus", METRICS_TYPE.partition(";")[0],
        problems=(422,),
    ),
    Operation("GET", "/healthz", "getHealth", "Whether the process answers", schemas.Health, public=True),
    Operation(
        "GET", "/readyz", "getReadiness", "Whether the service takes requests", schemas.Ready,
        problems=(503,), public=True,
    ),
    Operation("GET", "/openapi.yaml", "getOpenapi", "This document", OPENAPI_TYPE, public=True),
    Operation("GET", "/", "getPage", "The dashboard", "text/html", public=True),
    Operation(
        "GET", "/dashboard/{name}", "getAsset", "A file of the dashboard", "*/*", problems=(404,), public=True
    ),
)  # fmt: skip

_PARAMETER_TEXTS: Final = {
    "link_id": "the link's id, or its name",
    "name": "the name",
    "handoff_id": "the hand-off's id",
}


def openapi_document() -> dict[str, Any]:
    """The whole document."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "vde-multilink",
            "version": "1",
            "summary": "VDE multilinks, and the links of each, under HTTP",
            "description": (
                "Every error is a problem document (RFC 9457) with a stable `code`; its `detail` says what to do next. "
                "Over TCP a bearer token is needed; over the service's unix socket none is."
            ),
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "what the file `token` in the service's runtime directory holds",
                }
            },
            "schemas": _component_schemas(),
        },
    }


def openapi_text() -> str:
    """The document as YAML, as it is committed."""
    import yaml  # A tool of the developers: the service itself only hands the file out.

    text: str = yaml.safe_dump(openapi_document(), sort_keys=False, allow_unicode=True, width=120)
    return "# Made by `python -m app.api.openapi > openapi.yaml`: change app/api, not this file.\n" + text


def _operation(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {"operationId": operation.operation_id, "summary": operation.summary}
    if operation.public:
        described["security"] = []
    parameters = [*_path_parameters(operation.path), *_query_parameters(operation.query), *operation.headers]
    if parameters:
        described["parameters"] = parameters
    if operation.body is not None:
        content = {JSON_TYPE: {"schema": _reference(operation.body)}}
        described["requestBody"] = {"required": True, "content": content}
    described["responses"] = _responses(operation)
    return described


def _path_parameters(path: str) -> list[dict[str, Any]]:
    names = [step[1:-1] for step in path.split("/") if step.startswith("{")]
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": _PARAMETER_TEXTS[name],
            "schema": {"type": "string", "minLength": 1},
        }
        for name in names
    ]


def _query_parameters(model: type[BaseModel] | None) -> list[dict[str, Any]]:
    if model is None:
        return []
    parameters = []
    for name, schema in model.model_json_schema()["properties"].items():
        plain = {key: value for key, value in schema.items() if key not in {"title", "description", "anyOf"}}
        # What may be None in the model is left out of the query; it is never sent as null.
        for choice in schema.get("anyOf", []):
            if choice.get("type") != "null":
                plain |= choice
        if plain.get("default", "") is None:
            del plain["default"]
        parameters.append(
            {"name": name, "in": "query", "required": False, "description": schema["description"], "schema": plain}
        )
    return parameters


def _responses(operation: Operation) -> dict[str, Any]:
    statuses = set(operation.problems) | ({403} if operation.public else set(_GUARDED))
    if operation.body is not None:
        statuses |= set(_BODY_PROBLEMS)
    if operation.method != "GET":
        statuses.add(503)  # A service that is stopping changes nothing.
    responses = _good_responses(operation)
    for status in sorted(statuses):
        content = {PROBLEM_TYPE: {"schema": _reference(schemas.Problem)}}
        responses[str(status)] = {"description": _PROBLEM_TEXTS[status], "content": content}
    return responses


_KEPT_BY_BROWSERS: Final = frozenset({"getPage", "getAsset"})


def _good_responses(operation: Operation) -> dict[str, Any]:
    if isinstance(operation.answer, str):
        media: dict[str, Any] = {}
        if operation.item is not None:
            # OpenAPI 3.1 has no word for it yet: `data` of each event is a JSON text of this schema.
            content = {"contentMediaType": JSON_TYPE, "contentSchema": _reference(operation.item)}
            media = {"schema": {"type": "string", **content}}
        answers: dict[str, Any] = {"200": {"description": _SUCCESS_TEXTS[200], "content": {operation.answer: media}}}
        if operation.operation_id in _KEPT_BY_BROWSERS:
            answers["304"] = {"description": "What the client has, by its If-None-Match, is what there is."}
        return answers
    responses: dict[str, Any] = {}
    for status, models in sorted({operation.status: (operation.answer,), **operation.other_answers}.items()):
        schemas_of = [_reference(model) for model in models]
        schema = schemas_of[0] if len(schemas_of) == 1 else {"anyOf": schemas_of}
        good: dict[str, Any] = {"description": _SUCCESS_TEXTS[status], "content": {JSON_TYPE: {"schema": schema}}}
        if status in _LOCATED:
            location = {"description": "where it is found", "required": True, "schema": {"type": "string"}}
            good["headers"] = {"Location": location}
        responses[str(status)] = good
    return responses


def _reference(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REF + model.__name__}


def _component_schemas() -> dict[str, Any]:
    requests = {operation.body for operation in OPERATIONS if operation.body is not None}
    answers = {operation.answer for operation in OPERATIONS if not isinstance(operation.answer, str)}
    answers |= {operation.item for operation in OPERATIONS if operation.item is not None}
    answers |= {model for operation in OPERATIONS for models in operation.other_answers.values() for model in models}
    models = sorted(requests | answers | {schemas.Problem}, key=lambda model: model.__name__)
    _, document = models_json_schema(
        [(model, "validation" if model in requests else "serialization") for model in models],
        ref_template=_REF + "{model}",
    )
    definitions: dict[str, Any] = document["$defs"]
    return {name: _without_titles(definitions[name]) for name in sorted(definitions)}


def _without_titles(schema: Any) -> Any:
    """The titles that pydantic makes up say what the names say already. (A member named title is no title.)"""
    if isinstance(schema, list):
        return [_without_titles(item) for item in schema]
    if isinstance(schema, dict):
        return {
            key: _without_titles(value) for key, value in schema.items() if key != "title" or isinstance(value, dict)
        }
    return schema


def main() -> None:
    """Print the document."""
    sys.stdout.write(openapi_text())


if __name__ == "__main__":
    main()
