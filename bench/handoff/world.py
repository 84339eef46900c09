"""Two machines in one: two network namespaces with a tap each, and two wires between them.

    namespace A                          namespace B
    t0 10.88.0.1 — vm1 … the paths under test … vm2 — t0 10.88.0.2
    w1 10.88.1.1 ————————— veth ————————— w1 10.88.1.2
    w2 10.88.2.1 ————————— veth ————————— w2 10.88.2.2       sshd listens on both addresses of B

Whatever runs at one end of a path runs in the namespace of that end; Unix sockets cross namespaces by their names.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from bench.handoff.programs import Program, await_true, run
from bench.load import BenchError

TAP = "t0"
NEAR, FAR = "10.88.0.1", "10.88.0.2"
WIRES = ("10.88.1", "10.88.2")
NEEDED = ("ip", "vde_plug", "ping")
_WORLDS = count()


@dataclass(slots=True)
class World:
    """The two namespaces, and a directory for the files of a run."""

    near: str
    far: str
    work: Path
    stack: ExitStack
    _logs: Iterator[int] = field(default_factory=count)

    def program(self, *command: str, netns: str | None = None, pipes: bool = False) -> Program:
        """Starts a program, ended with the world at the latest."""
        program = Program(command, log=self.log(Path(command[0]).name), netns=netns, pipes=pipes)
        self.stack.callback(program.stop)
        return program

    def log(self, name: str) -> Path:
        """A new file for what a program says."""
        return self.work / f"log{next(self._logs)}-{name}"

    def answers(self) -> bool:
        """Whether the far host answers a ping."""
        command = ["ip", "netns", "exec", self.near, "ping", "-n", "-q", "-c", "1", "-W", "0.3", FAR]
        return subprocess.run(command, check=False, capture_output=True).returncode == 0

    def await_answer(self) -> None:
        """Waits until the far host answers a ping: the first path carries.

        Raises:
            BenchError: it does not in time.
        """
        await_true(self.answers, "an answer over the first path")


@contextmanager
def open_world(tap_queue: int | None = None) -> Iterator[World]:
    """Two namespaces and a directory, removed afterwards with whatever still runs in them.

    Args:
        tap_queue: how many frames the kernel keeps for the reader of a tap; None leaves it as it is (1,000).

    Raises:
        BenchError: this takes root, taps and the programs.
    """
    if os.geteuid() or not Path("/dev/net/tun").exists():
        raise BenchError("hand-offs are measured between network namespaces: that takes root and /dev/net/tun")
    if missing := [name for name in NEEDED if not shutil.which(name)]:
        raise BenchError(f"not installed: {', '.join(missing)}")
    with ExitStack() as outer:
        work = Path(tempfile.mkdtemp(prefix="mlh", dir="/tmp"))
        outer.callback(shutil.rmtree, work, ignore_errors=True)
        # Other users' clients have to reach nothing here: 0700 as mkdtemp makes it.
        number = next(_WORLDS)
        near, far = (f"mlh{os.getpid()}-{number}{end}" for end in "ab")
        for name in (near, far):
            run("ip", "netns", "add", name)
            outer.callback(_remove_namespace, name)
        _connect(near, far)
        for name, address in ((near, NEAR), (far, FAR)):
            _add_tap(name, address)
            if tap_queue is not None:
                run("ip", "-n", name, "link", "set", TAP, "txqueuelen", str(tap_queue))
        with ExitStack() as stack:
            yield World(near, far, work, stack)


def _connect(near: str, far: str) -> None:
    for number, net in enumerate(WIRES, 1):
        run("ip", "-n", near, "link", "add", f"w{number}", "type", "veth", "peer", "name", f"w{number}", "netns", far)
        for name, host in ((near, 1), (far, 2)):
            run("ip", "-n", name, "address", "add", f"{net}.{host}/24", "dev", f"w{number}")
            run("ip", "-n", name, "link", "set", f"w{number}", "up")


def _add_tap(name: str, address: str) -> None:
    # No router solicitations and the like among the frames that are counted.
    run("sysctl", "-q", "-w", "net.ipv6.conf.all.disable_ipv6=1", netns=name)
    run("sysctl", "-q", "-w", "net.ipv6.conf.default.disable_ipv6=1", netns=name)
    run("ip", "-n", name, "tuntap", "add", TAP, "mode", "tap")
    run("ip", "-n", name, "address", "add", f"{address}/24", "dev", TAP)
    run("ip", "-n", name, "link", "set", TAP, "up")
    run("ip", "-n", name, "link", "set", "lo", "up")


def _remove_namespace(name: str) -> None:
    left = subprocess.run(["ip", "netns", "pids", name], check=False, capture_output=True, text=True).stdout.split()
    for pid in left:  # such as the sessions of sshd, which are no children of ours
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    subprocess.run(["ip", "netns", "delete", name], check=False)
