"""This process's own stdin and stdout as a plug: how `vde-multilink plug` is the cmd:// plug of another program."""

from __future__ import annotations

import os

import trio

from app.fabric.plugs.base import Plug
from app.fabric.plugs.stream import StreamPlug

_STDIN = 0
_STDOUT = 1


class StdioPlug(StreamPlug):
    """Stdin and stdout, non-blocking while the plug is open and as they were before afterwards.

    Whether a descriptor blocks is a property of the open file, which a shell or a terminal may share: hence the
    restoring.
    """

    def __init__(self) -> None:
        super().__init__(_STDIN, _STDOUT, description="stdin and stdout")
        self._were_blocking = {fd: os.get_blocking(fd) for fd in (_STDIN, _STDOUT)}
        for fd in self._were_blocking:
            os.set_blocking(fd, False)

    async def aclose(self) -> None:
        """See `Plug.aclose`. The descriptors stay open: they are the process's, not the plug's."""
        for fd, blocking in self._were_blocking.items():
            trio.lowlevel.notify_closing(fd)
            os.set_blocking(fd, blocking)
        self._were_blocking = {}


def open_stdio_plug() -> Plug:
    """The plug for this process's stdin and stdout; there is but one of each."""
    return StdioPlug()
