"""Requests that are wrong: a problem document that says how, and nothing made."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import httpx
import pytest

from tests.e2e.harness.lab import Lab
from tests.e2e.harness.service import COMMAND, Service

pytestmark = pytest.mark.e2e

JSON = "application/json"

BODIES: tuple[tuple[str, bytes], ...] = (
    ("nothing", b""),
    ("not-json", b"url=/tmp/vm2"),
    ("half-an-object", b'{"url": "/tmp/vm2"'),
    ("trailing-garbage", b'{"url": "/tmp/vm2"} {}'),
    ("a-list", b'["/tmp/vm2"]'),
    ("a-string", b'"/tmp/vm2"'),
    ("a-number", b"17"),
    ("null", b"null"),
    ("no-utf-8", b'{"url": "\xff\xfe"}'),
    ("utf-16", '{"url": "/tmp/vm2"}'.encode("utf-16")),
    ("a-lone-surrogate", b'{"url": "\\ud800"}'),
    ("a-nul-in-the-url", b'{"url": "/tmp/\\u0000vm2"}'),
    ("an-infinity", b'{"url": Infinity}'),
    ("deep", b"[" * 20_000 + b"]" * 20_000),
    ("an-empty-object", b"{}"),
    ("an-unknown-member", b'{"url": "/nonexistent", "colour": "red"}'),
    ("url-of-a-wrong-type", b'{"url": 17}'),
    ("url-null", b'{"url": null}'),
    ("url-empty", b'{"url": ""}'),
    ("url-too-long", json.dumps({"url": "/" + "x" * 5000}).encode()),
    ("body-too-large", json.dumps({"url": "/" + "x" * 5_000_000}).encode()),
)
"""Wrong for POST /links and for POST /multilinks alike."""

LINK_BODIES: tuple[dict[str, object], ...] = (
    {"url": "/nonexistent", "reconnect": "yes"},
    {"url": "/nonexistent", "reconnect": 1},
    {"url": "/nonexistent", "name": 5},
    {"url": "/nonexistent", "name": ""},
    {"url": "/nonexistent", "name": "a/b"},
    {"url": "/nonexistent", "name": "-a"},
    {"url": "/nonexistent", "name": "x" * 65},
    {"url": "/nonexistent", "name": "a\nb"},
    {"url": "/nonexistent", "multilink": 3},
    {"url": "/nonexistent", "multilink": "no-such-multilink"},
    {"url": "nosuchscheme://x"},
    {"url": "multi:///{root}/made"},
    {"url": "vde://"},
    {"url": "vde:///{root}/x[5"},
    {"url": "vde:///{root}/x[5]]["},
    {"url": "vde:///{root}/x[99999999999]"},
    {"url": "vde:///{root}/x[a/b]"},
    {"url": "vde:///{root}/x[..]"},
    {"url": "cmd://"},
    {"url": "cmd:// "},
    {"url": "cmd://sh 'unclosed"},
    {"url": "tap://"},
    {"url": "tap://a-name-that-is-far-too-long"},
    {"url": "tap://a/b"},
)
MULTI_URLS = (
    "/{root}/made",
    "vde:///{root}/made",
    "multi:///",
    "multi:///{root}/made[mode=9]",
    "multi:///{root}/made[mode=rw]",
    "multi:///{root}/made[mode=-1]",
    "multi:///{root}/made[mode=]",
    "multi:///{root}/made[colour=red]",
    "multi:///{root}/made[mode=0600",
    "multi:///{root}/made[grp=no-such-group]",
    "multi:///{root}/made[grp=]",
    "multi:///{root}/made{{nosuchscheme://}}",
    "multi:///{root}/made{{multi:///{root}/other}}",
    "multi:///{root}/made{{vde:///{root}/nobody}}",
    "multi:///{root}/made{{cmd://true}}",
    "multi:///{root}/made{{vde:///{root}/x",
    "multi:///{root}/no/parent/made",
    "multi:///{root}/" + "x" * 120,
    "multi:///{root}/notes",
    "multi:///{root}/'unclosed",
)


@pytest.fixture(scope="module")
def place() -> Iterator[tuple[Lab, Service]]:
    """One service for all: nothing that is tried here may change it."""
    with Lab() as lab:
        (lab.root / "notes").write_text("mine", encoding="ascii")
        yield lab, lab.service(f"multi://{lab.root}/vm1")


@pytest.mark.parametrize("resource", ["/links", "/multilinks"])
@pytest.mark.parametrize("body", [body for _, body in BODIES], ids=[name for name, _ in BODIES])
def test_a_body_that_is_wrong(place: tuple[Lab, Service], resource: str, body: bytes) -> None:
    _is_refused(place, "POST", resource, body)


@pytest.mark.parametrize("number", range(len(LINK_BODIES)), ids=[json.dumps(body)[:50] for body in LINK_BODIES])
def test_a_link_that_cannot_be(place: tuple[Lab, Service], number: int) -> None:
    root = str(place[0].root).lstrip("/")
    body = {key: _fill(value, root) for key, value in LINK_BODIES[number].items()}
    _is_refused(place, "POST", "/links", json.dumps(body).encode())


@pytest.mark.parametrize("url", MULTI_URLS, ids=[url[:50] for url in MULTI_URLS])
def test_a_multilink_that_cannot_be(place: tuple[Lab, Service], url: str) -> None:
    body = {"url": _fill(url, str(place[0].root).lstrip("/"))}
    # A nested host that does not answer is the far side's failure, not the request's.
    statuses = {502} if "nobody" in url else set(range(400, 500))
    _is_refused(place, "POST", "/multilinks", json.dumps(body).encode(), statuses=statuses)


REQUESTS: tuple[tuple[str, str, bytes], ...] = (
    ("GET", "/links?state=sleeping", b""),
    ("GET", "/links?multilink=", b""),
    ("GET", "/links?multilink=no-such-multilink", b""),
    ("GET", "/links?colour=red", b""),
    ("GET", "/links/no-such-link", b""),
    ("GET", "/links/%00", b""),
    ("GET", "/links/..%2f..%2fetc%2fpasswd", b""),
    ("GET", "/nothing/here", b""),
    ("PUT", "/links", b"{}"),
    ("DELETE", "/links", b""),
    ("DELETE", "/links/no-such-link", b""),
    ("DELETE", "/links/witness?drain_s=-1", b""),
    ("DELETE", "/links/witness?drain_s=nan", b""),
    ("DELETE", "/links/witness?drain_s=1e9", b""),
    ("DELETE", "/links/witness?drain_s=soon", b""),
    ("PATCH", "/links/no-such-link", b'{"role": "standby"}'),
    ("PATCH", "/links/witness", b'{"role": "boss"}'),
    ("PATCH", "/links/witness", b'{"role": null}'),
    ("PATCH", "/links/witness", b'{"state": "up"}'),
    ("PATCH", "/links/witness", b'{"name": ""}'),
    ("PATCH", "/links/witness", b'{"name": "a b"}'),
    ("PATCH", "/links/witness", b"role=standby"),
    ("DELETE", "/multilinks/no-such-multilink", b""),
    ("POST", "/multilinks/vm1", b"{}"),
    ("GET", "/multilinks/no-such-multilink", b""),
)


@pytest.mark.parametrize(
    ("method", "path", "body"), REQUESTS, ids=[f"{one[0]} {one[1]} {one[2]!r}" for one in REQUESTS]
)
def test_a_request_that_is_wrong(place: tuple[Lab, Service], method: str, path: str, body: bytes) -> None:
    lab, service = place
    with lab.client(lab.root / "vm1", description="the link in question"):
        link = service.wait_link(lambda each: each["description"] == "the link in question")
        _is_refused(place, method, path.replace("witness", link["id"]), body)


def test_names_are_taken_once(lab: Lab) -> None:
    service = lab.service(f"multi://{lab.root}/vm1", f"multi://{lab.root}/vm2")
    service.dial(f"{lab.root}/vm2", "vm1", name="path1")
    again = service.api.post("/links", json={"url": f"{lab.root}/vm2", "multilink": "vm1", "name": "path1"})
    assert (again.status_code, again.json()["code"]) == (409, "name_taken")
    unsaid = service.api.post("/links", json={"url": f"{lab.root}/vm2"})
    assert unsaid.status_code == 422, "which of the two multilinks?"
    (lab.root / "sub").mkdir()
    same = service.api.post("/multilinks", json={"url": f"multi://{lab.root}/sub/vm1"})
    assert (same.status_code, same.json()["code"]) == (409, "name_taken")
    assert not (lab.root / "sub" / "vm1").exists()
    assert len(service.links(state="up")) == 2


@pytest.mark.parametrize("url", ["cmd://sleep 600", "cmd://vde_plug {root}/vm1"])
def test_commands_are_not_run_unless_allowed(lab: Lab, url: str) -> None:
    service = lab.service(f"multi://{lab.root}/vm1")
    answer = service.api.post("/links", json={"url": url.format(root=lab.root)})
    assert answer.status_code == 403
    assert "--allow" in answer.json()["detail"]
    (lab.root / "vnl").write_text(url.format(root=lab.root), encoding="ascii")
    by_file = service.api.post("/links", json={"url": str(lab.root / "vnl")})
    assert by_file.status_code == 403, "nor through a file that names it"
    nested = service.api.post("/multilinks", json={"url": f"multi://{lab.root}/x{{{url.format(root=lab.root)}}}"})
    assert nested.status_code == 403, "nor as a host"
    assert service.program.children() == []
    assert service.links() == []


@pytest.mark.parametrize(
    ("vnl", "status"),
    [
        ("multi:///{root}/x[mode=9]", 2),
        ("multi:///{root}/x[colour=red]", 2),
        ("vde:///{root}/x", 2),
        ("nosuchscheme://", 2),
        ("multi:///{root}/no/parent/x", 1),
        ("multi:///{root}/x[grp=no-such-group]", 1),
        ("multi:///{root}/" + "x" * 120, 1),
    ],
)
def test_serve_says_in_one_place_what_is_wrong_with_its_locators(lab: Lab, vnl: str, status: int) -> None:
    text = _fill(vnl, str(lab.root).lstrip("/"))
    done = lab.run(*COMMAND, "serve", str(text), "--runtime-dir", f"{lab.root}/r", "--state", f"{lab.root}/db")
    assert done.returncode == status, done
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert done.stderr.strip()
    assert not (lab.root / "x").exists()
    assert not (lab.root / "r").exists()


def _fill(value: object, root: str) -> object:
    """The place of the test in a locator; one slash is written out before it."""
    return value.format(root=root) if isinstance(value, str) and "{root}" in value else value


def _is_refused(
    place: tuple[Lab, Service], method: str, path: str, body: bytes, *, statuses: set[int] | None = None
) -> None:
    lab, service = place
    before = _everything(lab, service)
    headers = {"Content-Type": JSON} if body or method in {"POST", "PATCH"} else {}
    try:
        answer = service.api.request(method, path, content=body, headers=headers)
    except httpx.RemoteProtocolError:
        pytest.fail("no answer at all")
    assert answer.status_code in (statuses or set(range(400, 500))), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == answer.status_code
    assert problem["code"]
    assert len(problem["detail"]) > 10
    assert _everything(lab, service) == before
    assert service.api.get("/readyz").status_code == 200


def _everything(lab: Lab, service: Service) -> tuple[object, ...]:
    """What there is, in the API and in the file system."""
    links = [(link["id"], link["name"], link["role"], link["state"]) for link in service.links()]
    multilinks = [multilink["name"] for multilink in service.multilinks()]
    files = sorted(os.path.join(at, name) for at, _, names in os.walk(lab.root) for name in names)
    return links, multilinks, [file for file in files if "/logs/" not in file and "/state" not in file]
