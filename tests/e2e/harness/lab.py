"""Everything that one test starts or makes, ended and removed with it; and the proof that nothing is left."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.e2e.harness import proc, require
from tests.e2e.harness.flow import Flow
from tests.e2e.harness.netns import Namespace
from tests.e2e.harness.programs import Program
from tests.e2e.harness.raw import RawClient, frame
from tests.e2e.harness.service import COMMAND, Service, command_environment
from tests.e2e.harness.sshd import SshServer
from tests.e2e.harness.waiting import wait_until


class Lab:
    """The resources of a test. On exit they are closed, last first, and anything left over is a failure."""

    def __init__(self) -> None:
        # Short, because a unix socket's address has 107 bytes; readable by clients of other users.
        self.root = Path(tempfile.mkdtemp(prefix="ml-", dir="/tmp"))
        self.root.chmod(0o755)
        self._mark = f"ml{secrets.token_hex(6)}"
        self._logs = self.root / "logs"
        self._logs.mkdir()
        self._programs: list[Program] = []
        self.services: list[Service] = []
        self.hosts: list[RawClient] = []
        self.witnesses: list[RawClient] = []
        """The raw clients between which frames flow."""
        self._stack = ExitStack()

    # Programs.

    def start(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        stdin: int | None = None,
        stdout: int | None = None,
        umask: int = -1,
    ) -> Program:
        """Start a program (found on PATH, or skip); it is ended with all its children at the end of the test."""
        number = len(self._programs)
        program = Program(
            [require.program(argv[0]), *argv[1:]],
            mark=f"{self._mark}.{number}.",
            log=self._logs / f"{number}-{Path(argv[0]).name}",
            env=command_environment() if env is None else env,
            stdin=stdin,
            stdout=stdout,
            umask=umask,
        )
        self._programs.append(program)
        self._stack.callback(program.close)
        return program

    def run(
        self, *argv: str, env: Mapping[str, str] | None = None, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end."""
        environment = {**(command_environment() if env is None else env), proc.MARK_VARIABLE: f"{self._mark}.run."}
        return subprocess.run(
            [require.program(argv[0]), *argv[1:]],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            env=environment,
            check=False,
        )

    def command(self, service: Service, *words: str) -> subprocess.CompletedProcess[str]:
        """Run one of our commands against `service`."""
        return self.run(*COMMAND, *words, "--runtime-dir", str(service.runtime_dir))

    def c_multi(self, vnl: str, *, umask: int = -1) -> Program:
        """The C module's multilink, its host on stdin and stdout; returns once its `ctl` is there."""
        path = Path(vnl.removeprefix("multi://").partition("[")[0])
        plug = self.start(["vde_plug", vnl], umask=umask)
        wait_until(lambda: os.path.lexists(path / "ctl") or not plug.running, "the C multi://")
        assert plug.running, f"the C multi:// has not started: {plug.output()}"
        return plug

    # The service.

    def service(self, *arguments: str, home: Path | None = None, prefix: Sequence[str] = ()) -> Service:
        """Start one, perhaps through a program such as `ip netns exec`; at the end it has to stop cleanly."""
        if home is None:
            home = self.root / f"s{len(self.services) + 1}"
        service = Service(lambda argv: self.start([*prefix, *argv]), home, arguments)
        self.services.append(service)
        self._stack.callback(service.close)
        return service

    # Peers.

    def client(
        self, directory: Path, door: str = "ctl", *, description: str = "raw", pieces: tuple[int, ...] = ()
    ) -> RawClient:
        """A raw client that has joined, and for which frames flow."""
        client = self._stack.enter_context(RawClient(directory, door, description=description, pieces=pieces))
        # A client has its answer a moment before its link is up.
        for service in self.services:
            if service.program.running:
                service.wait_none_connecting()
        return client

    def flow(self, directory: Path, links: int = 3) -> Flow:
        """Frames that flow between a raw host and raw links."""
        self.hosts.append(self.client(directory, "host"))
        witnesses = [self.client(directory, description=f"witness-{at}") for at in range(links)]
        self.witnesses += witnesses
        # A client has its answer a moment before the host's frames go to it.
        wait_until(lambda: all(_hears(self.hosts[-1], each) for each in witnesses), "the links to hear the host")
        time.sleep(0.1)
        for witness in witnesses:
            witness.pending()
        flow = Flow(self.hosts[-1], witnesses)
        self._stack.callback(flow.abandon)
        return flow

    def namespace(self) -> Namespace:
        """A network namespace."""
        namespace = Namespace()
        self._stack.callback(namespace.close)
        return namespace

    def tapped_namespace(self, address: str, *vnl: str) -> tuple[Namespace, Program]:
        """A namespace whose tap `t0` has `address/24`, and the vde_plug between the tap and `vnl`."""
        namespace = self.namespace()
        namespace.add_tap("t0", f"{address}/24")
        return namespace, self.start(namespace.inside(require.program("vde_plug"), "tap://t0", *vnl))

    def ssh_server(self) -> SshServer:
        """A private sshd on two addresses."""
        require.program("vde_plug")
        server = SshServer(self.root / "ssh", lambda argv: self.start(argv))  # noqa: PLW0108 -- as the type says
        self._stack.callback(server.close)
        return server

    def ping(self, namespace: Namespace, address: str, interval_s: float = 0.02) -> Program:
        """A ping that goes on until it is ended by `stop_ping`."""
        ping = require.program("ping")
        return self.start(namespace.inside(ping, "-n", "-i", str(interval_s), address))

    # The end.

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            with self._stack:
                if kind is not None:
                    self._show_logs()
        except BaseException:
            if kind is None:
                self._show_logs()
            raise
        finally:
            shutil.rmtree(self.root)
        left = proc.marked_pids(self._mark, exactly=False)
        assert not left, f"processes are left: {left}"
        assert not os.path.lexists(self.root)
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8")
        assert str(self.root) not in mounts, "a mount is left"

    def _show_logs(self) -> None:
        """For pytest to show with the failure."""
        for program in self._programs:
            text = program.output().strip()
            print(f"--- {program}\n{text[-4000:]}")


def _hears(host: RawClient, link: RawClient) -> bool:
    host.send(frame(0, 0xFFFF))
    try:
        return bool(link.receive(0.2))
    except TimeoutError:
        return False
