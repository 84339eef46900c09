r"""Virtual network locators (VNL): text to frozen values and back.

Grammar (after vdeplug4; checked against Debian's vdeplug 4.0.1)::

    vnl    = "multi://" [PATH] ["[" OPTION *("/" OPTION) "]"] ["{" vnl "}"]
           | "vde://" DIR ["[" PORT-or-PORTGROUP "]"]
           | "cmd://" COMMAND *(SPACE ARGUMENT)          shell quoting, but never a shell
           | "tap://" INTERFACE
           | DIR ["[" PORT-or-PORTGROUP "]"]             no "://": a vde:// locator
    OPTION = "mode=" OCTAL | "dirmode=" OCTAL | "grp=" NAME-or-NUMBER | nothing

In multi:// and vde://, `'…'` and `"…"` are literal, and outside of quotes `\c` is c and `%41` is A. The path ends
at the first unquoted `[`, the options at the last unquoted `]`. Of an option given twice the last one counts.

    accepted                                  rejected
    multi://                                  multi:///tmp/vm1[mode=0660       no closing bracket
    multi:///tmp/vm1[mode=0660/grp=kvm]       multi:///tmp/vm1[mod=0660]       unknown option
    multi:///tmp/vm1{tap://tap0}              multi:///tmp/vm1[mode=8]         not octal
    x\[b\][5]                                 vde://                           no directory
    cmd://ssh ip2 vde_plug /tmp/vm2           cmd://ssh 'ip2                   quote left open
    'a dir'/sw[wifi]                          gopher://x                       unknown scheme

Invariant: `parse_vnl(str(v)) == v` for every value that `parse_vnl` can return. No I/O: that a bare path may name a
file that holds a VNL is the business of `app.fabric.plugs.base.resolve_vnl`.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

from app.fabric.errors import VnlError

MAX_VNL_LENGTH: Final = 4096
MAX_PORT: Final = 0xFFFFFF
"""The port number travels in the upper three bytes of the request's type."""
MAX_INTERFACE_BYTES: Final = 15
"""Linux: IFNAMSIZ is 16 with its closing NUL."""

DEFAULT_MODE: Final = 0o600
DEFAULT_DIRMODE: Final = 0o2700

_SPECIAL: Final = frozenset(b"'\"\\%[]{}/")
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_MAX_MODE: Final = 0o7777
_MAX_GID: Final = 0xFFFFFFFE
"""The number above it stands for "leave as it is" in chown(2)."""


@dataclass(frozen=True, slots=True)
class MultiVnl:
    """`multi://`: a multilink to be made. An empty `path` means the user's default directory.

    `mode` and `dirmode` are as the user gave them, None where not given; `socket_mode` and
    `directory_mode` are what they come to.
    """

    path: str
    mode: int | None = None
    dirmode: int | None = None
    group: str | None = None
    host: Vnl | None = None

    @property
    def socket_mode(self) -> int:
        """Permissions of the control and data sockets, as the C module computes them."""
        return DEFAULT_MODE if self.mode is None else self.mode & ~0o111

    @property
    def directory_mode(self) -> int:
        """Permissions of the directory: whoever may read (write) the sockets may search (change) it."""
        if self.dirmode is not None:
            return self.dirmode
        if self.mode is None:
            return DEFAULT_DIRMODE
        mode = self.socket_mode
        return 0o2000 | mode | (mode & 0o444) >> 2 | (mode & 0o222) >> 1

    def __str__(self) -> str:
        options = []
        if self.mode is not None:
            options.append(f"mode=0{self.mode:o}")
        if self.dirmode is not None:
            options.append(f"dirmode=0{self.dirmode:o}")
        if self.group is not None:
            options.append(f"grp={_quote(self.group)}")
        text = "multi://" + _quote(self.path, keep=b"/")
        if options:
            text += "[" + "/".join(options) + "]"
        if self.host is not None:
            text += "{" + str(self.host) + "}"
        return text


@dataclass(frozen=True, slots=True)
class VdeVnl:
    """`vde://`: a client's connection to a control directory.

    `port` is what stood in brackets: digits for a port number, else a portgroup, None for neither.
    """

    path: str
    port: str | None = None

    @property
    def port_number(self) -> int | None:
        """The port number, where `port` is one."""
        return int(self.port) if self.port is not None and _is_number(self.port) else None

    @property
    def portgroup(self) -> str | None:
        """The portgroup's name, where `port` is one."""
        return self.port if self.port is not None and not _is_number(self.port) else None

    def __str__(self) -> str:
        bracket = "" if self.port is None else f"[{_quote(self.port)}]"
        return "vde://" + _quote(self.path, keep=b"/") + bracket


@dataclass(frozen=True, slots=True)
class CmdVnl:
    """`cmd://`: a program whose stdin and stdout carry frames in stream framing."""

    argv: tuple[str, ...]

    def __str__(self) -> str:
        return "cmd://" + shlex.join(self.argv)


@dataclass(frozen=True, slots=True)
class TapVnl:
    """`tap://`: a tap interface of the kernel, made if it does not exist."""

    interface: str

    def __str__(self) -> str:
        return "tap://" + self.interface


Vnl: TypeAlias = MultiVnl | VdeVnl | CmdVnl | TapVnl


def scheme_of(vnl: Vnl) -> str:
    """The scheme that names the kind of `vnl`, without `://`."""
    return str(vnl).partition("://")[0]


def walk_vnl(vnl: Vnl) -> Iterator[Vnl]:
    """`vnl` and every locator nested in it, outermost first."""
    yield vnl
    if isinstance(vnl, MultiVnl) and vnl.host is not None:
        yield from walk_vnl(vnl.host)


def parse_vnl(text: str) -> Vnl:
    """Read a locator.

    Raises:
        VnlError: with what is wrong and what would be right.
    """
    if not text:
        raise VnlError("the locator is empty: give one such as vde:///tmp/vm1")
    if len(text) > MAX_VNL_LENGTH:
        raise VnlError(f"the locator is {len(text)} characters long: at most {MAX_VNL_LENGTH} are taken")
    if "\0" in text:
        raise VnlError("the locator has a NUL character in it: leave it out")
    match = _SCHEME.fullmatch(text)
    if match is None:
        return _checked(_parse_vde(text))
    parser = _PARSERS.get(match[1])
    if parser is None:
        known = ", ".join(f"{scheme}://" for scheme in sorted(_PARSERS))
        raise VnlError(f"unknown scheme {match[1]}://: this service knows {known}")
    return _checked(parser(match[2]))


def _checked(vnl: Vnl) -> Vnl:
    """`vnl`, if it could be read again: quoting makes a text longer, up to three times."""
    if len(str(vnl)) > MAX_VNL_LENGTH:
        raise VnlError(f"the locator, quoted, is more than {MAX_VNL_LENGTH} characters long: use shorter names")
    return vnl


def parse_multi_vnl(text: str) -> MultiVnl:
    """Read a locator that has to be a multi:// one.

    Raises:
        VnlError: it cannot be parsed, or is of another kind.
    """
    vnl = parse_vnl(text)
    if not isinstance(vnl, MultiVnl):
        raise VnlError(f"{text!r} does not make a multilink: give one such as multi:///tmp/vm1")
    return vnl


class _Octet(NamedTuple):
    """One decoded byte, whether it stood for itself, and where in the text's UTF-8 it began."""

    value: int
    literal: bool
    start: int


def _decode(body: str) -> list[_Octet]:
    """Undo quoting; `literal` marks the bytes that quoting has stripped of any special meaning."""
    raw = _utf8(body)
    octets: list[_Octet] = []
    position, quote = 0, 0
    while position < len(raw):
        byte, start = raw[position], position
        position += 1
        if quote:
            if byte == quote:
                quote = 0
            else:
                octets.append(_Octet(byte, True, start))
        elif byte in b"'\"":
            quote = byte
        elif byte == ord("\\"):
            if position == len(raw):
                raise VnlError("the locator ends in a lone backslash: write \\\\ for a backslash")
            octets.append(_Octet(raw[position], True, start))
            position += 1
        elif byte == ord("%"):
            digits = raw[position : position + 2]
            if not re.fullmatch(rb"[0-9A-Fa-f]{2}", digits) or digits == b"00":
                shown = digits.decode("utf-8", "replace")
                raise VnlError(f"%{shown} is no character: two hex digits follow a %, %25 is a % itself")
            octets.append(_Octet(int(digits, 16), True, start))
            position += 2
        else:
            octets.append(_Octet(byte, False, start))
            if byte == ord("{"):
                # What is nested is a locator of its own, with a quoting of its own.
                octets.extend(_Octet(rest, False, at) for at, rest in enumerate(raw[position:], position))
                return octets
    if quote:
        raise VnlError(f"a {chr(quote)} is never closed: close it, or write \\{chr(quote)} for the character itself")
    return octets


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise VnlError("the locator is not valid Unicode: it has half a surrogate pair in it") from error


def _text(octets: list[_Octet]) -> str:
    try:
        return bytes(octet.value for octet in octets).decode()
    except UnicodeDecodeError as error:
        raise VnlError("the locator does not decode to UTF-8: check its % escapes") from error


def _find(octets: list[_Octet], char: str, *, last: bool = False) -> int:
    """Index of the first (last) unquoted `char`, or -1."""
    indices = range(len(octets) - 1, -1, -1) if last else range(len(octets))
    wanted = ord(char)
    return next((i for i in indices if octets[i].value == wanted and not octets[i].literal), -1)


def _split_brackets(octets: list[_Octet]) -> tuple[list[_Octet], list[_Octet] | None]:
    """The path, and what stood in brackets after it (None without brackets)."""
    opening = _find(octets, "[")
    if opening < 0:
        if _find(octets, "]") >= 0:
            raise VnlError("a ] without its [: write \\] for the character itself")
        return octets, None
    closing = _find(octets, "]", last=True)
    if closing < opening:
        raise VnlError("the [ is never closed: end the options with ], or write \\[ for the character itself")
    if closing != len(octets) - 1:
        raise VnlError(f"nothing may follow the ]: {_text(octets[closing + 1 :])!r} does")
    return octets[:opening], octets[opening + 1 : closing]


def _parse_multi(body: str) -> MultiVnl:
    octets = _decode(body)
    host: Vnl | None = None
    nested = _find(octets, "{")
    if nested >= 0:
        if body[-1] != "}":
            raise VnlError("the { is never closed: a nested plug is the last thing, {VNL}")
        inner = _utf8(body)[octets[nested].start + 1 : -1].decode()
        host = parse_vnl(inner)
        if isinstance(host, MultiVnl):
            raise VnlError("a multilink cannot be the host of a multilink: join them with a link instead")
        octets = octets[:nested]
    path, bracket = _split_brackets(octets)
    mode, dirmode, group = _parse_options(bracket or [])
    return MultiVnl(path=_text(path), mode=mode, dirmode=dirmode, group=group, host=host)


def _parse_options(octets: list[_Octet]) -> tuple[int | None, int | None, str | None]:
    mode: int | None = None
    dirmode: int | None = None
    group: str | None = None
    for option in _split_unquoted(octets, "/"):
        if not option:
            continue
        equals = _find(option, "=")
        key, value = (_text(option), "") if equals < 0 else (_text(option[:equals]), _text(option[equals + 1 :]))
        match key:
            case "mode":
                mode = _octal(key, value)
            case "dirmode":
                dirmode = _octal(key, value)
            case "grp":
                if not value:
                    raise VnlError("grp= needs a group: a name or a number")
                if _is_number(value) and int(value) > _MAX_GID:
                    raise VnlError(f"grp={value} is too high for a group: at most {_MAX_GID}")
                group = value
            case _:
                raise VnlError(f"unknown option {key!r}: multi:// takes mode=OCTAL, dirmode=OCTAL and grp=GROUP")
    return mode, dirmode, group


def _split_unquoted(octets: list[_Octet], separator: str) -> Iterator[list[_Octet]]:
    while (at := _find(octets, separator)) >= 0:
        yield octets[:at]
        octets = octets[at + 1 :]
    yield octets


def _octal(key: str, value: str) -> int:
    if not re.fullmatch(r"[0-7]{1,6}", value) or int(value, 8) > _MAX_MODE:
        raise VnlError(f"{key}={value} is no mode: give octal permissions such as {key}=0660")
    return int(value, 8)


def _parse_vde(body: str) -> VdeVnl:
    path, bracket = _split_brackets(_decode(body))
    directory = _text(path)
    if not directory:
        raise VnlError("the locator names no directory: give one such as vde:///tmp/vm1")
    port = _text(bracket) if bracket else None
    if port is not None:
        if _is_number(port):
            if int(port) > MAX_PORT:
                raise VnlError(f"port {port} is too high: at most {MAX_PORT}")
        elif "/" in port or port in {".", "..", "ctl"}:
            raise VnlError(f"{port!r} cannot be a portgroup: it is the name of a socket in the directory")
    return VdeVnl(path=directory, port=port)


def _is_number(port: str) -> bool:
    return port.isascii() and port.isdigit()


def _parse_cmd(body: str) -> CmdVnl:
    _utf8(body)
    try:
        argv = shlex.split(body)
    except ValueError as error:
        raise VnlError(f"the command of cmd:// cannot be split into words: {error}") from error
    if not argv or not argv[0]:
        raise VnlError("cmd:// names no program: give one such as cmd://ssh ip2 vde_plug /tmp/vm2")
    return CmdVnl(argv=tuple(argv))


def _parse_tap(body: str) -> TapVnl:
    if not body:
        raise VnlError("tap:// names no interface: give one such as tap://tap0")
    name = _utf8(body)
    # The kernel's dev_valid_name(): no slash, colon or white space; % would ask it for a number.
    if len(name) > MAX_INTERFACE_BYTES or body in {".", ".."} or re.search(r"[\s/:%{}\[\]\x00-\x1f\x7f]", body):
        raise VnlError(f"{body!r} cannot be an interface: 1 to {MAX_INTERFACE_BYTES} bytes without space, /, : or %")
    return TapVnl(interface=body)


def _quote(text: str, keep: bytes = b"") -> str:
    """`text` such that `_decode` gives it back, every byte literal but those in `keep`."""
    special = _SPECIAL - set(keep)
    quoted = bytearray()
    for byte in text.encode():
        quoted += b"%%%02X" % byte if byte in special or byte < ord(" ") or byte == 0x7F else bytes([byte])
    return quoted.decode()


_PARSERS: Final[dict[str, Callable[[str], Vnl]]] = {
    "multi": _parse_multi,
    "vde": _parse_vde,
    "cmd": _parse_cmd,
    "tap": _parse_tap,
}
