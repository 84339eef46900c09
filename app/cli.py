"""The command `vde-multilink`: serve and plug run the service, the others are clients of its HTTP API.

Results go to stdout, diagnostics to stderr. Exit codes: 0 done, 1 refused or failed, 2 usage.
What only one command needs is imported there: `plug` and the clients start fast.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from click.shell_completion import get_completion_class

from app import __version__
from app.cli_capture import capture
from app.cli_handoff import handoff, set_link
from app.cli_support import (
    TeachingCommand,
    absolute_vnl,
    client_options,
    complete_links,
    complete_multilinks,
    print_json,
    service_options,
)
from app.cli_watch import watch
from app.fabric.states import LinkState

if TYPE_CHECKING:
    from app.client import Client
    from app.settings import Settings

PROGRAM: Final = "vde-multilink"
COMPLETION_VARIABLE: Final = "_VDE_MULTILINK_COMPLETE"


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=(
        "A first try, in three terminals (or with `&`):\n\n"
        "\b\n"
        "  vde-multilink serve multi:///tmp/vm1\n"
        "  vde_plug /tmp/vm1                 # a VDE client joins: a link\n"
        "  vde-multilink links               # there it is\n\n"
        "Every command has examples: vde-multilink COMMAND --help"
    ),
)
@click.version_option(__version__, prog_name=PROGRAM)
def cli() -> None:
    """VDE multilinks: one host, several links, driven over HTTP.

    A multilink is a directory that VDE clients join (vde_plug, QEMU, ...). Its host, a VM say, hears every link
    and is heard by every link; links never hear each other. Links come by themselves (attached) or are opened by
    the service (dialled). `handoff` moves the host from one link to another while frames flow: so a VM's network
    moves from one path to another, and nothing is lost.
    """


def main() -> None:
    """Run the command line, and exit."""
    cli.main(prog_name=PROGRAM, complete_var=COMPLETION_VARIABLE)


def _settings(given: Mapping[str, Any], config: Path | None) -> Settings:
    from app.settings import load_settings

    return load_settings(given, config=config)


@cli.command(
    cls=TeachingCommand,
    sections={
        "Examples": """
            vde-multilink serve
            vde-multilink serve multi:///tmp/vm1 'multi:///tmp/vm2[mode=0660/grp=kvm]'
            vde-multilink serve 'multi:///tmp/vm1{tap://tap0}' --listen 127.0.0.1:0
            vde-multilink serve --allow cmd                # the API may dial cmd://ssh ...
            vde-multilink serve --config /etc/vde-multilink.toml
        """,
        "The configuration file": """
            multilinks = ["multi:///tmp/vm1[mode=0660]"]
            listen = ["127.0.0.1:8480", "unix:/tmp/api.sock"]
            allow = ["cmd"]                                # every command, or chosen ones:
            allow_commands = ["ssh ip2 vde_plug /tmp/vm2"]
            duplicates = "drop"                            # or "pass", where a VNL does not say it
            allowed_hosts = ["vm-server.example.org"]      # names the API is reached by
            token_file = "/etc/vde-multilink/token"
        """,
    },
)
@click.argument("multilinks", metavar="[VNL]...", nargs=-1)
@service_options
def serve(multilinks: tuple[str, ...], config: Path | None, **flags: Any) -> None:
    """Run the service in the foreground until SIGTERM or Ctrl-C.

    Each VNL makes a multilink, multi://[PATH][[mode=OCTAL/dirmode=OCTAL/grp=GROUP]][{HOST-PLUG}]; with none there is
    multi://, the directory /tmp/vdenode_$USERNAME. Its name is the last part of its path. VDE clients join PATH as
    links; the host joins PATH[host], or is the plug in braces.

    When the service is ready, the last line on stderr is the dashboard's URL (or, without a TCP address, the
    API's socket).
    """
    settings = _settings({**_given(flags), **({"multilinks": multilinks} if multilinks else {})}, config)
    from app.service import run_service

    run_service(settings)


@cli.command(
    cls=TeachingCommand,
    sections={
        "Examples": """
            vde_plug 'cmd://vde-multilink plug multi:///tmp/vm1' tap://tap0
            dpipe vde-multilink plug multi:///tmp/vm1 = vde_plug /tmp/switch
            qemu-system-x86_64 -netdev 'vde,id=n0,sock=cmd://vde-multilink plug multi:///tmp/vm1' ...
            vde-multilink plug multi:///tmp/vm1 --listen unix:/tmp/vm1.api
            vde-multilink add /tmp/vm2 --api unix:/tmp/vm1.api
        """,
    },
)
@click.argument("vnl", metavar="VNL")
@service_options
def plug(vnl: str, config: Path | None, **flags: Any) -> None:
    """Run one multilink whose host is stdin and stdout.

    The frames are in VDE's stream framing, as from vde_plug and dpipe: so any VDE program can be the host. It ends
    with its stdin, or on SIGTERM. There is HTTP only where --listen is given.
    """
    # Only the flag counts for `listen`: several plugs may share a configuration, but not an address.
    settings = _settings({**_given(flags), "multilinks": (vnl,), "listen": flags["listen"]}, config)
    if settings.multilinks[0].host is not None:
        raise click.UsageError(
            f"the host of this multilink is stdin and stdout: leave {{{settings.multilinks[0].host}}} out, or use serve"
        )
    from app.service import run_plug

    run_plug(settings)


def _given(flags: Mapping[str, Any]) -> dict[str, Any]:
    """The flags that were given: click has None or an empty tuple for the others."""
    return {name: value for name, value in flags.items() if value is not None and value != ()}


@cli.command(
    cls=TeachingCommand,
    sections={
        "Examples": """
            vde-multilink status
            vde-multilink status --json | jq -r '.multilinks[].host.state'
            vde-multilink status --api 127.0.0.1:8480
        """,
    },
)
@client_options
def status(client: Client, as_json: bool) -> None:
    """Show the multilinks: their hosts, how many links, how much traffic.

    RX is what came from the host, TX what went to it, LOST the frames lost on its side.
    """
    answer = client.multilinks()
    if as_json:
        print_json(answer)
        return
    from app.tables import multilinks_table, stdout_console

    console = stdout_console()
    console.print(f"The service answers at {client.location}.", soft_wrap=True)
    if answer["multilinks"]:
        console.print()
        console.print(multilinks_table(answer["multilinks"]))
    else:
        console.print("It has no multilinks.")


@cli.command(
    cls=TeachingCommand,
    sections={
        "Examples": """
            vde-multilink links
            vde-multilink links --multilink vm1 --state up
            vde-multilink links vm2-path2
            vde-multilink links --json | jq '.links[] | {name, state, lost: .tx.dropped}'
        """,
    },
)
@click.argument("link", required=False, shell_complete=complete_links)
@click.option(
    "--multilink", "-m", metavar="NAME", shell_complete=complete_multilinks, help="Only the links of this multilink."
)
@click.option(
    "--state",
    "-s",
    type=click.Choice([state.value for state in LinkState]),
    help="Only links in this state; `retired` shows the last 100 that were.",
)
@client_options
def links(client: Client, link: str | None, multilink: str | None, state: str | None, as_json: bool) -> None:
    """List the links, or show all about one (by id or name).

    RX is what came from the peer, TX what went to it, LOST the frames lost in both directions.
    """
    from app.tables import link_details, links_table, stdout_console

    if link is not None:
        if multilink is not None or state is not None:
            raise click.UsageError("one link is named: leave --multilink and --state out")
        one = client.link(link)
        if as_json:
            print_json(one)
        else:
            stdout_console().print(link_details(one))
        return
    answer = client.links(multilink=multilink, state=state)
    if as_json:
        print_json(answer)
    elif answer["links"]:
        stdout_console().print(links_table(answer["links"]))
    else:
        click.echo("no such links" if multilink or state else "no links", err=True)


@cli.command(
    cls=TeachingCommand,
    sections={
        "Examples": """
            vde-multilink add /tmp/vm2
            vde-multilink add /tmp/vm2 --multilink vm1 --name path1
            vde-multilink add 'vde:///var/run/switch[5]' -m vm1
            vde-multilink add 'cmd://ssh ip2 vde_plug /tmp/vm2' -m vm1 -n path2
        """,
    },
)
@click.argument("vnl", metavar="VNL")
@click.option(
    "--multilink",
    "-m",
    metavar="NAME",
    shell_complete=complete_multilinks,
    help="The multilink that gets the link; may be left out where there is one.",
)
@click.option("--name", "-n", metavar="NAME", help="A name for the link, to find it by.")
@click.option("--reconnect/--no-reconnect", default=True, help="Dial again when it goes down.  [default: reconnect]")
@client_options
def add(client: Client, vnl: str, multilink: str | None, name: str | None, reconnect: bool, as_json: bool) -> None:
    """Dial VNL and make it a link; done when the link is up.

    VNL is a directory that VDE clients join (a bare path, or vde://PATH[PORT]), or cmd://COMMAND, a program with
    frames on its stdin and stdout, where the service was started with --allow cmd. The link is dialled again when it
    goes down and when the service is started again, until it is retired.
    """
    link = client.add_link(absolute_vnl(vnl), multilink=multilink, name=name, reconnect=reconnect)
    if as_json:
        print_json(link)
        return
    from app.tables import link_details, stdout_console

    stdout_console().print(link_details(link))


@cli.command(
    cls=TeachingCommand,
    sections={
        "Examples": """
            vde-multilink retire path1
            vde-multilink retire path1 --drain 2
            vde-multilink retire path1 --json | jq .tx.dropped
        """,
    },
)
@click.argument("link", shell_complete=complete_links)
@click.option(
    "--drain",
    "drain_s",
    metavar="SECONDS",
    type=click.FloatRange(0, 60),
    help="How long what is queued may take to go out, and what is under way to come in.  [default: 0.5]",
)
@client_options
def retire(client: Client, link: str, drain_s: float | None, as_json: bool) -> None:
    """Drain a link (by id or name) and end it.

    Nothing new is sent to it; what is queued goes out, what is under way comes in; then it is closed, and shown as it
    was at its end.
    """
    ended = client.retire_link(link, drain_s=drain_s)
    if as_json:
        print_json(ended)
        return
    from app.tables import link_details, stdout_console

    stdout_console().print(link_details(ended))


@cli.command(
    cls=TeachingCommand,
    sections={
        "Examples": """
            source <(vde-multilink completion bash)        # this shell; or a line of ~/.bashrc
            source <(vde-multilink completion zsh)         # a line of ~/.zshrc, after compinit
            vde-multilink completion fish > ~/.config/fish/completions/vde-multilink.fish
        """,
    },
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that makes SHELL complete these commands.

    Names and ids of links, and names of multilinks, are asked of the service as you type.
    """
    script = get_completion_class(shell)
    assert script is not None  # noqa: S101 -- click has these three; the argument takes no others
    click.echo(script(cli, {}, PROGRAM, COMPLETION_VARIABLE).source())


cli.add_command(handoff)
cli.add_command(set_link)
cli.add_command(watch)
cli.add_command(capture)
