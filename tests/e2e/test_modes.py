"""`mode`, `dirmode` and `grp`: what the C `multi://` makes of them, beside it in one run, we make too."""

from __future__ import annotations

import grp
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.harness import require
from tests.e2e.harness.lab import Lab
from tests.e2e.harness.service import Service

pytestmark = pytest.mark.e2e

OPTIONS = (
    "",
    "[mode=0600]",
    "[mode=0660]",
    "[mode=0666]",
    "[mode=0775]",
    "[mode=0777]",
    "[mode=0440]",
    "[mode=0400]",
    "[mode=0620]",
    "[mode=0644]",
    "[mode=660]",
    "[mode=0000]",
    "[dirmode=0755]",
    "[dirmode=02770]",
    "[dirmode=0]",
    "[mode=0660/dirmode=0700]",
    "[dirmode=01777/mode=0666]",
    "[/mode=0660//]",
    "[mode='0660']",
    "[mode=%30660]",
    "[grp={group}]",
    "[grp={gid}]",
    "[mode=0660/grp={group}]",
    "[mode=0660/grp={gid}/dirmode=02750]",
)


@pytest.fixture(scope="module")
def shared() -> Iterator[Lab]:
    """One place and one service for all the cases: each has directories of its own."""
    require.program("vde_plug")
    with Lab() as lab:
        yield lab


@pytest.fixture(scope="module")
def service(shared: Lab) -> Service:
    """The service that makes our side of each case."""
    return shared.service(f"multi://{shared.root}/first")


@pytest.mark.parametrize("number", range(len(OPTIONS)), ids=[options or "none" for options in OPTIONS])
def test_modes_and_groups_are_those_of_the_c_multi(shared: Lab, service: Service, number: int) -> None:
    group = _another_group()
    options = OPTIONS[number].format(group=group.gr_name, gid=group.gr_gid)
    theirs, ours = shared.root / f"c{number}", shared.root / f"o{number}"
    # The service has the tests' umask: so has the C program.
    c_plug = shared.c_multi(f"multi://{theirs}{options}")
    answer = service.api.post("/multilinks", json={"url": f"multi://{ours}{options}"})
    assert answer.status_code == 201, answer.text
    try:
        assert _look(ours, "ctl") == _look(theirs, "ctl")
        assert _look(ours, "host")[1:] == _look(ours, "ctl")[1:], "the host's socket is like the links'"
        if os.geteuid() == 0 or "mode" not in options:
            # The data socket of a link, too.
            with shared.client(theirs) as at_theirs, shared.client(ours) as at_ours:
                assert _shape(at_ours.peer_path) == _shape(at_theirs.peer_path)
    finally:
        c_plug.kill()
        assert service.api.delete(f"/multilinks/{ours.name}").status_code == 200


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_the_umask_makes_the_difference_it_makes_to_the_c_multi(lab: Lab, umask: int) -> None:
    before = os.umask(umask)
    try:
        service = lab.service(
            f"multi://{lab.root}/o0", f"multi://{lab.root}/o1[mode=0]", f"multi://{lab.root}/o2[dirmode=0]"
        )
    finally:
        os.umask(before)
    assert len(service.multilinks()) == 3
    for number, options in enumerate(("", "[mode=0]", "[dirmode=0]")):
        lab.c_multi(f"multi://{lab.root}/c{number}{options}", umask=umask)
        assert _look(lab.root / f"o{number}", "ctl") == _look(lab.root / f"c{number}", "ctl"), options


def test_an_unknown_group_is_refused_with_its_name(lab: Lab) -> None:
    service = lab.service(f"multi://{lab.root}/first")
    answer = service.api.post("/multilinks", json={"url": f"multi://{lab.root}/x[grp=no-such-group]"})
    assert answer.status_code == 422
    assert "no-such-group" in answer.json()["detail"]
    assert not os.path.lexists(lab.root / "x")


def _look(directory: Path, name: str) -> tuple[object, ...]:
    """Directory and socket as `stat` shows them."""
    return _shape(directory), _shape(directory / name)


def _shape(path: Path) -> tuple[str, int, int]:
    found = path.stat()
    return stat.filemode(found.st_mode), found.st_uid, found.st_gid


def _another_group() -> grp.struct_group:
    """One that this user may give files to and that files do not have anyway."""
    groups = grp.getgrall() if os.geteuid() == 0 else [grp.getgrgid(gid) for gid in os.getgroups()]
    return next((group for group in groups if group.gr_gid != os.getegid()), groups[0])
