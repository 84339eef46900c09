r"""Virtual network locators (VNL): text to frozen values and back.

Grammar (after vdeplug4; checked against Debian's vdeplug 4.0.1)::

    vnl    = "multi://" [PATH] ["[" OPTION *("/" OPTION) "]"] ["{" vnl "}"]
           | "vde://" DIR ["[" PORT-or-PORTGROUP "]"]
           | "cmd://" COMMAND *(SPACE ARGUMENT)          shell quoting, but never a shell
           | "tap://" INTERFACE
           | DIR ["[" PORT-or-PORTGROUP "]"]             no "://": a vde:// locator
    OPTION = "mode=" OCTAL | "dirmode=" OCTAL | "grp=" NAME-or-NUMBER | nothing
           | ("duplicates=" | "reflections=") ("drop" | "pass") | "window=" SECONDS     not of the C module

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
from enum import StrEnum
from typing import Any, Final, TypeAlias

from app.fabric.errors import VnlError
from app.fabric.vnl_quoting import Octet, decode, find, quote, split_brackets, split_unquoted, text_of, utf8

MAX_VNL_LENGTH: Final = 4096
MAX_PORT: Final = 0xFFFFFF
"""The port number travels in the upper three bytes of the request's type."""
MAX_INTERFACE_BYTES: Final = 15
"""Linux: IFNAMSIZ is 16 with its closing NUL."""

MIN_WINDOW_S: Final = 0.01
MAX_WINDOW_S: Final = 10.0

DEFAULT_MODE: Final = 0o600
DEFAULT_DIRMODE: Final = 0o2700

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_MAX_MODE: Final = 0o7777
_MAX_GID: Final = 0xFFFFFFFE
"""The number above it stands for "leave as it is" in chown(2)."""


class PassOrDrop(StrEnum):
    """What is done with a kind of frame."""

    PASS = "pass"  # noqa: S105 -- no password: duplicates=pass
    DROP = "drop"


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
    duplicates: PassOrDrop | None = None
    reflections: PassOrDrop | None = None
    window_s: float | None = None

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
            options.append(f"grp={quote(self.group)}")
        if self.duplicates is not None:
            options.append(f"duplicates={self.duplicates}")
        if self.reflections is not None:
            options.append(f"reflections={self.reflections}")
        if self.window_s is not None:
            options.append(f"window={self.window_s:.6f}")
        text = "multi://" + quote(self.path, keep=b"/")
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
        bracket = "" if self.port is None else f"[{quote(self.port)}]"
        return "vde://" + quote(self.path, keep=b"/") + bracket


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


def _parse_multi(body: str) -> MultiVnl:
    octets = decode(body)
    host: Vnl | None = None
    nested = find(octets, "{")
    if nested >= 0:
        if body[-1] != "}":
            raise VnlError("the { is never closed: a nested plug is the last thing, {VNL}")
        inner = utf8(body)[octets[nested].start + 1 : -1].decode()
        host = parse_vnl(inner)
        if isinstance(host, MultiVnl):
            raise VnlError("a multilink cannot be the host of a multilink: join them with a link instead")
        octets = octets[:nested]
    path, bracket = split_brackets(octets)
    return MultiVnl(path=text_of(path), host=host, **_parse_options(bracket or []))


def _parse_options(octets: list[Octet]) -> dict[str, Any]:
    """The fields of a MultiVnl that the options give; of an option given twice the last one counts."""
    fields: dict[str, Any] = {}
    for option in split_unquoted(octets, "/"):
        if not option:
            continue
        equals = find(option, "=")
        key, value = (text_of(option), "") if equals < 0 else (text_of(option[:equals]), text_of(option[equals + 1 :]))
        known = _OPTIONS.get(key)
        if known is None:
            raise VnlError(f"unknown option {key!r}: multi:// takes {', '.join(_OPTIONS)}")
        field, parse = known
        fields[field] = parse(key, value)
    return fields


def _group(key: str, value: str) -> str:
    if not value:
        raise VnlError(f"{key}= needs a group: a name or a number")
    if _is_number(value) and int(value) > _MAX_GID:
        raise VnlError(f"{key}={value} is too high for a group: at most {_MAX_GID}")
    return value


def _pass_or_drop(key: str, value: str) -> PassOrDrop:
    try:
        return PassOrDrop(value)
    except ValueError:
        raise VnlError(f"{key}={value} is not known: it is {key}=drop or {key}=pass") from None


def _window(key: str, value: str) -> float:
    if not re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,6})?", value) or not MIN_WINDOW_S <= float(value) <= MAX_WINDOW_S:
        raise VnlError(f"{key}={value} is no window: give seconds, {MIN_WINDOW_S:g} to {MAX_WINDOW_S:g}")
    return float(value)


def _octal(key: str, value: str) -> int:
    if not re.fullmatch(r"[0-7]{1,6}", value) or int(value, 8) > _MAX_MODE:
        raise VnlError(f"{key}={value} is no mode: give octal permissions such as {key}=0660")
    return int(value, 8)


def _parse_vde(body: str) -> VdeVnl:
    path, bracket = split_brackets(decode(body))
    directory = text_of(path)
    if not directory:
        raise VnlError("the locator names no directory: give one such as vde:///tmp/vm1")
    port = text_of(bracket) if bracket else None
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
    utf8(body)
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
    name = utf8(body)
    # The kernel's dev_valid_name(): no slash, colon or white space; % would ask it for a number.
    if len(name) > MAX_INTERFACE_BYTES or body in {".", ".."} or re.search(r"[\s/:%{}\[\]\x00-\x1f\x7f]", body):
        raise VnlError(f"{body!r} cannot be an interface: 1 to {MAX_INTERFACE_BYTES} bytes without space, /, : or %")
    return TapVnl(interface=body)


_OPTIONS: Final[dict[str, tuple[str, Callable[[str, str], object]]]] = {
    "mode": ("mode", _octal),
    "dirmode": ("dirmode", _octal),
    "grp": ("group", _group),
    "duplicates": ("duplicates", _pass_or_drop),
    "reflections": ("reflections", _pass_or_drop),
    "window": ("window_s", _window),
}
"""The options of multi://: the field of MultiVnl that each gives, and how its value is read."""

_PARSERS: Final[dict[str, Callable[[str], Vnl]]] = {
    "multi": _parse_multi,
    "vde": _parse_vde,
    "cmd": _parse_cmd,
    "tap": _parse_tap,
}
