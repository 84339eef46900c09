"""What a test needs of the machine: missing, it skips with the package to install, or fails where none may skip."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final, NoReturn

import pytest

PACKAGES: Final = {
    "vde_plug": "vdeplug",
    "dpipe": "vdeplug",
    "vde_switch": "vde-switch",
    "vdens": "vdens",
    "sshd": "openssh-server",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "ip": "iproute2",
    "ping": "iputils-ping",
    "curl": "curl",
}
"""Debian's package for each program that the tests start."""


def may_skip() -> bool:
    """Whether a test may be skipped for want of something."""
    return os.environ.get("VDE_MULTILINK_REQUIRE_CLIENTS", "") in {"", "0"} and os.environ.get("CI", "") != "true"


def lacking(reason: str) -> NoReturn:
    """Skip, or fail where clients are required."""
    if may_skip():
        pytest.skip(reason)
    pytest.fail(f"{reason} (required by VDE_MULTILINK_REQUIRE_CLIENTS or CI)")


def program(name: str) -> str:
    """The absolute path of a program."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if path is None:
        package = PACKAGES.get(name)
        lacking(f"{name} is not installed: apt-get install {package}" if package else f"{name} is not installed")
    return path


def root_and_taps() -> None:
    """Namespaces and taps need both."""
    if os.geteuid() != 0:
        lacking("network namespaces and taps need root: run the tests as root, or in unshare -Urnm")
    if not Path("/dev/net/tun").exists():
        lacking("there is no /dev/net/tun: modprobe tun")
