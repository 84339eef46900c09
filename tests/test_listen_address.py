from __future__ import annotations

import pytest

from app.listen_address import AddressError, TcpAddress, UnixAddress, parse_listen_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8480", TcpAddress("127.0.0.1", 8480)),
        ("127.0.0.1:0", TcpAddress("127.0.0.1", 0)),
        ("0.0.0.0:65535", TcpAddress("0.0.0.0", 65535)),
        ("[::1]:8480", TcpAddress("::1", 8480)),
        ("[0:0:0:0:0:0:0:1]:1", TcpAddress("::1", 1)),
        ("localhost:80", TcpAddress("127.0.0.1", 80)),
        ("unix:/tmp/x.sock", UnixAddress("/tmp/x.sock")),
        ("unix:/tmp/a:b", UnixAddress("/tmp/a:b")),
    ],
)
def test_reads_an_address(text: str, address: TcpAddress | UnixAddress) -> None:
    assert parse_listen_address(text) == address
    assert parse_listen_address(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        *("", ":", "8480", ":8480", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536", "127.0.0.1:-1"),
        *(
            "127.0.0.1:８０",
            "::1:8480",
            "[::1]",
            "[127.0.0.1]:80",
            "example.org:80",
            "http://127.0.0.1:80",
            "256.0.0.1:80",
        ),
        *("unix:", "unix:x.sock", "unix:/tmp/\0x", "unix:/" + "x" * 107),
    ],
)
def test_refuses_what_is_no_address(text: str) -> None:
    with pytest.raises(AddressError) as caught:
        parse_listen_address(text)
    assert caught.value.detail


def test_the_longest_path_is_accepted() -> None:
    path = "/" + "x" * 106
    assert parse_listen_address(f"unix:{path}") == UnixAddress(path)


def test_urls_and_loopback() -> None:
    assert TcpAddress("::1", 1).url == "http://[::1]:1"
    assert TcpAddress("127.0.0.2", 1).is_loopback
    assert not TcpAddress("0.0.0.0", 1).is_loopback
