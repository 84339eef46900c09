"""What the models of the API are made of: strict requests, exact answers, and the types of their members."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from app.fabric.neighbour import IpAddress


def rfc3339(timestamp: float) -> str:
    """A Unix time as RFC 3339 in UTC."""
    return datetime.fromtimestamp(timestamp, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _encodable(value: Any) -> Any:
    """Paths may hold bytes that are no UTF-8; Python has them as surrogates, which JSON cannot carry."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def without_default(schema: dict[str, Any]) -> None:
    """A member that may be left out, but has no value that says so: the default is no part of its schema."""
    schema.pop("default", None)


def plain_text(value: Any) -> Any:
    """As the plain string that a member of a StrEnum is."""
    return str(value) if isinstance(value, str) else value


def ip_address(text: str) -> IpAddress:
    """The address that `text` is.

    Raises:
        ValueError: it is none, or one with a zone, which means nothing here.
    """
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None:
        raise ValueError(f"{text!r} has a zone: leave %{address.scope_id} out")
    return address


def _checked_address(text: str) -> str:
    return str(ip_address(text))


Text = Annotated[str, BeforeValidator(_encodable)]
Count = Annotated[int, Field(ge=0)]
IpText = Annotated[
    str,
    AfterValidator(_checked_address),
    Field(json_schema_extra={"anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]}),
]
Timestamp = Annotated[str, Field(json_schema_extra={"format": "date-time"}, examples=["2026-11-22T15:04:05.678Z"])]


class RequestModel(BaseModel):
    """A request's body: unknown members, other types and nulls are refused."""

    model_config = ConfigDict(extra="forbid", strict=True)


class QueryModel(BaseModel):
    """Query parameters: all of them arrive as text, so they are not strict about types."""

    model_config = ConfigDict(extra="forbid")


class AnswerModel(BaseModel):
    """A part of an answer."""

    model_config = ConfigDict(extra="forbid")
