"""`vde-multilink watch`: the multilinks, their links and hand-offs, as they change."""

from __future__ import annotations

import json
import os
import queue
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from app.cli_support import TeachingCommand, client_options

if TYPE_CHECKING:
    from app.client import Client
    from app.watch import Picture
    from app.watch_feed import EventFeed, News

REFRESH_S: Final = 2.0
"""Counters and round-trip times are asked for so often; all else comes by itself."""
AT_MOST_EVERY_S: Final = 0.2
LINKS_WITH_HISTORY: Final = 50
SVG_WIDTH: Final = 120


@click.command(
    cls=TeachingCommand,
    sections={
        "Examples": """
            vde-multilink watch
            vde-multilink watch --once                     # one picture, and done
            vde-multilink watch --svg picture.svg          # the same as an image
            vde-multilink watch --json | jq -r 'select(.event == "link_down") | .name'
        """,
    },
)
@click.option("--once", is_flag=True, help="Print one picture, and end.")
@click.option(
    "--svg",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False, writable=True),
    help="Write one picture to FILE, and end.",
)
@client_options
def watch(client: Client, once: bool, svg: Path | None, as_json: bool) -> None:
    """Show the multilinks and their links live: rates, hand-offs, events. Ctrl-C ends it.

    When the service goes away it is waited for. With --json, each event is a line of JSON, from now on; with --json
    and --once, the state of things.
    """
    from app.watch import Picture

    picture = Picture(str(client.location))
    if once or svg is not None:
        _take_past_events(client, picture)
        _take_all(client, picture)
        if as_json:
            state = {"multilinks": picture.multilinks, "links": picture.links, **client.handoffs()}
            click.echo(json.dumps(state, indent=2))
        else:
            _print_once(picture, svg)
        return
    try:
        if as_json:
            _print_events(client)
        else:
            _Watcher(client, picture).run()
    except KeyboardInterrupt:
        return


def _take_answers(client: Client, picture: Picture) -> None:
    picture.take_answers(client.multilinks()["multilinks"], client.links()["links"], client.handoffs()["handoffs"])


def _take_all(client: Client, picture: Picture) -> None:
    """The state of things, and how it has come to that.

    Raises:
        ClientError: the service cannot be asked.
    """
    from app.client import RefusedError

    _take_answers(client, picture)
    for link in picture.links[:LINKS_WITH_HISTORY]:
        try:
            picture.take_history(client.history(link["id"]))
        except RefusedError:
            continue  # It has gone meanwhile.


def _take_past_events(client: Client, picture: Picture) -> None:
    """What is still known of all that has happened: it comes at once, and before the next second's rates."""
    from app.streams import EVENTS_SILENCE_S, open_stream, read_events
    from app.watch_feed import FROM_THE_START

    headers = {"Last-Event-ID": FROM_THE_START}
    with open_stream(client.location, "/events", headers=headers, silence_s=EVENTS_SILENCE_S) as response:
        for event in read_events(response):
            if event.kind == "stats":
                return
            picture.take_event(event)


def _print_once(picture: Picture, svg: Path | None) -> None:
    from rich.console import Console

    from app.watch_view import WatchView

    if svg is None:
        in_pipe = not sys.stdout.isatty() and not os.environ.get("COLUMNS")
        Console(width=SVG_WIDTH if in_pipe else None, highlight=False).print(WatchView(picture))
        return
    with Path(os.devnull).open("w") as nowhere:
        console = Console(record=True, width=SVG_WIDTH, file=nowhere, force_terminal=True, highlight=False)
        console.print(WatchView(picture))
        image = console.export_svg(title="vde-multilink watch")
    try:
        # The fonts that rich names are on somebody's server: whoever looks at this would tell them so.
        svg.write_text(re.sub(r"@font-face \{.*?\}\s*", "", image, flags=re.DOTALL), encoding="utf-8")
    except OSError as error:
        raise click.ClickException(f"{svg} cannot be written: {error.strerror}") from error


def _print_events(client: Client) -> None:
    from app.streams import EVENTS_SILENCE_S, open_stream, read_events

    with open_stream(client.location, "/events", silence_s=EVENTS_SILENCE_S) as response:
        for event in read_events(response):
            if event.kind:
                click.echo(json.dumps(event.data))


class _Watcher:
    """The live picture.

    Args:
        client: asks the service.
        picture: what is known of it.
    """

    def __init__(self, client: Client, picture: Picture) -> None:
        self._client = client
        self._picture = picture
        self._is_stale = True
        self._asked_at = 0.0

    def run(self) -> None:
        """Draw until interrupted.

        Raises:
            ClientError: there is no service to begin with.
        """
        from rich.console import Console
        from rich.live import Live

        from app.watch_feed import EventFeed
        from app.watch_view import WatchView

        _take_all(self._client, self._picture)
        feed = EventFeed(self._client.location)
        feed.start()
        console = Console(highlight=False)
        try:
            with Live(
                WatchView(self._picture), console=console, screen=console.is_terminal, auto_refresh=False
            ) as live:
                while True:
                    live.refresh()
                    self._wait(feed)
                    self._ask()
        finally:
            feed.stop()

    def _wait(self, feed: EventFeed) -> None:
        """Take in what has come, at once or within a second; and what comes with it."""
        try:
            self._take(feed.news.get(timeout=1))
            time.sleep(AT_MOST_EVERY_S)
            while True:
                self._take(feed.news.get_nowait())
        except queue.Empty:
            return

    def _take(self, news: News) -> None:
        from app.watch_feed import Connected, Lost

        picture = self._picture
        if isinstance(news, Lost):
            if not picture.lost:
                picture.note(f"{news.reason}: waiting for it to come back", "bad")
            picture.lost = f"{news.reason}: trying again"
        elif isinstance(news, Connected):
            if picture.lost:
                picture.note("the service is back", "good")
            picture.lost, self._is_stale = "", True
        elif picture.take_event(news):
            self._is_stale = True

    def _ask(self) -> None:
        from app.client import ClientError

        if self._picture.lost or not (self._is_stale or time.monotonic() - self._asked_at > REFRESH_S):
            return
        try:
            _take_answers(self._client, self._picture)
        except ClientError:
            return  # The feed will say so, and why.
        self._is_stale, self._asked_at = False, time.monotonic()


__all__: list[Any] = ["watch"]
