"""Asking an address whether it is there: ARP requests and neighbour solicitations, and their answers. Pure.

    IPv4  ARP probe (RFC 5227): sender address 0.0.0.0, so that no cache learns anything from it; the answer is unicast
    IPv6  neighbour solicitation (RFC 4861 section 4.3) from our link-local address with our link-layer address as an
    option; the
          answer is a unicast neighbour advertisement (section 4.4)

`heard_address` reads from other people's ARP and ND who is there to be asked.
"""

from __future__ import annotations

import ipaddress
import struct
from typing import Final, TypeAlias

IpAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

ETHERTYPE_ARP: Final = 0x0806
ETHERTYPE_IPV6: Final = 0x86DD
_BROADCAST: Final = b"\xff" * 6
_ARP: Final = struct.Struct("!HHBBH6s4s6s4s")
_ARP_REQUEST, _ARP_REPLY = 1, 2
_ETHERNET, _IPV4 = 1, 0x0800
_IPV6_HEADER: Final = struct.Struct("!IHBB16s16s")
_ICMPV6: Final = 58
_SOLICITATION, _ADVERTISEMENT = 135, 136
_ND_HOP_LIMIT: Final = 255
_MIN_FRAME: Final = 60
"""Without the FCS: what Ethernet pads to."""


def own_mac(seed: bytes) -> bytes:
    """A unicast, locally administered MAC address (IEEE 802: bit 1 of the first byte) made from six bytes."""
    return bytes([seed[0] & 0xFC | 0x02]) + seed[1:6]


def solicitation(address: IpAddress, mac: bytes) -> bytes:
    """The frame that asks `address` to answer `mac`."""
    if isinstance(address, ipaddress.IPv4Address):
        arp = _ARP.pack(_ETHERNET, _IPV4, 6, 4, _ARP_REQUEST, mac, bytes(4), bytes(6), address.packed)
        frame = _BROADCAST + mac + ETHERTYPE_ARP.to_bytes(2, "big") + arp
        return frame.ljust(_MIN_FRAME, b"\0")
    source = link_local(mac)
    group = bytes.fromhex("ff0200000000000000000001ff") + address.packed[13:]
    body = struct.pack("!BBHI16sBB6s", _SOLICITATION, 0, 0, 0, address.packed, 1, 1, mac)
    checksum = _checksum(source + group + struct.pack("!II", len(body), _ICMPV6) + body)
    body = body[:2] + checksum.to_bytes(2, "big") + body[4:]
    header = _IPV6_HEADER.pack(6 << 28, len(body), _ICMPV6, _ND_HOP_LIMIT, source, group)
    return b"\x33\x33" + group[12:] + mac + ETHERTYPE_IPV6.to_bytes(2, "big") + header + body


def link_local(mac: bytes) -> bytes:
    """The link-local address that belongs to `mac` (RFC 4291 appendix A, modified EUI-64)."""
    return bytes.fromhex("fe80000000000000") + bytes([mac[0] ^ 2]) + mac[1:3] + b"\xff\xfe" + mac[3:]


def answer_untrusted(frame: bytes) -> IpAddress | None:
    """The address that `frame` answers for, if it is an ARP reply or a neighbour advertisement."""
    ethertype = frame[12:14]
    if ethertype == b"\x08\x06":
        arp = _arp_untrusted(frame)
        return ipaddress.IPv4Address(arp[6]) if arp is not None and arp[4] == _ARP_REPLY else None
    target = _nd_target_untrusted(frame, _ADVERTISEMENT)
    return None if target is None else ipaddress.IPv6Address(target)


def heard_address(frame: bytes) -> IpAddress | None:
    """The address whose owner sent `frame`, if it is ARP or ND that says so."""
    if frame[12:14] == b"\x08\x06":
        arp = _arp_untrusted(frame)
        if arp is None or arp[6] == bytes(4):  # An ARP probe: nobody's yet.
            return None
        return ipaddress.IPv4Address(arp[6])
    if frame[12:14] != b"\x86\xdd":
        return None
    target = _nd_target_untrusted(frame, _ADVERTISEMENT)
    if target is not None:
        return ipaddress.IPv6Address(target)
    if _nd_target_untrusted(frame, _SOLICITATION) is not None and frame[22:38] != bytes(16):
        return ipaddress.IPv6Address(frame[22:38])
    return None


def _arp_untrusted(frame: bytes) -> tuple[int, int, int, int, int, bytes, bytes, bytes, bytes] | None:
    if len(frame) < 14 + _ARP.size:
        return None
    arp: tuple[int, int, int, int, int, bytes, bytes, bytes, bytes] = _ARP.unpack_from(frame, 14)
    return arp if arp[:4] == (_ETHERNET, _IPV4, 6, 4) else None


def _nd_target_untrusted(frame: bytes, kind: int) -> bytes | None:
    # Ethernet 14, IPv6 40, then type, code, checksum, flags, target. ND comes without extension headers.
    if len(frame) < 78 or frame[12:14] != b"\x86\xdd" or frame[20] != _ICMPV6 or frame[21] != _ND_HOP_LIMIT:
        return None
    return frame[62:78] if frame[54] == kind else None


def _checksum(data: bytes) -> int:
    """The internet checksum (RFC 1071) of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
