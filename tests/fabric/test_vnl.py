from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.fabric.errors import VnlError
from app.fabric.vnl import (
    MAX_VNL_LENGTH,
    CmdVnl,
    MultiVnl,
    TapVnl,
    VdeVnl,
    Vnl,
    parse_multi_vnl,
    parse_vnl,
    scheme_of,
    walk_vnl,
)

ACCEPTED: list[tuple[str, Vnl]] = [
    # multi://
    ("multi://", MultiVnl("")),
    ("multi:///tmp/vm1", MultiVnl("/tmp/vm1")),
    ("multi://vm1", MultiVnl("vm1")),
    ("multi://[mode=0660]", MultiVnl("", mode=0o660)),
    ("multi:///tmp/vm1[mode=0660]", MultiVnl("/tmp/vm1", mode=0o660)),
    ("multi:///tmp/vm1[mode=660]", MultiVnl("/tmp/vm1", mode=0o660)),
    ("multi:///tmp/vm1[mode=0]", MultiVnl("/tmp/vm1", mode=0)),
    ("multi:///tmp/vm1[]", MultiVnl("/tmp/vm1")),
    ("multi:///tmp/vm1[//mode=0660//]", MultiVnl("/tmp/vm1", mode=0o660)),
    ("multi:///a[mode=0660/dirmode=02770/grp=kvm]", MultiVnl("/a", mode=0o660, dirmode=0o2770, group="kvm")),
    ("multi:///a[grp=36]", MultiVnl("/a", group="36")),
    ("multi:///a[grp=a=b]", MultiVnl("/a", group="a=b")),
    ("multi:///a[mode=0600/mode=0660]", MultiVnl("/a", mode=0o660)),
    ("multi:///a[grp=x/grp=y/dirmode=01/dirmode=02]", MultiVnl("/a", dirmode=0o2, group="y")),
    ("multi:///a[grp='b/c]d']", MultiVnl("/a", group="b/c]d")),
    ("multi:///a[grp=b[c]", MultiVnl("/a", group="b[c")),
    ("multi:///a[grp=b]c]", MultiVnl("/a", group="b]c")),
    (r"multi://x\[b\][mode=0660]", MultiVnl("x[b]", mode=0o660)),
    ("multi://'a b[c]'", MultiVnl("a b[c]")),
    ('multi://"it\'s"', MultiVnl("it's")),
    ("multi://a%41%2f%5B", MultiVnl("aA/[")),
    (r"multi://'a\b%41'", MultiVnl(r"a\b%41")),
    ("multi:///tmp/vm1{tap://tap0}", MultiVnl("/tmp/vm1", host=TapVnl("tap0"))),
    ("multi:///v[mode=0660]{vde:///s[3]}", MultiVnl("/v", mode=0o660, host=VdeVnl("/s", "3"))),
    ("multi://{cmd://sh -c 'a }'}", MultiVnl("", host=CmdVnl(("sh", "-c", "a }")))),
    ("multi:///v{/var/run/vde.ctl}", MultiVnl("/v", host=VdeVnl("/var/run/vde.ctl"))),
    (r"multi:///v\{1\}", MultiVnl("/v{1}")),
    ("multi:///ñ/été", MultiVnl("/ñ/été")),
    # vde:// and bare paths
    ("vde:///tmp/vm1", VdeVnl("/tmp/vm1")),
    ("/tmp/vm1", VdeVnl("/tmp/vm1")),
    ("vm1", VdeVnl("vm1")),
    ("vde://vm1[]", VdeVnl("vm1")),
    ("/tmp/vm1[5]", VdeVnl("/tmp/vm1", "5")),
    ("/tmp/vm1[0]", VdeVnl("/tmp/vm1", "0")),
    ("/tmp/vm1[16777215]", VdeVnl("/tmp/vm1", "16777215")),
    ("/tmp/vm1[host]", VdeVnl("/tmp/vm1", "host")),
    (r"x\[b\][5]", VdeVnl("x[b]", "5")),
    ("'a dir'/sw[wifi]", VdeVnl("a dir/sw", "wifi")),
    ("/tmp/a{b}", VdeVnl("/tmp/a{b}")),
    ("/tmp/50%25", VdeVnl("/tmp/50%")),
    ("C:/x", VdeVnl("C:/x")),
    # cmd:// and tap://
    ("cmd://ssh ip2 vde_plug /tmp/vm2", CmdVnl(("ssh", "ip2", "vde_plug", "/tmp/vm2"))),
    ("cmd://a 'b c' \"d e\" f\\ g", CmdVnl(("a", "b c", "d e", "f g"))),
    ("cmd://a '' $HOME ; x", CmdVnl(("a", "", "$HOME", ";", "x"))),
    ("cmd://vde_plug multi:///tmp/x[mode=0660]", CmdVnl(("vde_plug", "multi:///tmp/x[mode=0660]"))),
    ("tap://tap0", TapVnl("tap0")),
    ("tap://a23456789012345", TapVnl("a23456789012345")),
]

REJECTED = [
    ("", "is empty"),
    ("a\0b", "NUL"),
    ("x" * (MAX_VNL_LENGTH + 1), "characters long"),
    ("/" + "'" + "[" * (MAX_VNL_LENGTH - 9) + "'", "quoted, is more than"),
    ("gopher://x", "unknown scheme gopher://"),
    ("MULTI:///x", "unknown scheme MULTI://"),
    ("\ud800", "surrogate"),
    ("cmd://\ud800", "surrogate"),
    ("multi:///tmp/vm1[mode=0660", "never closed"),
    ("multi:///tmp/vm1]", "without its ["),
    ("multi:///tmp/vm1]mode=0660[", "never closed"),
    ("multi:///tmp/vm1[mode=0660]x", "nothing may follow the ]: 'x'"),
    ("multi:///tmp/vm1[mod=0660]", "unknown option 'mod'"),
    ("multi:///tmp/vm1[Mode=0660]", "unknown option 'Mode'"),
    ("multi:///tmp/vm1[5]", "unknown option '5'"),
    ("multi:///tmp/vm1[mode=8]", "mode=8 is no mode"),
    ("multi:///tmp/vm1[mode=]", "mode= is no mode"),
    ("multi:///tmp/vm1[mode]", "mode= is no mode"),
    ("multi:///tmp/vm1[mode=-1]", "mode=-1 is no mode"),
    ("multi:///tmp/vm1[mode=0o660]", "is no mode"),
    ("multi:///tmp/vm1[mode=10000]", "is no mode"),
    ("multi:///tmp/vm1[dirmode=rwx]", "dirmode=rwx is no mode"),
    ("multi:///tmp/vm1[mode=0660,dirmode=0770]", "is no mode"),
    ("multi:///tmp/vm1[grp=]", "needs a group"),
    ("multi:///tmp/vm1[grp=4294967295]", "too high for a group"),
    ("multi:///tmp/'vm1", "a ' is never closed"),
    ('multi:///tmp/"vm1', 'a " is never closed'),
    ("multi:///tmp/vm1\\", "lone backslash"),
    ("multi:///tmp/%4", "%4 is no character"),
    ("multi:///tmp/%zz", "%zz is no character"),
    ("multi:///tmp/%00", "%00 is no character"),
    ("multi:///tmp/%ff", "does not decode to UTF-8"),
    ("multi:///tmp/vm1{tap://t0", "the { is never closed"),
    ("multi:///tmp/vm1{tap://t0}x", "the { is never closed"),
    ("multi:///tmp/vm1{}", "is empty"),
    ("multi:///tmp/vm1{multi:///tmp/vm2}", "cannot be the host"),
    ("multi:///tmp/vm1{nosuch://x}", "unknown scheme nosuch://"),
    ("multi:///tmp/vm1{tap://t0}[mode=0660]", "the { is never closed"),
    ("vde://", "names no directory"),
    ("vde://[5]", "names no directory"),
    ("[5]", "names no directory"),
    ("/tmp/vm1[16777216]", "too high"),
    ("/tmp/vm1[a/b]", "cannot be a portgroup"),
    ("/tmp/vm1[..]", "cannot be a portgroup"),
    ("/tmp/vm1[ctl]", "cannot be a portgroup"),
    ("/tmp/vm1[5]6", "nothing may follow the ]"),
    ("cmd://", "names no program"),
    ("cmd://   ", "names no program"),
    ("cmd://'' x", "names no program"),
    ("cmd://ssh 'ip2", "cannot be split"),
    ("tap://", "names no interface"),
    ("tap://a234567890123456", "cannot be an interface"),
    ("tap://a/b", "cannot be an interface"),
    ("tap://a:b", "cannot be an interface"),
    ("tap://tap%d", "cannot be an interface"),
    ("tap://..", "cannot be an interface"),
    ("tap://a b", "cannot be an interface"),
]

# mode= and dirmode= as given, the control socket's and the directory's permissions: measured on Debian's vdeplug 4.0.1.
# Where it comes to 0, that module leaves what the umask gave; app.fabric.control_dir does the same.
MODES = [
    ("", 0o600, 0o2700),
    ("mode=0600", 0o600, 0o2700),
    ("mode=0660", 0o660, 0o2770),
    ("mode=0666", 0o666, 0o2777),
    ("mode=0775", 0o664, 0o2775),
    ("mode=0755", 0o644, 0o2755),
    ("mode=0711", 0o600, 0o2700),
    ("mode=0440", 0o440, 0o2550),
    ("mode=0622", 0o622, 0o2733),
    ("mode=0707", 0o606, 0o2707),
    ("mode=0070", 0o060, 0o2070),
    ("mode=7", 0o006, 0o2007),
    ("mode=0111", 0o000, 0o2000),
    ("mode=01777", 0o1666, 0o3777),
    ("mode=04755", 0o4644, 0o6755),
    ("mode=07777", 0o7666, 0o7777),
    ("dirmode=0700", 0o600, 0o700),
    ("dirmode=0666", 0o600, 0o666),
    ("dirmode=02770", 0o600, 0o2770),
    ("dirmode=0", 0o600, 0),
    ("mode=0660/dirmode=0700", 0o660, 0o700),
    ("dirmode=0700/mode=0660", 0o660, 0o700),
    ("mode=0600/mode=0660", 0o660, 0o2770),
    ("dirmode=0770/dirmode=0700", 0o600, 0o700),
    ("mode=0/dirmode=0750", 0, 0o750),
]


@pytest.mark.parametrize(("text", "value"), ACCEPTED, ids=[text for text, _ in ACCEPTED])
def test_accepted(text: str, value: Vnl) -> None:
    assert parse_vnl(text) == value
    assert parse_vnl(str(value)) == value


@pytest.mark.parametrize(("text", "complaint"), REJECTED, ids=[ascii(text[:40]) for text, _ in REJECTED])
def test_rejected(text: str, complaint: str) -> None:
    with pytest.raises(VnlError) as caught:
        parse_vnl(text)
    assert complaint in caught.value.detail
    assert caught.value.code == "bad_vnl"


@pytest.mark.parametrize(("options", "socket_mode", "directory_mode"), MODES)
def test_modes_are_those_of_the_c_module(options: str, socket_mode: int, directory_mode: int) -> None:
    vnl = parse_multi_vnl(f"multi:///tmp/vm1[{options}]")
    assert (oct(vnl.socket_mode), oct(vnl.directory_mode)) == (oct(socket_mode), oct(directory_mode))


def test_printed_as_a_person_would_write_it() -> None:
    for text in (
        "multi:///tmp/vm1[mode=0660/dirmode=02770/grp=kvm]{tap://tap0}",
        "vde:///tmp/sw[wifi]",
        "vde:///tmp/a b",
        "cmd://ssh ip2 vde_plug /tmp/vm2",
    ):
        assert str(parse_vnl(text)) == text


def test_printed_without_control_characters() -> None:
    assert str(VdeVnl("/a\n\x1b\x7f")) == "vde:///a%0A%1B%7F"


@pytest.mark.parametrize(
    ("text", "number", "group"),
    [("/x", None, None), ("/x[5]", 5, None), ("/x[007]", 7, None), ("/x[wifi]", None, "wifi"), ("/x[٣]", None, "٣")],
)
def test_port_or_portgroup(text: str, number: int | None, group: str | None) -> None:
    vnl = parse_vnl(text)
    assert isinstance(vnl, VdeVnl)
    assert (vnl.port_number, vnl.portgroup) == (number, group)


def test_only_multi_makes_a_multilink() -> None:
    assert parse_multi_vnl("multi:///tmp/vm1") == MultiVnl("/tmp/vm1")
    with pytest.raises(VnlError, match="does not make a multilink"):
        parse_multi_vnl("/tmp/vm1")


def test_walk_and_scheme() -> None:
    outer = parse_vnl("multi:///tmp/vm1{cmd://cat}")
    assert [scheme_of(vnl) for vnl in walk_vnl(outer)] == ["multi", "cmd"]
    assert [scheme_of(vnl) for vnl in walk_vnl(parse_vnl("/tmp/vm1"))] == ["vde"]
    assert scheme_of(TapVnl("t0")) == "tap"


# Any text that could be a file's name, rich in what the grammar gives a meaning to.
_CHARS = st.one_of(
    st.sampled_from("'\"\\%[]{}/=: a1\n\x7fé😀"), st.characters(exclude_categories=["Cs"], exclude_characters="\0")
)
_NAMES = st.text(_CHARS, min_size=1, max_size=40)
_MODE = st.none() | st.integers(0, 0o7777)
_GROUPS = _NAMES.filter(lambda name: not (name.isascii() and name.isdigit() and int(name) > 0xFFFFFFFE))
_PORTS = st.integers(0, 0xFFFFFF).map(str) | _NAMES.filter(
    lambda name: "/" not in name and name not in {".", "..", "ctl"} and not (name.isascii() and name.isdigit())
)
_TAPS = st.builds(TapVnl, st.from_regex(r"[A-Za-z0-9_.+@'\"\\=-]{1,15}", fullmatch=True)).filter(
    lambda tap: tap.interface not in {".", ".."}
)
_VDES = st.builds(VdeVnl, _NAMES, st.none() | _PORTS)
_CMDS = st.builds(CmdVnl, st.builds(lambda first, rest: (first, *rest), _NAMES, st.lists(_NAMES | st.just(""))))
_MULTIS = st.builds(
    MultiVnl, st.just("") | _NAMES, mode=_MODE, dirmode=_MODE, group=st.none() | _GROUPS, host=_TAPS | _VDES | _CMDS
)
_VNLS: st.SearchStrategy[Vnl] = st.one_of(_TAPS, _VDES, _CMDS, _MULTIS)


@given(_VNLS.filter(lambda vnl: len(str(vnl)) <= MAX_VNL_LENGTH))
def test_every_value_prints_to_a_text_that_parses_to_it(vnl: Vnl) -> None:
    assert parse_vnl(str(vnl)) == vnl


_PREFIXED = st.builds(
    lambda scheme, rest: f"{scheme}://{rest}",
    st.sampled_from(["multi", "vde", "cmd", "tap"]),
    st.text("'\"\\%[]{}/=:modegrp0128 é"),
)


@given(st.one_of(st.text(), st.text("'\"\\%[]{}/=:multivdectapgr0128 \ud800\0"), _PREFIXED))
def test_any_text_parses_to_what_prints_back_or_is_refused(text: str) -> None:
    try:
        vnl = parse_vnl(text)
    except VnlError:
        return
    assert parse_vnl(str(vnl)) == vnl


@given(st.integers(0, 0o7777))
def test_whoever_may_read_or_write_the_socket_may_enter_the_directory(mode: int) -> None:
    vnl = MultiVnl("/x", mode=mode)
    for shift in (0, 3, 6):
        socket_bits, directory_bits = vnl.socket_mode >> shift & 7, vnl.directory_mode >> shift & 7
        assert not socket_bits & 1
        assert bool(directory_bits & 1) == bool(socket_bits & 6)
        assert directory_bits & 6 == socket_bits & 6
    assert vnl.directory_mode & 0o2000
