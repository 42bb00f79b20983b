"""Servers that take uploads, and clients that send them: what ``bench_uploads`` and ``beside`` measure."""

from __future__ import annotations

import hashlib
import http.client
import math
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import BinaryIO

from bench_publish import POLL_S, PROGRAM, START_LIMIT_S, serving
from machine import KIB, BenchError, choose_cores, clean_environment, free_port, pinned, read_cpu_s, stop
from peers import PATH

SETTINGS = {"ASSETSERVER_UPLOADS__RESERVE_BYTES": "0", "ASSETSERVER_UPLOADS__UNFINISHED_BYTES": str(1 << 40)}
SETTINGS["ASSETSERVER_UPLOADS__TOKEN_UNFINISHED_BYTES"] = str(1 << 40)
SETTINGS["ASSETSERVER_UPLOADS__CONCURRENT"] = "1000"
SMALL_BYTES = 2000
LIMIT_S = 600.0
SETTLED_S = 0.05
"""A server that has nothing to do takes less in a second."""

NGINX = """
user {user};
daemon off;
worker_processes 1;
pid nginx.pid;
error_log stderr crit;
events {{ worker_connections 1000; }}
http {{
  client_body_temp_path dav; proxy_temp_path temporary; fastcgi_temp_path temporary;
  uwsgi_temp_path temporary; scgi_temp_path temporary;
  access_log off; types {{ text/plain txt; }}
  server {{
    listen 127.0.0.1:{port};
    root dav;
    client_max_body_size 0;
    location / {{ dav_methods PUT; }}
  }}
}}
"""


@dataclass(frozen=True)
class Server:
    """A running server: its process, its port, what a request must carry, and where uploads go, by name and without."""

    pid: int
    port: int
    fields: dict[str, str]
    names: str = "/uploads/by-name/"
    unnamed: tuple[str, str] = ("POST", "/uploads?name=small.bin")


# --- Sending -----------------------------------------------------------------------------------------------------------------


def send_file(server: Server, target: str, path: str, bytes_per_s: float = math.inf) -> None:
    """PUT a file, at most so fast. Raises ``BenchError`` unless it was taken."""
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=LIMIT_S)) as connection, open(path, "rb") as file:
        length = str(os.stat(path).st_size)
        body = file if bytes_per_s == math.inf else pace(file, bytes_per_s)
        connection.request("PUT", target, body, {**server.fields, "Content-Length": length})
        expect_taken(connection.getresponse())


def cpu_of(server: Server, target: str, path: str) -> float:
    """Return the processor time that a server takes for one upload, in seconds."""
    begun_s = read_cpu_s(server.pid)
    send_file(server, target, path)
    return read_cpu_s(server.pid) - begun_s


def pace(file: BinaryIO, bytes_per_s: float) -> Iterator[bytes]:
    """Yield what is in a file, as a network of that speed takes it."""
    begun_s, sent = time.perf_counter(), 0
    while piece := file.read(64 * KIB):
        time.sleep(max(0.0, begun_s + sent / bytes_per_s - time.perf_counter()))
        yield piece
        sent += len(piece)


def expect_taken(answer: http.client.HTTPResponse) -> None:
    """Raise ``BenchError`` unless the answer says that the upload was taken."""
    content = answer.read()
    if answer.status not in (http.client.CREATED, http.client.NO_CONTENT, http.client.OK):
        raise BenchError(f"answered {answer.status}: {content[:200]!r}")


def send_small(server: Server, numbers: Iterable[int]) -> None:
    """Upload one small file after the other over one connection; no two are the same."""
    method, target = server.unnamed
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=LIMIT_S)) as connection:
        for number in numbers:
            content = hashlib.sha256(b"%d" % number).digest() * (SMALL_BYTES // 32)
            connection.request(method, target.format(number), content, server.fields)
            expect_taken(connection.getresponse())


def in_threads(count: int, work: object, arguments: Iterable[tuple[object, ...]]) -> None:
    """Call ``work`` with each of ``arguments`` on a thread of its own. Raises what the first that fails does."""
    failures: list[BaseException] = []

    def guarded(*given: object) -> None:
        try:
            work(*given)
        except BaseException as error:  # noqa: BLE001 - raised again below
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=given) for given, _ in zip(arguments, range(count), strict=False)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


# --- Servers -----------------------------------------------------------------------------------------------------------------


@contextmanager
def running(data: str) -> Iterator[Server]:
    """Serve ``data``, where a release was published, with a token for uploads."""
    command = [*PROGRAM, "token", "create", "--scope", "upload", "--data", data]
    made = subprocess.run(command, capture_output=True, text=True, check=True, env=clean_environment())
    fields = {"Authorization": f"Bearer {made.stdout.split()[-1]}"}
    with serving(data, choose_cores().server, SETTINGS) as (pid, port, _):
        wait_settled(pid)
        yield Server(pid, port, fields)


def wait_settled(pid: int) -> None:
    """Wait until all processes of a server are there and have loaded what they need: that is no upload's."""
    deadline_s, before_s = time.monotonic() + START_LIMIT_S, 0.0
    while (now_s := read_cpu_s(pid)) - before_s > SETTLED_S and time.monotonic() < deadline_s:
        before_s = now_s
        time.sleep(1)


@contextmanager
def nginx(folder: str) -> Iterator[Server]:
    """Run nginx with WebDAV. Raises ``BenchError`` where it cannot."""
    program = shutil.which("nginx", path=PATH)
    if program is None:
        raise BenchError("nginx is missing (apt-get install nginx-light)")
    port = free_port()
    for name in ("dav", "temporary"):
        os.makedirs(os.path.join(folder, name), exist_ok=True)
    with open(os.path.join(folder, "dav.conf"), "w", encoding="utf-8") as file:
        file.write(NGINX.format(port=port, user="root" if os.geteuid() == 0 else "nobody"))
    with pinned({choose_cores().server}):
        process = subprocess.Popen([program, "-p", folder, "-c", "dav.conf"], cwd=folder, stderr=subprocess.DEVNULL)
    try:
        wait_listening(port)
        yield Server(process.pid, port, {}, "/", ("PUT", "/small-{}"))
    finally:
        stop(process)


def wait_listening(port: int) -> None:
    """Wait until somebody accepts connections."""
    deadline_s = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline_s:
        with suppress(ConnectionRefusedError), closing(socket.create_connection(("127.0.0.1", port))):
            return
        time.sleep(POLL_S)
    raise BenchError("nginx does not listen")
