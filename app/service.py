"""The composition root: settings in, a running service out, and everything undone at its end.

    start: runtime directory → sockets bound → state file read → multilinks → kept links dialled → HTTP → "ready"
    stop:  "not ready" → HTTP (grace) → state file → multilinks, links, children → sockets, token, directory

Each step is a context that undoes itself, so a start that fails half-way unwinds just what it had done. Invariant:
after a signal the process ends within STOP_LIMIT_S, whatever clients and children do.
"""

from __future__ import annotations

import secrets
import select
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final, NoReturn

import structlog
import trio

from app.fabric.activity import frames_moved
from app.fabric.errors import MultilinkError
from app.fabric.fabric import Fabric, open_fabric
from app.fabric.multilink import Multilink
from app.fabric.plugs.stdio import open_stdio_plug
from app.garbage import collect_when_quiet
from app.link_keeper import dial_kept_links, keep_links
from app.listen_address import ListenAddress, TcpAddress
from app.listeners import bind_listener
from app.logs import configure_logs
from app.runtime_dir import hold_runtime_dir
from app.settings import Settings
from app.store import Store
from app.tokens import check_token, everybody_can_read, kept_token, read_token_file

SWITCH_INTERVAL_S: Final = 0.0002
"""How long a worker thread (it looks through /proc, resolves a path, writes the state file) keeps the interpreter from
the frames. Python's own, 5 ms, was to be seen as a gap of 6 ms in the traffic of a hand-off."""
HTTP_GRACE_S: Final = 0.5
"""How long requests under way may take once the service stops."""
STOP_LIMIT_S: Final = 1.7
"""After that much nothing is waited for any more."""
STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

_log = structlog.get_logger(__name__)


def run_service(settings: Settings) -> None:
    """Run the service until a signal stops it.

    Raises:
        MultilinkError: it could not start; everything is undone.
    """
    _run(settings, _serve)


def run_plug(settings: Settings) -> None:
    """Run the one multilink of `settings` with stdin and stdout as its host, until they end or a signal comes.

    Raises:
        MultilinkError: it could not start; everything is undone.
    """
    _run(settings, _plug)


class PlugInputError(MultilinkError):
    """`plug` has been given a stdin on which no frames can come."""

    code = "bad_stdin"
    title = "There is no host on stdin"


@dataclass(frozen=True, slots=True)
class _Endpoints:
    """Where HTTP is served, and what lets TCP clients in."""

    sockets: tuple[trio.SocketListener, ...]
    addresses: tuple[ListenAddress, ...]
    token: str


async def _serve(settings: Settings, stop: trio.Event, ready: Callable[[], None]) -> None:
    async with AsyncExitStack() as stack:
        endpoints = stack.enter_context(_open_endpoints(settings, with_runtime_dir=True))
        fabric = await stack.enter_async_context(open_fabric())
        kept = stack.enter_context(_opened_store(settings))
        for vnl in settings.multilinks:
            _announce_multilink(await fabric.add_multilink(vnl))
        await stack.enter_async_context(_http(fabric, settings, endpoints, kept))
        _announce_addresses(endpoints)
        ready()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(collect_when_quiet, partial(frames_moved, fabric))
            await stop.wait()
            nursery.cancel_scope.cancel()


async def _plug(settings: Settings, stop: trio.Event, ready: Callable[[], None]) -> None:
    _check_stdin()
    async with AsyncExitStack() as stack:
        endpoints: _Endpoints | None = None
        kept: Store | None = None
        if settings.listen:
            # Many plugs of one user run side by side; so one takes the runtime directory only if it needs to.
            needs_token = bool(settings.tcp_addresses) and settings.token is None and settings.token_file is None
            wants_directory = needs_token or "runtime_dir" in settings.model_fields_set
            endpoints = stack.enter_context(_open_endpoints(settings, with_runtime_dir=wants_directory))
        fabric = await stack.enter_async_context(open_fabric())
        if endpoints is not None:
            kept = stack.enter_context(_opened_store(settings))
        multilink = await fabric.add_multilink(settings.multilinks[0], host_plug=open_stdio_plug)
        _announce_multilink(multilink)
        if endpoints is not None and kept is not None:
            await stack.enter_async_context(_http(fabric, settings, endpoints, kept))
            _announce_addresses(endpoints)
        ready()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(collect_when_quiet, partial(frames_moved, fabric))
            nursery.start_soon(_set_after, multilink.host.wait_detached, stop)
            await stop.wait()
            nursery.cancel_scope.cancel()


def _check_stdin() -> None:
    """Refuse a stdin that cannot be waited for: a regular file, or /dev/null.

    Raises:
        PlugInputError: it is one.
    """
    with select.epoll() as poll:
        try:
            poll.register(sys.stdin.fileno(), select.EPOLLIN)
        except (OSError, ValueError, AttributeError) as error:
            raise PlugInputError(
                "stdin is no pipe, socket or terminal, so no host can be there: run this from a VDE program, as in"
                " vde_plug 'cmd://vde-multilink plug multi:///tmp/vm1' tap://tap0"
            ) from error


async def _set_after(wait: Callable[[], Awaitable[None]], event: trio.Event) -> None:
    await wait()
    event.set()


@contextmanager
def _open_endpoints(settings: Settings, *, with_runtime_dir: bool) -> Iterator[_Endpoints]:
    """Sockets that listen (nobody is served yet) and the token; removed again at the end."""
    with ExitStack() as stack:
        addresses: list[ListenAddress] = list(settings.listen)
        token = _given_token(settings)
        if with_runtime_dir:
            directory = stack.enter_context(hold_runtime_dir(settings.runtime_dir))
            addresses.insert(0, directory.api_address)
            if token is None and settings.tcp_addresses:
                token = stack.enter_context(kept_token(directory.token_path))
        bound = [stack.enter_context(bind_listener(address)) for address in dict.fromkeys(addresses)]
        yield _Endpoints(
            sockets=tuple(trio.SocketListener(trio.socket.from_stdlib_socket(sock)) for sock, _ in bound),
            addresses=tuple(address for _, address in bound),
            token=token or secrets.token_urlsafe(32),  # without TCP nobody is asked for it
        )


def _token_name(settings: Settings) -> str:
    """What the log calls those who have the token."""
    return "token" if settings.token_file is None else settings.token_file.name


def _given_token(settings: Settings) -> str | None:
    if settings.token_file is not None:
        token = read_token_file(settings.token_file)
        if everybody_can_read(settings.token_file):
            _log.warning(
                "every user of this machine can read the token file: run chmod 0600", file=str(settings.token_file)
            )
        return token
    if settings.token is not None:
        return check_token(settings.token.get_secret_value(), "VDE_MULTILINK_TOKEN")
    return None


@contextmanager
def _opened_store(settings: Settings) -> Iterator[Store]:
    """The store, known to be readable."""
    store = Store(settings.state)
    try:
        store.dialled_links()
        yield store
    finally:
        store.close()


@asynccontextmanager
async def _http(fabric: Fabric, settings: Settings, endpoints: _Endpoints, store: Store) -> AsyncIterator[None]:
    """Serve the API and keep what it changes; at the end let requests under way finish within the grace."""
    # Imported here: a plug without HTTP starts without it.
    from app.api import Auth, DialPolicy, Readiness, create_app, serve_http
    from app.api.policy import DEFAULT_SCHEMES

    policy = DialPolicy(DEFAULT_SCHEMES | set(settings.allow), frozenset(settings.allow_commands))
    readiness = Readiness()
    app = create_app(
        fabric,
        policy=policy,
        auth=Auth(endpoints.token, frozenset(settings.allowed_hosts), token_name=_token_name(settings)),
        readiness=readiness,
        duplicates=settings.duplicates,
    )
    kept = store.dialled_links()
    async with keep_links(fabric, store), trio.open_nursery() as nursery:
        await dial_kept_links(fabric, kept, policy.check)
        shutdown = trio.Event()
        await nursery.start(partial(serve_http, app, endpoints.sockets, shutdown=shutdown, grace_s=HTTP_GRACE_S))
        readiness.set_ready()
        try:
            yield
        finally:
            readiness.set_stopping()
            shutdown.set()


def _announce_multilink(multilink: Multilink) -> None:
    _announce(f"multilink {multilink.name}: {multilink.path}")


def _announce_addresses(endpoints: _Endpoints) -> None:
    """A line each; the last one comes when the service is ready."""
    tcp = [address for address in endpoints.addresses if isinstance(address, TcpAddress)]
    for address in endpoints.addresses:
        _announce(f"API: {address.url if isinstance(address, TcpAddress) else address}")
    for address in tcp:
        _announce(f"dashboard: {address.url}/#token={endpoints.token}")


def _announce(line: str) -> None:
    """For people and scripts that wait for it, so not a log: always the same text."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def _run(settings: Settings, body: Callable[[Settings, trio.Event, Callable[[], None]], Awaitable[None]]) -> None:
    configure_logs(settings.log_level)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    try:
        trio.run(_until_stopped, partial(body, settings))
    except BaseExceptionGroup as group:
        _raise_readable(group)


async def _until_stopped(body: Callable[[trio.Event, Callable[[], None]], Awaitable[None]]) -> None:
    """Run `body`; a signal sets its event, or cancels it if it is not ready yet."""
    stop = trio.Event()
    is_ready = False

    def ready() -> None:
        nonlocal is_ready
        is_ready = True

    with trio.open_signal_receiver(*STOP_SIGNALS) as signals:
        async with trio.open_nursery() as watcher:
            with trio.CancelScope() as life:

                async def watch() -> None:
                    async for number in signals:
                        _log.info("stopping", signal=signal.Signals(number).name)
                        if is_ready:
                            stop.set()
                        else:
                            life.cancel()

                async def limit() -> None:
                    await stop.wait()
                    life.deadline = trio.current_time() + STOP_LIMIT_S

                watcher.start_soon(watch)
                watcher.start_soon(limit)
                await body(stop, ready)
            if life.cancelled_caught and stop.is_set():
                _log.warning("stopped without waiting for everything to end")
            watcher.cancel_scope.cancel()


def _raise_readable(group: BaseExceptionGroup[BaseException]) -> NoReturn:
    """The one error that a person can do something about, if there is one; else all that happened.

    Raises:
        MultilinkError: the first of them, where every error of the group is one.
        BaseExceptionGroup: there is another error among them, which is a fault of ours.
    """
    expected, unexpected = group.split(MultilinkError)
    if expected is None or unexpected is not None:
        raise group
    error: BaseException = expected
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    raise error from None
