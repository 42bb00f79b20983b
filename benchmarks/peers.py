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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from bench_static import Contender, free_port, stop, wait_port

PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
VENV = os.path.join(os.path.dirname(os.path.abspath(__file__)), ".venv")
"""Where peers written in Python may be, apart from the project's own packages."""

BROTLI_MODULE = "/usr/lib/nginx/modules/ngx_http_brotli_static_module.so"
MIME_TYPES = "/etc/nginx/mime.types"
PACKAGES = {"nginx": "apt-get install nginx-light", "caddy": "apt-get install caddy", "lighttpd": "apt-get install lighttpd"}
PEER_PACKAGES = "uvicorn uvloop httptools starlette anyio whitenoise gunicorn granian"

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
server.stat-cache-engine = "simple"
mimetype.assign = ( ".css" => "text/css", "" => "application/octet-stream" )
static-file.etags = "enable"
"""
CADDY = """
{{
  admin off
  auto_https off
}}
http://127.0.0.1:{port} {{
  root * {root}
  file_server
}}
"""
STARLETTE = """
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

app = Starlette(routes=[Mount("/", StaticFiles(directory={root!r}))])
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

    ``prefix`` stands before every path, for those that cannot serve files at the root.
    """

    name: str
    command: Callable[[Site, Place], Sequence[str]]
    needs: str = ""
    workers: int = 1
    settle_s: float = 0.2
    prefix: str = ""

    def what_is_missing(self) -> str:
        """Return how to get what it needs, or ""."""
        if not self.needs or shutil.which(self.needs, path=os.path.join(VENV, "bin") + os.pathsep + PATH):
            return ""
        how = PACKAGES.get(self.needs, f"python3 -m venv benchmarks/.venv && benchmarks/.venv/bin/pip install {PEER_PACKAGES}")
        return f"{self.name} is missing: {how}"


class Running(NamedTuple):
    """A peer that runs."""

    peer: Peer
    process: subprocess.Popen[bytes]
    port: int


def nginx(*, workers: int = 1, log: bool = False, fields: bool = True, sendfile: bool = True) -> Peer:
    """Return nginx; ``log`` writes an access log, buffered; ``fields`` sends those that assetserver sends.

    Without ``sendfile`` it reads a file and writes it, which costs it less where files are small (measured 2026-11-22).
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
            log="access.log combined buffer=64k flush=1s" if log else "off",
            port=place.port,
            root=site.root,
            fields=NGINX_FIELDS if fields else "",
            static="gzip_static on; gzip_vary on;" + (" brotli_static on;" if has_brotli() else ""),
        )
        return find("nginx"), "-p", place.folder, "-c", place.write("nginx.conf", text), "-e", "stderr"

    marks = [f"{workers} workers"] * (workers > 1) + ["access log"] * log + ["own fields only"] * (not fields)
    marks += ["no sendfile"] * (not sendfile)
    return Peer(", ".join(["nginx", *marks]), command, "nginx", workers, 1.3 if log else 0.2)


def assetserver(*, workers: int = 1, log: bool = False, live: bool = False) -> Peer:
    """Return ``assetserver serve`` with a release, or ``live`` with a folder."""

    def command(site: Site, place: Place) -> Sequence[str]:
        source = [site.root] if live else ["--data", site.data]
        options = f"--port {place.port} --workers {workers} --access-log {'combined' if log else 'off'}"
        return sys.executable, "-m", "assetserver", "serve", *source, *options.split()

    marks = [f"{workers} workers"] * (workers > 1) + ["access log"] * log + ["live folder"] * live
    return Peer(", ".join(["assetserver", *marks]), command, "", workers, 1.3 if log else 0.2)


def _lighttpd(site: Site, place: Place) -> Sequence[str]:
    return find("lighttpd"), "-D", "-f", place.write("lighttpd.conf", LIGHTTPD.format(root=site.root, port=place.port))


def _caddy(site: Site, place: Place) -> Sequence[str]:
    text = CADDY.format(root=site.root, port=place.port)
    return find("caddy"), "run", "--adapter", "caddyfile", "--config", place.write("Caddyfile", text)


def _starlette(site: Site, place: Place) -> Sequence[str]:
    place.write("starlette_app.py", STARLETTE.format(root=site.root))
    options = f"--http httptools --loop uvloop --no-access-log --log-level error --port {place.port}"
    return find("uvicorn"), "starlette_app:app", *options.split()


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


OTHERS = (
    Peer("Caddy", _caddy, "caddy"),
    Peer("lighttpd", _lighttpd, "lighttpd"),
    Peer("stock StaticFiles, Uvicorn", _starlette, "uvicorn"),
    Peer("WhiteNoise, Gunicorn", _whitenoise, "gunicorn"),
    Peer("granian, static files", _granian, "granian", prefix="static/"),
)


def has_brotli() -> bool:
    """Tell whether nginx can send stored br; Debian's nginx-light alone can only gzip."""
    return os.path.exists(BROTLI_MODULE)


def find(program: str) -> str:
    """Return where a program is: in the benchmark's own environment, or else where programs are."""
    return shutil.which(program, path=os.path.join(VENV, "bin") + os.pathsep + PATH) or program


@contextmanager
def launched(peer: Peer, site: Site, cores: set[int], folder: str) -> Iterator[Running]:
    """Run a peer on ``cores`` until the block ends. Raises ``BenchError`` if it does not start."""
    place = Place(tempfile.mkdtemp(dir=folder), free_port())
    command = [*peer.command(site, place)]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ASSETSERVER_")}
    environment = {**kept, "HOME": place.folder, "XDG_DATA_HOME": place.folder, "XDG_CONFIG_HOME": place.folder}
    before = os.sched_getaffinity(0)
    with open(os.path.join(place.folder, "out"), "wb") as out, open(os.path.join(place.folder, "err"), "wb+") as err:
        os.sched_setaffinity(0, cores)  # inherited, from the first instruction on
        try:
            process = subprocess.Popen(
                command, cwd=place.folder, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=err
            )
        finally:
            os.sched_setaffinity(0, before)
        try:
            wait_port(Contender(peer.name, ("{port}",)), process, place.port, err.fileno())
            time.sleep(0.3)  # other workers than the first
            yield Running(peer, process, place.port)
        finally:
            stop(process)
