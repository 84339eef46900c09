"""The HTTP API: `create_app` makes it over a fabric, `serve_http` serves it on sockets it is given."""

from __future__ import annotations

from app.api.app import create_app
from app.api.auth import Auth
from app.api.connection import ServerLimits
from app.api.health import Readiness
from app.api.policy import DialPolicy
from app.api.server import serve_http

__all__ = ["Auth", "DialPolicy", "Readiness", "ServerLimits", "create_app", "serve_http"]
