from __future__ import annotations

from pathlib import Path

import pytest

from app.tokens import TokenError, check_token, everybody_can_read, kept_token, read_token_file


def test_a_made_token_is_private_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "token"
    with kept_token(path) as token:
        assert read_token_file(path) == token
        assert path.stat().st_mode & 0o777 == 0o600
        assert len(token) >= 43
    assert not path.exists()


def test_two_are_never_the_same(tmp_path: Path) -> None:
    with kept_token(tmp_path / "a") as first, kept_token(tmp_path / "b") as second:
        assert first != second


def test_the_token_of_a_killed_service_is_used_again(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.touch(0o600)
    path.write_text("left-behind\n")
    with kept_token(path) as token:
        assert token == "left-behind"
    assert not path.exists()


@pytest.mark.parametrize(("content", "mode"), [("known-to-all", 0o644), ("", 0o600), ("torn\0", 0o600)])
def test_one_that_others_knew_or_that_is_torn_is_replaced(tmp_path: Path, content: str, mode: int) -> None:
    path = tmp_path / "token"
    path.write_text(content)
    path.chmod(mode)
    with kept_token(path) as token:
        assert token != content
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_symlink_is_replaced_and_its_target_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("precious")
    (tmp_path / "token").symlink_to(target)
    with kept_token(tmp_path / "token"):
        assert target.read_text() == "precious"
    assert target.read_text() == "precious"


def test_white_space_around_a_token_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("  abc==\n")
    assert read_token_file(path) == "abc=="


@pytest.mark.parametrize("token", ["", " ", "a b", "a\nb", "ä", "a\r\nX-Header: b", "x" * 513])
def test_what_could_not_be_sent_is_refused_without_being_told(token: str) -> None:
    with pytest.raises(TokenError) as caught:
        check_token(token, "VARIABLE")
    assert "VARIABLE" in caught.value.detail
    assert not token.strip() or token.strip() not in caught.value.detail


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(TokenError, match="cannot be read"):
        read_token_file(tmp_path / "none")
    with pytest.raises(TokenError, match="cannot be read"):
        read_token_file(tmp_path)
    (tmp_path / "long").write_bytes(b"x" * 5000)
    with pytest.raises(TokenError, match="too long"):
        read_token_file(tmp_path / "long")


def test_who_can_read(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("x")
    path.chmod(0o640)
    assert not everybody_can_read(path)
    path.chmod(0o644)
    assert everybody_can_read(path)
