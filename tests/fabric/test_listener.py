from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from app.fabric.fabric import Fabric
from app.fabric.multilink import Multilink
from app.fabric.states import LinkState
from app.fabric.vnl import MultiVnl
from tests.fakes import PATIENCE_S, RawClient, TurnedAwayError, encode_request, frame_of, read_reply, until

IS_ROOT = os.geteuid() == 0


@pytest.fixture
async def multilink(fabric: Fabric, short_dir: Path) -> Multilink:
    return await fabric.add_multilink(MultiVnl(f"{short_dir}/vm1"))


@pytest.fixture
def short_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.fabric.listener.HANDSHAKE_TIMEOUT_S", 0.1)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def tasks() -> int:
    return trio.lowlevel.current_statistics().tasks_living


@contextmanager
def control_connection(path: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as sock:
        while True:
            try:
                sock.connect(f"{path}/ctl")
                break
            except BlockingIOError:
                raise AssertionError("the backlog is full") from None
        yield sock


@dataclass
class Stranger:
    """A client with sockets of its own, to be hostile with."""

    path: str
    control: socket.socket
    stack: ExitStack
    names: list[str] = field(default_factory=list)

    def data_socket(self, directory: str | None = None, kind: int = socket.SOCK_DGRAM) -> str:
        """A bound data socket; its path."""
        sock = self.stack.enter_context(socket.socket(socket.AF_UNIX, kind | socket.SOCK_NONBLOCK))
        name = f"{directory or self.path}/.{os.getpid():05d}-{len(self.names) + 90000:05d}{os.urandom(3).hex()}"
        name = name if directory else f"{self.path}/.{os.getpid()}-{int.from_bytes(os.urandom(4), 'big')}"
        sock.bind(name)
        self.names.append(name)
        self.stack.callback(os.unlink, name)
        return name

    def say(self, data: bytes) -> None:
        self.control.send(data)

    async def turned_away(self) -> None:
        with pytest.raises(TurnedAwayError):
            await read_reply(self.control)


@contextmanager
def stranger(path: str) -> Iterator[Stranger]:
    with ExitStack() as stack, control_connection(path) as control:
        yield Stranger(path, control, stack)


# Each kind of hostile client, and under which reason it is counted.

Hostility = Callable[[Stranger], Awaitable[None]]


async def connects_and_closes(who: Stranger) -> None:
    who.control.close()


async def half_closes(who: Stranger) -> None:
    who.control.shutdown(socket.SHUT_WR)
    await who.turned_away()


async def sends_garbage(who: Stranger) -> None:
    who.say(os.urandom(256).replace(b"\xce", b"\x00"))
    await who.turned_away()


async def speaks_http(who: Stranger) -> None:
    who.say(b"GET / HTTP/1.1\r\n\r\n")
    await who.turned_away()


async def sends_one_wrong_byte(who: Stranger) -> None:
    who.say(b"x")
    await who.turned_away()


def with_request(**fields: int) -> Hostility:
    async def hostility(who: Stranger) -> None:
        who.say(encode_request(who.data_socket().encode(), b"hostile", **fields))
        await who.turned_away()

    return hostility


def with_address(address: Callable[[Stranger], str | bytes]) -> Hostility:
    async def hostility(who: Stranger) -> None:
        named = address(who)
        who.say(encode_request(named if isinstance(named, bytes) else os.fsencode(named), b"hostile"))
        await who.turned_away()

    return hostility


async def leaves_in_mid_request(who: Stranger) -> None:
    who.say(encode_request(who.data_socket().encode())[:60])
    await trio.lowlevel.checkpoint()
    who.control.close()


async def leaves_after_its_request(who: Stranger) -> None:
    who.say(encode_request(who.data_socket().encode()))
    who.control.close()


async def sends_its_request_and_more(who: Stranger) -> None:
    who.say(encode_request(who.data_socket().encode(), b"d" * 178))  # 300 bytes: 44 too many.
    await until_closed(who.control)


async def until_closed(control: socket.socket) -> None:
    with trio.fail_after(PATIENCE_S):
        while True:
            await trio.lowlevel.wait_readable(control)
            try:
                if not control.recv(1000):
                    return
            except ConnectionResetError:
                return


def foreign_file(who: Stranger) -> str:
    return os.path.abspath(__file__)


def fifo(who: Stranger) -> str:
    name = f"{who.path}/../fifo{os.urandom(4).hex()}"
    os.mkfifo(name)
    who.stack.callback(os.unlink, name)
    return name


def symbolic_link(who: Stranger) -> str:
    target = who.data_socket()
    name = f"{target}9"
    os.symlink(target, name)
    who.stack.callback(os.unlink, name)
    return name


def elsewhere(who: Stranger) -> str:
    return who.data_socket(os.path.dirname(who.path))


def another_users(who: Stranger) -> str:
    name = who.data_socket()
    os.chown(name, 12345, 12345)
    return name


def not_there(who: Stranger) -> str:
    return f"{who.path}/.00000-00000"


def a_dead_one(who: Stranger) -> str:
    name = who.data_socket()
    who.stack.close()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(name)
    who.stack.callback(os.unlink, name)
    return name


def a_stream(who: Stranger) -> str:
    return who.data_socket(kind=socket.SOCK_STREAM)


def its_own_ctl(who: Stranger) -> str:
    return f"{who.path}/ctl"


def unbound_abstract(who: Stranger) -> bytes:
    return b"\0nobody-has-this-name".ljust(108, b"\0")


HOSTILE: dict[str, tuple[Hostility, str]] = {
    "connects and closes": (connects_and_closes, "bad_handshake"),
    "half closes": (half_closes, "bad_handshake"),
    "sends garbage": (sends_garbage, "bad_handshake"),
    "speaks http": (speaks_http, "bad_handshake"),
    "sends one wrong byte": (sends_one_wrong_byte, "bad_handshake"),
    "wrong magic": (with_request(magic=0xFEEDFACD), "bad_handshake"),
    "wrong version": (with_request(version=4), "bad_handshake"),
    "wrong type": (with_request(kind=2), "bad_handshake"),
    "wrong family": (with_request(family=socket.AF_INET), "bad_handshake"),
    "leaves in mid-request": (leaves_in_mid_request, "bad_handshake"),
    "empty address": (with_address(lambda _who: b""), "bad_handshake"),
    "unterminated path": (with_address(lambda _who: b"/" * 108), "bad_handshake"),
    "a file": (with_address(foreign_file), "foreign_socket"),
    "a fifo": (with_address(fifo), "foreign_socket"),
    "a symbolic link": (with_address(symbolic_link), "foreign_socket"),
    "a socket elsewhere": (with_address(elsewhere), "foreign_socket"),
    "a name that is not there": (with_address(not_there), "foreign_socket"),
    "a dead socket": (with_address(a_dead_one), "connection_lost"),
    "a stream socket": (with_address(a_stream), "connection_lost"),
    "the ctl itself": (with_address(its_own_ctl), "connection_lost"),
    "an abstract name of nobody": (with_address(unbound_abstract), "connection_lost"),
}
if IS_ROOT:
    HOSTILE["another user's socket"] = (with_address(another_users), "foreign_socket")


@pytest.mark.parametrize("kind", HOSTILE)
async def test_a_hostile_client_is_turned_away_and_counted(multilink: Multilink, kind: str) -> None:
    hostility, reason = HOSTILE[kind]
    fds, living = descriptors(), tasks()
    with stranger(multilink.path) as who:
        await hostility(who)
    await until(lambda: multilink.refused == {reason: 1})
    await until(lambda: (descriptors(), tasks()) == (fds, living))
    assert sorted(os.listdir(multilink.path)) == ["ctl", "host"]
    assert multilink.links == []


async def test_one_that_leaves_after_its_request_leaves_nothing(multilink: Multilink) -> None:
    fds, living = descriptors(), tasks()
    with stranger(multilink.path) as who:
        await leaves_after_its_request(who)
        await until(lambda: (descriptors(), tasks()) == (fds + 1, living))
    await until(lambda: multilink.links == [])
    await until(lambda: sorted(os.listdir(multilink.path)) == ["ctl", "host"])


async def test_more_than_256_bytes_are_the_end(multilink: Multilink, fabric: Fabric) -> None:
    with stranger(multilink.path) as who:
        await sends_its_request_and_more(who)
    await until(lambda: multilink.links == [])
    [link] = fabric.retired_links()
    assert len(link.description) == 128
    assert "spoke on its control connection" in link.detail


@pytest.mark.parametrize("pieces", [[b""], [encode_request(b"/tmp/x")[:121]], [encode_request(b"/tmp/x")[:1]]])
async def test_silence_is_timed_out(multilink: Multilink, short_timeout: None, pieces: list[bytes]) -> None:
    with stranger(multilink.path) as who:
        who.say(pieces[0])
        await who.turned_away()
    assert multilink.refused == {"timeout": 1}


async def test_a_slow_one_is_timed_out_however_steadily_it_sends(multilink: Multilink, short_timeout: None) -> None:
    with stranger(multilink.path) as who:

        async def drip() -> None:
            for byte in encode_request(who.data_socket().encode()):
                who.say(bytes([byte]))
                await trio.sleep(0.01)

        with pytest.raises(BrokenPipeError):
            await drip()
    await until(lambda: multilink.refused == {"timeout": 1})


# Unusual, but honest.


async def admitted(multilink: Multilink, who: Stranger) -> None:
    """Assert that the service answers, and that the answer is right."""
    address = await read_reply(who.control)
    assert os.path.dirname(address) == multilink.path
    assert Path(address).is_socket()
    await until(lambda: [link.state for link in multilink.links] == [LinkState.UP])
    assert multilink.refused == {}


@pytest.mark.parametrize("sizes", [[61, 61], [4, 118], [12, 110], [121, 1], [1] * 122, [3, 1, 100, 18]])
async def test_a_request_in_pieces_is_a_request(multilink: Multilink, sizes: list[int]) -> None:
    with stranger(multilink.path) as who:
        request = encode_request(who.data_socket().encode())
        assert sum(sizes) == len(request)
        for size in sizes:
            who.say(request[:size])
            request = request[size:]
            await trio.testing.wait_all_tasks_blocked()
        await admitted(multilink, who)


async def test_a_request_padded_as_user_mode_linux_pads_it_is_a_request(multilink: Multilink) -> None:
    with stranger(multilink.path) as who:
        who.say(encode_request(who.data_socket().encode(), b"\0\0"))
        await admitted(multilink, who)
        assert multilink.links[0].description == ""


async def test_a_whole_256_bytes_are_a_request(multilink: Multilink) -> None:
    with stranger(multilink.path) as who:
        who.say(encode_request(who.data_socket().encode(), b"d" * 134))
        await admitted(multilink, who)
        assert multilink.links[0].description == "d" * 128


async def test_an_abstract_address_is_taken_with_all_its_bytes(multilink: Multilink) -> None:
    address = (b"\0vml-" + os.urandom(6).hex().encode()).ljust(108, b"\0")
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as data,
        stranger(multilink.path) as who,
        await RawClient.attach(multilink.path, "host") as host,
    ):
        data.bind(address)
        who.say(encode_request(address, b"uml"))
        await admitted(multilink, who)
        await host.send(frame_of(1))
        await trio.lowlevel.wait_readable(data)
        assert data.recv(100) == frame_of(1)


@pytest.mark.parametrize("kind", [0, 1, 0x500, 0xFFFFFF00, 0x101])
async def test_any_port_will_do(multilink: Multilink, kind: int) -> None:
    with await RawClient.attach(multilink.path, kind=kind):
        await until(lambda: len(multilink.links) == 1)


@pytest.mark.parametrize("directory", ["/tmp", "/var/tmp", "/var/run"])
async def test_a_data_socket_where_clients_fall_back_to_is_taken(multilink: Multilink, directory: str) -> None:
    if not os.access(directory, os.W_OK):
        pytest.skip(f"{directory} is not ours to write to")
    with await RawClient.attach(multilink.path, data_directory=directory):
        await until(lambda: len(multilink.links) == 1)


# Many of them.


async def test_however_many_keep_silent_an_honest_client_gets_in(
    multilink: Multilink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.fabric.listener.MAX_HALF_OPEN", 8)
    fds, living = descriptors(), tasks()
    with ExitStack() as stack:
        silent = [stack.enter_context(control_connection(multilink.path)) for _ in range(30)]
        with await RawClient.attach(multilink.path):
            await until(lambda: multilink.refused == {"evicted": 23})
            assert tasks() <= living + 8 + 5
            for control in silent[:23]:
                assert control.recv(1) == b"", "the oldest go first"
            with pytest.raises(BlockingIOError):
                silent[23].recv(1)
    await until(lambda: (descriptors(), tasks()) == (fds, living))


async def test_hundreds_of_every_kind_cost_a_bystander_nothing(
    multilink: Multilink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.fabric.listener.HANDSHAKE_TIMEOUT_S", 0.5)
    host, client = await RawClient.attach(multilink.path, "host"), await RawClient.attach(multilink.path)
    await until(lambda: len(multilink.links) == 1)
    await until(lambda: multilink.links[0].state is LinkState.UP)
    fds, living = descriptors(), tasks()
    sent = 0
    arrived: dict[str, list[bytes]] = {"host": [], "client": []}
    rounds = 20
    with ExitStack() as stack:
        async with trio.open_nursery() as nursery:
            is_over = False

            async def bystander() -> None:
                nonlocal sent
                while not is_over:
                    await host.send(frame_of(sent))
                    await client.send(frame_of(sent))
                    sent += 1
                    arrived["client"] += client.receive_now()
                    arrived["host"] += host.receive_now()
                    await trio.sleep(0.0005)

            async def one_kind(hostility: Hostility) -> None:
                for _ in range(rounds):
                    with stranger(multilink.path) as who:
                        await hostility(who)

            async def all_kinds() -> None:
                nonlocal is_over
                async with trio.open_nursery() as kinds:
                    for hostility, _reason in HOSTILE.values():
                        kinds.start_soon(one_kind, hostility)
                    for _ in range(100):
                        stack.enter_context(control_connection(multilink.path))
                        await trio.sleep(0.001)
                await until(lambda: sum(multilink.refused.values()) == rounds * len(HOSTILE) + 100)
                is_over = True

            nursery.start_soon(bystander)
            nursery.start_soon(all_kinds)
    arrived["client"] += await client.receive(sent - len(arrived["client"]))
    arrived["host"] += await host.receive(sent - len(arrived["host"]))
    assert arrived["client"] == arrived["host"] == [frame_of(number) for number in range(sent)]
    assert sent > 100
    await until(lambda: (descriptors(), tasks()) == (fds, living))
    assert sorted(os.listdir(multilink.path)) == ["ctl", "fd0", "fd1", "host"]
    link = multilink.links[0]
    assert (link.tx.frames, link.rx.frames) == (sent, sent)
    assert (link.tx.dropped, link.rx.dropped) == ({}, {})
    host.leave()
    client.leave()


@pytest.mark.parametrize("delay", range(6))
async def test_the_end_leaves_no_connection_open_whatever_it_was_about(
    fabric: Fabric, multilink: Multilink, delay: int
) -> None:
    """A socket that is forgotten is a ResourceWarning, and so a failure."""
    fds = descriptors()
    with ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(control_connection(multilink.path))
        for _ in range(delay):
            await trio.lowlevel.checkpoint()
        await fabric.remove_multilink("vm1")
    assert descriptors() < fds


# Out of descriptors, in a process that has few of them.

SERVICE = """
import os, resource, sys, trio
from app.fabric.fabric import open_fabric
from app.fabric.vnl import MultiVnl

async def main():
    async with open_fabric() as fabric:
        await fabric.add_multilink(MultiVnl(sys.argv[1]))
        taken = max(map(int, os.listdir("/proc/self/fd"))) + 1
        resource.setrlimit(resource.RLIMIT_NOFILE, (taken + int(sys.argv[2]), 4096))
        print("ready", file=sys.stderr, flush=True)
        await trio.sleep_forever()

trio.run(main)
"""


@pytest.fixture
def small_service(short_dir: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A service with room for nine descriptors more."""
    with open(short_dir / "log", "wb") as log:
        child = subprocess.Popen(
            [sys.executable, "-c", SERVICE, f"{short_dir}/vm1", "9"], stdout=log, stderr=subprocess.PIPE
        )
    assert child.stderr is not None
    assert child.stderr.readline() == b"ready\n"
    yield child
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stderr.close()


def cpu_s(pid: int) -> float:
    fields: list[Any] = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def test_a_lack_of_descriptors_is_waited_out_without_spinning(
    small_service: subprocess.Popen[bytes], short_dir: Path
) -> None:
    path = f"{short_dir}/vm1"
    admitted: list[RawClient] = []
    with ExitStack() as stack:
        # Four links of two descriptors each, one to look at data sockets with: it is full.
        admitted += [stack.enter_context(await RawClient.attach(path)) for _ in range(4)]
        served = 0

        async def come_and_go() -> None:
            nonlocal served
            with await RawClient.attach(path) as client:
                await client.send(frame_of(1))
                served += 1

        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(come_and_go)
            await trio.sleep(0.3)
            before = cpu_s(small_service.pid)
            await trio.sleep(0.7)
            assert cpu_s(small_service.pid) - before < 0.35, "waiting, not spinning"
            assert served == 0
            admitted[0].leave()  # Room for one, and so for one after the other.
        assert served == 6
    # With everybody gone there is room for four again.
    with ExitStack() as stack:
        with trio.fail_after(PATIENCE_S):
            for _ in range(4):
                stack.enter_context(await RawClient.attach(path))
    assert small_service.poll() is None
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 100, "ours is as it was"


async def test_many_that_come_at_once_while_there_is_room_for_few_get_their_turn(
    small_service: subprocess.Popen[bytes], short_dir: Path
) -> None:
    served = 0

    async def come_and_go() -> None:
        nonlocal served
        with await RawClient.attach(f"{short_dir}/vm1") as client:
            await client.send(frame_of(1))
            served += 1

    with trio.fail_after(2 * PATIENCE_S):
        async with trio.open_nursery() as nursery:
            for _ in range(12):
                nursery.start_soon(come_and_go)
    assert served == 12
