"""Who asked for which change, and what came of it: a line in the log for every request that may change something.

Over the unix socket it is the kernel that says who (uid and pid of the other end), over TCP it is the token's name.

Invariant: neither the token nor more of a body than BODY_SHOWN gets into the log.
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import structlog
from quart import Quart, Response, g, request

from app.api.auth import connection_state
from app.fabric.peer_socket import PeerCredentials

BODY_SHOWN: Final = 500
_CHANGING: Final = frozenset({"POST", "PATCH", "PUT", "DELETE"})
_IDS: Final = {"links": ("link", "id"), "handoffs": ("handoff", "id"), "multilinks": ("multilink", "name")}
"""By the first step of the path: what is told of an answer that went well, and which member it is."""

_log = structlog.get_logger(__name__)


def register_audit(app: Quart, token_name: str) -> None:
    """Log every request to `app` that may change something.

    Args:
        app: the application.
        token_name: what to call those who have the token.
    """
    app.before_request(_note_time)
    app.after_request(_logger(token_name))


async def _note_time() -> None:
    g.began = time.perf_counter()


def _logger(token_name: str) -> Callable[[Any], Awaitable[Any]]:
    async def log_change(response: Any) -> Any:
        if request.method in _CHANGING:
            status = response.status_code
            tell = _log.error if status >= 500 else _log.warning if status in {401, 403} else _log.info
            took_s = round(time.perf_counter() - g.get("began", time.perf_counter()), 3)
            body = g.get("body", b"")[:BODY_SHOWN].decode("utf-8", "replace")
            tell(
                "change asked",
                by=_who(token_name, status),
                method=request.method,
                path=request.full_path.rstrip("?"),
                body=body or None,
                status=status,
                took_s=took_s,
                **await _outcome(response),
            )
        return response

    return log_change


def _who(token_name: str, status: int) -> str:
    peer = connection_state(request).get("peer")
    if isinstance(peer, PeerCredentials):
        return f"uid {peer.uid}, pid {peer.pid}"
    name = "nobody known" if status in {401, 403} else token_name
    return f"{name} from {request.remote_addr}"


async def _outcome(response: Response) -> dict[str, str]:
    """The id of what was changed; or the code of the problem, and its words."""
    try:
        answer = json.loads(await response.get_data(as_text=False))
    except ValueError:
        return {}
    if not isinstance(answer, dict):
        return {}
    if response.status_code >= 400:
        return {name: str(answer[name]) for name in ("code", "detail") if name in answer}
    name, member = _IDS.get(request.path.strip("/").partition("/")[0], ("", ""))
    return {name: str(answer[member])} if member in answer else {}
