from __future__ import annotations

import os
from pathlib import Path

import pytest

from app.fabric.vnl import MultiVnl, PassOrDrop, TapVnl
from app.listen_address import TcpAddress, UnixAddress
from app.settings import SettingsError, load_settings


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("VDE_MULTILINK_"):
            monkeypatch.delenv(name)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


def test_defaults() -> None:
    settings = load_settings({})
    assert settings.multilinks == (MultiVnl(path=""),)
    assert settings.listen == (TcpAddress("127.0.0.1", 8480),)
    assert settings.allow == ()
    assert settings.allow_commands == ()
    assert settings.allowed_hosts == ()
    assert settings.token is None
    assert settings.token_file is None
    assert settings.state.name == "state.sqlite3"


def test_flags_win_over_environment_wins_over_file(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config.write_text('listen = ["127.0.0.1:1"]\nallow = ["tap"]\nallowed_hosts = ["a.example"]\n')
    monkeypatch.setenv("VDE_MULTILINK_LISTEN", "127.0.0.1:2")
    monkeypatch.setenv("VDE_MULTILINK_ALLOW", "vde")
    settings = load_settings({"listen": ("127.0.0.1:3",)}, config=config)
    assert settings.listen == (TcpAddress("127.0.0.1", 3),)
    assert settings.allow == ("vde",)
    assert settings.allowed_hosts == ("a.example",)


def test_everything_in_the_file(config: Path) -> None:
    config.write_text(
        """
        multilinks = ["multi:///tmp/vm1[mode=0660]", "multi:///tmp/vm2{tap://t0}"]
        listen = ["unix:/tmp/x.sock", "[::1]:0"]
        allow = ["cmd://"]
        allow_commands = ["ssh ip2 'vde_plug' /tmp/vm2"]
        runtime_dir = "/tmp/rt"
        state = "/tmp/state"
        token_file = "/tmp/token"
        log_level = "debug"
        """
    )
    settings = load_settings({}, config=config)
    assert settings.multilinks == (
        MultiVnl(path="/tmp/vm1", mode=0o660),
        MultiVnl(path="/tmp/vm2", host=TapVnl("t0")),
    )
    assert settings.listen == (UnixAddress("/tmp/x.sock"), TcpAddress("::1", 0))
    assert settings.allow == ("cmd",)
    assert settings.allow_commands == (("ssh", "ip2", "vde_plug", "/tmp/vm2"),)
    assert settings.runtime_dir == Path("/tmp/rt")
    assert settings.tcp_addresses == (TcpAddress("::1", 0),)


def test_lists_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VDE_MULTILINK_MULTILINKS", "multi:///tmp/a, b\n\n  multi:///tmp/c\n")
    monkeypatch.setenv("VDE_MULTILINK_LISTEN", "127.0.0.1:1, unix:/tmp/x  unix:/tmp/y,")
    monkeypatch.setenv("VDE_MULTILINK_ALLOW_COMMANDS", "echo a b\necho c")
    monkeypatch.setenv("VDE_MULTILINK_TOKEN", "secret")
    settings = load_settings({})
    assert settings.multilinks == (MultiVnl(path="/tmp/a, b"), MultiVnl(path="/tmp/c"))
    assert settings.listen == (TcpAddress("127.0.0.1", 1), UnixAddress("/tmp/x"), UnixAddress("/tmp/y"))
    assert settings.allow_commands == (("echo", "a", "b"), ("echo", "c"))
    assert settings.token is not None
    assert "secret" not in repr(settings)


def test_an_empty_list_of_listeners_is_one() -> None:
    assert load_settings({"listen": ()}).listen == ()


def test_a_file_may_hold_the_multilink(tmp_path: Path) -> None:
    named = tmp_path / "vm1"
    named.write_text("multi:///tmp/vm1\nnot read\n")
    assert load_settings({"multilinks": (str(named),)}).multilinks == (MultiVnl(path="/tmp/vm1"),)


def test_paths_are_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_settings({"state": Path("x")}).state == tmp_path / "x"


def test_settings_are_frozen() -> None:
    settings = load_settings({})
    with pytest.raises(ValueError, match="frozen"):
        settings.allow = ("cmd",)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"listen": ("nonsense",)}, "--listen"),
        ({"multilinks": ("vde:///tmp/x",)}, "does not make a multilink"),
        ({"multilinks": ("/tmp/x",)}, "does not make a multilink"),
        ({"multilinks": ("multi:///tmp/x[mod=1]",)}, "unknown option"),
        ({"allow": ("a b",)}, "--allow"),
        ({"log_level": "loud"}, "--log-level"),
    ],
)
def test_a_bad_flag_is_named(flags: dict[str, object], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        load_settings(flags)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("listen = 8480", "listen in .*config.toml"),
        ('listen = ["x"]', "listen in .*config.toml"),
        ('allow_commands = ["ssh \'x"]', "split into words"),
        ('allow_commands = [""]', "cannot be empty"),
        ('allow_command = ["x"]', "no such setting"),
        ("listen = [", "not valid TOML"),
    ],
)
def test_a_bad_line_of_the_file_is_named(config: Path, text: str, words: str) -> None:
    config.write_text(text)
    with pytest.raises(SettingsError, match=words):
        load_settings({}, config=config)


def test_a_missing_file_is_an_error(config: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        load_settings({}, config=config)


def test_a_bad_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VDE_MULTILINK_LISTEN", "x")
    with pytest.raises(SettingsError, match="VDE_MULTILINK_LISTEN"):
        load_settings({})


@pytest.mark.parametrize(
    ("given", "vnl", "duplicates"),
    [
        ("", "multi:///tmp/vm1", None),
        ('duplicates = "drop"', "multi:///tmp/vm1", None),
        ('duplicates = "pass"', "multi:///tmp/vm1", PassOrDrop.PASS),
        ('duplicates = "pass"', "multi:///tmp/vm1[duplicates=drop]", PassOrDrop.DROP),
        ('duplicates = "drop"', "multi:///tmp/vm1[duplicates=pass]", PassOrDrop.PASS),
    ],
)
def test_the_default_for_duplicates(config: Path, given: str, vnl: str, duplicates: PassOrDrop | None) -> None:
    config.write_text(given)
    [multilink] = load_settings({"multilinks": (vnl,)}, config=config).multilinks
    assert multilink.duplicates is duplicates


def test_the_default_for_duplicates_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VDE_MULTILINK_DUPLICATES", "pass")
    settings = load_settings({})
    assert (settings.duplicates, settings.multilinks[0].duplicates) == (PassOrDrop.PASS, PassOrDrop.PASS)
    monkeypatch.setenv("VDE_MULTILINK_DUPLICATES", "keep")
    with pytest.raises(SettingsError, match="VDE_MULTILINK_DUPLICATES: .*'pass' or 'drop'"):
        load_settings({})
