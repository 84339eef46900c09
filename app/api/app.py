"""Puts the API together: resources, error documents, and what holds for every request and every answer.

Each request: its body is read → auth → resource → fabric → answer → headers for browsers.
Each error, wherever it was raised: problems → answer → headers for browsers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, cast

import trio
from hypercorn.typing import ASGISendCallable, ASGISendEvent
from quart import Quart, Request, Response, request
from quart.typing import ResponseTypes
from quart.wrappers.base import BaseRequestWebsocket
from quart_trio import QuartTrio
from quart_trio.asgi import TrioASGIHTTPConnection
from werkzeug.routing import MapAdapter

from app.api.audit import register_audit
from app.api.auth import Auth
from app.api.capture import CaptureHandlers
from app.api.events import EventHandlers
from app.api.handoffs import HandoffHandlers
from app.api.health import HealthHandlers, Readiness, ReadinessState
from app.api.links import LinkHandlers
from app.api.metrics import MetricsHandlers
from app.api.multilinks import MultilinkHandlers
from app.api.pacing import Pacer
from app.api.parsing import receive_body
from app.api.policy import DialPolicy
from app.api.problems import register_problem_handlers
from app.api.static import static_blueprint
from app.fabric.activity import frames_moved
from app.fabric.errors import ServiceStoppingError
from app.fabric.vnl import PassOrDrop

if TYPE_CHECKING:
    from app.fabric.fabric import Fabric

MAX_BODY_BYTES: Final = 64 * 1024
"""The largest request has one locator (4096 characters) and two names in it."""
BODY_TIMEOUT_S: Final = 10.0

_READING_METHODS: Final = frozenset({"GET", "HEAD"})
_SECURITY_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
"""For every answer that does not say otherwise itself. There are no CORS headers, on purpose."""


class _RequestConnection(TrioASGIHTTPConnection):
    """One request: paced, and the end of its answer is sent whole.

    On the last body message Hypercorn recycles the connection, and on its way tells quart-trio that the request
    is over, which cancels the task that is recycling: without the shield the idle timer is never started again,
    and the next request after an early answer hangs.
    """

    async def handle_request(self, nursery: trio.Nursery, request: Request, send: ASGISendCallable) -> None:  # type: ignore[override] # as quart-trio's own
        pacer = cast("MultilinkApi", self.app).pacer
        await pacer.paced(super().handle_request(nursery, request, send))

    async def _send_response(self, send: ASGISendCallable, response: ResponseTypes) -> None:
        async def send_whole(message: ASGISendEvent) -> None:
            is_last = message["type"] == "http.response.body" and not message["more_body"]
            with trio.CancelScope(shield=is_last):
                await send(message)

        await super()._send_response(send_whole, response)


class MultilinkApi(QuartTrio):
    """The ASGI application.

    Attributes:
        pacer: keeps what is done for clients from holding up frames.
        close_streams: ends the answers that would go on for ever, at shutdown.
    """

    asgi_http_class = _RequestConnection
    pacer: Pacer
    close_streams: Callable[[], None]

    def create_url_adapter(self, request: BaseRequestWebsocket | None) -> MapAdapter | None:
        """Route by path alone: Werkzeug fails on Host headers that are no names, before any error handler is near."""
        if request is None:
            return super().create_url_adapter(request)
        return self.url_map.bind("localhost", url_scheme="http", default_method=request.method, path_info=request.path)


def create_app(
    fabric: Fabric,
    *,
    policy: DialPolicy,
    auth: Auth,
    readiness: Readiness,
    duplicates: PassOrDrop = PassOrDrop.DROP,
) -> MultilinkApi:
    """Make the API over `fabric`.

    It starts no tasks and owns nothing: fabric and readiness are the caller's, and must outlive the serving.

    Args:
        fabric: every multilink of the service.
        policy: which locators may be dialled, or be a host.
        auth: the token, and the names under which the service is reached.
        readiness: what /readyz shows.
        duplicates: for multilinks whose locator does not say what is done with them.
    """
    app = MultilinkApi("app.api", static_folder=None)
    app.pacer = Pacer(lambda: frames_moved(fabric))
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.config["BODY_TIMEOUT"] = BODY_TIMEOUT_S
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False  # They are there for CORS, which this API has none of.
    app.url_map.merge_slashes = False  # A redirect would be the only answer that is neither JSON nor a problem.
    register_problem_handlers(app)
    app.before_request(_before_request(auth, readiness))
    app.after_request(_add_security_headers)
    register_audit(app, auth.token_name)
    app.close_streams = fabric.close_streams
    for blueprint in (
        LinkHandlers(fabric, policy).blueprint(),
        MultilinkHandlers(fabric, policy, duplicates).blueprint(),
        HandoffHandlers(fabric, policy).blueprint(),
        EventHandlers(fabric).blueprint(),
        CaptureHandlers(fabric).blueprint(),
        MetricsHandlers(fabric).blueprint(),
        HealthHandlers(readiness).blueprint(),
        static_blueprint(),
    ):
        app.register_blueprint(blueprint)
    return app


def routes_of(app: Quart) -> set[tuple[str, str]]:
    """Every (method, path) that `app` answers, paths as OpenAPI writes them; HEAD comes with GET."""
    return {
        (method, rule.rule.replace("<", "{").replace(">", "}"))
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD"}
    }


def _before_request(auth: Auth, readiness: Readiness) -> Callable[[], Awaitable[None]]:
    async def read_then_check() -> None:
        # Always, and first: an answer sent while the body is still to come leaves the connection in between two
        # requests, and the next one on it hangs.
        await receive_body()
        auth.check(request)
        if request.method not in _READING_METHODS and readiness.state is ReadinessState.STOPPING:
            raise ServiceStoppingError("the service is stopping and changes nothing any more: ask the next one")

    return read_then_check


async def _add_security_headers(response: Any) -> Response:
    for name, value in _SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    answer: Response = response
    return answer
