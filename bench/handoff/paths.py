"""The paths: how each is made by the C tools, and what the service dials to make the same one.

    ssh    vde_plug vm1 = ssh … vde_plug vm2    over two addresses
    wire   wirefilter -v vm1:vm2                with a delay of 5 ms, then with one of 25 ms
    back   the same, with 25 ms first

The service's cmd:// is what comes after `=`, or `wirefilter -v -:vm2`, whose left side is its stdin and stdout.

`dpipe vde_plug vm1 = wirefilter = vde_plug vm2` would be no path to measure on. Between two pipes vde-2's
wirefilter puts frames that come in pieces together in one buffer for both directions, and so spoils some as soon as
both are busy: at 10 Mbit/s each way 1 to 3 %, with one path and no hand-off, whoever is at its ends.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.handoff.programs import await_true, run
from bench.handoff.world import WIRES, World
from bench.load import BenchError

SSH_PORT = 2222
_PRIVILEGE_SEPARATION = Path("/run/sshd")


@dataclass(frozen=True, slots=True)
class Way:
    """One of the two paths of a pair: a name, the C tools' command for it, and the locator that the service dials."""

    name: str
    command: tuple[str, ...]
    url: str


@dataclass(frozen=True, slots=True)
class PathKind:
    """A pair of paths that a load is handed off between."""

    name: str
    title: str
    needs: tuple[str, ...]
    make: Callable[[World, Path, Path], tuple[Way, Way]]

    def missing(self) -> list[str]:
        """Programs that are not installed."""
        return [name for name in self.needs if not _find(name)]


def _find(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _ssh_paths(world: World, near: Path, far: Path) -> tuple[Way, Way]:
    config = _start_sshd(world)

    def path(number: int, name: str) -> Way:
        words = ("ssh", "-F", str(config), f"ip{number}", "vde_plug", str(far))
        return Way(name, ("vde_plug", "--", str(near), "=", *words), f"cmd://{shlex.join(words)}")

    return path(1, "wifi"), path(2, "lte")


def _wire_paths(first_ms: int, second_ms: int) -> Callable[[World, Path, Path], tuple[Way, Way]]:
    def make(_world: World, near: Path, far: Path) -> tuple[Way, Way]:
        def path(delay_ms: int) -> Way:
            command = ("wirefilter", "-d", str(delay_ms), "-v")
            return Way(f"wire{delay_ms}", (*command, f"{near}:{far}"), f"cmd://{shlex.join((*command, f'-:{far}'))}")

        return path(first_ms), path(second_ms)

    return make


def _start_sshd(world: World) -> Path:
    """A private sshd in the far namespace. The answer is the configuration of ssh that reaches it as ip1 and ip2."""
    at = world.work / "ssh"
    at.mkdir(mode=0o700)
    for key in ("host", "user"):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(at / key))
    addresses = [f"{net}.2" for net in WIRES]
    host_key = " ".join((at / "host.pub").read_text().split()[:2])
    (at / "known_hosts").write_text("".join(f"[{address}]:{SSH_PORT} {host_key}\n" for address in addresses))
    listen = "".join(f"ListenAddress {address}\n" for address in addresses)
    (at / "sshd_config").write_text(
        f"Port {SSH_PORT}\n{listen}HostKey {at}/host\nAuthorizedKeysFile {at}/user.pub\n"
        f"StrictModes no\nUsePAM no\nPidFile {at}/pid\nMaxStartups 100\n"
    )
    aliases = "".join(f"Host ip{number}\n  HostName {address}\n" for number, address in enumerate(addresses, 1))
    config = at / "config"
    config.write_text(
        f"{aliases}Host *\n  Port {SSH_PORT}\n  IdentityFile {at}/user\n  UserKnownHostsFile {at}/known_hosts\n"
        "  GlobalKnownHostsFile /dev/null\n  BatchMode yes\n  StrictHostKeyChecking yes\n  IdentitiesOnly yes\n"
        "  IdentityAgent none\n  ControlMaster no\n  LogLevel ERROR\n"
    )
    _await_sshd(world, at / "sshd_config", addresses)
    return config


def _await_sshd(world: World, config: Path, addresses: list[str]) -> None:
    if not _PRIVILEGE_SEPARATION.exists():
        _PRIVILEGE_SEPARATION.mkdir(mode=0o755)
        world.stack.callback(_PRIVILEGE_SEPARATION.rmdir)
    sshd = _find("sshd")
    if sshd is None:
        raise BenchError("sshd is not installed")
    server = world.program(sshd, "-D", "-e", "-f", str(config), netns=world.far)

    def listens() -> bool:
        server.check()
        said = run("ss", "-Hltn", netns=world.far)
        return all(f"{address}:{SSH_PORT}" in said for address in addresses)

    await_true(listens, "sshd to listen")


KINDS = {
    kind.name: kind
    for kind in (
        PathKind("ssh", "ssh, two addresses", ("ssh", "sshd", "ssh-keygen", "ss"), _ssh_paths),
        PathKind("wire", "wirefilter, 5 to 25 ms", ("wirefilter",), _wire_paths(5, 25)),
        PathKind("back", "wirefilter, 25 to 5 ms", ("wirefilter",), _wire_paths(25, 5)),
    )
}
