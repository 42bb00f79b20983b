"""The servers that the origin benchmark compares, each configured as its own documentation advises.

Decides command lines and settings files; starts nothing but what ``launched`` is told to. nginx sends the fields that
``assetserver`` sends by default, so that both write about as many bytes; the other peers send only their own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from machine import BenchError, clean_environment, free_port, pinned, stop, wait_port

PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
VENV = os.path.join(os.path.dirname(os.path.abspath(__file__)), ".venv")
"""Where peers written in Python may be, apart from the project's own packages."""

NODE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "node_modules", ".assetserver")
"""Where peers written in JavaScript may be."""

UNCOUNTED = os.path.join(os.path.dirname(os.path.abspath(__file__)), "uncounted.py")
"""``assetserver`` without metrics."""

BROTLI_MODULE = "/usr/lib/nginx/modules/ngx_http_brotli_static_module.so"
DEFLATE_MODULE = "/usr/lib/lighttpd/mod_deflate.so"
MIME_TYPES = "/etc/nginx/mime.types"

NGINX = """
{modules}
user {user};
daemon off;
worker_processes {workers};
worker_rlimit_nofile {files};
pid nginx.pid;
error_log stderr crit;
events {{ worker_connections 20000; }}
http {{
  {types}
  default_type application/octet-stream;
  client_body_temp_path temporary; proxy_temp_path temporary; fastcgi_temp_path temporary;
  uwsgi_temp_path temporary; scgi_temp_path temporary;
  sendfile {sendfile};
  {threads}
  tcp_nopush on;
  tcp_nodelay on;
  keepalive_timeout 75s;
  keepalive_requests 1000000000;
  open_file_cache max=10000 inactive=1h;
  open_file_cache_valid 60s;
  open_file_cache_errors on;
  etag on;
  server_tokens off;
  msie_padding off;
  log_not_found off;
  access_log {log};
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    root {root};
    {fields}
    location /text/ {{ {static} }}
  }}
}}
"""
NGINX_FIELDS = """
    add_header Cache-Control "public, max-age=60, stale-while-revalidate=3600" always;
    add_header Access-Control-Allow-Origin "*" always;
    add_header Timing-Allow-Origin "*" always;
    add_header Cross-Origin-Resource-Policy cross-origin always;
    add_header X-Content-Type-Options nosniff always;
    add_header Cache-Status "nginx; hit" always;
    add_header X-Request-Id "$pid-$connection-$connection_requests" always;
"""
"""What assetserver sends by default. ``$request_id`` would draw random bytes per request, and cost nginx more than this."""

LIGHTTPD = """
server.document-root = "{root}"
server.bind = "127.0.0.1"
server.port = {port}
server.max-keep-alive-requests = 1000000000
server.max-keep-alive-idle = 75
server.max-fds = 16384
server.stat-cache-engine = "inotify"
mimetype.assign = ( ".css" => "text/css", "" => "application/octet-stream" )
static-file.etags = "enable"
"""
LIGHTTPD_CODED = """
server.modules += ( "mod_deflate" )
deflate.mimetypes = ( "text/css" )
deflate.allowed-encodings = ( "br", "gzip" )
deflate.cache-dir = "{folder}/deflated"
"""
CADDY = """
{{
  admin off
  auto_https off
}}
http://127.0.0.1:{port} {{
  root * {root}
  file_server {{
    precompressed br gzip
  }}
}}
"""
UVICORN = "--http httptools --loop uvloop --no-access-log --log-level error --host 127.0.0.1 --port {port}"
STARLETTE = """
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

app = Starlette(routes=[Mount("/", StaticFiles(directory={root!r}))])
"""
STARLETTE_GZIP = """
from starlette.middleware.gzip import GZipMiddleware

app.add_middleware(GZipMiddleware)
"""
WHITENOISE = """
from whitenoise import WhiteNoise


def nothing(environ, start_response):
    start_response("404 Not Found", [("Content-Length", "0")])
    return [b""]


app = WhiteNoise(nothing, root={root!r}, max_age=60)
"""
GRANIAN = """
async def app(scope, receive, send):
    await send({{"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]}})
    await send({{"type": "http.response.body", "body": b""}})
"""


class Site(NamedTuple):
    """Files to serve: ``root`` holds them, ``data`` their release."""

    root: str
    data: str


class Place(NamedTuple):
    """Where a server works: a folder for its settings and logs, and the port that it shall take."""

    folder: str
    port: int

    def write(self, name: str, text: str) -> str:
        """Write a settings file and return its path."""
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path


@dataclass(frozen=True)
class Peer:
    """A server to be. ``command`` writes what it needs and returns its command line; ``needs`` names its program.

    ``prefix`` stands before every path, for those that cannot serve files at the root. ``coding``: what it answers with, if not
    as the row has it.
    """

    name: str
    command: Callable[[Site, Place], Sequence[str]]
    needs: str = ""
    workers: int = 1
    settle_s: float = 0.2
    prefix: str = ""
    environment: Mapping[str, str] = field(default_factory=dict, compare=False)
    coding: str = ""

    def what_is_missing(self) -> str:
        """Return how to get what it needs, or ""."""
        if not self.needs or shutil.which(self.needs, path=os.path.join(VENV, "bin") + os.pathsep + PATH):
            return ""
        return f"{self.name} is missing: run benchmarks/install.py"


class Running(NamedTuple):
    """A peer that runs."""

    peer: Peer
    process: subprocess.Popen[bytes]
    port: int
    site: Site


def nginx(*, workers: int = 1, log: bool = False, fields: bool = True, sendfile: bool = True, threads: bool = False) -> Peer:
    """Return nginx; ``log`` writes an access log, buffered; ``fields`` sends those that assetserver sends.

    Without ``sendfile`` it reads a file and writes it, which costs it less where files are small (measured 2026-11-22).
    ``threads`` read files, as its documentation advises for those that memory does not hold.
    """

    def command(site: Site, place: Place) -> Sequence[str]:
        types = f"include {MIME_TYPES};" if os.path.exists(MIME_TYPES) else "types { text/css css; }"
        text = NGINX.format(
            modules=f"load_module {BROTLI_MODULE};" if has_brotli() else "",
            user="root root" if os.geteuid() == 0 else "nobody",  # the folder is nobody else's to read
            workers=workers,
            files=20_000,
            types=types,
            sendfile="on" if sendfile else "off",
            threads="aio threads;" if threads else "",
            log="access.log combined buffer=64k flush=1s" if log else "off",
            port=place.port,
            root=site.root,
            fields=NGINX_FIELDS if fields else "",
            static="gzip_static on; gzip_vary on;" + (" brotli_static on;" if has_brotli() else ""),
        )
        return find("nginx"), "-p", place.folder, "-c", place.write("nginx.conf", text), "-e", "stderr"

    marks = [f"{workers} workers"] * (workers > 1) + ["access log"] * log + ["own fields only"] * (not fields)
    marks += ["no sendfile"] * (not sendfile) + ["threads"] * threads
    return Peer(", ".join(["nginx", *marks]), command, "nginx", workers, 1.3 if log else 0.2)


def assetserver(
    *,
    workers: int = 1,
    log: str = "off",
    live: bool = False,
    holds: bool = True,
    deltas: bool = True,
    counts: bool = True,
) -> Peer:
    """Return ``assetserver serve`` with a release, or ``live`` with a folder; unless it ``holds``, it keeps no content.

    ``log`` is the form of its access log, ``deltas``: it sends what changed to who has the version before, ``counts``: it has
    metrics, which all have but the one that tells what they cost.

    Nothing is uploaded, so no process does jobs beside it: with one worker, the process that was started is the one that
    serves, and that profilers look at.
    """
    program = ("-m", "assetserver") if counts else (UNCOUNTED,)

    def command(site: Site, place: Place) -> Sequence[str]:
        source = [site.root] if live else ["--data", site.data]
        options = f"--port {place.port} --workers {workers} --access-log {log}"
        return sys.executable, *program, "serve", *source, *options.split()

    marks = [f"{workers} workers"] * (workers > 1) + ["access log"] * (log == "combined") + ["JSON log"] * (log == "json")
    marks += ["live folder"] * live + ["no metrics"] * (not counts)
    marks += ["content not held"] * (not holds) + ["no deltas"] * (not deltas)
    environment = {"ASSETSERVER_JOBS__WORKERS": "0"}
    if not deltas:
        environment["ASSETSERVER_DELTAS__MODE"] = "off"
    if not holds:
        environment |= {"ASSETSERVER_MEMORY__LIMIT_BYTES": "0", "ASSETSERVER_MEMORY__HOT_LIMIT_BYTES": "0"}
    return Peer(", ".join(["assetserver", *marks]), command, "", workers, 0.2 if log == "off" else 1.3, environment=environment)


def asset_files() -> Peer:
    """Return ``AssetFiles`` in the same small app, under the same Uvicorn command line, as stock ``StaticFiles``."""

    def command(site: Site, place: Place) -> Sequence[str]:
        text = STARLETTE.replace("starlette.staticfiles", "assetserver").replace("StaticFiles", "AssetFiles")
        place.write("asset_app.py", text.format(root=site.root))
        return sys.executable, "-m", "uvicorn", "asset_app:app", *UVICORN.format(port=place.port).split()

    return Peer("AssetFiles, Uvicorn", command)


def stock(*, coded: bool = False) -> Peer:
    """Return stock ``StaticFiles``; ``coded``: under its ``GZipMiddleware``. From the project's own packages."""

    def command(site: Site, place: Place) -> Sequence[str]:
        place.write("stock_app.py", STARLETTE.format(root=site.root) + STARLETTE_GZIP * coded)
        return sys.executable, "-m", "uvicorn", "stock_app:app", *UVICORN.format(port=place.port).split()

    return Peer("stock StaticFiles" + ", GZipMiddleware" * coded, command)


def lighttpd(*, coded: bool = False) -> Peer:
    """Return lighttpd; ``coded``: with the module that compresses, and keeps what it made."""

    def command(site: Site, place: Place) -> Sequence[str]:
        text = LIGHTTPD.format(root=site.root, port=place.port) + LIGHTTPD_CODED.format(folder=place.folder) * coded
        return find("lighttpd"), "-D", "-f", place.write("lighttpd.conf", text)

    return Peer("lighttpd" + ", mod_deflate" * coded, command, "lighttpd")


def _caddy(site: Site, place: Place) -> Sequence[str]:
    text = CADDY.format(root=site.root, port=place.port)
    return find("caddy"), "run", "--adapter", "caddyfile", "--config", place.write("Caddyfile", text)


def _whitenoise(site: Site, place: Place) -> Sequence[str]:
    place.write("whitenoise_app.py", WHITENOISE.format(root=site.root))
    options = f"--bind 127.0.0.1:{place.port} --worker-class gthread --threads 2 --keep-alive 75 --log-level error"
    return find("gunicorn"), "whitenoise_app:app", *options.split()


def _granian(site: Site, place: Place) -> Sequence[str]:
    place.write("granian_app.py", GRANIAN.format())
    options = (
        f"--interface asgi --host 127.0.0.1 --port {place.port} --no-access-log --log-level error --static-path-route /static"
    )
    return find("granian"), "granian_app:app", *options.split(), "--static-path-mount", site.root


class Rival(NamedTuple):
    """Who else is measured; ``coded`` and ``coding``: how it answers with compressed content, if it can.

    ``goal``: at least so many times what assetserver takes; None where there is no goal. ``lacks``: rows whose question it
    does not answer, but sends the whole file.
    """

    peer: Peer
    coded: Peer | None = None
    coding: str = ""
    goal: float | None = None
    lacks: frozenset[str] = frozenset()


def list_rivals() -> list[Rival]:
    """Return all other servers, installed or not."""
    caddy = Peer("Caddy", _caddy, "caddy")
    whitenoise = Peer("WhiteNoise, Gunicorn", _whitenoise, "gunicorn")
    return [
        Rival(caddy, caddy, "br", goal=5),
        Rival(lighttpd(), lighttpd(coded=True) if os.path.exists(DEFLATE_MODULE) else None, "br"),
        Rival(stock(), stock(coded=True), "gzip", goal=30),
        Rival(whitenoise, whitenoise, "br"),
        Rival(
            Peer("granian, static files", _granian, "granian", prefix="static/"), lacks=frozenset({"304-15", "range-middle"})
        ),
    ]


def has_brotli() -> bool:
    """Tell whether nginx can send stored br; Debian's nginx-light alone can only gzip."""
    return os.path.exists(BROTLI_MODULE)


def find(program: str) -> str:
    """Return where a program is: in the benchmark's own environment, or else where programs are."""
    return shutil.which(program, path=os.path.join(VENV, "bin") + os.pathsep + PATH) or program


@contextmanager
def started(peer: Peer, site: Site, cores: Collection[int], folder: str, wrapper: Sequence[str] = ()) -> Iterator[Running]:
    """Start a peer on ``cores``; it runs until the block ends, and need not listen yet when the block begins.

    ``wrapper``: words before the command line of a Python peer, in place of its interpreter.
    """
    place = Place(tempfile.mkdtemp(dir=folder), free_port())
    command = [*peer.command(site, place)]
    if wrapper:
        command = [*wrapper, *command[1:]]
    homes = dict.fromkeys(("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"), place.folder)
    environment = {**clean_environment(), **homes, **peer.environment}
    with open(os.path.join(place.folder, "out"), "wb") as out, open(os.path.join(place.folder, "err"), "wb") as err:
        with pinned(cores):
            process = subprocess.Popen(
                command, cwd=place.folder, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=err
            )
        try:
            yield Running(peer, process, place.port, site)
        finally:
            stop(process)


@contextmanager
def launched(peer: Peer, site: Site, cores: Collection[int], folder: str, wrapper: Sequence[str] = ()) -> Iterator[Running]:
    """Run a peer as ``started`` does, from when it accepts connections. Raises ``BenchError`` if it does not start."""
    with started(peer, site, cores, folder, wrapper) as server:
        if not wait_port(server.process, server.port):
            raise BenchError(f"{peer.name} does not start")
        time.sleep(0.3)  # other workers than the first
        yield server
