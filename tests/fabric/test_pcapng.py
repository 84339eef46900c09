"""Each block as another implementation reads it: lengths, padding, options."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from app.fabric import pcapng


def blocks(octets: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(octets):
        kind, length = struct.unpack_from("<II", octets, at)
        assert length % 4 == 0
        assert struct.unpack_from("<I", octets, at + length - 4) == (length,), "both lengths are the same"
        yield kind, octets[at + 8 : at + length - 4]
        at += length
    assert at == len(octets)


def options(octets: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    at = 0
    while True:
        code, length = struct.unpack_from("<HH", octets, at)
        if code == 0:
            assert at + 4 == len(octets), "nothing follows the end of the options"
            return found
        found[code] = octets[at + 4 : at + 4 + length]
        at += 4 + length + -length % 4


def test_a_file_begins_with_a_section_and_an_interface() -> None:
    text = pcapng.section_header("program 1.2") + pcapng.interface_description("path1", "to vm2", 96)
    (section_kind, section), (interface_kind, interface) = blocks(text)
    assert section_kind == 0x0A0D0D0A
    assert struct.unpack_from("<IHHq", section) == (0x1A2B3C4D, 1, 0, -1)
    assert options(section[16:]) == {4: b"program 1.2"}
    assert interface_kind == 1
    assert struct.unpack_from("<HHI", interface) == (1, 0, 96)
    assert options(interface[8:]) == {2: b"path1", 3: b"to vm2", 9: b"\x09"}


@pytest.mark.parametrize("length", [14, 15, 16, 17, 9234])
@pytest.mark.parametrize("is_inbound", [True, False])
def test_a_frame_has_its_time_its_direction_and_its_length(length: int, is_inbound: bool) -> None:
    at_ns = 1_795_368_533_858_435_652
    octets = bytes(at & 0xFF for at in range(length))
    ((kind, body),) = blocks(pcapng.frame_block(at_ns, octets, length + 5, is_inbound=is_inbound, lost_before=0))
    interface, high, low, kept, size = struct.unpack_from("<IIIII", body)
    assert (kind, interface, high << 32 | low, kept, size) == (6, 0, at_ns, length, length + 5)
    assert body[20 : 20 + length] == octets
    assert options(body[20 + length + -length % 4 :]) == {2: struct.pack("<I", 1 if is_inbound else 2)}


def test_frames_lost_before_one_are_told_with_it() -> None:
    ((_, body),) = blocks(pcapng.frame_block(1, bytes(16), 16, is_inbound=True, lost_before=7))
    assert options(body[36:])[4] == struct.pack("<Q", 7)


def test_the_end_says_how_many_there_were() -> None:
    ((kind, body),) = blocks(pcapng.interface_statistics(1 << 33, (2 << 33) + 5, 30, 12))
    assert kind == 5
    assert struct.unpack_from("<III", body) == (0, 4, 5)
    found = options(body[12:])
    assert struct.unpack("<II", found[2]) == (2, 0)
    assert struct.unpack("<II", found[3]) == (4, 5)
    assert [struct.unpack("<Q", found[code])[0] for code in (4, 5, 8)] == [42, 12, 30]


def test_names_that_are_no_utf_8_and_names_without_end_are_cut_to_size() -> None:
    ((_, body),) = blocks(pcapng.interface_description("a\udcff", "é" * 5000, 0))
    found = options(body[8:])
    assert found[2] == b"a?"
    assert len(found[3]) == 1024
    assert found[3].decode() == "é" * 512
