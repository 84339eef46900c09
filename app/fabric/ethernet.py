"""Peeks into Ethernet frames, and their limits. IEEE 802.3, 802.1Q."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

HEADER_SIZE: Final = 14
VLAN_TAG_SIZE: Final = 4
MAX_MTU: Final = 9216

MIN_FRAME_SIZE: Final = HEADER_SIZE
MAX_FRAME_SIZE: Final = MAX_MTU + HEADER_SIZE + VLAN_TAG_SIZE
"""9234 bytes: what vdeplug4 calls VDE_ETHBUFSIZE."""

ETHERTYPE_VLAN: Final = 0x8100


@dataclass(frozen=True, slots=True)
class EthernetHeader:
    """The header of one frame; `vlan` is None for an untagged frame, `ethertype` is the inner one."""

    destination: bytes
    source: bytes
    ethertype: int
    vlan: int | None


def peek_header(frame: bytes | bytearray | memoryview) -> EthernetHeader | None:
    """The header of `frame`, or None if it is too short to have one."""
    if len(frame) < HEADER_SIZE:
        return None
    ethertype = int.from_bytes(frame[12:14], "big")
    vlan: int | None = None
    if ethertype == ETHERTYPE_VLAN:
        if len(frame) < HEADER_SIZE + VLAN_TAG_SIZE:
            return None
        vlan = int.from_bytes(frame[14:16], "big") & 0x0FFF
        ethertype = int.from_bytes(frame[16:18], "big")
    return EthernetHeader(bytes(frame[0:6]), bytes(frame[6:12]), ethertype, vlan)


def format_mac(address: bytes) -> str:
    """Six bytes as `02:00:5e:10:00:01`."""
    return address.hex(":")
