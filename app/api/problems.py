"""The one place where an error becomes an HTTP status.

Every error leaves as an RFC 9457 problem document with a stable `code`. What users can meet are the
fabric's `MultilinkError`s, the API's own `ApiError`s and Werkzeug's `HTTPException`s; anything else is a
fault of ours: logged with its traceback, and answered with 500 without it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import ClassVar, Final

from quart import Quart, Response, request
from werkzeug.exceptions import HTTPException

from app.api.schemas import Problem, ProblemItem
from app.fabric import errors as fabric_errors
from app.fabric.errors import MultilinkError

logger = logging.getLogger(__name__)

PROBLEM_TYPE: Final = "application/problem+json"

STATUS_OF_CODE: Final[dict[str, int]] = {
    fabric_errors.VnlError.code: 422,
    fabric_errors.SchemeNotAllowedError.code: 403,
    fabric_errors.PathError.code: 422,
    fabric_errors.DirectoryInUseError.code: 409,
    fabric_errors.NameTakenError.code: 409,
    fabric_errors.NameInvalidError.code: 422,
    fabric_errors.NotFoundError.code: 404,
    fabric_errors.AmbiguousMultilinkError.code: 422,
    fabric_errors.ConnectError.code: 502,
    fabric_errors.PlugClosedError.code: 502,
    fabric_errors.LinkStateError.code: 409,
    fabric_errors.HandoffInvalidError.code: 422,
    fabric_errors.HandoffRunningError.code: 409,
    fabric_errors.ServiceStoppingError.code: 503,
}
"""The status of each kind of MultilinkError. A code that is missing here is a fault of ours: 500."""

_HTTP_PROBLEMS: Final[dict[int, tuple[str, str]]] = {
    400: ("bad_request", "The request is not HTTP/1.1 that this service understands: check what your client sends."),
    404: ("not_found", "There is nothing at {path}: /openapi.yaml lists what there is."),
    405: ("method_not_allowed", "{method} cannot be done on {path}: the Allow header lists what can."),
    408: ("body_timeout", "The request's body did not arrive in time: send it at once, after its headers."),
    413: ("body_too_large", "The request's body is too large: at most {limit} bytes are read."),
    414: ("uri_too_long", "The request's address is too long: shorten it."),
    431: ("headers_too_large", "The request's headers are too large: send fewer or shorter ones."),
    505: ("version_not_supported", "This service speaks HTTP/1.1 only."),
}
"""Code and detail for what is refused before it reaches a resource."""

_UNREAD_BODY: Final = frozenset({408, 413})
"""Statuses answered while a part of the body is still to come: no request can follow on that connection."""


class ApiError(Exception):
    """An error of the HTTP layer itself: what was sent cannot be taken to the fabric.

    Args:
        detail: what is wrong and what to do next, for a person.
        items: where in the request, one entry each.
        headers: headers that the answer must carry.
    """

    status: ClassVar[int] = 400
    code: ClassVar[str] = "bad_request"
    title: ClassVar[str] = "The request is not valid"

    def __init__(
        self, detail: str, *, items: Sequence[ProblemItem] = (), headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.items = list(items)
        self.headers = dict(headers or {})


class MalformedJsonError(ApiError):
    """A body that is not JSON in UTF-8, or no body at all."""

    code = "malformed_json"
    title = "The body is not JSON"


class InvalidRequestError(ApiError):
    """JSON, or query parameters, of another shape than the API takes."""

    status = 422
    code = "invalid_request"
    title = "The request does not have the right shape"


class IdempotencyKeyReusedError(ApiError):
    """An Idempotency-Key that stands for another request."""

    status = 422
    code = "idempotency_key_reused"
    title = "The Idempotency-Key has been used for another request"


class NotReadyError(ApiError):
    """The service has not started completely, or is on its way out."""

    status = 503
    code = "not_ready"
    title = "The service is not ready"


class UnauthorizedError(ApiError):
    """No token, or a wrong one."""

    status = 401
    code = "unauthorized"
    title = "A token is needed"


class HostNotAllowedError(ApiError):
    """A Host header that a page of somebody else could have brought about (DNS rebinding)."""

    status = 403
    code = "host_not_allowed"
    title = "The Host header is not one of this service's"


class OriginNotAllowedError(ApiError):
    """A browser sent this on behalf of a page of somebody else."""

    status = 403
    code = "origin_not_allowed"
    title = "Pages of other origins may not use this service"


def make_problem(
    status: int, code: str, detail: str, *, title: str | None = None, items: Sequence[ProblemItem] = ()
) -> Problem:
    """A problem document; without a title it has the status's own phrase."""
    return Problem(
        type=f"urn:vde-multilink:problem:{code}",
        title=HTTPStatus(status).phrase if title is None else title,
        status=status,
        detail=detail,
        code=code,
        errors=list(items) or None,
    )


def protocol_problem(status: int) -> Problem:
    """The problem for what `status` says was wrong with a request that no application has seen."""
    code, detail = _HTTP_PROBLEMS.get(status, _HTTP_PROBLEMS[400])
    return make_problem(status, code, detail)


def problem_bytes(problem: Problem) -> bytes:
    """`problem` as it goes over the wire."""
    return problem.model_dump_json(exclude_none=True).encode()


def register_problem_handlers(app: Quart) -> None:
    """Make every error that leaves `app` a problem document."""
    app.register_error_handler(MultilinkError, _answer_multilink_error)
    app.register_error_handler(ApiError, _answer_api_error)
    app.register_error_handler(HTTPException, _answer_http_exception)
    app.register_error_handler(Exception, _answer_unexpected)


def _respond(problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
    response = Response(problem_bytes(problem), status=problem.status, content_type=PROBLEM_TYPE)
    response.headers.update(headers or {})
    return response


async def _answer_multilink_error(error: MultilinkError) -> Response:
    status = STATUS_OF_CODE.get(error.code)
    if status is None:
        return await _answer_unexpected(error)
    return _respond(make_problem(status, error.code, error.detail, title=error.title))


async def _answer_api_error(error: ApiError) -> Response:
    problem = make_problem(error.status, error.code, error.detail, title=error.title, items=error.items)
    return _respond(problem, error.headers)


async def _answer_http_exception(error: HTTPException) -> Response:
    status = error.code or 500
    fallback = (re.sub(r"\W+", "_", error.name.lower()), error.description or error.name)
    code, detail = _HTTP_PROBLEMS.get(status, fallback)
    detail = detail.format(path=request.path, method=request.method, limit=request.max_content_length)
    # Allow on a 405, Retry-After, Location: they are part of what the status means.
    headers = {name: value for name, value in error.get_headers() if name.lower() != "content-type"}
    if status in _UNREAD_BODY:
        headers["Connection"] = "close"
    return _respond(make_problem(status, code, detail), headers)


async def _answer_unexpected(error: Exception) -> Response:
    logger.error("unexpected error in %s %s", request.method, request.path, exc_info=error)
    detail = "The service has met an error of its own: its log says which. Please report it."
    return _respond(make_problem(500, "internal_error", detail))
