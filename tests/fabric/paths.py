"""A multilink in virtual time: its host, and a far end that is reached over paths that can be cut one way or both.

    host ── multilink ══ path ══ far end         (every plug in memory; time is trio.testing.MockClock's)
                      ══ path ══

Numbered frames flow both ways all the while; `World.check` tells what was lost and what came twice.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import trio

from app.fabric.errors import ConnectError
from app.fabric.fabric import Fabric, open_fabric
from app.fabric.handoff import Handoff
from app.fabric.handoff_states import HandoffState
from app.fabric.handoffs import HandoffRequest
from app.fabric.link import Link, LinkKind
from app.fabric.mmsg import Batch
from app.fabric.multilink import Multilink
from app.fabric.plugs.base import Plug
from app.fabric.pressure import Pressure
from app.fabric.states import LinkState, Role
from app.fabric.vnl import MultiVnl, VdeVnl, Vnl
from tests.fakes import MemoryPlug, dialled_by, memory_pair

TICK_S: Final = 0.01
VNL: Final = VdeVnl("/far")
FAR_MAC: Final = bytes.fromhex("525400000002")
HOST_MAC: Final = bytes.fromhex("525400000001")
FAR_ADDRESS: Final = ipaddress.IPv4Address("10.0.0.2")
_ETHERTYPE: Final = b"\x88\xb5"
_ARP: Final = b"\x08\x06"


def numbered(number: int, source: bytes) -> bytes:
    """A frame that says which one it is."""
    return b"\xff" * 6 + source + _ETHERTYPE + number.to_bytes(8, "big") + bytes(40)


def arp_reply(address: ipaddress.IPv4Address, mac: bytes, to: bytes) -> bytes:
    """`address` is at `mac`."""
    body = bytes.fromhex("0001080006040002") + mac + address.packed + to + bytes(4)
    return (to + mac + _ARP + body).ljust(60, b"\0")


def nothing(*_arguments: object) -> None:
    """Whoever is told, does nothing about it."""


def bare_link(name: str, state: LinkState = LinkState.UP, role: Role = Role.ACTIVE) -> Link:
    """A link of no multilink, without a plug."""
    link = Link(
        name=name,
        multilink="vm1",
        batch=Batch(),
        to_links=Pressure(),
        to_host=Pressure(),
        from_link=nothing,
        changed=nothing,
        role=role,
    )
    link.state = state
    return link


async def reached(handoff: Handoff, state: HandoffState) -> None:
    """Return once a hand-off is in `state`."""
    while handoff.state is not state:
        assert not handoff.is_over, f"it has become {handoff.state}: {handoff.reason}"
        await trio.sleep(TICK_S)


class FarPath:
    """One way to the far end; the attributes are what is wrong with it."""

    def __init__(self, capacity: int = 64) -> None:
        self.near, self.far = memory_pair(capacity)
        self.swallows_up = False
        """Towards the far end."""
        self.swallows_down = False
        """Towards the host."""
        self.delay_s = 0.0
        """Of what goes towards the host, in whole ticks."""
        self.on_the_way: list[tuple[float, bytes]] = []

    @property
    def is_open(self) -> bool:
        """Whether the near end still has it."""
        return self.near._ending is None

    def die(self) -> None:
        """End, as seen from the near end."""
        self.near.kill("the peer is gone")

    def down(self, frame: bytes) -> None:
        """Send a frame towards the host."""
        if not self.swallows_down and self.is_open:
            self.on_the_way.append((trio.current_time() + self.delay_s, frame))

    def arrive(self) -> None:
        """Bring what is due."""
        now = trio.current_time() + 1e-9
        due = [frame for at, frame in self.on_the_way if at <= now]
        self.on_the_way = [(at, frame) for at, frame in self.on_the_way if at > now]
        if due:
            self.far.put(*due)

    def up(self) -> list[bytes]:
        """What has come from the host."""
        frames = self.far.take()
        return [] if self.swallows_up else frames


class World:
    """See the module. Made by `open_world`."""

    def __init__(self, fabric: Fabric, multilink: Multilink, host: MemoryPlug) -> None:
        self.fabric = fabric
        self.multilink = multilink
        self.host = host
        self.paths: list[FarPath] = []
        self.answers = True
        """Whether the far end answers when it is asked for."""
        self.is_flowing = False
        self.refuses: str | None = None
        """Why nobody can be connected."""
        self.gate = trio.Event()
        """Dialling waits for it."""
        self.gate.set()
        self.sent_up: list[int] = []
        self.sent_down: list[int] = []
        self.got_up: set[int] = set()
        self.got_down: Counter[int] = Counter()
        self.strangers: list[bytes] = []
        """What the host has heard that was not for it."""

    async def open_path(self, _vnl: Vnl) -> Plug:
        """See `app.fabric.plugs.base.PlugOpener`."""
        await trio.lowlevel.checkpoint()
        await self.gate.wait()
        if self.refuses is not None:
            raise ConnectError(self.refuses)
        path = FarPath()
        self.paths.append(path)
        return path.near

    async def dial(self, name: str, role: Role = Role.ACTIVE) -> tuple[Link, FarPath]:
        """A link that is not dialled again when it ends."""
        link = await self.fabric.dial(VNL, name=name, reconnect=False)
        if role is Role.STANDBY:
            link.set_role(role)
        return link, self.paths[-1]

    async def attach(self) -> tuple[Link, FarPath]:
        """A link that came by itself."""
        path = FarPath()
        self.paths.append(path)
        before = set(self.multilink.links)
        self.multilink._attach_link(path.near)  # type: ignore[arg-type]  # a plug like any other
        (link,) = set(self.multilink.links) - before
        while link.state is not LinkState.UP:  # noqa: ASYNC110 -- a matter of a few turns of the loop
            await trio.sleep(TICK_S)
        return link, path

    async def old_link(self, kind: LinkKind = LinkKind.DIALLED) -> tuple[Link, FarPath]:
        """The link that the host is on."""
        return await (self.attach() if kind is LinkKind.ATTACHED else self.dial("path1"))

    def request(self, to: Vnl | str = VNL, **changes: object) -> HandoffRequest:
        """To a new link named path2, unless it is told otherwise."""
        name = "path2" if isinstance(to, VdeVnl) else None
        return HandoffRequest(to=to, **{"to_name": name, **changes})  # type: ignore[arg-type]  # by name

    def start(self, to: Vnl | str = VNL, **changes: object) -> Handoff:
        """Begin a hand-off."""
        return self.fabric.handoffs.start(self.multilink, self.request(to, **changes))

    async def hand_off(self, to: Vnl | str = VNL, **changes: object) -> Handoff:
        """The same, to its end."""
        handoff = self.start(to, **changes)
        await handoff.ended.wait()
        return handoff

    async def opened(self, count: int) -> FarPath:
        """The last path, as soon as there are so many, and before anything has gone over it."""
        while len(self.paths) < count:
            await trio.lowlevel.checkpoint()
        return self.paths[-1]

    # What flows.

    async def flow(self) -> None:
        """One numbered frame each way a tick, until cancelled; whether they flow or not, questions are answered."""
        while True:
            if self.is_flowing:
                self.sent_up.append(len(self.sent_up))
                self.host.put(numbered(self.sent_up[-1], HOST_MAC))
                self.sent_down.append(len(self.sent_down))
                for path in self.paths:
                    path.down(numbered(self.sent_down[-1], FAR_MAC))
            await trio.sleep(TICK_S)
            self.take()

    def take(self) -> None:
        """Look at what has come to either end."""
        for path in self.paths:
            for frame in path.up():
                self._at_far_end(path, frame)
            path.arrive()
        for frame in self.host.take():
            if frame[12:14] == _ETHERTYPE:
                self.got_down[int.from_bytes(frame[14:22], "big")] += 1
            else:
                self.strangers.append(frame)

    def _at_far_end(self, path: FarPath, frame: bytes) -> None:
        if frame[12:14] == _ETHERTYPE:
            self.got_up.add(int.from_bytes(frame[14:22], "big"))
        elif frame[12:14] == _ARP and frame[20:22] == b"\0\1" and frame[38:42] == FAR_ADDRESS.packed and self.answers:
            path.down(arp_reply(FAR_ADDRESS, FAR_MAC, frame[6:12]))

    async def settle(self) -> None:
        """Stop the flow, and let all that is under way arrive."""
        self.is_flowing = False
        await trio.sleep(1)

    async def check(self, *, lost_up: int = 0, lost_down: int = 0) -> None:
        """Nothing was lost, but for at most so many where nothing better was promised; nothing came twice."""
        await self.settle()
        assert len(self.sent_up) > 20
        missing_up = set(self.sent_up) - self.got_up
        missing_down = set(self.sent_down) - set(self.got_down)
        assert len(missing_up) <= lost_up, f"never came to the far end: {sorted(missing_up)}"
        assert len(missing_down) <= lost_down, f"never came to the host: {sorted(missing_down)}"
        assert {number: times for number, times in self.got_down.items() if times > 1} == {}
        assert self.strangers == []

    def links(self) -> dict[str, tuple[str, str]]:
        """Name, state and role of every live link."""
        return {link.name: (str(link.state), str(link.role)) for link in self.multilink.links}


@asynccontextmanager
async def open_world(directory: Path) -> AsyncIterator[World]:
    """A multilink with a host and nobody else, and the far end ready to be dialled."""
    near, host = memory_pair(256)
    async with open_fabric() as fabric:
        multilink = await fabric.add_multilink(MultiVnl(f"{directory}/vm1"), lambda: near)
        world = World(fabric, multilink, host)
        with dialled_by(world.open_path):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(world.flow)
                yield world
                nursery.cancel_scope.cancel()
