"""Answers that went well."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from pydantic import BaseModel
from quart import Response


def json_response(model: BaseModel, status: int = 200, *, location: Sequence[str] | None = None) -> Response:
    """`model` as JSON; `location` are the steps of the path at which what was made is found."""
    response = json_text_response(model.model_dump_json(by_alias=True), status)
    if location is not None:
        response.headers["Location"] = "".join("/" + quote(step, safe="") for step in location)
    return response


def json_text_response(text: str, status: int = 200) -> Response:
    """JSON that has been written already."""
    return Response(text, status=status, content_type="application/json")
