"""cmd://COMMAND: a program's stdin and stdout carry the frames, in stream framing.

The program is found on PATH and started without a shell, in a session of its own, and ended with everything it has
started when the plug closes. What it says on stderr is kept for people: the last words become the link's `detail`.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
from functools import partial
from typing import Final, NoReturn

import trio

from app.fabric.errors import ConnectError, PlugClosedError
from app.fabric.handshake import sanitise
from app.fabric.mmsg import Batch
from app.fabric.plugs.base import Plug, register_plug
from app.fabric.plugs.stream import StreamPlug
from app.fabric.processes import ProcessEntry, any_alive, process_family, signal_processes
from app.fabric.vnl import CmdVnl, Vnl

PIPE_SIZE: Final = 1 << 20
"""The most that an unprivileged process may give a pipe by default (fs.pipe-max-size)."""
TERM_GRACE_S: Final = 0.4
"""Between SIGTERM and SIGKILL: a service has to be gone within two seconds, its children included."""
EXIT_GRACE_S: Final = 0.4
"""How long a program that closed its stdout is given to exit, so that its status can be told."""
_STDERR_KEPT: Final = 2048
_REMARK_SIZE: Final = 300
_POLL_S: Final = 0.02


class CmdPlug(StreamPlug):
    """A child process as a plug."""

    def __init__(self, process: trio.Process, program: str) -> None:
        if process.stdin is None or process.stdout is None or process.stderr is None:
            raise ValueError("a process with three pipes is due")
        self._stdin = process.stdin
        self._stdout = process.stdout
        self._stderr = process.stderr
        super().__init__(_fileno(self._stdout), _fileno(self._stdin), description=f"{program} (pid {process.pid})")
        self._process = process
        self._program = program
        self._stream_ended = trio.Event()
        self._last_words = b""
        self._is_closed = False
        for fd in (self._read_fd, self._write_fd):
            _enlarge_pipe(fd)

    def receive(self, batch: Batch) -> None:
        """See `Plug.receive`. At the end of the stream `wait_ended` speaks, because it can tell the exit status."""
        try:
            super().receive(batch)
        except PlugClosedError as error:
            self._stream_has_ended(error)

    def send(self, batch: Batch, start: int, end: int) -> int:
        """See `Plug.send`. A program that has closed its stdin takes nothing more: see `receive`."""
        try:
            return super().send(batch, start, end)
        except PlugClosedError:
            self._stream_ended.set()
            return 0

    async def wait_readable(self) -> None:
        """See `Plug.wait_readable`."""
        if self._stream_ended.is_set():
            await trio.sleep_forever()
        await super().wait_readable()

    async def wait_writable(self) -> None:
        """See `Plug.wait_writable`."""
        if self._stream_ended.is_set():
            await trio.sleep_forever()
        await super().wait_writable()

    async def wait_ended(self) -> str:
        """Read stderr, and return when the program has exited or has closed one of its ends."""
        async with trio.open_nursery() as nursery:
            stderr_done = trio.Event()
            nursery.start_soon(self._read_stderr, stderr_done)
            await self._wait_exit_or_end()
            with trio.move_on_after(EXIT_GRACE_S):
                await stderr_done.wait()  # Children may hold stderr open for longer: hence the limit.
            nursery.cancel_scope.cancel()
        reason = self._how_it_ended()
        return f"{reason}: {self.remark}" if self.remark else reason

    async def aclose(self) -> None:
        """See `Plug.aclose`: SIGTERM, a grace, SIGKILL, to the program and to whatever it has started."""
        if self._is_closed:
            return
        self._is_closed = True
        # Bounded by TERM_GRACE_S, and no cancellation may leave a process behind.
        with trio.CancelScope(shield=True):
            family = await self._family()
            for stream in (self._stdin, self._stdout, self._stderr):
                await trio.aclose_forcefully(stream)
            signal_processes(family, signal.SIGTERM)
            if not await self._all_gone(family, TERM_GRACE_S):
                family = await self._family()
                signal_processes(family, signal.SIGKILL)
                await self._all_gone(family, TERM_GRACE_S)

    async def _family(self) -> list[ProcessEntry]:
        is_reaped = self._process.returncode is not None
        # A thread: reading all of /proc takes milliseconds, and frames are waiting.
        return await trio.to_thread.run_sync(partial(process_family, self._process.pid, is_reaped=is_reaped))

    async def _all_gone(self, family: list[ProcessEntry], limit_s: float) -> bool:
        with trio.move_on_after(limit_s):
            await self._process.wait()
            while any_alive(family):  # noqa: ASYNC110 -- grandchildren are nobody's to wait for but init's
                await trio.sleep(_POLL_S)
            return True
        return False

    async def _wait_exit_or_end(self) -> None:
        async with trio.open_nursery() as nursery:

            async def end_of_stream() -> None:
                await self._stream_ended.wait()
                await trio.sleep(EXIT_GRACE_S)
                nursery.cancel_scope.cancel()

            nursery.start_soon(end_of_stream)
            await self._process.wait()
            nursery.cancel_scope.cancel()

    async def _read_stderr(self, done: trio.Event) -> None:
        try:
            async for piece in self._stderr:
                self._last_words = (self._last_words + bytes(piece))[-_STDERR_KEPT:]
                lines = [line for line in self._last_words.replace(b"\r", b"\n").split(b"\n") if line.strip()]
                self.remark = sanitise(b"; ".join(lines[-3:]))[-_REMARK_SIZE:]
        except trio.BrokenResourceError:
            pass
        done.set()

    def _stream_has_ended(self, error: PlugClosedError) -> NoReturn:
        self._stream_ended.set()
        raise BlockingIOError(str(error)) from error

    def _how_it_ended(self) -> str:
        status = self._process.returncode
        if status is None:
            return f"{self._program} closed its end of the frames but has not exited"
        if status < 0:
            return f"{self._program} was ended by {_signal_name(-status)}"
        return f"{self._program} exited with status {status}"


async def open_cmd_plug(vnl: Vnl) -> Plug:
    """Start the program.

    Raises:
        ConnectError: it is not found, or cannot be started.
    """
    if not isinstance(vnl, CmdVnl):
        raise TypeError(f"a cmd:// locator is due, not {vnl!r}")
    program = vnl.argv[0]
    try:
        process = await trio.lowlevel.open_process(
            list(vnl.argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise ConnectError(f"the program {program} is not on this service's PATH") from error
    except OSError as error:
        raise ConnectError(f"the program {program} cannot be started: {error.strerror}") from error
    return CmdPlug(process, os.path.basename(program))


def _fileno(stream: trio.abc.Stream | trio.abc.SendStream | trio.abc.ReceiveStream) -> int:
    if not isinstance(stream, trio.lowlevel.FdStream):
        raise TypeError("trio's process API gives FdStreams on unix")
    return stream.fileno()


def _enlarge_pipe(fd: int) -> None:
    try:
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
    except OSError:
        return  # Past the user's pipe-user-pages-soft, or no pipe: 64 KiB work too, only less smoothly.


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


register_plug("cmd", open_cmd_plug)
