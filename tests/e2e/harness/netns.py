"""Network namespaces with names of their own, and taps in them."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Sequence

from tests.e2e.harness import require


def run(argv: Sequence[str], *, limit_s: float = 30) -> subprocess.CompletedProcess[str]:
    """Run a short command to its end, and fail with what it said if it fails."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=limit_s, check=False)
    assert done.returncode == 0, f"{' '.join(argv)}: {done.stdout}{done.stderr}"
    return done


class Namespace:
    """One network namespace, from construction until `close`."""

    def __init__(self) -> None:
        require.root_and_taps()
        self._ip = require.program("ip")
        self.name = f"ml-{secrets.token_hex(4)}"
        run([self._ip, "netns", "add", self.name])
        self.ip("link", "set", "lo", "up")

    def ip(self, *words: str) -> None:
        """An `ip` command in the namespace."""
        run([self._ip, "-n", self.name, *words])

    def add_tap(self, tap: str, address: str) -> None:
        """A tap interface that is up and has `address` (with its prefix length)."""
        self.ip("tuntap", "add", tap, "mode", "tap")
        self.configure(tap, address)

    def configure(self, interface: str, address: str) -> None:
        """Give an interface an address and set it up."""
        self.ip("addr", "add", address, "dev", interface)
        self.ip("link", "set", interface, "up")

    def inside(self, *argv: str) -> list[str]:
        """The command that runs `argv` in the namespace, under the same pid."""
        return [self._ip, "netns", "exec", self.name, *argv]

    def answers(self, address: str) -> bool:
        """Whether one ping from here to `address` is answered."""
        ping = self.inside(require.program("ping"), "-n", "-c", "1", "-W", "1", address)
        return subprocess.run(ping, capture_output=True, timeout=30, check=False).returncode == 0

    @property
    def exists(self) -> bool:
        """Whether the kernel has it."""
        return self.name in run([self._ip, "netns", "list"]).stdout.split()

    def close(self) -> None:
        """Remove it, and what is in it."""
        run([self._ip, "netns", "del", self.name])
        assert not self.exists
