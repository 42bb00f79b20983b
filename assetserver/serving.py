"""Sockets and Uvicorn: open what to listen on, say so, run until told to stop."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
import uvicorn
from starlette.applications import Starlette

from .app import ADMIN, create_app
from .certificates import Certificates, open_certificates
from .data import check_data_folder, open_library, served_sites
from .descriptors import raise_limit
from .endings import tell_stopped, told_kindly, with_options
from .errors import SettingsError
from .firststart import is_first_start, welcome
from .jobkinds import kind_names
from .listening import ADMIN as ADMIN_ROLE
from .listening import (
    BACKLOG,
    HTTP,
    PASSED,
    address_of,
    close_listeners,
    has_admin,
    leaves_machine,
    mark_listeners,
    take_sockets,
)
from .loading import load_all, load_later, tune_memory
from .metrics.board import Role, adopt_board, create_board
from .metrics.work import MasterCounts
from .observe import log_as_json
from .origin import Apart, OriginServer
from .releases.manifest import SHORT
from .reloading import check_command, control_folder
from .settings import Settings
from .settingtables import SiteSettings
from .supervision.control import Control, open_control
from .supervision.handover import Handover, Listener
from .supervision.master import Plan, run_master
from .supervision.notices import Notifier
from .tomllines import format_bytes
from .wording import in_units, plural

PLACES_EACH = 2
"""How many places to count there are for each worker: one that ends is replaced before it has."""

LIMIT_MESSAGE_BYTES = 4096
"""Longest message of a WebSocket's client: nothing that it says is read."""

_APP = "assetserver.app:app"
_PROTOCOL = "assetserver.delivery.protocol:AssetProtocol"
_PREAMBLE = "assetserver.delivery.preamble:PreambleProtocol"
_EITHER = "assetserver.delivery.http2:EitherProtocol"
_WEBSOCKETS = "assetserver.delivery.upgrades:make_live_socket"
_NO_MASTER = "not reloaded: a single process that does no jobs reads its settings once; restart it, or serve with --workers 2"


def prepare_server(
    settings: Settings, variables: Mapping[str, str], *, reload: bool, handover: Handover | None = None
) -> Callable[[], int]:
    """Open what there is to listen on; return what serves until stopped, and returns the exit code.

    ``variables`` describe to other processes what was said by flags: with ``reload``, each makes its application from the
    environment. After a ``handover`` workers serve already. Raises ``SettingsError`` before anything is opened, and
    ``ListenError``.
    """
    raise_limit()
    if settings.server.log_format == "json":
        log_as_json()
    known = handover.listeners if handover else ()
    has_tools = has_admin(settings, os.environ, known)
    app = create_app(settings, has_admin=has_tools)
    check_data_folder(settings)
    certificates = open_certificates(settings)
    if handover is not None:  # what cannot be loaded must not end who serves; and nobody waits
        load_later(settings, count_job_workers(settings))
    is_first = handover is None and is_first_start(settings)
    by_role = take_sockets(settings, os.environ, known)
    listeners = [one for group in by_role.values() for one in group]
    has_master = not reload and (handover is not None or _has_master(settings, listeners))
    # From here on they mean something, and wait until somebody listens: an exception would be lost while modules are imported.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGHUP} if has_master else {signal.SIGTERM})
    control = _find_control(settings, handover) if has_master else None  # as above: who reads of us may say "reload" at once
    marks = mark_listeners(listeners)

    def run() -> int:
        try:
            if handover is None:
                _introduce(settings, listeners, reload=reload, is_first=is_first)
            if reload:
                os.environ.update(variables)
            elif has_master:
                return _run_workers(app, settings, listeners, handover, control)
            config = _config(_APP if reload else app, settings, certificates, reload=reload)
            return _run(config, listeners, None if reload else certificates, _apart(app, settings, listeners))
        finally:
            close_listeners(listeners, marks)

    return run


def check_server(settings: Settings) -> None:
    """Raise ``SettingsError`` if these settings could not be served. Opens and changes nothing."""
    create_app(settings)
    check_data_folder(settings)
    open_certificates(settings)


def _introduce(settings: Settings, listeners: Sequence[Listener], *, reload: bool, is_first: bool) -> None:
    """Say what is served, and where."""
    scheme = "https" if settings.server.tls_certificate else "http"
    addresses = [address_of(one.socket, scheme) for one in listeners if one.role == HTTP]
    for line in (
        *describe_mounts(settings),
        *describe_jobs(settings, reload=reload),
        f"on {', '.join(addresses)} ({_describe_workers(settings, reload=reload)}stop with Ctrl+C)",
        *(
            f"admin on {address_of(one.socket, scheme if leaves_machine(one.socket) else 'http')}"
            for one in listeners
            if one.role == ADMIN_ROLE
        ),
        *(welcome(settings, addresses[0]) if is_first else ()),
    ):
        click.echo(line, err=True)


def _has_master(settings: Settings, listeners: Sequence[Listener]) -> bool:
    """Tell whether workers are to be looked after: where there are several, or jobs, or a service manager looks after us.

    Who shows a folder has one process, which starts a tenth of a second sooner.
    """
    is_service = "NOTIFY_SOCKET" in os.environ or any(one.place == PASSED for one in listeners)
    return settings.server.workers > 1 or count_job_workers(settings) > 0 or is_service


def describe_mounts(settings: Settings) -> Iterator[str]:
    """Yield the lines that say what is served where."""
    yield "assetserver serves"
    rows = [(site.host + site.prefix, _describe_site(settings, site)) for site in served_sites(settings)]
    for mount in settings.mounts:
        note = "  (immutable)" if mount.cache == "immutable" else ""
        rows.append((mount.host + mount.prefix, _shorten(mount.directory) + note))
    width = max(len(url) for url, _ in rows)
    for url, what in rows:
        yield f"  {url:<{width}}  {what}"
    if settings.uploads.enabled:
        yield f"uploads to /uploads, up to {_in_binary_units(settings.uploads.max_size)} a file"
    if settings.images.on_demand:
        if settings.images.iiif:
            yield "pictures by the IIIF Image API 3 at /iiif/3/PATH/info.json, the slashes of PATH written as %2F"
        yield f"pictures made smaller at /image/OPTIONS/PATH, such as /image/width={settings.images.widths[0]}/PATH"


def count_job_workers(settings: Settings) -> int:
    """Return how many processes do jobs beside the server: none, if nothing that it takes causes one."""
    return settings.jobs.workers if _has_jobs(settings) else 0


def _has_jobs(settings: Settings) -> bool:
    return (settings.uploads.enabled or settings.images.on_demand or bool(settings.purge)) and bool(kind_names(settings))


def _describe_workers(settings: Settings, *, reload: bool) -> str:
    count = settings.server.workers
    return f"{count} workers; " if count > 1 and not reload else ""


def describe_jobs(settings: Settings, *, reload: bool = False) -> Iterator[str]:
    """Yield the line that says who does jobs, if there will be any."""
    if not _has_jobs(settings):
        return
    kinds = kind_names(settings)
    count = 0 if reload else count_job_workers(settings)
    who = f"done by {count} {plural(count, 'worker')} beside" if count else with_options("left to: assetserver worker")
    yield f"jobs ({', '.join(kinds)}) {who}"


def _in_binary_units(count: int) -> str:
    """Return a number of bytes as it was set: ``2 GiB``, or where no unit divides it, ``3.0 MB``."""
    exact = format_bytes(count).partition("(")[2].rstrip(")")
    return exact or in_units(count)


def _describe_site(settings: Settings, site: SiteSettings) -> str:
    library = open_library(settings)
    active = library.site(site.name).read().active
    several = f" --site {site.name}" if len(served_sites(settings)) > 1 else ""
    hint = with_options(f"nothing yet: assetserver publish ./dist --prod{several}")
    what = f"release {active[:SHORT]}" if active else hint
    return f"{what}  (site {site.name}, in {_shorten(library.folder)})"


def _apart(app: Starlette, settings: Settings, listeners: Sequence[Listener]) -> Apart | None:
    """Return what ``app`` serves on the admin listeners, if there are any."""
    own = [one.socket for one in listeners if one.role == ADMIN_ROLE]
    return Apart(_config(getattr(app.state, ADMIN), settings, None, is_apart=True), own) if own else None


def _public(listeners: Sequence[Listener]) -> list[socket.socket]:
    return [one.socket for one in listeners if one.role == HTTP]


def _run(config: uvicorn.Config, listeners: Sequence[Listener], certificates: Certificates | None, admin: Apart | None) -> int:
    if not sys.stderr.isatty():  # else it says that the terminal is gone
        signal.signal(signal.SIGHUP, lambda *_: click.echo(_NO_MASTER, err=True))
    if not config.should_reload:
        load_all(config)
    server = OriginServer(config, certificates=certificates, admin=admin)
    sockets = _public(listeners)
    tune_memory()
    # Uvicorn raises the signal that stopped it once more at the end; as an exit, what is open gets closed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    try:
        if config.should_reload:
            from uvicorn.supervisors import ChangeReload  # noqa: PLC0415 - for development alone

            ChangeReload(config, target=server.run, sockets=sockets).run()
        else:
            server.run(sockets=sockets)
    except KeyboardInterrupt:
        tell_stopped()
    return 0


def _run_workers(
    app: Starlette, settings: Settings, listeners: Sequence[Listener], handover: Handover | None, control: Control | None
) -> int:
    """Fork workers that share ``listeners``; each makes its own application: identifiers, locks and threads are its own."""
    places = PLACES_EACH * (settings.server.workers + count_job_workers(settings)) + 1
    board = create_board(places) if handover is None or handover.memory < 0 else adopt_board(handover.memory, places)
    counts = MasterCounts(board.claim(Role.MASTER))
    has_tools = any(one.role == ADMIN_ROLE for one in listeners)

    def serve(channel: socket.socket) -> None:
        with told_kindly():
            own, certificates = create_app(settings, board, has_admin=has_tools), open_certificates(settings)
            config = _config(own, settings, certificates)
            server = OriginServer(config, channel, certificates, _apart(own, settings, listeners))
            server.run(sockets=_public(listeners))

    def do_jobs(channel: socket.socket) -> None:
        close_listeners(listeners, {})
        from .working import work  # noqa: PLC0415 - see load_later

        with told_kindly():
            sys.exit(work(settings, channel, board=board))

    load_all(_config(app, settings, None))
    tune_memory()  # which forks inherit
    plan = Plan(
        serve=serve,
        count=settings.server.workers,
        work=do_jobs,
        jobs=count_job_workers(settings),
        load_later=partial(load_later, settings, count_job_workers(settings)),
        grace_s=settings.server.graceful_shutdown_s,
        stuck_s=settings.server.stuck_s,
        check=check_command("serve"),
        listeners=listeners,
        control=control,
        notifier=Notifier(os.environ),
        memory=board.descriptor,
        on_replace=counts.replace,
        on_reload=counts.reload,
    )
    return run_master(plan, handover)


def _find_control(settings: Settings, handover: Handover | None) -> Control | None:
    """Return where ``assetserver reload`` comes in; that there is no such place is no reason not to serve."""
    if handover is not None:
        return handover.control
    folder = control_folder(lambda: settings)
    if not folder:
        return None
    try:
        return open_control(folder)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        click.echo(f"assetserver reload will not find this server ({folder}: {reason}); send it SIGHUP instead", err=True)
        return None


def _config(
    app: Starlette | str,
    settings: Settings,
    certificates: Certificates | None,
    *,
    reload: bool = False,
    is_apart: bool = False,
) -> uvicorn.Config:
    server = settings.server
    protocol = _http_protocol(settings)
    if is_apart and protocol == _PREAMBLE:  # proxies speak for visitors; who looks after a server comes without
        protocol = _PROTOCOL
    return uvicorn.Config(
        app,
        http=protocol,
        ws=_WEBSOCKETS if protocol in (_PROTOCOL, _PREAMBLE, _EITHER) and settings.uploads.enabled else "none",
        ws_max_size=LIMIT_MESSAGE_BYTES,
        ws_per_message_deflate=False,
        backlog=BACKLOG,
        log_level="error",  # warnings there are about what clients send, and name none of them
        log_config=None if server.log_format == "json" else uvicorn.config.LOGGING_CONFIG,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # ours know Unix sockets, RFC 7239, and what is no address
        timeout_keep_alive=server.keep_alive_s,
        timeout_graceful_shutdown=server.graceful_shutdown_s,
        reload=reload,
        reload_dirs=[str(Path(__file__).parent)] if reload else None,
        lifespan="on",
        **_tls(settings, certificates, reload=reload),
    )


def _tls(settings: Settings, certificates: Certificates | None, *, reload: bool) -> dict[str, Any]:
    """Return what Uvicorn is told of TLS; processes that ``--reload`` starts read the files themselves."""
    if certificates is None:
        return {}
    if reload:
        return {"ssl_certfile": settings.server.tls_certificate, "ssl_keyfile": settings.server.tls_key or None}
    return {"ssl_context_factory": lambda *_: certificates.context}


def _http_protocol(settings: Settings) -> str:
    """Return the protocol to speak: ours, beside HTTP/2 if that is wanted, or Uvicorn's own where it is not the one we know.

    Its own knows no PROXY protocol: then ``SettingsError`` is raised.

    httptools has the strictest framing of Uvicorn's parsers; "auto" would fall back on h11 silently.
    """
    from .delivery import expected  # noqa: PLC0415 - it may not even import

    missing, demands_preamble = expected.what_is_missing(), settings.server.proxy_protocol != "off"
    if missing and demands_preamble:
        raise SettingsError(f"this Uvicorn has no {missing}, and server.proxy_protocol needs it; install another version")
    if missing:
        click.echo(f"this Uvicorn has no {missing}; serving without the hot path, deadlines and limits", err=True)
        return "httptools"
    if demands_preamble:
        return _PREAMBLE
    if not settings.server.http2:
        return _PROTOCOL
    if importlib.util.find_spec("zttp") is None:
        place = settings.locate("server", "http2")
        raise SettingsError(f"{place}: HTTP/2 needs zttp, which is missing: pip install 'assetserver[http2]'")
    return _EITHER


def _shorten(directory: str) -> str:
    relative = os.path.relpath(directory)
    if relative == ".":
        return "."
    return os.path.normpath(directory) if relative.startswith("..") else f"./{relative}"
