"""Sockets and Uvicorn: open what to listen on, say so, run until told to stop."""

from __future__ import annotations

import ctypes
import errno
import gc
import importlib
import os
import signal
import socket
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import click
import uvicorn
from starlette.applications import Starlette
from uvicorn.supervisors import ChangeReload

from .app import create_app
from .data import check_data_folder, open_library, served_sites
from .descriptors import raise_limit
from .endings import told_kindly, with_options
from .firststart import is_first_start, welcome
from .jobkinds import kind_names
from .origin import OriginServer
from .releases.manifest import SHORT
from .settings import Settings
from .settingtables import SiteSettings
from .tomllines import format_bytes
from .wording import in_units, plural
from .workers import run_workers, tell_stopped
from .working import work

EX_UNAVAILABLE = 69
BACKLOG = 4096
GC_THRESHOLD = (20_000, 20, 20)
HEAP_KEPT_BYTES = 8 << 20
HEAP_PIECE_BYTES = 4 << 20
"""What is larger than this goes back to the kernel at once."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
LIMIT_MESSAGE_BYTES = 4096
"""Longest message of a WebSocket's client: nothing that it says is read."""

_APP = "assetserver.app:app"
_PROTOCOL = "assetserver.delivery.protocol:AssetProtocol"
_WEBSOCKETS = "assetserver.delivery.livesockets:LiveSocket"
_NEEDED_LATER = ("anyio._backends._asyncio",)
"""What would be imported by the first request, in every worker."""


def serve_settings(settings: Settings, variables: Mapping[str, str], *, reload: bool) -> int:
    """Serve until stopped; return the exit code.

    ``variables`` describe to other processes what was said by flags: with ``reload``, each makes its application from the
    environment. Raises ``SettingsError`` before anything is opened.
    """
    raise_limit()
    app = create_app(settings)
    check_data_folder(settings)
    is_first = is_first_start(settings)
    try:
        listener = open_listener(settings)
    except OSError as error:
        click.secho("error: ", fg="red", bold=True, nl=False, err=True)
        click.echo(_explain(settings, error), err=True)
        return EX_UNAVAILABLE
    mark = _identity(settings.server.uds)
    address = address_of(listener)
    for line in (
        *describe_mounts(settings),
        *describe_jobs(settings, reload=reload),
        f"on {address} ({_describe_workers(settings, reload=reload)}stop with Ctrl+C)",
        *(welcome(settings, address) if is_first else ()),
    ):
        click.echo(line, err=True)
    try:
        if reload:
            os.environ.update(variables)
        elif settings.server.workers > 1 or count_job_workers(settings):
            return _run_workers(app, settings, listener)
        return _run(_config(_APP if reload else app, settings, reload=reload), listener)
    finally:
        listener.close()
        if mark is not None and _identity(settings.server.uds) == mark:  # not the socket of whoever came after us
            os.unlink(settings.server.uds)


def open_listener(settings: Settings) -> socket.socket:
    """Return a listening socket: inherited, Unix or TCP. Who connects from now on waits, and is not refused.

    The protocol number is given, since asyncio sets TCP_NODELAY only where it is: without, every keep-alive answer waits 44 ms
    for a delayed acknowledgement (measured 2026-11-22). For the same reason an inherited descriptor is wrapped here and not by
    Uvicorn. Raises ``OSError`` when the address cannot be had.
    """
    server = settings.server
    if server.fd >= 0:
        return socket.socket(fileno=server.fd)
    if server.uds:
        return _open_unix(server.uds)
    family, kind, protocol, _, address = socket.getaddrinfo(
        server.host, server.port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def address_of(listener: socket.socket) -> str:
    """Return where ``listener`` can be reached, as a URL or a path."""
    name = listener.getsockname()
    if listener.family == socket.AF_UNIX:
        return f"unix:{name}"
    host = f"[{name[0]}]" if ":" in name[0] else name[0]
    return f"http://{host}:{name[1]}"


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
    return (settings.uploads.enabled or settings.images.on_demand) and bool(kind_names(settings))


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


def _tune_memory() -> None:
    """Have the interpreter look for cycles rarely, and never at what was loaded at the start.

    What the access log holds for half a second was looked through again and again (measured 2026-11-27: 3 µs a request).
    """
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLD)
    _keep_heap()


def _keep_heap() -> None:
    """Have glibc keep a little of what is freed, where it is glibc.

    The pieces of an upload, 256 KB each, were given back to the kernel and asked for again: 100,000 page faults for each GiB,
    a tenth of its processor time (measured 2026-11-27).
    """
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, HEAP_PIECE_BYTES)
        mallopt(_M_TRIM_THRESHOLD, HEAP_KEPT_BYTES)


def _run(config: uvicorn.Config, listener: socket.socket) -> int:
    # Uvicorn raises the signal that stopped it once more at the end; as an exit, what is open gets closed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server = OriginServer(config)
    _tune_memory()
    try:
        if config.should_reload:
            ChangeReload(config, target=server.run, sockets=[listener]).run()
        else:
            server.run(sockets=[listener])
    except KeyboardInterrupt:
        tell_stopped()
    return 0


def _run_workers(app: Starlette, settings: Settings, listener: socket.socket) -> int:
    """Fork workers that share ``listener``; each makes its own application: identifiers, locks and threads are its own."""

    def serve(channel: socket.socket) -> None:
        with told_kindly():
            OriginServer(_config(create_app(settings), settings), channel).run(sockets=[listener])

    def do_jobs(channel: socket.socket) -> None:
        listener.close()
        with told_kindly():
            sys.exit(work(settings, channel))

    _load_all(_config(app, settings))
    _tune_memory()  # which forks inherit
    server = settings.server
    jobs = count_job_workers(settings)
    return run_workers(server.workers, serve, server.graceful_shutdown_s, jobs=jobs, work=do_jobs)


def _load_all(config: uvicorn.Config) -> None:
    """Import what a worker will need, once for all of them."""
    config.load()
    config.get_loop_factory()
    for name in _NEEDED_LATER:
        importlib.import_module(name)


def _config(app: Starlette | str, settings: Settings, *, reload: bool = False) -> uvicorn.Config:
    server = settings.server
    protocol = _http_protocol()
    return uvicorn.Config(
        app,
        http=protocol,
        ws=_WEBSOCKETS if protocol == _PROTOCOL and settings.uploads.enabled else "none",
        ws_max_size=LIMIT_MESSAGE_BYTES,
        ws_per_message_deflate=False,
        backlog=BACKLOG,
        log_level="error",  # warnings there are about what clients send, and name none of them
        access_log=False,
        server_header=False,
        proxy_headers=bool(server.trusted_proxies),
        forwarded_allow_ips=list(server.trusted_proxies),
        timeout_keep_alive=server.keep_alive_s,
        timeout_graceful_shutdown=server.graceful_shutdown_s,
        reload=reload,
        reload_dirs=[str(Path(__file__).parent)] if reload else None,
        lifespan="on",
    )


def _http_protocol() -> str:
    """Return the protocol to speak: ours, or where this Uvicorn is not the one that we know, its own.

    httptools has the strictest framing of Uvicorn's parsers; "auto" would fall back on h11 silently.
    """
    from .delivery import protocol  # noqa: PLC0415 - it may not even import

    if missing := protocol.what_is_missing():
        click.echo(f"this Uvicorn has no {missing}; serving without the hot path, deadlines and limits", err=True)
        return "httptools"
    return _PROTOCOL


def _open_unix(path: str) -> socket.socket:
    """Bind a Unix socket; one that nobody listens on any more is replaced, a live one is not."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        try:
            listener.bind(path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not _is_abandoned(path):
                raise
            os.unlink(path)
            listener.bind(path)
        os.chmod(path, 0o660)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _is_abandoned(path: str) -> bool:
    """Tell whether ``path`` is a socket that nobody listens on; a file is nobody's to remove but its owner's."""
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return True
        except OSError:
            pass
    return False


def _identity(path: str) -> tuple[int, int] | None:
    """Return what tells the socket file at ``path`` from another one put in its place, or None."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if stat.S_ISSOCK(status.st_mode) else None


def _explain(settings: Settings, error: OSError) -> str:
    server = settings.server
    where = f"descriptor {server.fd}" if server.fd >= 0 else server.uds or f"{server.host}:{server.port}"
    reason = (error.strerror or str(error)).lower()
    if server.uds and server.fd < 0 and os.path.exists(server.uds) and _identity(server.uds) is None:
        return f"{server.uds} is a file, not a socket; choose another path with --uds"
    if error.errno == errno.EADDRINUSE:
        remedy = "stop it first" if server.uds else "choose another with --port, or --port 0 for any free one"
        return f"{where} is taken by another program; {remedy}"
    return f"cannot listen on {where}: {reason}"


def _shorten(directory: str) -> str:
    relative = os.path.relpath(directory)
    if relative == ".":
        return "."
    return os.path.normpath(directory) if relative.startswith("..") else f"./{relative}"
