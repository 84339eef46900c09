"""The page and its files; the OpenAPI document."""

from __future__ import annotations

import re
from pathlib import Path

import openapi_spec_validator
import pytest
import yaml

from app.api.app import routes_of
from app.api.openapi import OPERATIONS, openapi_document, openapi_text
from tests.api.support import Api

ROOT = Path(__file__).parents[2]


async def test_the_page_has_nothing_inline_and_its_files_are_there(api: Api) -> None:
    page = await api.request("GET", "/", token=None)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    html = page.body.decode()
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", html)
    assert re.findall(r"<script[^>]*>(.*?)</script>", html) == [""]
    files = re.findall(r'(?:src|href)="([^"]+)"', html)
    assert len(files) == 3
    for path in files:
        assert (await api.request("GET", path, token=None)).status == 200
    policy = page.headers["content-security-policy"]
    for directive in ("script-src 'self'", "style-src 'self'", "connect-src 'self'", "base-uri 'none'"):
        assert directive in policy


@pytest.mark.parametrize(
    ("name", "content_type"),
    [("dashboard.js", "text/javascript"), ("dashboard.css", "text/css"), ("icon.svg", "image/svg+xml")],
)
async def test_assets_have_their_types(api: Api, name: str, content_type: str) -> None:
    answer = await api.request("GET", f"/dashboard/{name}", token=None)
    assert answer.headers["content-type"].split(";")[0] == content_type


@pytest.mark.parametrize("name", ["nothing.js", "index.html", "%2e%2e%2fapp.py", "dashboard.js%00"])
async def test_no_other_file_is_given_out(api: Api, name: str) -> None:
    (await api.request("GET", f"/dashboard/{name}")).check_problem(404, "not_found")


async def test_the_document_is_served_as_committed(api: Api) -> None:
    answer = await api.request("GET", "/openapi.yaml", token=None)
    assert answer.headers["content-type"] == "application/yaml"
    assert answer.body == (ROOT / "openapi.yaml").read_bytes()


def test_the_committed_document_is_what_the_code_makes() -> None:
    committed = (ROOT / "openapi.yaml").read_text()
    assert committed == openapi_text(), "run: python -m app.api.openapi > openapi.yaml"
    assert yaml.safe_load(committed) == openapi_document()


def test_the_document_is_valid_openapi() -> None:
    openapi_spec_validator.validate(openapi_document())


def test_the_document_has_exactly_the_routes(api: Api) -> None:
    assert {(operation.method, operation.path) for operation in OPERATIONS} == routes_of(api.app)


def test_every_operation_has_its_problems_and_its_own_id() -> None:
    document = openapi_document()
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    assert len({operation["operationId"] for operation in operations}) == len(OPERATIONS)
    for operation in operations:
        for status, response in operation["responses"].items():
            types = set(response["content"])
            assert (types == {"application/problem+json"}) == (int(status) >= 400)
