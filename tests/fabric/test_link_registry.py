from __future__ import annotations

import pytest

from app.fabric.errors import NameInvalidError, NameTakenError, NotFoundError
from app.fabric.link import Link, LinkKind
from app.fabric.link_registry import LinkRegistry
from app.fabric.mmsg import Batch
from app.fabric.pressure import Pressure

_batch = Batch()


def a_link(name: str) -> Link:
    return Link(
        name=name,
        multilink="m",
        batch=_batch,
        to_links=Pressure(),
        to_host=Pressure(),
        from_link=lambda _link, _batch: None,
        changed=lambda _link: None,
    )


@pytest.fixture
def registry() -> LinkRegistry:
    return LinkRegistry(keep_retired=3)


def test_a_link_is_found_by_id_and_by_name(registry: LinkRegistry) -> None:
    link = a_link("path-1")
    registry.add(link)
    assert registry.find(link.id) is link
    assert registry.find("path-1") is link
    assert registry.live() == [link]


@pytest.mark.parametrize("key", ["", "nobody", "l000000000000"])
def test_who_is_not_there_is_not_found(registry: LinkRegistry, key: str) -> None:
    registry.add(a_link("path-1"))
    with pytest.raises(NotFoundError, match="GET /links"):
        registry.find(key)


@pytest.mark.parametrize("name", ["a", "A.b_c-9", "0", "x" * 64])
def test_names_that_can_be_addressed_are_fine(registry: LinkRegistry, name: str) -> None:
    registry.check_name(name)


@pytest.mark.parametrize("name", ["", "x" * 65, "a b", "a/b", "..", "-a", "_a", "é", "a\n", "a?b", "a%41", "\0"])
def test_names_that_cannot_be_addressed_are_invalid(registry: LinkRegistry, name: str) -> None:
    with pytest.raises(NameInvalidError):
        registry.check_name(name)


def test_a_name_is_taken_while_its_link_lives(registry: LinkRegistry) -> None:
    link = a_link("path-1")
    registry.add(link)
    with pytest.raises(NameTakenError):
        registry.check_name("path-1")
    registry.remove(link)
    registry.check_name("path-1")


def test_an_id_is_taken_as_a_name_too(registry: LinkRegistry) -> None:
    link = a_link("path-1")
    registry.add(link)
    with pytest.raises(NameTakenError):
        registry.check_name(link.id)


def test_given_names_pass_over_those_that_are_taken(registry: LinkRegistry) -> None:
    registry.add(a_link("dialled-1"))
    registry.add(a_link("dialled-3"))
    assert registry.free_name(LinkKind.DIALLED) == "dialled-2"
    assert registry.free_name(LinkKind.DIALLED) == "dialled-4"
    assert registry.free_name(LinkKind.ATTACHED) == "attached-1"


def test_given_names_are_not_used_again(registry: LinkRegistry) -> None:
    link = a_link(registry.free_name(LinkKind.ATTACHED))
    registry.add(link)
    registry.remove(link)
    assert registry.free_name(LinkKind.ATTACHED) == "attached-2"


def test_renaming_moves_the_name_and_frees_the_old_one(registry: LinkRegistry) -> None:
    link = a_link("old")
    registry.add(link)
    registry.rename(link, "new")
    assert link.name == "new"
    assert registry.find("new") is link
    with pytest.raises(NotFoundError):
        registry.find("old")
    registry.check_name("old")


def test_a_refused_renaming_changes_nothing(registry: LinkRegistry) -> None:
    one, other = a_link("one"), a_link("other")
    registry.add(one)
    registry.add(other)
    with pytest.raises(NameTakenError):
        registry.rename(one, "other")
    with pytest.raises(NameInvalidError):
        registry.rename(one, "a b")
    registry.rename(one, "one")
    assert registry.find("one") is one
    assert registry.find("other") is other


def test_a_retired_link_cannot_be_renamed(registry: LinkRegistry) -> None:
    link = a_link("one")
    registry.add(link)
    registry.remove(link)
    with pytest.raises(NotFoundError):
        registry.rename(link, "two")


def test_the_last_retired_links_are_remembered_oldest_first(registry: LinkRegistry) -> None:
    links = [a_link(f"path-{number}") for number in range(5)]
    for link in links:
        registry.add(link)
    for link in links:
        registry.remove(link)
    assert registry.retired() == links[2:]
    assert registry.live() == []
    registry.remove(links[0])
    assert registry.retired() == links[2:], "removing twice remembers once"


def test_what_is_not_to_be_remembered_is_not(registry: LinkRegistry) -> None:
    link = a_link("path-1")
    registry.add(link)
    registry.remove(link, remember=False)
    assert registry.retired() == []


def test_ids_differ() -> None:
    assert len({a_link("x").id for _ in range(500)}) == 500
