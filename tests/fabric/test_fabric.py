from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from app.fabric.errors import (
    AmbiguousMultilinkError,
    ConnectError,
    DirectoryInUseError,
    NameInvalidError,
    NameTakenError,
    NotFoundError,
    PathError,
    ServiceStoppingError,
    VnlError,
)
from app.fabric.fabric import Fabric, open_fabric
from app.fabric.host import HostState
from app.fabric.link import Link, LinkKind
from app.fabric.plugs.base import Plug
from app.fabric.processes import read_process
from app.fabric.states import LinkState, Role
from app.fabric.vnl import CmdVnl, MultiVnl, TapVnl, VdeVnl
from tests.fakes import (
    PATIENCE_S,
    FakeDialler,
    MemoryPlug,
    RawClient,
    RawServer,
    dialled_by,
    frame_of,
    memory_pair,
    until,
)

NOWHERE = VdeVnl("/nowhere")
CAT = CmdVnl(("cat",))


@pytest.fixture(autouse=True)
def steady(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("app.fabric.redial._JITTER", 0.0)
    monkeypatch.setattr("app.fabric.redial.FIRST_PAUSE_S", 0.02)
    return iter([None])


def our_children() -> list[int]:
    entries = [read_process(int(name)) for name in os.listdir("/proc") if name.isdigit()]
    return [entry.pid for entry in entries if entry is not None and entry.parent == os.getpid()]


# Multilinks.


async def test_a_multilink_is_there_once_it_is_added(fabric: Fabric, short_dir: Path) -> None:
    multilink = await fabric.add_multilink(MultiVnl(f"{short_dir}/vm1"))
    assert (multilink.name, multilink.url, multilink.path) == ("vm1", f"multi://{short_dir}/vm1", f"{short_dir}/vm1")
    assert (multilink.links, multilink.refused) == ([], {})
    assert fabric.multilinks == {"vm1": multilink}
    assert fabric.multilink("vm1") is fabric.multilink(None) is multilink
    assert sorted(os.listdir(multilink.path)) == ["ctl", "host"]
    (await RawClient.attach(multilink.path)).leave()


async def test_a_multilink_is_named_by_the_last_part_of_its_path(fabric: Fabric, short_dir: Path) -> None:
    (short_dir / "a").mkdir()
    await fabric.add_multilink(MultiVnl(f"{short_dir}/vm1"))
    with pytest.raises(NameTakenError, match="another last part"):
        await fabric.add_multilink(MultiVnl(f"{short_dir}/a/vm1"))
    assert os.listdir(short_dir / "a") == []
    assert list(fabric.multilinks) == ["vm1"]


async def test_which_multilink_is_meant_has_to_be_said_unless_there_is_one(fabric: Fabric, short_dir: Path) -> None:
    with pytest.raises(AmbiguousMultilinkError, match="none yet"):
        fabric.multilink(None)
    for name in ("vm1", "vm2"):
        await fabric.add_multilink(MultiVnl(f"{short_dir}/{name}"))
    with pytest.raises(AmbiguousMultilinkError, match="vm1, vm2"):
        fabric.multilink(None)
    with pytest.raises(NotFoundError, match="'vm3'"):
        fabric.multilink("vm3")


@pytest.mark.parametrize(
    ("path", "error"),
    [("no/parent/vm1", PathError), ("x" * 200, PathError), ("file", PathError), ("foreign", DirectoryInUseError)],
)
async def test_what_cannot_be_made_is_not_kept(
    fabric: Fabric, short_dir: Path, path: str, error: type[Exception]
) -> None:
    (short_dir / "file").write_text("")
    (short_dir / "foreign").mkdir()
    (short_dir / "foreign" / "notes").write_text("")
    with pytest.raises(error):
        await fabric.add_multilink(MultiVnl(f"{short_dir}/{path}"))
    assert fabric.multilinks == {}
    assert sorted(os.listdir(short_dir)) == ["file", "foreign"]


@pytest.mark.parametrize("host", [CmdVnl(("no-such-program",)), NOWHERE, TapVnl("lo")])
async def test_a_nested_host_that_cannot_be_opened_leaves_no_directory(
    fabric: Fabric, short_dir: Path, host: CmdVnl | VdeVnl | TapVnl
) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(ConnectError):
        await fabric.add_multilink(MultiVnl(f"{short_dir}/vm1", host=host))
    assert list(short_dir.iterdir()) == []
    assert fabric.multilinks == {}
    assert len(os.listdir("/proc/self/fd")) == before
    await fabric.add_multilink(MultiVnl(f"{short_dir}/vm1"))


async def test_a_nested_multilink_as_host_is_refused(fabric: Fabric, short_dir: Path) -> None:
    with pytest.raises(VnlError):
        await fabric.add_multilink(MultiVnl(f"{short_dir}/vm1", host=MultiVnl(f"{short_dir}/vm2")))
    assert list(short_dir.iterdir()) == []


async def test_a_socket_that_cannot_be_made_leaves_neither_directory_nor_child(
    fabric: Fabric, short_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.fabric.multilink.CTL_NAME", "no/such")
    for host in (None, CAT):
        with pytest.raises(PathError, match="cannot be made"):
            await fabric.add_multilink(MultiVnl(f"{short_dir}/vm1", host=host))
        assert list(short_dir.iterdir()) == []
        assert our_children() == []


async def test_adding_that_is_cancelled_leaves_nothing(fabric: Fabric, short_dir: Path) -> None:
    dialler = FakeDialler()
    with dialled_by(dialler), trio.move_on_after(0.02):
        await fabric.add_multilink(MultiVnl(f"{short_dir}/vm1", host=NOWHERE))
    assert dialler.cancelled == 1
    assert list(short_dir.iterdir()) == []
    assert fabric.multilinks == {}


async def test_removing_ends_the_multilink_and_frees_its_name(fabric: Fabric, short_dir: Path) -> None:
    multilink = await fabric.add_multilink(MultiVnl(f"{short_dir}/vm1", host=CAT))
    link = await fabric.dial(CAT)
    assert await fabric.remove_multilink("vm1") is multilink
    assert list(short_dir.iterdir()) == []
    assert our_children() == []
    assert link.state is LinkState.RETIRED
    assert fabric.links() == []
    with pytest.raises(NotFoundError):
        await fabric.remove_multilink("vm1")
    await fabric.add_multilink(MultiVnl(f"{short_dir}/vm1"))


async def test_removing_twice_at_once_is_harmless(fabric: Fabric, short_dir: Path) -> None:
    await fabric.add_multilink(MultiVnl(f"{short_dir}/vm1", host=CAT))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fabric.remove_multilink, "vm1")
        nursery.start_soon(fabric.remove_multilink, "vm1")
    assert fabric.multilinks == {}


async def test_the_end_of_the_fabric_is_the_end_of_everything(short_dir: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    async with open_fabric() as fabric:
        for name in ("vm1", "vm2"):
            multilink = await fabric.add_multilink(MultiVnl(f"{short_dir}/{name}"))
            await fabric.dial(CAT, multilink=name)
            await fabric.dial(VdeVnl(multilink.path), multilink=name)
        assert len(our_children()) == 2
    assert list(short_dir.iterdir()) == []
    assert our_children() == []
    assert len(os.listdir("/proc/self/fd")) == before


async def test_a_fabric_that_ends_takes_nothing_new(short_dir: Path) -> None:
    async with open_fabric() as fabric:
        multilink = await fabric.add_multilink(MultiVnl(f"{short_dir}/vm1"))
    with pytest.raises(ServiceStoppingError):
        await fabric.add_multilink(MultiVnl(f"{short_dir}/vm2"))
    with pytest.raises(ServiceStoppingError):
        await multilink.dial(CAT, name=None, reconnect=True, keep_down=False)
    assert list(short_dir.iterdir()) == []


# Nested hosts.


async def test_a_nested_host_hears_and_is_heard(fabric: Fabric, short_dir: Path) -> None:
    (short_dir / "sw").mkdir()
    with RawServer(f"{short_dir}/sw") as server:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fabric.add_multilink, MultiVnl(f"{short_dir}/vm1", host=VdeVnl(f"{short_dir}/sw")))
            switch = await server.accept()
        multilink = fabric.multilink("vm1")
        assert os.listdir(multilink.path) == ["ctl"], "the place is taken: there is no host socket"
        assert multilink.host.url == f"vde://{short_dir}/sw"
        assert multilink.host.state is HostState.ATTACHED
        with await RawClient.attach(multilink.path) as client:
            await until(lambda: multilink.links[0].state is LinkState.UP)
            await switch.send(frame_of(1))
            assert await client.receive(1) == [frame_of(1)]
            await client.send(frame_of(2))
            assert await switch.receive(1) == [frame_of(2)]
            # The switch goes and comes back.
            switch.leave()
            await until(lambda: multilink.host.state is HostState.DETACHED)
            assert "left" in multilink.host.detail
            again = await server.accept()
            await until(lambda: multilink.host.state is HostState.ATTACHED)
            await client.send(frame_of(3))
            assert await again.receive(1) == [frame_of(3)]


async def test_a_nested_host_that_ends_is_detached_with_the_reason(fabric: Fabric, short_dir: Path) -> None:
    program = CmdVnl(("sh", "-c", "sleep 0.05; echo no more >&2; exit 9"))
    multilink = await fabric.add_multilink(MultiVnl(f"{short_dir}/vm1", host=program))
    await until(lambda: "exited with status 9: no more; dialled again in" in multilink.host.detail)


async def test_a_host_plug_can_be_given(fabric: Fabric, short_dir: Path) -> None:
    plug, peer = memory_pair()
    multilink = await fabric.add_multilink(MultiVnl(f"{short_dir}/vm1"), host_plug=lambda: plug)
    with await RawClient.attach(multilink.path) as client:
        await client.send(frame_of(1))
        await until(lambda: peer.inbox)
        assert peer.take() == [frame_of(1)]
    plug.kill("stdin has ended")
    with trio.fail_after(PATIENCE_S):
        await multilink.host.wait_detached()
    await until(lambda: multilink.host.detail == "stdin has ended")


# Dialled links.


async def test_a_dialled_link_carries_frames_and_is_listed(fabric: Fabric, short_dir: Path) -> None:
    (short_dir / "sw").mkdir()
    multilink = await fabric.add_multilink(MultiVnl(f"{short_dir}/vm1"))
    links: list[Link] = []

    async def dial() -> None:
        links.append(await fabric.dial(VdeVnl(f"{short_dir}/sw"), name="path-1"))

    with RawServer(f"{short_dir}/sw") as server, await RawClient.attach(multilink.path, "host") as host:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(dial)
            switch = await server.accept()
        [link] = links
        assert fabric.links() == multilink.links == [link]
        assert fabric.find_link("path-1") is fabric.find_link(link.id) is link
        assert (link.state, link.kind, link.url) == (LinkState.UP, LinkKind.DIALLED, f"vde://{short_dir}/sw")
        await switch.send(frame_of(1))
        assert await host.receive(1) == [frame_of(1)]
        await host.send(frame_of(2))
        assert await switch.receive(1) == [frame_of(2)]
        # The switch is restarted.
        switch.leave()
        await until(lambda: link.state is LinkState.DOWN)
        assert "left" in link.detail
        switch = await server.accept()
        await until(lambda: link.state is LinkState.UP)
        await host.send(frame_of(3))
        assert await switch.receive(1) == [frame_of(3)]


async def test_two_multilinks_can_be_joined(fabric: Fabric, short_dir: Path) -> None:
    ends = [await fabric.add_multilink(MultiVnl(f"{short_dir}/{name}")) for name in ("vm1", "vm2")]
    hosts = [await RawClient.attach(end.path, "host") for end in ends]
    await fabric.dial(VdeVnl(ends[1].path), multilink="vm1")
    await until(lambda: [link.state for link in fabric.links()] == [LinkState.UP] * 2)
    await hosts[0].send(frame_of(1))
    assert await hosts[1].receive(1) == [frame_of(1)]
    await hosts[1].send(frame_of(2))
    assert await hosts[0].receive(1) == [frame_of(2)]
    for host in hosts:
        host.leave()


async def test_a_dial_that_fails_keeps_nothing(fabric: Fabric, short_dir: Path) -> None:
    await fabric.add_multilink(MultiVnl(f"{short_dir}/vm1"))
    for vnl in (VdeVnl(f"{short_dir}/no"), CmdVnl(("no-such-program",))):
        with pytest.raises(ConnectError):
            await fabric.dial(vnl, name="path-1")
    assert fabric.links() == fabric.retired_links() == []
    await fabric.dial(CAT, name="path-1")


@pytest.mark.parametrize(("name", "error"), [("a b", NameInvalidError), ("path-1", NameTakenError)])
async def test_a_name_that_will_not_do_is_refused_before_anything_is_dialled(
    fabric: Fabric, short_dir: Path, name: str, error: type[Exception]
) -> None:
    await fabric.add_multilink(MultiVnl(f"{short_dir}/vm1"))
    await fabric.dial(CAT, name="path-1")
    dialler = FakeDialler()
    with dialled_by(dialler), pytest.raises(error):
        await fabric.dial(NOWHERE, name=name)
    assert dialler.asked_at == []
    assert len(fabric.links()) == 1


async def test_a_name_is_taken_while_it_is_being_dialled(fabric: Fabric, short_dir: Path) -> None:
    await fabric.add_multilink(MultiVnl(f"{short_dir}/vm1"))
    with dialled_by(FakeDialler()):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fabric.dial, NOWHERE)
            await trio.testing.wait_all_tasks_blocked()
            [link] = fabric.links()
            assert link.state is LinkState.CONNECTING
            with pytest.raises(NameTakenError):
                await fabric.dial(CAT, name=link.name)
            nursery.cancel_scope.cancel()


async def test_where_a_link_belongs_has_to_be_known(fabric: Fabric, short_dir: Path) -> None:
    with pytest.raises(AmbiguousMultilinkError):
        await fabric.dial(CAT)
    await fabric.add_multilink(MultiVnl(f"{short_dir}/vm1"))
    with pytest.raises(NotFoundError):
        await fabric.dial(CAT, multilink="vm2")
    with pytest.raises(VnlError, match="cannot be dialled"):
        await fabric.dial(MultiVnl(f"{short_dir}/vm2"))
    assert fabric.links() == []


async def test_a_dial_that_is_cancelled_leaves_nothing(fabric: Fabric, short_dir: Path) -> None:
    await fabric.add_multilink(MultiVnl(f"{short_dir}/vm1"))
    dialler = FakeDialler()
    with dialled_by(dialler):
        with trio.move_on_after(0.02):
            await fabric.dial(NOWHERE, name="path-1")
        await until(lambda: fabric.links() == [])
    assert dialler.cancelled == 1
    assert fabric.retired_links() == []
    await fabric.dial(CAT, name="path-1")


async def test_a_link_that_is_retired_while_it_is_dialled_ends_the_dial(fabric: Fabric, short_dir: Path) -> None:
    await fabric.add_multilink(MultiVnl(f"{short_dir}/vm1"))
    outcomes: list[str] = []

    async def dial() -> None:
        with pytest.raises(ConnectError) as caught:
            await fabric.dial(NOWHERE, name="path-1")
        outcomes.append(caught.value.detail)

    with dialled_by(FakeDialler()):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(dial)
            await trio.testing.wait_all_tasks_blocked()
            link = await fabric.retire(fabric.find_link("path-1"))
    assert link.state is LinkState.RETIRED
    assert outcomes == ["link path-1 never came up: retired on request"]
    assert fabric.links() == fabric.retired_links() == []


async def test_the_end_of_its_multilink_ends_a_dial(fabric: Fabric, short_dir: Path) -> None:
    await fabric.add_multilink(MultiVnl(f"{short_dir}/vm1"))
    with dialled_by(FakeDialler()):
        async with trio.open_nursery() as nursery:

            async def dial() -> None:
                with trio.fail_after(PATIENCE_S), pytest.raises((ConnectError, ServiceStoppingError)):
                    await fabric.dial(NOWHERE)

            nursery.start_soon(dial)
            await trio.testing.wait_all_tasks_blocked()
            await fabric.remove_multilink("vm1")
    assert fabric.links() == []


async def test_a_kept_link_is_there_at_once_and_comes_up_when_it_can(fabric: Fabric, short_dir: Path) -> None:
    await fabric.add_multilink(MultiVnl(f"{short_dir}/vm1"))
    plug, _peer = memory_pair()
    with dialled_by(FakeDialler(ConnectError("nobody answers"), plug)):
        link = await fabric.dial(NOWHERE, keep_down=True)
        assert fabric.links() == [link]
        await until(lambda: link.state is LinkState.UP)
        await fabric.retire(link, 0)
    assert fabric.retired_links() == [link]


# Retiring, renaming, roles.


async def test_a_retired_link_is_remembered_and_its_name_is_free(fabric: Fabric, short_dir: Path) -> None:
    await fabric.add_multilink(MultiVnl(f"{short_dir}/vm1"))
    link = await fabric.dial(CAT, name="path-1")
    assert await fabric.retire(link, 0) is link
    assert (link.state, link.detail) == (LinkState.RETIRED, "retired on request")
    assert fabric.links() == []
    assert fabric.retired_links() == [link]
    assert our_children() == []
    with pytest.raises(NotFoundError):
        fabric.find_link("path-1")
    again = await fabric.dial(CAT, name="path-1")
    assert again.id != link.id


async def test_a_link_that_is_down_is_retired_at_once_and_remembered(fabric: Fabric, short_dir: Path) -> None:
    await fabric.add_multilink(MultiVnl(f"{short_dir}/vm1"))
    link = await fabric.dial(CmdVnl(("sh", "-c", "sleep 0.05; exit 1")), reconnect=False)
    await until(lambda: link.state is LinkState.DOWN)
    assert link.detail == "sh exited with status 1"
    assert fabric.links() == [link]
    with trio.fail_after(PATIENCE_S):
        await fabric.retire(link, 60)
    assert fabric.retired_links() == [link]
    assert link.detail == "retired on request"


async def test_a_retirement_that_nobody_waits_for_goes_on(fabric: Fabric, short_dir: Path) -> None:
    await fabric.add_multilink(MultiVnl(f"{short_dir}/vm1"))
    link = await fabric.dial(CAT)
    with trio.CancelScope() as scope:
        scope.cancel()
        await fabric.retire(link, 0.02)
    assert link.state is LinkState.DRAINING
    await until(lambda: fabric.retired_links() == [link])


async def test_so_many_retired_links_are_remembered_as_was_asked(short_dir: Path) -> None:
    async with open_fabric(keep_retired=2) as fabric:
        multilink = await fabric.add_multilink(MultiVnl(f"{short_dir}/vm1"))
        for _ in range(4):
            (await RawClient.attach(multilink.path)).leave()
        await until(lambda: fabric.links() == [])
        assert [link.name for link in fabric.retired_links()] == ["attached-3", "attached-4"]


async def test_a_bug_in_one_link_ends_that_link_only(fabric: Fabric, short_dir: Path) -> None:
    multilink = await fabric.add_multilink(MultiVnl(f"{short_dir}/vm1"))
    good, broken = memory_pair()[0], memory_pair()[0]
    with dialled_by(FakeDialler(good, broken)):
        links = [await fabric.dial(NOWHERE) for _ in range(2)]
        broken.break_with(ZeroDivisionError("a bug"))
        await links[1].ended.wait()
        assert links[1].detail == "internal error: ZeroDivisionError; please report it"
        assert fabric.retired_links() == [links[1]]
        assert links[0].state is LinkState.UP
        with await RawClient.attach(multilink.path, "host") as host:
            good._other.put(frame_of(1))
            assert await host.receive(1) == [frame_of(1)]


async def test_a_bug_in_the_hosts_plug_ends_the_host_only(fabric: Fabric, short_dir: Path) -> None:
    plugs = [memory_pair() for _ in range(2)]
    answers: list[Plug] = [plug for plug, _peer in plugs]
    with dialled_by(FakeDialler(*answers)):
        multilink = await fabric.add_multilink(MultiVnl(f"{short_dir}/vm1", host=NOWHERE))
        await until(lambda: multilink.host.plug is answers[0])
        plugs[0][0].break_with(ZeroDivisionError("a bug"))
        await until(lambda: multilink.host.plug is answers[1])
        with await RawClient.attach(multilink.path) as client:
            await client.send(frame_of(1))
            await until(lambda: plugs[1][1].inbox)


async def test_a_failing_close_of_a_plug_ends_that_link_only(fabric: Fabric, short_dir: Path) -> None:
    class StickyPlug(MemoryPlug):
        async def aclose(self) -> None:
            await super().aclose()
            raise OSError("the descriptor is stuck")

    multilink = await fabric.add_multilink(MultiVnl(f"{short_dir}/vm1"))
    plug = memory_pair()[0]
    plug.__class__ = StickyPlug
    with dialled_by(FakeDialler(plug)):
        link = await fabric.dial(NOWHERE)
        await fabric.retire(link, 0)
    assert link.detail == "internal error: OSError; please report it"
    (await RawClient.attach(multilink.path)).leave()


async def test_observers_are_told_of_what_was_asked_for(fabric: Fabric, short_dir: Path) -> None:
    told: list[tuple[str, str]] = []
    fabric.on_change.append(lambda change, link: told.append((change, link.name)))
    await fabric.add_multilink(MultiVnl(f"{short_dir}/vm1"))
    link = await fabric.dial(CAT, name="one")
    fabric.rename_link(link, "two")
    fabric.set_link_role(link, Role.STANDBY)
    await fabric.retire(link, 0)
    assert told == [("dialled", "one"), ("renamed", "two"), ("role", "two"), ("retired", "two")]
    with pytest.raises(NotFoundError):
        fabric.rename_link(link, "three")
