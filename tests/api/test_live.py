"""The whole API over its sockets, on the fake fabric and on the real one; and everything schemathesis thinks of."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

from app.fabric.fabric import Fabric, open_fabric
from app.fabric.vnl import MultiVnl
from tests.api.fakes import FakeFabric
from tests.api.support import TOKEN, Answer, Api, live_server, make_api

ROOT = Path(__file__).parents[2]
CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
    "allow_header_conformance",
    "use_after_free",
    "ignored_auth",
]


async def test_two_multilinks_are_joined_shown_and_taken_apart(any_fabric: Fabric, short_dir: Path) -> None:
    first, second = short_dir / "vm1", short_dir / "vm2"
    api = make_api(any_fabric)
    async with live_server(api, unix_path=short_dir / "api") as server, server.connect(unix=True) as client:

        async def ask(method: str, path: str, body: Any = None) -> Answer:
            return await client.request(method, path, body="" if body is None else json.dumps(body))

        for path in (first, second):
            made = await ask("POST", "/multilinks", {"url": f"multi://{path}"})
            assert (made.status, made.json["path"], made.json["host"]["state"]) == (201, str(path), "detached")
        again = await ask("POST", "/multilinks", {"url": f"multi://{first}"})
        again.check_problem(409, "name_taken")

        (await ask("POST", "/links", {"url": str(second)})).check_problem(422, "multilink_required")
        body = {"url": str(second), "multilink": "vm1", "name": "path-a"}
        link = await ask("POST", "/links", body)
        assert (link.status, link.json["state"], link.json["name"]) == (201, "up", "path-a")
        (await ask("POST", "/links", body)).check_problem(409, "name_taken")
        refused = [
            (str(short_dir), 502, "cannot_connect"),
            (f"multi://{first}", 422, "bad_vnl"),
            ("cmd://true", 403, "scheme_not_allowed"),
        ]
        for url, status, code in refused:
            answer = await ask("POST", "/links", {"url": url, "multilink": "vm1", "name": "path-b"})
            answer.check_problem(status, code)
        shown = (await ask("GET", "/links?multilink=vm1")).json["links"]
        assert [other["id"] for other in shown] == [link.json["id"]]

        changed = await ask("PATCH", link.headers["location"], {"role": "standby", "name": "spare"})
        assert (changed.status, changed.json["role"]) == (200, "standby")
        retired = await ask("DELETE", "/links/spare?drain_s=0")
        assert (retired.status, retired.json["state"], retired.json["id"]) == (200, "retired", link.json["id"])
        assert (await ask("GET", "/links?multilink=vm1")).json == {"links": []}
        remembered = (await ask("GET", "/links?state=retired&multilink=vm1")).json["links"]
        assert [other["id"] for other in remembered] == [link.json["id"]]

        for name in ("vm1", "vm2"):
            assert (await ask("DELETE", f"/multilinks/{name}")).status == 200
        assert (await ask("GET", "/multilinks")).json == {"multilinks": []}
        assert not first.exists()
        assert not second.exists()


async def test_places_where_no_directory_can_be_made(any_fabric: Fabric, short_dir: Path) -> None:
    async with live_server(make_api(any_fabric)) as server, server.connect() as client:
        too_long = f"multi://{short_dir}/{'x' * 100}"
        answer = await client.request("POST", "/multilinks", body=f'{{"url": "{too_long}"}}')
        answer.check_problem(422, "bad_path")
        assert (await client.request("GET", "/multilinks")).json == {"multilinks": []}


def make_ready_api(fabric: Fabric) -> Api:
    api = make_api(fabric)
    api.readiness.set_ready()
    return api


async def run_schemathesis(url: str, short_dir: Path, *options: str) -> None:
    command = [
        *(sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()"),
        *("run", str(ROOT / "openapi.yaml"), "--url", url, "--header", f"Authorization: Bearer {TOKEN}"),
        *("--checks", ",".join(CHECKS), "--max-examples", "25", "--seed", "1", "--workers", "1"),
        *("--max-failures", "5", "--no-color", "--warnings", "off", *options),
        # Their answers go on for ever: they have tests of their own.
        *("--exclude-operation-id", "getEvents", "--exclude-operation-id", "captureLink"),
    ]
    # In a directory of its own: there it keeps its database of examples.
    done = await trio.run_process(
        command, check=False, capture_stdout=True, stderr=subprocess.STDOUT, cwd=str(short_dir)
    )
    output = done.stdout.decode()
    assert done.returncode == 0, output[-6000:]
    count = re.search(r"(\d+) generated, (\d+) passed", output)
    assert count is not None, output
    assert int(count[2]) > 300, "it has not really tried"


@pytest.mark.slow
async def test_schemathesis_finds_nothing_on_the_fake_fabric(short_dir: Path) -> None:
    fabric = FakeFabric(everything_connects=True)
    await fabric.add_multilink(MultiVnl("/srv/vm0"))
    async with live_server(make_ready_api(fabric.as_fabric())) as server:
        await run_schemathesis(server.url, short_dir)


@pytest.mark.slow
async def test_schemathesis_finds_nothing_on_the_real_fabric(short_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without making multilinks, whose directories would be anywhere; so almost every locator leads nowhere: 502."""
    (short_dir / "schemathesis.toml").write_text(
        "[checks.not_a_server_error]\nexpected-statuses = ['2xx', '4xx', 502]\n"
    )
    monkeypatch.chdir(short_dir)
    async with open_fabric() as fabric, live_server(make_ready_api(fabric)) as server, server.connect() as client:
        made = await client.request("POST", "/multilinks", body=f'{{"url": "multi://{short_dir}/vm1"}}')
        assert made.status == 201
        await run_schemathesis(server.url, short_dir, "--exclude-operation-id", "createMultilink")
