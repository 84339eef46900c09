"""What the commands have in common: help with examples, options, completion, and errors as exit codes."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
from click.shell_completion import CompletionItem

from app.fabric.errors import MultilinkError

if TYPE_CHECKING:
    from app.client import Client

COMPLETION_TIMEOUT_S: Final = 1.0
"""Nobody waits longer than that for a tab key."""

F = TypeVar("F", bound=Callable[..., Any])


class TeachingCommand(click.Command):
    """A command whose help ends in sections that are shown as they are written, and whose errors are exit codes.

    Args:
        sections: heading to text; "Examples" is one that every command has.
    """

    def __init__(self, *args: Any, sections: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sections = sections

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; whatever a user can have brought about is one line on stderr, and an exit code.

        Raises:
            click.UsageError: settings that cannot be used; 2.
            click.ClickException: everything else that was refused or has failed; 1.
        """
        try:
            return super().invoke(ctx)
        except MultilinkError as error:
            if error.code == "bad_settings":
                raise click.UsageError(error.detail, ctx) from error
            raise click.ClickException(error.detail) from error

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections, after the options."""
        super().format_epilog(ctx, formatter)
        for heading, text in self.sections.items():
            with formatter.section(heading):
                for line in text.strip().splitlines():
                    formatter.write(f"{'':>{formatter.current_indent}}{line.strip()}".rstrip() + "\n")


def service_options(command: F) -> F:
    """The options of `serve` and `plug`."""
    options = [
        click.option(
            "--listen",
            metavar="ADDR",
            multiple=True,
            help="Serve HTTP there: 127.0.0.1:8480, [::1]:8480 or unix:/path; port 0 is any free one. Repeat for more.",
        ),
        _runtime_dir_option("Keep api.sock and the token there."),
        click.option(
            "--state",
            metavar="FILE",
            type=click.Path(path_type=Path, dir_okay=False),
            help="Keep there what outlives the service: the dialled links.",
        ),
        _token_file_option("Take the token of the TCP API from there instead of making one."),
        click.option(
            "--config",
            metavar="FILE",
            type=click.Path(path_type=Path, dir_okay=False),
            help="Read settings from this TOML file; flags and VDE_MULTILINK_* variables win over it.",
        ),
        click.option(
            "--allow",
            metavar="SCHEME",
            multiple=True,
            shell_complete=_complete_schemes,
            help="Let the API dial locators of this scheme: `cmd` runs programs, and is off else. Repeat for more.",
        ),
        click.option(
            "--log-level",
            type=click.Choice(["debug", "info", "warning", "error"]),
            help="What to log on stderr.  [default: info]",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def _runtime_dir_option(text: str) -> Callable[[F], F]:
    return click.option(
        "--runtime-dir",
        metavar="DIR",
        type=click.Path(path_type=Path, file_okay=False),
        help=f"{text}  [default: $XDG_RUNTIME_DIR/vde-multilink, as root /run/vde-multilink]",
    )


def _token_file_option(text: str) -> Callable[[F], F]:
    return click.option("--token-file", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False), help=text)


def client_options(command: F, *, with_json: bool = True) -> F:
    """--json, --api and where the socket and the token are; the command gets a Client and, with --json, `as_json`."""

    @functools.wraps(command)
    def with_client(
        *args: Any, api: str | None, runtime_dir: Path | None, token_file: Path | None, **kwargs: Any
    ) -> Any:
        from app.client import Client, find_service

        with Client(find_service(api, runtime_dir=runtime_dir, token_file=token_file)) as client:
            return command(client, *args, **kwargs)

    options = [
        click.option(
            "--api",
            metavar="ADDR",
            help="Where the service is: unix:/path, 127.0.0.1:8480 or http://...  [env: VDE_MULTILINK_API]"
            "  [default: api.sock in the runtime directory]",
        ),
        _runtime_dir_option("Find api.sock and the token there."),
        _token_file_option("Take the token for a TCP address from there.  [env: VDE_MULTILINK_TOKEN]"),
    ]
    if with_json:
        options.insert(0, click.option("--json", "as_json", is_flag=True, help="Print the API's JSON, for programs."))
    wrapped: Any = with_client
    for option in reversed(options):
        wrapped = option(wrapped)
    result: F = wrapped
    return result


def print_json(answer: Mapping[str, Any]) -> None:
    """Print what the API has answered."""
    click.echo(json.dumps(answer, indent=2, ensure_ascii=not _speaks_utf8()))


def _speaks_utf8() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"


def absolute_vnl(vnl: str) -> str:
    """A relative path is meant from here, not from wherever the service was started."""
    if vnl.startswith(("/", "vde:///")) or ("://" in vnl and not vnl.startswith("vde://")):
        return vnl
    from app.fabric.plugs.base import resolve_vnl
    from app.fabric.vnl import VdeVnl

    resolved = resolve_vnl(vnl)
    if not isinstance(resolved, VdeVnl):
        return str(resolved)
    return str(VdeVnl(path=str(Path.cwd() / resolved.path), port=resolved.port))


# Completion: ids and names come from the service.


def _ask_service(ctx: click.Context) -> Client:
    from app.client import Client, find_service

    params = ctx.params
    location = find_service(
        params.get("api"), runtime_dir=params.get("runtime_dir"), token_file=params.get("token_file")
    )
    return Client(location, timeout_s=COMPLETION_TIMEOUT_S)


def complete_links(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of links, and ids once one is begun."""
    try:
        with _ask_service(ctx) as client:
            links = client.links()["links"]
    except MultilinkError:
        return []  # no service, nothing to offer; words here would end up in the user's command line
    named = [CompletionItem(link["name"], help=f"{link['state']}, {link['multilink']}") for link in links]
    # Ids are long and say nothing: offered to those who have begun to type one.
    ids = [CompletionItem(link["id"], help=link["name"]) for link in links if incomplete]
    return [item for item in (*named, *ids) if item.value.startswith(incomplete)]


def complete_multilinks(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of multilinks."""
    try:
        with _ask_service(ctx) as client:
            multilinks = client.multilinks()["multilinks"]
    except MultilinkError:
        return []
    return [
        CompletionItem(multilink["name"], help=multilink["path"])
        for multilink in multilinks
        if multilink["name"].startswith(incomplete)
    ]


def _complete_schemes(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(scheme) for scheme in ("cmd", "tap", "vde") if scheme.startswith(incomplete)]
