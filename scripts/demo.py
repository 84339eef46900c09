"""The whole story in under a minute, without root: two networks, a ping, a second path, a hand-off.

    make demo
    make demo ARGS=--keep       leave the service running afterwards, to be looked at, until Ctrl-C

Everything is below one temporary directory, on a free port, and gone at the end, also after Ctrl-C. The hosts are
vdens: a namespace each, whose interface vde0 is the host of a multilink.
"""
# ruff: noqa: S603, S607 -- the hosts are programs, found on PATH as users have them

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
COMMAND: Final = (sys.executable, "-m", "app")
NEAR, FAR = "10.11.12.1", "10.11.12.2"
PATIENCE_S: Final = 20.0
PACE_S: Final = 1.0
"""For people to read along."""


class DemoError(Exception):
    """Something is missing, or has not come about."""


class Demo:
    """What runs, and how it is told.

    Args:
        place: a directory of its own, with a short name: a socket's address has 107 bytes.
        stack: ends what was started.
    """

    def __init__(self, place: Path, stack: ExitStack) -> None:
        self.place = place
        self._stack = stack
        self._environment = {
            name: value for name, value in os.environ.items() if not name.startswith("VDE_MULTILINK_")
        } | {"VDE_MULTILINK_RUNTIME_DIR": str(place / "run"), "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}

    def start(self, log: str, *argv: str) -> subprocess.Popen[bytes]:
        """Start a program in a process group of its own, ended with all its children at the end."""
        with (self.place / log).open("wb") as output:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment,
                process_group=0,
            )
        self._stack.callback(_end, process)
        return process

    def log(self, name: str) -> str:
        """What a program has said so far."""
        return (self.place / name).read_text(encoding="utf-8", errors="replace")

    def command(self, *words: str) -> None:
        """Run one of our commands, shown as a user would type it."""
        say(f"\n$ vde-multilink {shlex.join(words)}", style="1")
        done = subprocess.run([*COMMAND, *words], env=self._environment, check=False)
        if done.returncode:
            raise DemoError(f"that has failed (exit code {done.returncode})")

    def ask(self, *words: str) -> Any:
        """What one of our commands answers as JSON."""
        argv = [*COMMAND, *words, "--json"]
        done = subprocess.run(argv, env=self._environment, check=True, capture_output=True)
        return json.loads(done.stdout)

    def host(self, name: str, address: str, *argv: str) -> subprocess.Popen[bytes]:
        """A vdens host of the multilink `name`: a namespace in which `argv` runs once vde0 is up."""
        setup = f"ip link set lo up; ip link set vde0 up; ip addr add {address}/24 dev vde0; exec {shlex.join(argv)}"
        return self.start(f"{name}.log", "vdens", f"vde://{self.place}/{name}[host]", "sh", "-c", setup)


def main() -> int:
    """Tell the story; 1 if it went wrong, 130 after Ctrl-C."""
    arguments = argparse.ArgumentParser(prog="make demo", description=__doc__.partition("\n")[0])
    arguments.add_argument("--keep", action="store_true", help="leave the service running until Ctrl-C")
    keep: bool = arguments.parse_args().keep
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        with ExitStack() as stack:
            place = Path(tempfile.mkdtemp(prefix="vml-"))
            stack.callback(shutil.rmtree, place, ignore_errors=True)
            return tell(Demo(place, stack), keep=keep)
    except KeyboardInterrupt:
        say("\nStopped; everything is cleaned up.")
        return 130
    except (DemoError, subprocess.CalledProcessError) as error:
        sys.stderr.write(f"The demo has failed: {error}\n")
        return 1


def tell(demo: Demo, *, keep: bool) -> int:
    """The story itself; 0 if nothing was lost and nothing came twice."""
    check_machine()
    vm1, vm2 = demo.place / "vm1", demo.place / "vm2"
    say("A service with two multilinks, vm1 and vm2, each with a host of its own.", style="1;36")
    service = demo.start(
        "service.log",
        *(*COMMAND, "serve", f"multi://{vm1}", f"multi://{vm2}", "--listen", "127.0.0.1:0"),
        *("--state", str(demo.place / "state"), "--log-level", "warning"),
    )
    wait_until(lambda: "dashboard: " in demo.log("service.log"), "the service", service, demo, "service.log")
    url = re.search(r"dashboard: (\S+)", demo.log("service.log"))
    assert url is not None  # noqa: S101 -- it has just been seen
    demo.host("vm2", FAR, "sleep", "3600")
    wait_until(lambda: hosts_attached(demo) >= 1, "the host of vm2", service, demo, "vm2.log")
    ping = demo.host("vm1", NEAR, "ping", "-n", "-i", "0.02", FAR)
    wait_until(lambda: hosts_attached(demo) == 2, "the host of vm1", service, demo, "vm1.log")
    demo.command("status")
    say(f"\nIn vm1, ping {FAR} every 20 ms. There is no path yet. The first one:", style="1;36")
    demo.command("add", str(vm2), "--multilink", "vm1", "--name", "wifi")
    wait_until(lambda: "bytes from" in demo.log("vm1.log"), "the first answer", ping, demo, "vm1.log")
    say("\nThe answers come:", style="1;36")
    time.sleep(PACE_S)
    for line in [line for line in demo.log("vm1.log").splitlines() if "bytes from" in line][-3:]:
        say(f"  {line}")
    time.sleep(PACE_S)
    say("\nNow vm1 moves to another path, while ping goes on. What would be done:", style="1;36")
    handoff = ("handoff", "--to", str(vm2), "--name", "lte", "--multilink", "vm1", "--verify", FAR, "--overlap", "2")
    demo.command(*handoff, "--plan")
    time.sleep(PACE_S)
    say("\nAnd done:", style="1;36")
    demo.command(*handoff)
    time.sleep(PACE_S)
    demo.command("links", "--multilink", "vm1")
    sent, lost, twice = stop_ping(demo, ping)
    say(f"\nping has asked {sent} times since the first answer:", style="1;36")
    good = lost == 0 and twice == 0
    say(f"  {lost} lost, {twice} came twice", style="1;32" if good else "1;31")
    if keep:
        say(f"\nThe service runs on: look at {url[1]}", style="1;36")
        say(f"  its commands: VDE_MULTILINK_RUNTIME_DIR={demo.place}/run vde-multilink links")
        say("  Ctrl-C ends it.")
        service.wait()
    else:
        say(f"\nThe service was to be seen at {url[1].partition('#')[0]}: make demo ARGS=--keep leaves it running.")
    return 0 if good else 1


def check_machine() -> None:
    """Refuse to begin where something is missing.

    Raises:
        DemoError: saying what, and where to get it.
    """
    for program, package in {"vdens": "vdens", "ping": "iputils-ping", "ip": "iproute2"}.items():
        if shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is None:
            raise DemoError(f"{program} is not installed: apt-get install {package}")
    if subprocess.run(["unshare", "-Urn", "true"], check=False, capture_output=True).returncode:
        raise DemoError(
            "this machine lets you make no namespaces: sysctl kernel.unprivileged_userns_clone=1, or be root"
        )
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        raise DemoError(
            "you may not use /dev/net/tun, which vdens needs: as root, modprobe tun; chmod 0666 /dev/net/tun"
        )


def hosts_attached(demo: Demo) -> int:
    """How many of the multilinks have their host."""
    return sum(multilink["host"]["state"] == "attached" for multilink in demo.ask("status")["multilinks"])


def replies(demo: Demo) -> list[int]:
    """The sequence numbers of all answers so far, doubles included."""
    return [int(number) for number in re.findall(r"icmp_seq=(\d+) ttl", demo.log("vm1.log"))]


def stop_ping(demo: Demo, ping: subprocess.Popen[bytes]) -> tuple[int, int, int]:
    """End ping; how often it asked from its first answer to its last, and how many were lost and came twice."""
    os.killpg(ping.pid, signal.SIGINT)
    ping.wait(PATIENCE_S)
    answered = replies(demo)
    asked = range(min(answered), max(answered) + 1)
    return len(asked), len(set(asked) - set(answered)), len(answered) - len(set(answered))


def wait_until(
    condition: Callable[[], object], what: str, process: subprocess.Popen[bytes], demo: Demo, log: str
) -> None:
    """Return once `condition` holds.

    Raises:
        DemoError: it does not, or the process has ended.
    """
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            raise DemoError(f"{what} has not come about: {demo.log(log).strip() or 'nothing was said'}")
        time.sleep(0.05)


def say(text: str, *, style: str = "") -> None:
    """Print a line, emphasised on a terminal."""
    sys.stdout.write(f"\033[{style}m{text}\033[0m\n" if style and sys.stdout.isatty() else f"{text}\n")
    sys.stdout.flush()


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a program and its process group."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(3)


if __name__ == "__main__":
    sys.exit(main())
