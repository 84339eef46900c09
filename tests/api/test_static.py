"""The page and its files; the OpenAPI document."""

from __future__ import annotations

import re
from pathlib import Path

import openapi_spec_validator
import pytest
import yaml

from app.api.app import routes_of
from app.api.openapi import OPERATIONS, openapi_document, openapi_text
from app.api.static import dashboard_files
from tests.api.support import Api

ROOT = Path(__file__).parents[2]


async def test_the_page_has_nothing_inline_and_its_files_are_there(api: Api) -> None:
    page = await api.request("GET", "/", token=None)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    html = page.body.decode()
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", html)
    assert set(re.findall(r"<script[^>]*>(.*?)</script>", html)) == {""}
    files = re.findall(r'(?:src|href)="(/[^"]+)"', html)
    assert {Path(file).suffix for file in files} == {".js", ".css", ".svg"}
    for path in files:
        assert (await api.request("GET", path, token=None)).status == 200
    assert "://" not in html, "nothing may come from elsewhere"


async def test_the_policy_lets_the_page_have_its_own_files_and_nothing_else(api: Api) -> None:
    page = await api.request("GET", "/", token=None)
    policy = dict(part.split(" ", 1) for part in page.headers["content-security-policy"].split("; "))
    assert policy.pop("default-src") == "'none'"
    own = {name for name, value in policy.items() if value == "'self'"}
    assert own == {"script-src", "style-src", "img-src", "connect-src"}
    assert {value for name, value in policy.items() if name not in own} == {"'none'"}
    assert {"base-uri", "form-action", "frame-ancestors"} <= set(policy)


async def test_every_module_that_is_imported_is_there_and_none_is_left_over(api: Api) -> None:
    """The page's scripts are its build: a name that is wrong would only show in a browser."""
    wanted, seen = {"main.js"}, {"theme.js"}
    while wanted:
        name = wanted.pop()
        seen.add(name)
        script = (await api.request("GET", f"/dashboard/{name}", token=None)).body.decode()
        imported = set(re.findall(r'from "\./([^"]+)"', script))
        assert imported == set(re.findall(r'from "([^"]+)"', script.replace('"./', '"'))), name
        wanted |= imported - seen
    assert seen == {name for name in dashboard_files() if name.endswith(".js")}


def test_scripts_and_styles_are_small_and_set_no_markup() -> None:
    for name, file in dashboard_files().items():
        text = file.content.decode()
        assert text.count("\n") < 400, name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text), (
            name
        )
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text), name


@pytest.mark.parametrize(
    ("name", "content_type"),
    [("main.js", "text/javascript"), ("theme.css", "text/css"), ("icon.svg", "image/svg+xml")],
)
async def test_assets_have_their_types(api: Api, name: str, content_type: str) -> None:
    answer = await api.request("GET", f"/dashboard/{name}", token=None)
    assert answer.headers["content-type"].split(";")[0] == content_type
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["/", "/dashboard/main.js"])
async def test_a_browser_that_has_a_file_is_not_sent_it_again(api: Api, path: str) -> None:
    answer = await api.request("GET", path, token=None)
    assert answer.headers["cache-control"] == "no-cache"
    etag = answer.headers["etag"]
    again = await api.request("GET", path, token=None, headers={"If-None-Match": etag})
    assert (again.status, again.body) == (304, b"")
    assert again.headers["etag"] == etag
    other = await api.request("GET", path, token=None, headers={"If-None-Match": '"another"'})
    assert (other.status, other.body) == (200, answer.body)


@pytest.mark.parametrize("name", ["nothing.js", "index.html", "%2e%2e%2fapp.py", "main.js%00", "__init__.py"])
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
            types = set(response.get("content", {}))
            assert bool(types) == (status != "304")
            assert (types == {"application/problem+json"}) == (int(status) >= 400)
