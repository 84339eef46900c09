from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.fabric.ethernet import MAX_FRAME_SIZE, MIN_FRAME_SIZE, EthernetHeader, format_mac, peek_header

DESTINATION = bytes.fromhex("02005e100001")
SOURCE = bytes.fromhex("02005e100002")
_MACS = st.binary(min_size=6, max_size=6)


def test_limits_are_those_of_the_peers() -> None:
    assert (MIN_FRAME_SIZE, MAX_FRAME_SIZE) == (14, 9234)


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview])
@pytest.mark.parametrize(
    ("rest", "ethertype", "vlan"),
    [
        ("0800", 0x0800, None),
        ("0806" + "00" * 28, 0x0806, None),
        ("0040" + "aa" * 64, 64, None),
        ("8100" + "0005" + "0800", 0x0800, 5),
        ("8100" + "e005" + "86dd" + "60", 0x86DD, 5),
        ("8100" + "ffff" + "0800", 0x0800, 4095),
        ("8100" + "0000" + "8100", 0x8100, 0),
        ("88a8" + "0005" + "0800", 0x88A8, None),
    ],
)
def test_headers(make: type[bytes | bytearray], rest: str, ethertype: int, vlan: int | None) -> None:
    frame = make(DESTINATION + SOURCE + bytes.fromhex(rest))
    assert peek_header(frame) == EthernetHeader(DESTINATION, SOURCE, ethertype, vlan)


@pytest.mark.parametrize("length", [0, 1, 13])
def test_too_short_for_a_header(length: int) -> None:
    assert peek_header(bytes(length)) is None


@pytest.mark.parametrize("length", [14, 15, 17])
def test_too_short_for_the_tag_it_announces(length: int) -> None:
    assert peek_header((DESTINATION + SOURCE + bytes.fromhex("8100000508"))[:length]) is None


@given(_MACS, _MACS, st.integers(0, 4095) | st.none(), st.integers(0, 7), st.integers(0, 0xFFFF), st.binary())
def test_what_was_put_together_is_read_back(
    destination: bytes, source: bytes, vlan: int | None, priority: int, ethertype: int, payload: bytes
) -> None:
    if vlan is None and ethertype == 0x8100:
        ethertype = 0x0800
    tag = b"" if vlan is None else b"\x81\x00" + (priority << 13 | vlan).to_bytes(2, "big")
    frame = destination + source + tag + ethertype.to_bytes(2, "big") + payload
    assert peek_header(frame) == EthernetHeader(destination, source, ethertype, vlan)


@given(st.binary(max_size=40))
def test_any_bytes_have_a_header_or_are_too_short(frame: bytes) -> None:
    header = peek_header(frame)
    assert (header is None) == (len(frame) < 14 or (frame[12:14] == b"\x81\x00" and len(frame) < 18))


def test_addresses_as_people_write_them() -> None:
    assert format_mac(DESTINATION) == "02:00:5e:10:00:01"
