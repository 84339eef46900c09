"""Blocks of the pcapng file format: just those that a capture of Ethernet frames needs. Pure.

As in draft-ietf-opsawg-pcapng ("PCAP Now Generic (pcapng) Capture File Format"), little-endian:

    Section Header Block        once, with the program's name
    Interface Description       once: Ethernet, nanoseconds, the link's name
    Enhanced Packet Block       a frame: time, direction (epb_flags), and frames lost just before (epb_dropcount)
    Interface Statistics        at the end: frames seen, frames lost

Libraries of Python read this format; the one that writes it too interprets a description of each block at run time,
which costs more than the capture itself.

Invariant: what each function returns is one whole block, padded to 32 bits: blocks are written one after another.
"""

from __future__ import annotations

import struct
from typing import Final

MEDIA_TYPE: Final = "application/x-pcapng"

_SECTION_HEADER: Final = 0x0A0D0D0A
_INTERFACE_DESCRIPTION: Final = 1
_INTERFACE_STATISTICS: Final = 5
_ENHANCED: Final = 6
_BYTE_ORDER_MAGIC: Final = 0x1A2B3C4D
_LENGTH_UNKNOWN: Final = -1
_LINKTYPE_ETHERNET: Final = 1
_NANOSECONDS: Final = b"\x09"
_INBOUND: Final = 1
_OUTBOUND: Final = 2
_MAX_TEXT: Final = 1024

_OPT_END: Final = b"\0\0\0\0"
_SHB_USERAPPL: Final = 4
_IF_NAME: Final = 2
_IF_DESCRIPTION: Final = 3
_IF_TSRESOL: Final = 9
_EPB_FLAGS: Final = 2
_EPB_DROPCOUNT: Final = 4
_ISB_STARTTIME: Final = 2
_ISB_ENDTIME: Final = 3
_ISB_IFRECV: Final = 4
_ISB_IFDROP: Final = 5
_ISB_USRDELIV: Final = 8

_FLAGS: Final = {
    is_inbound: struct.pack("<HHI", _EPB_FLAGS, 4, _INBOUND if is_inbound else _OUTBOUND)
    for is_inbound in (True, False)
}


def section_header(program: str) -> bytes:
    """What a file begins with."""
    body = struct.pack("<IHHq", _BYTE_ORDER_MAGIC, 1, 0, _LENGTH_UNKNOWN)
    return _block(_SECTION_HEADER, body + _text_option(_SHB_USERAPPL, program) + _OPT_END)


def interface_description(name: str, description: str, snaplen: int) -> bytes:
    """The one interface, number 0; a `snaplen` of 0 says that frames are whole."""
    body = struct.pack("<HHI", _LINKTYPE_ETHERNET, 0, snaplen)
    options = _text_option(_IF_NAME, name) + _text_option(_IF_DESCRIPTION, description)
    return _block(_INTERFACE_DESCRIPTION, body + options + _option(_IF_TSRESOL, _NANOSECONDS) + _OPT_END)


def frame_block(at_ns: int, octets: bytes, size: int, *, is_inbound: bool, lost_before: int) -> bytes:
    """A frame of `size` bytes, `octets` of which were kept; `at_ns` is unix time."""
    body = struct.pack("<IIIII", 0, at_ns >> 32, at_ns & 0xFFFFFFFF, len(octets), size) + _padded(octets)
    lost = _option(_EPB_DROPCOUNT, struct.pack("<Q", lost_before)) if lost_before else b""
    return _block(_ENHANCED, body + _FLAGS[is_inbound] + lost + _OPT_END)


def interface_statistics(started_ns: int, ended_ns: int, frames: int, lost: int) -> bytes:
    """The last block: `frames` have been written, `lost` had no room."""
    options = (
        _option(_ISB_STARTTIME, _timestamp(started_ns))
        + _option(_ISB_ENDTIME, _timestamp(ended_ns))
        + _option(_ISB_IFRECV, struct.pack("<Q", frames + lost))
        + _option(_ISB_IFDROP, struct.pack("<Q", lost))
        + _option(_ISB_USRDELIV, struct.pack("<Q", frames))
    )
    return _block(_INTERFACE_STATISTICS, struct.pack("<I", 0) + _timestamp(ended_ns) + options + _OPT_END)


def _timestamp(at_ns: int) -> bytes:
    return struct.pack("<II", at_ns >> 32, at_ns & 0xFFFFFFFF)


def _text_option(code: int, text: str) -> bytes:
    octets = text.encode("utf-8", "replace")[:_MAX_TEXT].decode("utf-8", "ignore").encode()
    return _option(code, octets) if octets else b""


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + _padded(value)


def _padded(octets: bytes) -> bytes:
    return octets + bytes(-len(octets) % 4)


def _block(kind: int, body: bytes) -> bytes:
    length = len(body) + 12
    return struct.pack("<II", kind, length) + body + struct.pack("<I", length)
