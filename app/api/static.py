"""The page at / with its own files, and the OpenAPI document: bytes that are read once."""

from __future__ import annotations

from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

from quart import Blueprint, Response
from werkzeug.exceptions import NotFound

OPENAPI_TYPE: Final = "application/yaml"
PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
_ASSET_TYPES: Final = {
    "dashboard.js": "text/javascript; charset=utf-8",
    "dashboard.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


def openapi_file() -> Traversable:
    """The committed OpenAPI document: beside this module in a wheel, at the top of a source checkout."""
    packaged = resources.files("app.api").joinpath("openapi.yaml")
    return packaged if packaged.is_file() else Path(__file__).parents[2] / "openapi.yaml"


def static_blueprint() -> Blueprint:
    """Routes for everything that is the same for everybody, and needs no token."""
    folder = resources.files("app.api").joinpath("dashboard")
    page = folder.joinpath("index.html").read_bytes()
    assets = {name: folder.joinpath(name).read_bytes() for name in _ASSET_TYPES}
    document = openapi_file().read_bytes()
    routes = Blueprint("static_files", __name__)

    async def get_page() -> Response:
        headers = {"Content-Security-Policy": PAGE_POLICY, "Cross-Origin-Opener-Policy": "same-origin"}
        return Response(page, content_type="text/html; charset=utf-8", headers=headers)

    async def get_asset(name: str) -> Response:
        if name not in assets:
            raise NotFound
        return Response(assets[name], content_type=_ASSET_TYPES[name], headers={"Cache-Control": "no-cache"})

    async def get_openapi() -> Response:
        return Response(document, content_type=OPENAPI_TYPE)

    routes.add_url_rule("/", view_func=get_page, methods=["GET"])
    routes.add_url_rule("/dashboard/<name>", view_func=get_asset, methods=["GET"])
    routes.add_url_rule("/openapi.yaml", view_func=get_openapi, methods=["GET"])
    return routes
