from __future__ import annotations

import os
import socket
from functools import partial
from pathlib import Path

import pytest
import trio

from app.fabric.counters import DirectionCounters, DropReason
from app.fabric.fabric import Fabric
from app.fabric.host import HostState
from app.fabric.link import Link
from app.fabric.multilink import Multilink
from app.fabric.peer_socket import PeerCredentials
from app.fabric.states import LinkState, Role
from app.fabric.vnl import MultiVnl
from tests.fakes import PATIENCE_S, RawClient, TurnedAwayError, frame_of, until


@pytest.fixture
async def multilink(fabric: Fabric, short_dir: Path) -> Multilink:
    return await fabric.add_multilink(MultiVnl(f"{short_dir}/vm1"))


def is_up(link: Link) -> bool:
    return link.state is LinkState.UP


async def attach(multilink: Multilink, count: int = 1) -> list[tuple[RawClient, Link]]:
    """Links that have come, each with its client, all of them up."""
    pairs = []
    for _ in range(count):
        before = {link.id for link in multilink.links}
        client = await RawClient.attach(multilink.path)
        link = next(link for link in multilink.links if link.id not in before)
        await until(partial(is_up, link))
        pairs.append((client, link))
    return pairs


def is_attached(multilink: Multilink) -> bool:
    return multilink.host.state is HostState.ATTACHED


def peer_of(multilink: Multilink) -> PeerCredentials | None:
    return multilink.host.peer


async def attach_host(multilink: Multilink) -> RawClient:
    client = await RawClient.attach(multilink.path, "host")
    await until(lambda: multilink.host.plug is not None)
    return client


def leave(pairs: list[tuple[RawClient, Link]], *others: RawClient) -> None:
    for client in (*(client for client, _link in pairs), *others):
        client.leave()


def accounted(counters: DirectionCounters) -> int:
    return counters.frames + sum(counters.dropped.values())


async def settled() -> None:
    """Long enough for a frame that goes astray to arrive."""
    await trio.sleep(0.03)


# Who hears whom.


@pytest.mark.parametrize("links", [1, 2, 5])
async def test_the_hosts_frames_reach_every_link_exactly_once(multilink: Multilink, links: int) -> None:
    pairs, host = await attach(multilink, links), await attach_host(multilink)
    frames = [frame_of(number, 14 + 23 * number) for number in range(50)]
    await host.send(*frames)
    for client, _link in pairs:
        assert await client.receive(len(frames)) == frames
    await settled()
    assert host.receive_now() == []
    for client, link in pairs:
        assert client.receive_now() == []
        assert (link.tx.frames, link.tx.bytes, link.tx.dropped) == (50, sum(map(len, frames)), {})
        assert link.rx.frames == 0
    assert (multilink.host.rx.frames, multilink.host.rx.bytes) == (50, sum(map(len, frames)))
    leave(pairs, host)


async def test_a_links_frames_reach_the_host_and_no_other_link(multilink: Multilink) -> None:
    pairs, host = await attach(multilink, 3), await attach_host(multilink)
    for number, (client, _link) in enumerate(pairs):
        await client.send(*(frame_of(100 * number + at) for at in range(10)))
    arrived = await host.receive(30)
    assert sorted(arrived) == sorted(frame_of(100 * number + at) for number in range(3) for at in range(10))
    for number in range(3):
        own = [frame_of(100 * number + at) for at in range(10)]
        assert [frame for frame in arrived if frame in own] == own, "in the order in which they were sent"
    await settled()
    assert host.receive_now() == []
    for client, link in pairs:
        assert client.receive_now() == []
        assert (link.rx.frames, link.tx.frames) == (10, 0)
    assert multilink.host.tx.frames == 30
    leave(pairs, host)


async def test_without_a_host_a_links_frames_are_counted_as_such(multilink: Multilink) -> None:
    pairs = await attach(multilink, 2)
    client, link = pairs[0]
    await client.send(*map(frame_of, range(20)))
    await until(lambda: accounted(link.rx) == 20)
    assert link.rx.dropped == {DropReason.NO_HOST: 20}
    assert accounted(multilink.host.tx) == 0
    await settled()
    assert pairs[1][0].receive_now() == []
    leave(pairs)


async def test_without_a_link_the_hosts_frames_are_counted_as_such(multilink: Multilink) -> None:
    host = await attach_host(multilink)
    await host.send(*map(frame_of, range(20)))
    await until(lambda: accounted(multilink.host.rx) == 20)
    assert multilink.host.rx.dropped == {DropReason.NO_LINK: 20}
    host.leave()


async def test_runts_and_giants_of_either_side_are_counted_and_go_nowhere(multilink: Multilink) -> None:
    pairs, host = await attach(multilink), await attach_host(multilink)
    client, link = pairs[0]
    mixed = [frame_of(1), b"r", frame_of(2, 13), frame_of(3, 14), frame_of(4, 9235), b"", frame_of(5, 9234)]
    whole = [frame for frame in mixed if 14 <= len(frame) <= 9234]
    await client.send(*mixed)
    assert await host.receive(3) == whole
    await until(lambda: accounted(link.rx) == 7)
    assert link.rx.dropped == {DropReason.RUNT: 3, DropReason.GIANT: 1}
    await host.send(*mixed)
    assert await client.receive(3) == whole
    await until(lambda: accounted(multilink.host.rx) == 7)
    assert multilink.host.rx.dropped == {DropReason.RUNT: 3, DropReason.GIANT: 1}
    leave(pairs, host)


async def test_a_standby_link_is_heard_but_not_sent_to(multilink: Multilink) -> None:
    pairs, host = await attach(multilink, 2), await attach_host(multilink)
    (active, _), (standby, link) = pairs
    link.set_role(Role.STANDBY)
    await host.send(frame_of(1))
    assert await active.receive(1) == [frame_of(1)]
    await standby.send(frame_of(2))
    assert await host.receive(1) == [frame_of(2)]
    await settled()
    assert standby.receive_now() == []
    assert (link.tx.frames, link.tx.dropped, link.rx.frames) == (0, {}, 1)
    link.set_role(Role.ACTIVE)
    await host.send(frame_of(3))
    assert await standby.receive(1) == [frame_of(3)]
    leave(pairs, host)


async def test_with_standby_links_only_the_hosts_frames_have_no_link(multilink: Multilink) -> None:
    pairs, host = await attach(multilink), await attach_host(multilink)
    pairs[0][1].set_role(Role.STANDBY)
    await host.send(frame_of(1))
    await until(lambda: multilink.host.rx.dropped == {DropReason.NO_LINK: 1})
    leave(pairs, host)


async def test_two_multilinks_do_not_hear_each_other(fabric: Fabric, multilink: Multilink, short_dir: Path) -> None:
    other = await fabric.add_multilink(MultiVnl(f"{short_dir}/vm2"))
    pairs, others = await attach(multilink), await attach(other)
    host, other_host = await attach_host(multilink), await attach_host(other)
    await host.send(frame_of(1))
    await pairs[0][0].send(frame_of(2))
    assert await pairs[0][0].receive(1) == [frame_of(1)]
    assert await host.receive(1) == [frame_of(2)]
    await settled()
    assert others[0][0].receive_now() == other_host.receive_now() == []
    leave([*pairs, *others], host, other_host)


# The host's place.


async def test_a_second_host_is_refused_while_the_first_lives(multilink: Multilink) -> None:
    pairs, host = await attach(multilink), await attach_host(multilink)
    for _ in range(3):
        with pytest.raises(TurnedAwayError):
            await RawClient.attach(multilink.path, "host")
    assert multilink.refused == {"refused": 3}
    await host.send(frame_of(1))
    assert await pairs[0][0].receive(1) == [frame_of(1)]
    assert multilink.host.state is HostState.ATTACHED
    leave(pairs, host)


async def test_of_many_hosts_that_come_at_once_one_gets_the_place(multilink: Multilink) -> None:
    placed: list[RawClient] = []
    refused = 0

    async def come() -> None:
        nonlocal refused
        try:
            placed.append(await RawClient.attach(multilink.path, "host"))
        except TurnedAwayError:
            refused += 1

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(come)
    assert (len(placed), refused) == (1, 9)
    placed[0].leave()


async def test_after_a_host_has_left_another_one_takes_its_place(multilink: Multilink) -> None:
    pairs = await attach(multilink)
    for number in range(3):
        assert not is_attached(multilink)
        host = await attach_host(multilink)
        peer = peer_of(multilink)
        assert peer is not None
        assert peer.pid == os.getpid()
        await host.send(frame_of(number))
        assert await pairs[0][0].receive(1) == [frame_of(number)]
        await pairs[0][0].send(frame_of(number))
        assert await host.receive(1) == [frame_of(number)]
        host.leave()
        await until(lambda: not is_attached(multilink))
        assert peer_of(multilink) is None
        assert "the peer" in multilink.host.detail
    assert (multilink.host.rx.frames, multilink.host.tx.frames) == (3, 3)
    leave(pairs)


async def test_what_a_host_had_sent_before_it_left_arrives(multilink: Multilink) -> None:
    pairs, host = await attach(multilink), await attach_host(multilink)
    await host.send(*map(frame_of, range(50)))
    host.leave()
    assert await pairs[0][0].receive(50) == [frame_of(number) for number in range(50)]
    leave(pairs)


# Links that come and go.


async def test_an_attached_link_is_listed_with_who_it_is(fabric: Fabric, multilink: Multilink) -> None:
    client = await RawClient.attach(multilink.path, description="vdeplug: user=root\x1b[31m pid=1")
    [link] = multilink.links
    await until(lambda: link.state is LinkState.UP)
    assert fabric.links() == [link]
    assert (link.name, link.multilink, link.kind, link.url) == ("attached-1", "vm1", "attached", None)
    assert link.description == "vdeplug: user=root\ufffd[31m pid=1"
    assert link.peer is not None
    assert (link.peer.pid, link.peer.uid, link.peer.gid) == (os.getpid(), os.geteuid(), os.getegid())
    client.leave()
    await link.ended.wait()
    await until(lambda: multilink.links == [])
    assert (link.state, link.detail) == (LinkState.RETIRED, "the peer has left: it closed its control connection")
    assert fabric.retired_links() == [link]


async def test_one_links_end_disturbs_no_other(multilink: Multilink) -> None:
    pairs, host = await attach(multilink, 4), await attach_host(multilink)
    (first, first_link), *rest = pairs
    await host.send(frame_of(0))
    for client, _link in pairs:
        assert await client.receive(1) == [frame_of(0)]
    first.leave()
    await host.send(*map(frame_of, range(1, 40)))
    for client, _link in rest:
        assert await client.receive(39) == [frame_of(number) for number in range(1, 40)]
    await first_link.ended.wait()
    assert accounted(first_link.tx) <= 40
    for _client, link in rest:
        assert (link.tx.frames, link.tx.dropped) == (40, {})
    leave(rest, host)


async def test_a_data_socket_that_dies_alone_ends_its_link(multilink: Multilink) -> None:
    pairs, host = await attach(multilink, 2), await attach_host(multilink)
    client, link = pairs[0]
    client.data.close()
    await host.send(frame_of(1))
    with trio.fail_after(PATIENCE_S):
        await link.ended.wait()
    assert link.detail == "the peer is gone: its data socket is closed"
    await client.wait_left()
    assert await pairs[1][0].receive(1) == [frame_of(1)]
    leave(pairs, host)


async def test_a_byte_on_the_control_connection_ends_the_link(multilink: Multilink) -> None:
    pairs = await attach(multilink)
    client, link = pairs[0]
    client.control.send(b"x")
    with trio.fail_after(PATIENCE_S):
        await link.ended.wait()
    assert "spoke on its control connection" in link.detail
    leave(pairs)


async def test_every_data_socket_goes_with_its_link(multilink: Multilink) -> None:
    path = Path(multilink.path)
    pairs, host = await attach(multilink, 3), await attach_host(multilink)
    assert sorted(os.listdir(path)) == ["ctl", "fd0", "fd1", "fd2", "fd3", "host"]
    leave(pairs, host)
    await until(lambda: sorted(os.listdir(path)) == ["ctl", "host"])


async def test_a_client_may_come_back_at_once_and_often(multilink: Multilink) -> None:
    host = await attach_host(multilink)
    before = len(os.listdir("/proc/self/fd"))
    for number in range(100):
        with await RawClient.attach(multilink.path) as client:
            await client.send(frame_of(number))
            assert await host.receive(1) == [frame_of(number)]
    await until(lambda: multilink.links == [])
    await until(lambda: len(os.listdir("/proc/self/fd")) == before)
    host.leave()


# Accounting.


async def test_a_stalled_link_costs_the_others_nothing_and_its_drops_are_counted(multilink: Multilink) -> None:
    pairs, host = await attach(multilink, 2), await attach_host(multilink)
    (reader, reader_link), (stalled, stalled_link) = pairs
    frames = [frame_of(number, 1514) for number in range(3000)]
    async with trio.open_nursery() as nursery:
        arrived: list[bytes] = []

        async def read() -> None:
            arrived.extend(await reader.receive(len(frames)))

        nursery.start_soon(read)
        await host.send(*frames)
    assert arrived == frames
    assert (reader_link.tx.frames, reader_link.tx.dropped) == (3000, {})
    await until(lambda: accounted(multilink.host.rx) == 3000)
    lost = dict(stalled_link.tx.dropped)
    assert set(lost) <= {DropReason.FULL, DropReason.CONGESTED}
    assert sum(lost.values()) > 0
    assert accounted(stalled_link.tx) + len(stalled_link._queue) == 3000
    # It reads again: what was queued comes, and the numbers add up.
    got = await stalled.receive(3000 - sum(lost.values()))
    await until(lambda: accounted(stalled_link.tx) == 3000)
    assert stalled_link.tx.frames == len(got)
    assert stalled_link.tx.dropped == lost
    assert got == frames[: len(got)], "in order, and nothing twice"
    leave(pairs, host)


async def test_a_retired_link_counts_what_was_still_queued(fabric: Fabric, multilink: Multilink) -> None:
    pairs, host = await attach(multilink), await attach_host(multilink)
    client, link = pairs[0]
    sent = 0

    def is_accounted() -> bool:
        return accounted(multilink.host.rx) == sent

    while not link._queue:
        await host.send(frame_of(sent, 9000))
        sent += 1
        await until(is_accounted)
    queued = len(link._queue)
    await fabric.retire(link, 0.01)
    assert link.tx.dropped == {DropReason.CLOSED: queued}
    assert accounted(link.tx) == sent
    assert len(client.receive_now()) == link.tx.frames
    await client.wait_left()
    leave(pairs, host)


async def test_everything_a_client_sends_is_in_exactly_one_place(multilink: Multilink) -> None:
    pairs = await attach(multilink)
    client, link = pairs[0]
    sizes = [60, 13, 1514, 9235, 14, 0, 9234, 500]
    sent = 0

    async def burst() -> None:
        nonlocal sent
        for number in range(200):
            await client.send(frame_of(number, sizes[number % len(sizes)]))
            sent += 1

    await burst()
    await until(lambda: accounted(link.rx) == sent)
    host = await attach_host(multilink)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(burst)
        arrived = await host.receive(200 * 5 // 8)
    await until(lambda: accounted(link.rx) == sent)
    host.leave()
    await burst()
    await until(lambda: accounted(link.rx) == sent)
    assert sent == 600
    assert link.rx.dropped[DropReason.RUNT] == 150
    assert link.rx.dropped[DropReason.GIANT] == 75
    assert link.rx.frames + link.rx.dropped[DropReason.NO_HOST] == 375
    assert len(arrived) <= link.rx.frames
    assert accounted(multilink.host.tx) == link.rx.frames
    leave(pairs)


async def test_a_stalled_host_slows_the_links_for_a_while_and_then_loses_counted(multilink: Multilink) -> None:
    pairs, host = await attach(multilink, 2), await attach_host(multilink)
    async with trio.open_nursery() as nursery:
        for turn, (client, _link) in enumerate(pairs):
            nursery.start_soon(client.send, *(frame_of(2000 * turn + number, 1514) for number in range(1500)))
    await until(lambda: sum(accounted(link.rx) for _client, link in pairs) == 3000)
    tx = multilink.host.tx
    assert accounted(tx) + len(multilink.host._queue) == 3000
    got = await host.receive(3000 - tx.dropped_frames)
    await until(lambda: accounted(tx) == 3000)
    assert tx.frames == len(got)
    leave(pairs, host)


# The end.


async def test_the_end_of_a_multilink_tells_its_clients_and_leaves_nothing(
    fabric: Fabric, multilink: Multilink, short_dir: Path
) -> None:
    pairs, host = await attach(multilink, 2), await attach_host(multilink)
    links = multilink.links
    assert await fabric.remove_multilink("vm1") is multilink
    assert list(short_dir.iterdir()) == []
    for client in (*(client for client, _link in pairs), host):
        await client.wait_left()
    assert {link.state for link in links} == {LinkState.RETIRED}
    assert {link.detail for link in links} == {"its multilink has ended"}
    assert set(fabric.retired_links()) == set(links)
    assert fabric.links() == []
    assert fabric.multilinks == {}
    leave(pairs, host)


async def test_while_it_ends_nobody_is_let_in(multilink: Multilink) -> None:
    multilink.stop()
    await multilink.ended.wait()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as late, pytest.raises(FileNotFoundError):
        late.connect(f"{multilink.path}/ctl")
    assert multilink.links == []


async def test_whoever_has_its_reply_hears_every_frame_from_then_on(multilink: Multilink) -> None:
    """The reply is what a client waits for: a frame that the host sends right after it must not be lost."""
    host = await RawClient.attach(multilink.path, "host")
    for number in range(30):
        with await RawClient.attach(multilink.path) as client:
            assert all(is_up(link) for link in multilink.links)
            await host.send(frame_of(number))
            assert await client.receive(1) == [frame_of(number)]
            await client.send(frame_of(number))
            assert await host.receive(1) == [frame_of(number)]
    assert multilink.host.rx.dropped == {}
    host.leave()
