"""`vde-multilink handoff` and `vde-multilink set`: moving a host, and what can be changed of a link."""

from __future__ import annotations

import ipaddress
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Literal

import click

from app.cli_support import (
    TeachingCommand,
    absolute_vnl,
    client_options,
    complete_links,
    complete_multilinks,
    print_json,
)

if TYPE_CHECKING:
    from app.client import Client, Handoff, MonitorSpec

POLL_S: Final = 0.1
SECONDS: Final = "SECONDS"


def _verify(_ctx: click.Context, _param: click.Parameter, value: str | None) -> Any:
    """auto, none, frames=N or an address, as the API takes it."""
    if value is None or value in {"auto", "none"}:
        return value
    word, equals, number = value.partition("=")
    if word == "frames" and equals and number.isascii() and number.isdigit() and int(number) > 0:
        return {"frames": int(number)}
    address = _address(value)
    if address is None:
        raise click.BadParameter(f"{value!r} is none of auto, none, frames=N (N at least 1) and an IP address")
    return {"address": address}


def _monitor(_ctx: click.Context, _param: click.Parameter, value: str | None) -> Any:
    """off, ADDRESS or ADDRESS,SECONDS, as the client takes it."""
    if value is None or value == "off":
        return value
    text, comma, interval = value.partition(",")
    address = _address(text)
    try:
        interval_s = float(interval) if comma else None
    except ValueError:
        address, interval_s = None, None
    if address is None:
        raise click.BadParameter(f"{value!r} is none of off, ADDRESS and ADDRESS,SECONDS")
    return {"address": address} if interval_s is None else {"address": address, "interval_s": interval_s}


def _address(text: str) -> str | None:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None


@click.command(
    cls=TeachingCommand,
    sections={
        "Examples": """
            vde-multilink handoff --to /tmp/vm2 --name path2
            vde-multilink handoff --to 'cmd://ssh ip2 vde_plug /tmp/vm2' --name lte --from wifi
            vde-multilink handoff --to-link lte --old standby      # and back: --to-link wifi --old standby
            vde-multilink handoff --to /tmp/vm2 --verify 10.0.0.2 --verify-timeout 5
            vde-multilink handoff --to /tmp/vm2 --plan             # only shows what would be done
            vde-multilink handoff --to /tmp/vm2 --json | jq .report.to_host
        """,
        "What happens": """
            making       the new link is connected; until it is verified nothing is sent to it
            verifying    it proves that it carries, both ways; connected is not carrying
            overlapping  both carry; of what comes twice, the second copy is dropped
            draining     nothing new goes to the old links, what is under way comes in; then they close
            Until draining begins the old links carry as before. If the new one cannot be connected, does not prove
            itself in time or dies, it is removed, and the old ones have never been touched: exit code 1.
        """,
    },
)
@click.option("--to", "url", metavar="VNL", help="Dial VNL and move to it: a path, vde://..., cmd://..., as for `add`.")
@click.option(
    "--to-link",
    "link",
    metavar="LINK",
    shell_complete=complete_links,
    help="Move to a link that is there (id or name).",
)
@click.option("--name", "-n", metavar="NAME", help="A name for the new link, with --to.")
@click.option(
    "--from",
    "old_links",
    metavar="LINK",
    multiple=True,
    shell_complete=complete_links,
    help="A link to leave. Repeat for more.  [default: every other active one]",
)
@click.option(
    "--multilink",
    "-m",
    metavar="NAME",
    shell_complete=complete_multilinks,
    help="The multilink whose host moves; may be left out where there is one.",
)
@click.option(
    "--verify",
    metavar="HOW",
    callback=_verify,
    help="The proof that the new link carries: auto (a frame from it, or an answer over it from somebody heard"
    " lately), none, frames=N, or an IP ADDRESS that has to answer over it.  [default: auto]",
)
@click.option(
    "--verify-timeout",
    "verify_timeout_s",
    metavar=SECONDS,
    type=click.FloatRange(0, 300, min_open=True),
    help="Roll back without a proof in this time.  [default: 10]",
)
@click.option(
    "--overlap", "overlap_s", metavar=SECONDS, type=click.FloatRange(0, 300), help="How long both carry.  [default: 1]"
)
@click.option(
    "--drain",
    "drain_s",
    metavar=SECONDS,
    type=click.FloatRange(0, 60),
    help="How long what is under way over the old links may take.  [default: 0.5]",
)
@click.option(
    "--old", type=click.Choice(["retire", "standby"]), help="What becomes of the old links.  [default: retire]"
)
@click.option("--plan", is_flag=True, help="Show what would be done, and do nothing.")
@client_options
def handoff(
    client: Client,
    url: str | None,
    link: str | None,
    name: str | None,
    old_links: Sequence[str],
    plan: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Move a multilink's host to another link, without a lost frame.

    Either --to or --to-link says where to. Ctrl-C aborts and rolls back. Exit code 0: completed; 1: rolled back,
    aborted or refused.
    """
    if (url is None) == (link is None):
        raise click.UsageError("say where to: with --to VNL, or with --to-link LINK")
    if name is not None and link is not None:
        raise click.UsageError(f"--name is for a new link: {link} has one (vde-multilink set {link} --name NAME)")
    from app.client import handoff_request

    wanted = handoff_request(
        url=None if url is None else absolute_vnl(url), link=link, name=name, old_links=old_links or None, **options
    )
    if plan:
        planned = client.plan_handoff(wanted)
        if as_json:
            print_json(planned)
            return
        from app.handoff_display import plan_details
        from app.tables import stdout_console

        stdout_console().print(plan_details(planned))
        return
    with _noting_interrupts() as is_interrupted:
        begun = client.start_handoff(wanted)
        ended = _follow(client, begun, is_interrupted) if as_json else _follow_shown(client, begun, is_interrupted)
    if as_json:
        print_json(ended)
    if ended["state"] != "completed":
        raise click.ClickException(f"{ended['state'].replace('_', ' ')}: {ended['reason']}")


def _follow_shown(client: Client, begun: Handoff, is_interrupted: Callable[[], bool]) -> Handoff:
    from app.handoff_display import HandoffDisplay
    from app.tables import stdout_console

    display = HandoffDisplay(stdout_console())
    with display:
        ended = _follow(client, begun, is_interrupted, display.show)
    display.show_end(ended)
    return ended


def _follow(
    client: Client,
    handoff: Handoff,
    is_interrupted: Callable[[], bool],
    show: Callable[[Handoff], None] = lambda _: None,
) -> Handoff:
    """Ask how it stands until it is over; interrupted, abort it."""
    from app.client import RefusedError
    from app.handoff_display import FINAL_STATES

    while handoff["state"] not in FINAL_STATES:
        show(handoff)
        time.sleep(POLL_S)
        if is_interrupted():
            try:
                handoff = client.abort_handoff(handoff["id"])
            except RefusedError as error:
                if error.problem_code != "wrong_state":
                    raise
                handoff = client.handoff(handoff["id"])  # It was over just before.
        else:
            handoff = client.handoff(handoff["id"])
    show(handoff)
    return handoff


@contextmanager
def _noting_interrupts() -> Iterator[Callable[[], bool]]:
    """A first Ctrl-C is noted, for a hand-off must not be left alone between two requests; a second one interrupts."""
    noted = False

    def note(number: int, frame: Any) -> None:
        nonlocal noted
        if noted:
            signal.default_int_handler(number, frame)
        noted = True

    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: noted
    finally:
        signal.signal(signal.SIGINT, before)


@click.command(
    name="set",
    cls=TeachingCommand,
    sections={
        "Examples": """
            vde-multilink set attached-1 --name wifi
            vde-multilink set lte --role standby               # it is heard, but not sent to
            vde-multilink set wifi --monitor 10.0.0.2          # ask it once a second, over this link
            vde-multilink set wifi --monitor 10.0.0.2,0.5
            vde-multilink set wifi --monitor off
        """,
    },
)
@click.argument("link", shell_complete=complete_links)
@click.option("--name", "-n", metavar="NAME", help="Give it another name.")
@click.option("--role", type=click.Choice(["active", "standby"]), help="Send the host's frames to it, or only hear it.")
@click.option(
    "--monitor",
    metavar="ADDRESS[,SECONDS]|off",
    callback=_monitor,
    help="Watch it: ask an IP address behind it, over this link, once in so many seconds (1).",
)
@client_options
def set_link(
    client: Client,
    link: str,
    name: str | None,
    role: Literal["active", "standby"] | None,
    monitor: MonitorSpec | Literal["off"] | None,
    as_json: bool,
) -> None:
    """Change a link's name, its role, or the watch over it."""
    if name is None and role is None and monitor is None:
        raise click.UsageError("say what to change: --name, --role or --monitor")
    changed = client.change_link(link, name=name, role=role, monitor=monitor)
    if as_json:
        print_json(changed)
        return
    from app.tables import link_details, stdout_console

    stdout_console().print(link_details(changed))
