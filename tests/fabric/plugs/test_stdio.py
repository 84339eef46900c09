from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import trio

from app.fabric.errors import PlugClosedError
from app.fabric.framing import encode_frame
from app.fabric.mmsg import Batch
from app.fabric.plugs import stdio
from tests.fakes import PATIENCE_S, frame_of


@pytest.fixture
def pipes(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, int]]:
    """The far ends of what the plug takes for stdin and stdout: pytest needs its own."""
    stdin, far_write = os.pipe()
    far_read, stdout = os.pipe()
    monkeypatch.setattr(stdio, "_STDIN", stdin)
    monkeypatch.setattr(stdio, "_STDOUT", stdout)
    yield far_read, far_write
    for fd in (stdin, stdout, far_read):
        os.close(fd)
    try:
        os.close(far_write)
    except OSError:
        assert True  # A test has closed it.


async def test_frames_go_in_and_out(pipes: tuple[int, int]) -> None:
    far_read, far_write = pipes
    plug, batch = stdio.open_stdio_plug(), Batch()
    os.write(far_write, encode_frame(frame_of(1)) + encode_frame(frame_of(2)))
    with trio.fail_after(PATIENCE_S):
        await plug.wait_readable()
    plug.receive(batch)
    assert [bytes(batch.frame(at)) for at in range(batch.frames)] == [frame_of(1), frame_of(2)]
    assert plug.send(batch, 0, 2) == 2
    assert os.read(far_read, 1000) == encode_frame(frame_of(1)) + encode_frame(frame_of(2))
    await plug.aclose()


async def test_descriptors_do_not_block_while_it_is_open_and_are_as_before_afterwards(pipes: tuple[int, int]) -> None:
    os.set_blocking(stdio._STDOUT, False)
    plug = stdio.open_stdio_plug()
    assert (os.get_blocking(stdio._STDIN), os.get_blocking(stdio._STDOUT)) == (False, False)
    await plug.aclose()
    assert (os.get_blocking(stdio._STDIN), os.get_blocking(stdio._STDOUT)) == (True, False)
    os.set_blocking(stdio._STDIN, False)
    await plug.aclose()
    assert not os.get_blocking(stdio._STDIN), "a second call does nothing"


async def test_the_end_of_stdin_is_the_end(pipes: tuple[int, int]) -> None:
    plug = stdio.open_stdio_plug()
    os.close(pipes[1])
    with trio.fail_after(PATIENCE_S):
        await plug.wait_readable()
    with pytest.raises(PlugClosedError, match="closed the stream"):
        plug.receive(Batch())
    await plug.aclose()
