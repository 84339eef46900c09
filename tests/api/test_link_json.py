"""The quick way to write links says what the models say."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, cast

import pytest
import trio

from app.api.link_json import LinkWriter
from app.api.schemas import Link, LinkList
from app.fabric import link as fabric_link
from app.fabric.counters import DropReason
from app.fabric.states import LinkState, Role
from tests.api.fakes import FakeFabric, FakeLink


def of(link: FakeLink) -> fabric_link.Link:
    return cast("fabric_link.Link", link)


@pytest.fixture
def link(fabric: FakeFabric) -> FakeLink:
    return fabric.attach("vm1", name="a")


def unwatched(link: fabric_link.Link) -> None:
    """No monitor looks at it."""


def stay(link: FakeLink) -> None:
    """Nothing changes."""


def count(link: FakeLink) -> None:
    link.rx.add(7, 700)
    link.tx.drop(DropReason.CONGESTED, 3)


CHANGES: list[Callable[[FakeLink], Any]] = [
    stay,
    count,
    lambda link: setattr(link, "name", 'quotes " and \\ and é'),
    lambda link: setattr(link, "description", "bytes that are no UTF-8: \udcff"),
    lambda link: setattr(link, "peer", None),
    lambda link: setattr(link, "role", Role.STANDBY),
    lambda link: setattr(link, "state", LinkState.DRAINING),
    lambda link: setattr(link, "detail", "line\nbreak"),
    lambda link: setattr(link, "since", link.since + 1),
    lambda link: setattr(link, "url", "vde:///net/a}"),
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_link_is_written_as_its_model_before_and_after_a_change(
    link: FakeLink, change: Callable[[FakeLink], Any]
) -> None:
    writer = LinkWriter(unwatched)
    for _ in range(2):
        assert json.loads(writer.write(of(link))) == Link.of(of(link), None).model_dump()
        change(link)
    assert json.loads(writer.write(of(link))) == Link.of(of(link), None).model_dump()


@pytest.mark.parametrize("links", [0, 1, 300])
async def test_a_list_is_written_as_its_model(fabric: FakeFabric, links: int) -> None:
    members = [of(fabric.attach("vm1", name=f"a{number}")) for number in range(links)]
    text = await LinkWriter(unwatched).write_list(members)

    assert json.loads(text) == LinkList(links=[Link.of(member, None) for member in members]).model_dump()


async def test_others_run_while_a_long_list_is_written(fabric: FakeFabric) -> None:
    members = [of(fabric.attach("vm1", name=f"a{number}")) for number in range(300)]
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take_turns)
        await trio.lowlevel.checkpoint()
        before = turns
        await LinkWriter(unwatched).write_list(members)
        assert turns > before
        nursery.cancel_scope.cancel()
