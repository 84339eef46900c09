"""A private sshd on 127.0.0.2 and 127.0.0.3 with keys and configuration of its own: two paths to one machine."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from tests.e2e.harness import proc, require
from tests.e2e.harness.netns import run
from tests.e2e.harness.programs import Program
from tests.e2e.harness.waiting import wait_until

ADDRESSES: Final = {"ip1": "127.0.0.2", "ip2": "127.0.0.3"}
_PRIVILEGE_SEPARATION: Final = Path("/run/sshd")


class SshServer:
    """The server, and the client configuration that reaches it as `ip1` and `ip2`.

    Args:
        directory: a fresh one, for keys and configuration.
        start: starts a program for the test.
    """

    def __init__(self, directory: Path, start: Callable[[Sequence[str]], Program]) -> None:
        self.config = directory / "ssh_config"
        self._directory = directory
        self._start = start
        directory.mkdir(mode=0o700)
        for key in ("host", "user"):
            run([require.program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", str(directory / key)])
        self.port = _free_port()
        self._made_directory = False
        if os.geteuid() == 0 and not _PRIVILEGE_SEPARATION.exists():
            _PRIVILEGE_SEPARATION.mkdir(mode=0o755)
            self._made_directory = True
        self._write()
        self.server = self._serve()

    def command(self, alias: str, remote: str) -> str:
        """The ssh command line that runs `remote` over the path `alias`."""
        return f"{require.program('ssh')} -F {self.config} {alias} {remote}"

    def sessions(self) -> list[int]:
        """The processes that serve clients just now, remote commands included."""
        return proc.descendants(self.server.pid)

    def stop(self) -> None:
        """The server and everything in its sessions killed: all paths are gone at once."""
        family = [self.server.pid, *self.sessions()]
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.server.wait()
        wait_until(lambda: not any(proc.is_alive(pid) for pid in family), "sshd's sessions to end")

    def close(self) -> None:
        """End it, and leave nothing."""
        self.stop()
        if self._made_directory:
            _PRIVILEGE_SEPARATION.rmdir()

    def _serve(self) -> Program:
        server = self._start(
            [require.program("sshd"), "-D", "-e", "-f", str(self._directory / "sshd_config")],
        )
        wait_until(lambda: all(map(self._listens, ADDRESSES.values())) or not server.running, "sshd to listen")
        assert server.running, server.output()
        return server

    def _listens(self, address: str) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((address, self.port)) == 0

    def _write(self) -> None:
        at = self._directory
        authorized = (at / "user.pub").read_text(encoding="ascii")
        (at / "authorized_keys").write_text(authorized, encoding="ascii")
        host_key = " ".join((at / "host.pub").read_text(encoding="ascii").split()[:2])
        known = "".join(f"[{address}]:{self.port} {host_key}\n" for address in ADDRESSES.values())
        (at / "known_hosts").write_text(known, encoding="ascii")
        listen = "".join(f"ListenAddress {address}\n" for address in ADDRESSES.values())
        (at / "sshd_config").write_text(
            f"Port {self.port}\n{listen}HostKey {at}/host\nAuthorizedKeysFile {at}/authorized_keys\n"
            f"StrictModes no\nUsePAM no\nPidFile {at}/sshd.pid\nMaxStartups 100\n",
            encoding="ascii",
        )
        aliases = "".join(
            f"Host {alias}\n  HostName {address}\n  BindAddress {address}\n" for alias, address in ADDRESSES.items()
        )
        self.config.write_text(
            f"{aliases}Host *\n  Port {self.port}\n  IdentityFile {at}/user\n  UserKnownHostsFile {at}/known_hosts\n"
            "  GlobalKnownHostsFile /dev/null\n  BatchMode yes\n  StrictHostKeyChecking yes\n  IdentitiesOnly yes\n"
            "  IdentityAgent none\n  ControlMaster no\n",
            encoding="ascii",
        )


def _free_port() -> int:
    """One that is free on both addresses."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind((ADDRESSES["ip1"], 0))
            port: int = first.getsockname()[1]
            try:
                second.bind((ADDRESSES["ip2"], port))
            except OSError:
                continue
            return port
