"""/healthz, whether the process answers, and /readyz, whether it takes requests."""

from __future__ import annotations

from enum import StrEnum

from quart import Blueprint, Response

from app.api.problems import NotReadyError
from app.api.responses import json_response
from app.api.schemas import Health, Ready


class ReadinessState(StrEnum):
    """How far the service is, from its start to its end."""

    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"


class Readiness:
    """The flag that the service sets and /readyz shows; it only goes forward."""

    def __init__(self) -> None:
        self._state = ReadinessState.STARTING

    @property
    def state(self) -> ReadinessState:
        """How far the service is."""
        return self._state

    def set_ready(self) -> None:
        """Everything is up; does nothing to a service that is stopping."""
        if self._state is ReadinessState.STARTING:
            self._state = ReadinessState.READY

    def set_stopping(self) -> None:
        """The service is on its way out."""
        self._state = ReadinessState.STOPPING


class HealthHandlers:
    """The two health checks.

    Args:
        readiness: set by the service.
    """

    def __init__(self, readiness: Readiness) -> None:
        self._readiness = readiness

    def blueprint(self) -> Blueprint:
        """The routes of this resource."""
        routes = Blueprint("health", __name__)
        routes.add_url_rule("/healthz", view_func=self.get_health, methods=["GET"])
        routes.add_url_rule("/readyz", view_func=self.get_readiness, methods=["GET"])
        return routes

    async def get_health(self) -> Response:
        """GET /healthz: that this is answered is the answer."""
        return json_response(Health())

    async def get_readiness(self) -> Response:
        """GET /readyz."""
        state = self._readiness.state
        if state is not ReadinessState.READY:
            raise NotReadyError(f"The service is {state}: ask again in a moment.", headers={"Retry-After": "1"})
        return json_response(Ready())
