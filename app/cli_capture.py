"""`vde-multilink capture`: the frames of a link as they pass, for Wireshark and its like."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import click

from app.cli_support import TeachingCommand, client_options, complete_links

if TYPE_CHECKING:
    from app.client import Client


@click.command(
    cls=TeachingCommand,
    sections={
        "Examples": """
            vde-multilink capture path1 | wireshark -k -i -
            vde-multilink capture path1 --frames 10 | tshark -r -
            vde-multilink capture path1 --seconds 60 --snaplen 64 -w path1.pcapng
        """,
    },
)
@click.argument("link", shell_complete=complete_links)
@click.option("--frames", "-c", metavar="N", type=click.IntRange(min=1), help="End after N frames.")
@click.option("--seconds", metavar="S", type=click.FloatRange(min=0, min_open=True), help="End after S seconds.")
@click.option("--snaplen", "-s", metavar="BYTES", type=click.IntRange(min=14), help="Keep so much of each frame.")
@click.option(
    "--write", "-w", "file", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False), help="Write to FILE."
)
@partial(client_options, with_json=False)
def capture(
    client: Client, link: str, frames: int | None, seconds: float | None, snaplen: int | None, file: Path | None
) -> None:
    """Capture the frames of LINK (an id or a name) as pcapng, on stdout or in a file.

    Both directions, with nanoseconds. It goes on until one of the limits, the link's end, or Ctrl-C. If what reads it
    is too slow, frames are missing from the capture, and it says how many; the network loses none.
    """
    if file is None and sys.stdout.isatty():
        raise click.UsageError(
            "a capture is not for a terminal: pipe it into a program, as in `| wireshark -k -i -`, or give -w FILE"
        )
    from app.streams import open_stream

    given = {"frames": frames, "seconds": seconds, "snaplen": snaplen}
    query = {name: f"{value}" for name, value in given.items() if value is not None}
    path = f"/links/{quote(link, safe='')}/capture"
    with ExitStack() as stack:
        response = stack.enter_context(open_stream(client.location, path, query=query))
        # Opened only now: what is refused leaves no empty file.
        try:
            output = sys.stdout.buffer if file is None else stack.enter_context(file.open("wb"))
        except OSError as error:
            raise click.ClickException(f"{file} cannot be written: {error.strerror}") from error
        try:
            for piece in response.iter_raw():
                output.write(piece)
                output.flush()
        except KeyboardInterrupt:
            return  # What is there is a whole file.
        except BrokenPipeError:
            # Nobody reads any more. Python would say so once more when it closes stdout.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
