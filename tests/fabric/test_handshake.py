from __future__ import annotations

import socket
import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.fabric.handshake import (
    MAX_DESCRIPTION_SIZE,
    MAX_REQUEST_SIZE,
    REQUEST_HEAD_SIZE,
    SOCKADDR_UN_SIZE,
    HandshakeError,
    Request,
    decode_reply_untrusted,
    decode_request_untrusted,
    encode_reply,
    encode_request,
    sanitise,
)

CLIENT = b"/tmp/vm1/.12214-00000"
DESCRIPTION = "vdeplug: user=root pid=12214"


def raw_request(
    *,
    magic: int = 0xFEEDFACE,
    version: int = 3,
    kind: int = 0,
    family: int = socket.AF_UNIX,
    path: bytes = CLIENT,
    rest: bytes = b"",
) -> bytes:
    """A request put together by hand, as PROTOCOL's table has it, without the module under test."""
    return struct.pack("=IIIH", magic, version, kind, family) + path.ljust(108, b"\0") + rest


_PATHS = st.binary(min_size=1, max_size=107).filter(lambda path: b"\0" not in path)
_ABSTRACT = st.binary(min_size=1, max_size=107).filter(any).map(lambda name: (b"\0" + name).ljust(108, b"\0"))
_PRINTABLE = st.text(st.characters(exclude_categories=["C", "Z"]), max_size=32)
_REQUESTS = st.builds(Request, _PATHS | _ABSTRACT, _PRINTABLE, port=st.integers(0, 0xFFFFFF), port_zero=st.booleans())


def test_request_layout_is_the_wires() -> None:
    encoded = encode_request(Request(CLIENT, DESCRIPTION))
    assert encoded == raw_request(rest=DESCRIPTION.encode())
    assert len(encoded) == 122 + len(DESCRIPTION)
    assert struct.unpack_from("=I", encoded, 0) == (0xFEEDFACE,)
    assert struct.unpack_from("=I", encoded, 4) == (3,)
    assert struct.unpack_from("=I", encoded, 8) == (0,)
    assert struct.unpack_from("=H", encoded, 12) == (1,)
    assert encoded[14 : 14 + len(CLIENT) + 1] == CLIENT + b"\0"
    assert encoded[122:] == DESCRIPTION.encode()


@pytest.mark.parametrize(
    ("port", "port_zero", "kind"),
    [(0, False, 0x0), (5, False, 0x500), (0, True, 0x1), (0xFFFFFF, False, 0xFFFFFF00), (7, True, 0x701)],
)
def test_ports_travel_in_the_type(port: int, port_zero: bool, kind: int) -> None:
    request = Request(CLIENT, port=port, port_zero=port_zero)
    assert encode_request(request) == raw_request(kind=kind)
    assert decode_request_untrusted(raw_request(kind=kind)) == request


def test_reply_is_a_whole_zero_padded_sockaddr_un() -> None:
    encoded = encode_reply(b"/tmp/vm1/fd0")
    assert encoded == struct.pack("=H", 1) + b"/tmp/vm1/fd0" + bytes(96)
    assert len(encoded) == SOCKADDR_UN_SIZE == 110
    assert decode_reply_untrusted(encoded) == b"/tmp/vm1/fd0"


@given(_REQUESTS)
def test_request_round_trip(request_: Request) -> None:
    encoded = encode_request(request_)
    assert len(encoded) <= MAX_REQUEST_SIZE
    assert decode_request_untrusted(encoded) == request_
    assert request_.is_abstract == request_.data_address.startswith(b"\0")


@given(_PATHS | _ABSTRACT)
def test_reply_round_trip(address: bytes) -> None:
    assert decode_reply_untrusted(encode_reply(address)) == address


def test_legacy_padding_is_no_description() -> None:
    request = decode_request_untrusted(raw_request(rest=b"\0\0"))
    assert request == Request(CLIENT)


def test_an_abstract_name_keeps_all_its_bytes() -> None:
    name = b"\0uml-4711"
    request = decode_request_untrusted(raw_request(path=name))
    assert request is not None
    assert request.is_abstract
    assert request.data_address == name.ljust(108, b"\0")
    assert encode_request(request) == raw_request(path=name)


def test_bytes_after_the_paths_end_are_nothing() -> None:
    request = decode_request_untrusted(raw_request(path=b"/tmp/a\0/etc/passwd"))
    assert request == Request(b"/tmp/a")


def test_description_is_cut_at_its_limit() -> None:
    assert len(encode_request(Request(CLIENT, "x" * 500))) == REQUEST_HEAD_SIZE + MAX_DESCRIPTION_SIZE
    request = decode_request_untrusted(raw_request(rest=b"x" * 500))
    assert request is not None
    assert request.description == "x" * 128


@pytest.mark.parametrize("length", range(REQUEST_HEAD_SIZE))
def test_a_first_piece_waits_for_the_second(length: int) -> None:
    assert decode_request_untrusted(raw_request()[:length]) is None


@pytest.mark.parametrize(
    "piece", [b"G", b"GET / HTTP/1.1\r\n", b"\0", b"\xce\xfa\xed\xff", raw_request()[::-1], bytes(200), b"SSH-2.0-x"]
)
def test_a_first_piece_that_cannot_become_a_request_is_refused_at_once(piece: bytes) -> None:
    with pytest.raises(HandshakeError, match="magic"):
        decode_request_untrusted(piece)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (raw_request(magic=0xFEEDFACF), "magic"),
        (raw_request(magic=0xCEFAEDFE), "magic"),
        (raw_request(version=2), "version 2"),
        (raw_request(version=3 << 24), "version 50331648"),
        (raw_request(kind=2), "type 2"),
        (raw_request(kind=0xFF), "type 255"),
        (raw_request(kind=0x5FF), "type 255"),
        (raw_request(family=socket.AF_INET), "family 2"),
        (raw_request(family=0), "family 0"),
        (raw_request(path=b""), "empty"),
        (raw_request(path=b"x" * 108), "not NUL-terminated"),
    ],
)
def test_refused_requests(data: bytes, complaint: str) -> None:
    with pytest.raises(HandshakeError) as caught:
        decode_request_untrusted(data)
    assert complaint in caught.value.detail
    assert caught.value.code == "bad_handshake"


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "0 bytes"),
        (encode_reply(b"/a")[:-1], "109 bytes"),
        (bytes(110), "family 0"),
        (struct.pack("=H", socket.AF_INET) + bytes(108), "family 2"),
        (struct.pack("=H", socket.AF_UNIX) + bytes(108), "empty"),
        (struct.pack("=H", socket.AF_UNIX) + b"x" * 108, "not NUL-terminated"),
    ],
)
def test_refused_replies(data: bytes, complaint: str) -> None:
    with pytest.raises(HandshakeError) as caught:
        decode_reply_untrusted(data)
    assert complaint in caught.value.detail


@pytest.mark.parametrize("address", [b"", b"x" * 108, b"\0" + b"x" * 108])
def test_addresses_that_fit_no_sockaddr(address: bytes) -> None:
    with pytest.raises(HandshakeError, match="bytes"):
        encode_reply(address)
    with pytest.raises(HandshakeError, match="bytes"):
        encode_request(Request(address))


def test_the_longest_addresses_fit() -> None:
    for address in (b"x" * 107, b"\0" + b"x" * 107):
        assert decode_reply_untrusted(encode_reply(address)) == address


@given(st.binary(max_size=300))
def test_hostile_bytes_are_refused_or_wait(data: bytes) -> None:
    try:
        request = decode_request_untrusted(data)
    except HandshakeError:
        return
    assert request is None or len(data) >= REQUEST_HEAD_SIZE


@given(st.data(), st.integers(0, 249), st.binary(min_size=1, max_size=8))
def test_a_damaged_request_is_refused_or_safe_to_show(data: st.DataObject, at: int, damage: bytes) -> None:
    whole = bytearray(encode_request(data.draw(_REQUESTS)).ljust(250, b"y"))
    whole[at : at + len(damage)] = damage
    try:
        request = decode_request_untrusted(bytes(whole))
    except HandshakeError:
        return
    assert request is not None
    assert request.description.isprintable()
    assert encode_request(replace(request, description=""))[:14] == whole[:14]


@given(st.binary(max_size=300))
def test_hostile_replies_are_refused_or_addresses(data: bytes) -> None:
    try:
        address = decode_reply_untrusted(data)
    except HandshakeError:
        return
    assert 1 <= len(address) <= 108


@pytest.mark.parametrize(
    ("claimed", "shown"),
    [
        (b"vdeplug: user=root pid=1 SSH=10.1.2.3", "vdeplug: user=root pid=1 SSH=10.1.2.3"),
        ("größe".encode(), "größe"),
        (b"a\nb", "a\ufffdb"),
        (b"\x1b[31mred", "\ufffd[31mred"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        ("right\u202eleft".encode(), "right\ufffdleft"),
        (b"pad\0\0", "pad"),
        (b"a\0b", "a\ufffdb"),
        (b"", ""),
    ],
)
def test_descriptions_are_safe_to_show(claimed: bytes, shown: str) -> None:
    assert sanitise(claimed) == shown


@given(st.binary(max_size=128))
def test_any_description_is_printable(claimed: bytes) -> None:
    assert sanitise(claimed).isprintable()
