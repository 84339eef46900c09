from __future__ import annotations

import ipaddress
import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.fabric import neighbour
from app.fabric.neighbour import answer_untrusted, heard_address, link_local, own_mac, solicitation

MAC = bytes.fromhex("02aabbccddee")
OTHER = bytes.fromhex("525400123456")
V4 = ipaddress.ip_address("10.0.0.2")
V6 = ipaddress.ip_address("fd00::1:2:3:4567")

ARP_PROBE = bytes.fromhex(
    "ffffffffffff 02aabbccddee 0806"  # to everybody
    "0001 0800 06 04 0001"  # Ethernet, IPv4, request
    "02aabbccddee 00000000"  # RFC 5227: the sender's address is all zero
    "000000000000 0a000002"
) + bytes(18)
SOLICITATION_HEAD = bytes.fromhex(
    "3333ff034567 02aabbccddee 86dd"
    "60000000 0020 3a ff"  # 32 bytes of ICMPv6, hop limit 255
    "fe8000000000000000aabbfffeccddee"
    "ff0200000000000000000001ff034567"  # solicited-node multicast
    "87 00"  # neighbour solicitation; its checksum is between these two
)
SOLICITATION_TAIL = bytes.fromhex("00000000 fd00000000000000 0001000200034567 0101 02aabbccddee")


def arp(operation: int, sender: str, *, mac: bytes = OTHER, to: bytes = MAC) -> bytes:
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation) + mac + ipaddress.ip_address(sender).packed
    return to + mac + b"\x08\x06" + body + to + bytes(4)


def nd(kind: int, target: str, *, source: str = "fe80::1", hop_limit: int = 255, to: bytes = MAC) -> bytes:
    body = bytes([kind, 0, 0, 0]) + bytes(4) + ipaddress.ip_address(target).packed
    header = struct.pack("!IHBB", 6 << 28, len(body), 58, hop_limit)
    addresses = ipaddress.ip_address(source).packed + ipaddress.ip_address("fe80::2").packed
    return to + OTHER + b"\x86\xdd" + header + addresses + body


def ones_complement_sum(data: bytes) -> int:
    """RFC 1071, one word at a time."""
    total = 0
    for at in range(0, len(data), 2):
        total += data[at] << 8 | data[at + 1]
        if total > 0xFFFF:
            total -= 0xFFFF
    return total


def test_an_ipv4_address_is_asked_by_an_arp_probe() -> None:
    assert solicitation(V4, MAC) == ARP_PROBE
    assert len(ARP_PROBE) == 60


def test_an_ipv6_address_is_asked_by_a_neighbour_solicitation() -> None:
    frame = solicitation(V6, MAC)
    assert frame[:56] == SOLICITATION_HEAD
    assert frame[58:] == SOLICITATION_TAIL
    assert ones_complement_sum(SOLICITATION_HEAD[22:54] + bytes([0, 0, 0, 32, 0, 0, 0, 58]) + frame[54:]) == 0xFFFF


@given(st.ip_addresses(v=6), st.binary(min_size=6, max_size=6))
def test_its_checksum_is_right_for_any_address(address: ipaddress.IPv6Address, seed: bytes) -> None:
    frame = solicitation(address, own_mac(seed))
    pseudo_header = frame[22:54] + struct.pack("!II", len(frame) - 54, 58)
    assert ones_complement_sum(pseudo_header + frame[54:]) == 0xFFFF
    assert frame[:6] == b"\x33\x33" + frame[50:54], "RFC 2464: the group's last four bytes"
    assert frame[51:54] == address.packed[13:]


@given(st.lists(st.integers(0, 0xFFFF), max_size=40))
@example([0xFFFF, 0xFFFF, 0x0001])  # Its carry makes another carry.
def test_checksums_are_those_of_rfc_1071(words: list[int]) -> None:
    data = struct.pack(f"!{len(words)}H", *words)
    assert neighbour._checksum(data) == ones_complement_sum(data) ^ 0xFFFF


@given(st.binary(min_size=6, max_size=6))
def test_our_own_address_is_unicast_and_locally_administered(seed: bytes) -> None:
    mac = own_mac(seed)
    assert len(mac) == 6
    assert mac[0] & 0b11 == 0b10
    assert mac[1:] == seed[1:]


def test_link_local_addresses_are_made_as_rfc_4291_says() -> None:
    assert str(ipaddress.ip_address(link_local(OTHER))) == "fe80::5054:ff:fe12:3456"


def test_answers_are_understood() -> None:
    assert answer_untrusted(arp(2, "10.0.0.2")) == V4
    assert answer_untrusted(arp(2, "10.0.0.2").ljust(60, b"\0")) == V4
    assert answer_untrusted(nd(136, str(V6))) == V6


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        bytes(14),
        arp(1, "10.0.0.2"),
        arp(2, "10.0.0.2")[:41],
        arp(2, "10.0.0.2").replace(b"\x08\x00\x06\x04", b"\x08\x00\x06\x10"),
        nd(135, str(V6)),
        nd(136, str(V6))[:77],
        nd(136, str(V6), hop_limit=254),  # From beyond a router: RFC 4861 says to drop it.
        nd(136, str(V6)).replace(b"\x86\xdd", b"\x86\xde"),
    ],
)
def test_what_is_no_answer_is_none(frame: bytes) -> None:
    assert answer_untrusted(frame) is None


def test_who_speaks_of_himself_is_heard() -> None:
    assert heard_address(arp(1, "10.0.0.7")) == ipaddress.ip_address("10.0.0.7")
    assert heard_address(arp(2, "10.0.0.8")) == ipaddress.ip_address("10.0.0.8")
    assert heard_address(nd(136, str(V6))) == V6
    assert heard_address(nd(135, str(V6), source="fd00::9")) == ipaddress.ip_address("fd00::9")


@pytest.mark.parametrize(
    "frame",
    [
        arp(1, "0.0.0.0"),  # A probe: nobody has that address yet.
        nd(135, str(V6), source="::"),  # The same in IPv6: duplicate address detection.
        solicitation(V4, MAC),
        nd(133, str(V6)),
        b"\xff" * 14 + bytes(100),
    ],
)
def test_who_says_nothing_of_himself_is_not_heard(frame: bytes) -> None:
    assert heard_address(frame) is None


@given(st.binary(max_size=120))
def test_bytes_of_any_kind_break_nothing(frame: bytes) -> None:
    assert answer_untrusted(frame) is None or len(frame) >= 42
    assert heard_address(frame) is None or len(frame) >= 42


GENUINE = [arp(2, "10.0.0.2"), nd(136, str(V6)), nd(135, str(V6)), solicitation(V6, MAC), ARP_PROBE]


@given(st.sampled_from(GENUINE), st.integers(0, 90), st.lists(st.tuples(st.integers(0, 89), st.integers(0, 255))))
def test_genuine_frames_cut_and_changed_break_nothing(
    frame: bytes, length: int, changes: list[tuple[int, int]]
) -> None:
    changed = bytearray(frame[:length])
    for at, value in changes:
        if at < len(changed):
            changed[at] = value
    for parse in (answer_untrusted, heard_address):
        address = parse(bytes(changed))
        assert address is None or address.packed in bytes(changed)


def test_our_own_questions_are_no_answers() -> None:
    for address in (V4, V6):
        assert answer_untrusted(solicitation(address, MAC)) is None
    assert heard_address(solicitation(V6, MAC)) == ipaddress.IPv6Address(neighbour.link_local(MAC))
