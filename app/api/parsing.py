"""Reading requests: raw bytes and query parameters into the models of `schemas`, or a problem that says where.

Invariant: nothing that came from outside reaches a resource but through a model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import trio
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from quart import g, request
from werkzeug.exceptions import RequestEntityTooLarge, RequestTimeout

from app.api.problems import InvalidRequestError, MalformedJsonError
from app.api.schemas import ProblemItem

ModelT = TypeVar("ModelT", bound=BaseModel)


async def receive_body() -> None:
    """Take in the request's body, for `read_body`; to be called once for every request, before all else.

    Quart 0.23 looks at the limit only when the whole body is there, so that one without an end would fill the memory:
    hence the counting here.

    Raises:
        RequestEntityTooLarge: it is larger than MAX_CONTENT_LENGTH.
        RequestTimeout: it has not come within BODY_TIMEOUT.
    """
    limit = request.max_content_length
    body = bytearray()
    with trio.move_on_after(request.body_timeout or math.inf) as scope:
        async for chunk in request.body:
            body += chunk
            if limit is not None and len(body) > limit:
                raise RequestEntityTooLarge
    if scope.cancelled_caught:
        raise RequestTimeout
    g.body = bytes(body)


def read_body(model: type[ModelT]) -> ModelT:
    """The request's body as a `model`, whatever its Content-Type says: `curl -d` calls everything a form.

    Raises:
        MalformedJsonError: it is no JSON, no UTF-8, or not there.
        InvalidRequestError: it is JSON of another shape.
    """
    raw: bytes = g.body
    if not raw.strip():
        example = ", ".join(f'"{name}": ...' for name, field in model.model_fields.items() if field.is_required())
        raise MalformedJsonError(f"There is no body: send a JSON object, {{{example}}}.")
    try:
        return model.model_validate_json(raw)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
        if any(item["type"] == "json_invalid" for item in details):
            raise MalformedJsonError(f"The body is not JSON in UTF-8. {details[0]['msg']}.") from error
        raise _invalid(_items("body", details)) from error


def read_query(model: type[ModelT]) -> ModelT:
    """The request's query parameters as a `model`.

    Raises:
        InvalidRequestError: one is unknown, given twice, or has no such value.
    """
    values = request.args.to_dict(flat=False)
    repeated = [name for name, given in values.items() if len(given) > 1]
    if repeated:
        raise _invalid([ProblemItem(where=f"query.{name}", message="Given more than once") for name in repeated])
    try:
        return model.model_validate({name: given[0] for name, given in values.items()})
    except ValidationError as error:
        raise _invalid(_items("query", error.errors(include_url=False, include_input=False))) from error


def _items(part: str, details: Sequence[ErrorDetails]) -> list[ProblemItem]:
    return [
        ProblemItem(where=".".join([part, *(str(step) for step in item["loc"])]), message=item["msg"])
        for item in details
    ]


def _invalid(items: list[ProblemItem]) -> InvalidRequestError:
    told = "; ".join(f"{item.where}: {item.message}" for item in items[:5])
    return InvalidRequestError(f"{told}. /openapi.yaml says what is taken.", items=items[:20])
