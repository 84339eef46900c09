"""The page at / with its own files, and the OpenAPI document: bytes that are read once.

The page comes from the wheel and asks nobody else: its policy lets it load from, and talk to, this service alone, and
nothing may stand inline. Browsers keep the files but ask each time (`no-cache`), and are answered 304 while nothing
has changed: a new version of the service is never mixed with an old one's files.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

from quart import Blueprint, Response, request
from werkzeug.exceptions import NotFound

OPENAPI_TYPE: Final = "application/yaml"
PAGE: Final = "index.html"
PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
_PAGE_TYPE: Final = "text/html; charset=utf-8"
_ASSET_TYPES: Final = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file as it is handed out."""

    content: bytes
    content_type: str
    etag: str

    @classmethod
    def of(cls, content: bytes, content_type: str) -> StaticFile:
        """The file of that content."""
        return cls(content, content_type, hashlib.sha256(content).hexdigest()[:32])

    def response(self, **headers: str) -> Response:
        """The file, or 304 for a browser that has it."""
        has_it = request.if_none_match.contains_weak(self.etag)
        response = Response(b"" if has_it else self.content, 304 if has_it else 200, content_type=self.content_type)
        response.headers["Cache-Control"] = "no-cache"
        response.set_etag(self.etag)
        for name, value in headers.items():
            response.headers[name.replace("_", "-")] = value
        return response


def openapi_file() -> Traversable:
    """The committed OpenAPI document: beside this module in a wheel, at the top of a source checkout."""
    packaged = resources.files("app.api").joinpath("openapi.yaml")
    return packaged if packaged.is_file() else Path(__file__).parents[2] / "openapi.yaml"


def dashboard_files() -> dict[str, StaticFile]:
    """The page, and every script, style sheet and picture beside it, by name."""
    files: dict[str, StaticFile] = {}
    for entry in resources.files("app.api").joinpath("dashboard").iterdir():
        content_type = _PAGE_TYPE if entry.name == PAGE else _ASSET_TYPES.get(Path(entry.name).suffix)
        if content_type is not None:
            files[entry.name] = StaticFile.of(entry.read_bytes(), content_type)
    return files


def static_blueprint() -> Blueprint:
    """Routes for everything that is the same for everybody, and needs no token."""
    assets = dashboard_files()
    page = assets.pop(PAGE)
    document = openapi_file().read_bytes()
    routes = Blueprint("static_files", __name__)

    async def get_page() -> Response:
        return page.response(Content_Security_Policy=PAGE_POLICY, Cross_Origin_Opener_Policy="same-origin")

    async def get_asset(name: str) -> Response:
        if name not in assets:
            raise NotFound
        return assets[name].response()

    async def get_openapi() -> Response:
        return Response(document, content_type=OPENAPI_TYPE)

    routes.add_url_rule("/", view_func=get_page, methods=["GET"])
    routes.add_url_rule("/dashboard/<name>", view_func=get_asset, methods=["GET"])
    routes.add_url_rule("/openapi.yaml", view_func=get_openapi, methods=["GET"])
    return routes
