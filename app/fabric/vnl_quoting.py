r"""The quoting of virtual network locators: text to bytes that know whether they were quoted, and back. Pure.

`'…'` and `"…"` are literal, and outside of quotes `\c` is c and `%41` is A. What follows an unquoted `{` is a locator
of its own, with a quoting of its own, and is left as it is.

Invariant: `decode(quote(text))` gives the bytes of `text`, all of them literal but those that were to be kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from app.fabric.errors import VnlError

_SPECIAL: Final = frozenset(b"'\"\\%[]{}/")


class Octet(NamedTuple):
    """One decoded byte, whether it stood for itself, and where in the text's UTF-8 it began."""

    value: int
    literal: bool
    start: int


def decode(body: str) -> list[Octet]:
    """Undo quoting; `literal` marks the bytes that quoting has stripped of any special meaning."""
    raw = utf8(body)
    octets: list[Octet] = []
    position, quote = 0, 0
    while position < len(raw):
        byte, start = raw[position], position
        position += 1
        if quote:
            if byte == quote:
                quote = 0
            else:
                octets.append(Octet(byte, True, start))
        elif byte in b"'\"":
            quote = byte
        elif byte == ord("\\"):
            if position == len(raw):
                raise VnlError("the locator ends in a lone backslash: write \\\\ for a backslash")
            octets.append(Octet(raw[position], True, start))
            position += 1
        elif byte == ord("%"):
            digits = raw[position : position + 2]
            if not re.fullmatch(rb"[0-9A-Fa-f]{2}", digits) or digits == b"00":
                shown = digits.decode("utf-8", "replace")
                raise VnlError(f"%{shown} is no character: two hex digits follow a %, %25 is a % itself")
            octets.append(Octet(int(digits, 16), True, start))
            position += 2
        else:
            octets.append(Octet(byte, False, start))
            if byte == ord("{"):
                # What is nested is a locator of its own, with a quoting of its own.
                octets.extend(Octet(rest, False, at) for at, rest in enumerate(raw[position:], position))
                return octets
    if quote:
        raise VnlError(f"a {chr(quote)} is never closed: close it, or write \\{chr(quote)} for the character itself")
    return octets


def utf8(text: str) -> bytes:
    """`text` in UTF-8.

    Raises:
        VnlError: it has half a surrogate pair in it.
    """
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise VnlError("the locator is not valid Unicode: it has half a surrogate pair in it") from error


def text_of(octets: list[Octet]) -> str:
    """The decoded bytes as text.

    Raises:
        VnlError: they are not UTF-8.
    """
    try:
        return bytes(octet.value for octet in octets).decode()
    except UnicodeDecodeError as error:
        raise VnlError("the locator does not decode to UTF-8: check its % escapes") from error


def find(octets: list[Octet], char: str, *, last: bool = False) -> int:
    """Index of the first (last) unquoted `char`, or -1."""
    indices = range(len(octets) - 1, -1, -1) if last else range(len(octets))
    wanted = ord(char)
    return next((i for i in indices if octets[i].value == wanted and not octets[i].literal), -1)


def split_brackets(octets: list[Octet]) -> tuple[list[Octet], list[Octet] | None]:
    """The path, and what stood in brackets after it (None without brackets)."""
    opening = find(octets, "[")
    if opening < 0:
        if find(octets, "]") >= 0:
            raise VnlError("a ] without its [: write \\] for the character itself")
        return octets, None
    closing = find(octets, "]", last=True)
    if closing < opening:
        raise VnlError("the [ is never closed: end the options with ], or write \\[ for the character itself")
    if closing != len(octets) - 1:
        raise VnlError(f"nothing may follow the ]: {text_of(octets[closing + 1 :])!r} does")
    return octets[:opening], octets[opening + 1 : closing]


def split_unquoted(octets: list[Octet], separator: str) -> Iterator[list[Octet]]:
    """The pieces between unquoted `separator`s."""
    while (at := find(octets, separator)) >= 0:
        yield octets[:at]
        octets = octets[at + 1 :]
    yield octets


def quote(text: str, keep: bytes = b"") -> str:
    """`text` such that `decode` gives it back, every byte literal but those in `keep`."""
    special = _SPECIAL - set(keep)
    quoted = bytearray()
    for byte in text.encode():
        quoted += b"%%%02X" % byte if byte in special or byte < ord(" ") or byte == 0x7F else bytes([byte])
    return quoted.decode()
