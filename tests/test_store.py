from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from app.fabric.states import Role
from app.store import SCHEMA_VERSION, DialledLink, StateFileError, Store


def link(link_id: str, name: str, *, path: str = "/tmp/vm1", role: Role = Role.ACTIVE) -> DialledLink:
    return DialledLink(link_id, path, name, f"vde:///tmp/{name}", role, reconnect=True)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(tmp_path / "state" / "state.sqlite3")) as store:
        yield store


def again(store: Store) -> list[DialledLink]:
    with closing(Store(store.path)) as other:
        return other.dialled_links()


def test_reading_and_forgetting_make_no_file(store: Store) -> None:
    assert store.dialled_links() == []
    store.forget("x")
    assert not store.path.parent.exists()


def test_the_file_is_private(store: Store) -> None:
    store.save(link("1", "a"))
    assert store.path.stat().st_mode & 0o777 == 0o600
    assert store.path.parent.stat().st_mode & 0o777 == 0o700
    store.close()
    assert [path.name for path in store.path.parent.iterdir()] == [store.path.name]


def test_what_is_saved_is_there_for_the_next_one_in_order(store: Store) -> None:
    store.save(link("z", "b"))
    store.save(link("a", "a", role=Role.STANDBY))
    assert again(store) == [link("z", "b"), link("a", "a", role=Role.STANDBY)]


def test_a_rename_and_a_role_are_updates(store: Store) -> None:
    store.save(link("1", "a"))
    store.save(DialledLink("1", "/tmp/vm1", "b", "vde:///tmp/a", Role.STANDBY, reconnect=True))
    assert again(store) == [DialledLink("1", "/tmp/vm1", "b", "vde:///tmp/a", Role.STANDBY, reconnect=True)]


def test_a_link_dialled_again_takes_the_place_of_its_old_id(store: Store) -> None:
    store.save(link("1", "a"))
    store.save(link("2", "b"))
    store.save(link("3", "a"))
    assert again(store) == [link("3", "a"), link("2", "b")]


def test_two_multilinks_may_have_links_of_one_name(store: Store) -> None:
    store.save(link("1", "a", path="/tmp/vm1"))
    store.save(link("2", "a", path="/tmp/vm2"))
    assert len(again(store)) == 2


def test_forgotten(store: Store) -> None:
    store.save(link("1", "a"))
    store.forget("nobody")
    assert again(store) == [link("1", "a")]
    store.forget("1")
    assert again(store) == []


def test_closed_twice_and_used_again(store: Store) -> None:
    store.save(link("1", "a"))
    store.close()
    store.close()
    assert store.dialled_links() == [link("1", "a")]


def refuse_to_open(path: Path, words: str) -> None:
    before = path.read_bytes() if path.is_file() else None
    uses: list[Callable[[Store], object]] = [
        lambda s: s.dialled_links(),
        lambda s: s.save(link("1", "a")),
        lambda s: s.forget("1"),
    ]
    for use in uses:
        with closing(Store(path)) as store, pytest.raises(StateFileError, match=words) as caught:
            use(store)
        assert str(path) in caught.value.detail
    assert (path.read_bytes() if path.is_file() else None) == before


def test_a_damaged_file_is_told_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"not a database" * 100)
    refuse_to_open(tmp_path / "x", "damaged.*mv ")


def test_a_damaged_page_is_told(store: Store) -> None:
    store.save(link("1", "a"))
    store.close()
    content = bytearray(store.path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    store.path.write_bytes(content)
    with pytest.raises(StateFileError, match="damaged"):
        store.dialled_links()


def test_a_newer_file_is_refused(store: Store) -> None:
    store.save(link("1", "a"))
    store.close()
    with closing(sqlite3.connect(store.path)) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    refuse_to_open(store.path, "newer vde-multilink")


def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "x")) as connection:
        connection.execute("CREATE TABLE mine (a)")
    refuse_to_open(tmp_path / "x", "some other program")


def test_a_directory_in_its_place(tmp_path: Path) -> None:
    refuse_to_open(tmp_path, "--state")


def test_a_role_that_nobody_knows_is_damage(store: Store) -> None:
    store.save(link("1", "a"))
    store.close()
    with closing(sqlite3.connect(store.path)) as connection, connection:
        connection.execute("UPDATE dialled_link SET role = 'lazy'")
    with pytest.raises(StateFileError, match="damaged"):
        store.dialled_links()


def test_a_lock_that_is_held_too_long_is_told(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.store._BUSY_TIMEOUT_S", 0.01)
    store.save(link("1", "a"))
    store.close()
    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StateFileError, match="locked"):
            store.save(link("2", "b"))
        other.execute("ROLLBACK")
    store.save(link("2", "b"))
    assert len(again(store)) == 2


def test_the_last_one_to_forget_everything_removes_the_file(tmp_path: Path) -> None:
    path = tmp_path / "made" / "state"
    with closing(Store(path)) as first, closing(Store(path)) as second:
        first.save(link("l1", "a", path="/tmp/vm1"))
        second.save(link("l2", "b", path="/tmp/vm2"))
        first.forget_multilinks(["/tmp/vm1"])
        assert again(first) == [link("l2", "b", path="/tmp/vm2")]
        second.forget_multilinks(["/tmp/vm2"])
        assert path.exists()  # the first one has it open still
        first.close()
        second.forget_multilinks([])
        assert not path.parent.exists()
