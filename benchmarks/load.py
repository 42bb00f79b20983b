"""Ask one running server the requests of a row, with wrk, and tell what they cost it.

Refuses to tell where the answers are not those in question, where wrk reports any error, or where the server ends.
"""

from __future__ import annotations

import json
import math
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from disturb import disturbed
from machine import KIB, MIB, InvalidMeasurementError, TooFewError, pinned, read_cpu_s
from peers import Running
from rows import Row, make_requests

READY_LIMIT_S = 10.0
WRK_LIMIT_S = 60.0
WRK_TIMEOUT = "60s"  # its 2 s would call a large answer an error

SCRIPT = """
local requests, last = {}, 0
function init()
  local file = io.open("requests.bin", "rb")
  for one in file:read("*a"):gmatch("[^\\1]+") do requests[#requests + 1] = one end
  file:close()
  if #requests == 1 then wrk.format = function() return requests[1] end end
end
%s
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('\\n{"duration_us":%%.0f,"requests":%%.0f,"bytes":%%.0f,"status":%%.0f,"connect":%%.0f,' ..
    '"read":%%.0f,"write":%%.0f,"timeout":%%.0f,"p50_us":%%.0f,"p99_us":%%.0f,"p999_us":%%.0f}\\n',
    summary.duration, summary.requests, summary.bytes, e.status, e.connect, e.read, e.write, e.timeout,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
end
"""
IN_TURN = """
function request()
  last = last % #requests + 1
  return requests[last]
end
"""
DELAY = """
function delay()
  return math.random(0, {most})
end
"""
CHECKED = 50
"""How many different requests are asked once before wrk asks them all."""


@dataclass(frozen=True)
class Load:
    """What asks: where, on which core, for how long."""

    folder: str
    core: int
    seconds: float


class Answer(NamedTuple):
    """What of an answer is compared; lengths in bytes, ``head`` with the empty line."""

    status: int
    head: int
    length: int
    etag: str
    coding: str


@dataclass(frozen=True)
class Cost:
    """What a run cost; ``requests`` is a fraction where unfinished answers count."""

    requests: float
    duration_s: float
    cpu_us: float
    p50_us: float
    p99_us: float
    p999_us: float


def ask(port: int, requests: list[bytes]) -> list[Answer]:
    """Return the answers to requests that are sent one by one over one connection."""
    with closing(socket.create_connection(("127.0.0.1", port), READY_LIMIT_S)) as connection:
        return [_ask(connection, request) for request in requests]


def _ask(connection: socket.socket, request: bytes) -> Answer:
    connection.sendall(request)
    head, body = b"", b""
    while b"\r\n\r\n" not in head:
        head += _receive(connection, 64 * KIB)
    head, _, body = head.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    code = int(status.split()[1])
    if fields.get("transfer-encoding") == "chunked":
        length = _receive_chunks(connection, body)
        return Answer(code, len(head) + 4, length, fields.get("etag", ""), fields.get("content-encoding", ""))
    wanted = 0 if code == 304 else int(fields.get("content-length", -1))
    if wanted < 0:
        raise InvalidMeasurementError(f"an answer without a length: {head!r}")
    length = len(body)
    while length < wanted:
        length += len(_receive(connection, min(MIB, wanted - length)))
    return Answer(code, len(head) + 4, length, fields.get("etag", ""), fields.get("content-encoding", ""))


def _receive_chunks(connection: socket.socket, body: bytes) -> int:
    """Return the length of a chunked content (RFC 9112 §7.1), of which ``body`` has come; without trailers."""
    length = 0
    while True:
        while b"\r\n" not in body:
            body += _receive(connection, 64 * KIB)
        size, _, body = body.partition(b"\r\n")
        chunk = int(size.partition(b";")[0], 16)
        while len(body) < chunk + 2:
            body += _receive(connection, MIB)
        body = body[chunk + 2 :]
        length += chunk
        if not chunk:
            return length


def _receive(connection: socket.socket, limit: int) -> bytes:
    piece = connection.recv(limit)
    if not piece:
        raise InvalidMeasurementError("the server ended the connection")
    return piece


def prepare(server: Running, row: Row, folder: str) -> Answer:
    """Write the requests of a row for wrk, and return the first answer, once all that are tried are those in question.

    Raises ``InvalidMeasurementError`` if they never are: the cost of something else would be compared.
    """
    deadline_s = time.monotonic() + READY_LIMIT_S
    while True:
        etag = ask(server.port, make_requests(row, server.port, '"none"', server.peer.prefix)[:1])[0].etag
        requests = make_requests(row, server.port, etag, server.peer.prefix)
        answers = ask(server.port, requests[:CHECKED])
        wrong = next((answer for answer in answers if not _is_right(answer, row, server.peer.coding or row.coding)), None)
        if wrong is None:
            break
        if time.monotonic() > deadline_s:
            raise InvalidMeasurementError(f"{server.peer.name}, {row.key}: {wrong} is not the answer in question")
        time.sleep(0.05)
    with open(os.path.join(folder, "requests.bin"), "wb") as file:
        file.write(b"\1".join(requests))
    script = SCRIPT % ((IN_TURN if len(requests) > 1 else "") + (DELAY.format(most=2 * row.delay_ms) if row.delay_ms else ""))
    with open(os.path.join(folder, "load.lua"), "w", encoding="utf-8") as file:
        file.write(script)
    return answers[-1]


def _is_right(answer: Answer, row: Row, coding: str) -> bool:
    return (answer.status, answer.coding) == (row.status, coding) and row.length in {None, answer.length}


def measure(server: Running, row: Row, load: Load, seconds: float) -> Cost:
    """Return what the row costs a server that ``prepare`` has seen.

    Raises ``InvalidMeasurementError`` if the numbers would not say that, ``TooFewError`` if they say next to nothing.
    """
    answer = prepare(server, row, load.folder)
    with disturbed(row, server, load.core), standing(server, row):
        before_s = read_cpu_s(server.process.pid)
        summary = run_wrk(server, row, load, seconds * row.longer)
        time.sleep(server.peer.settle_s)
        cpu_us = (read_cpu_s(server.process.pid) - before_s) * 1e6
    if server.process.poll() is not None:
        raise InvalidMeasurementError(f"{server.peer.name} ended with {server.process.returncode}")
    size = answer.head + answer.length
    requests = summary["bytes"] / size if row.by_bytes else float(summary["requests"])
    if not row.by_bytes and row.length is not None and summary["bytes"] < requests * row.length:
        raise InvalidMeasurementError(f"{summary['bytes']} bytes are not {requests:.0f} answers of {row.length}")
    if requests < 1 or cpu_us <= 0:
        raise TooFewError(f"{requests:.1f} requests in {cpu_us:.0f} µs of processor time are too few to tell")
    times = (float(summary[name]) for name in ("p50_us", "p99_us", "p999_us"))
    return Cost(requests, summary["duration_us"] / 1e6, cpu_us / requests, *times)


@contextmanager
def standing(server: Running, row: Row) -> Iterator[None]:
    """Keep the idle connections of a row open until the block ends; each has got one answer."""
    with ExitStack() as stack:
        open_connections(stack, server, make_requests(row, server.port, "")[0], row.idle)
        yield


def open_connections(stack: ExitStack, server: Running, request: bytes, count: int) -> None:
    """Open connections that stay until ``stack`` ends, each having got one answer."""
    for number in range(count):
        # 28,000 ports per address: other addresses of loopback have their own.
        source = (f"127.0.0.{2 + number // 5000}", 0)
        connection = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), READY_LIMIT_S, source))
        connection.sendall(request)
        if not connection.recv(64 * KIB).startswith(b"HTTP/1.1 200"):
            raise InvalidMeasurementError(f"{server.peer.name}: connection {number:,} is not answered")


def run_wrk(server: Running, row: Row, load: Load, seconds: float) -> dict[str, int]:
    """Run wrk and return its summary. Raises ``InvalidMeasurementError`` for errors of any kind.

    wrk takes whole seconds only, but ends early and well on SIGINT, and tells for how long it really ran.
    """
    command = ["wrk", "-t1", f"-c{row.connections}", f"-d{math.ceil(seconds)}s", "--timeout", WRK_TIMEOUT, "-s", "load.lua"]
    url = f"http://127.0.0.1:{server.port}/"
    with pinned({load.core}):
        process = subprocess.Popen([*command, url], cwd=load.folder, stdout=subprocess.PIPE, text=True)
    try:
        if not float(seconds).is_integer():
            time.sleep(seconds + 0.2)
            process.send_signal(signal.SIGINT)
        output = process.communicate(timeout=seconds + WRK_LIMIT_S)[0]
    finally:
        process.kill()
        process.wait()
    if process.returncode == -signal.SIGINT:
        raise TooFewError("wrk was told to end before it had begun")
    if process.returncode:
        raise InvalidMeasurementError(f"wrk ended with {process.returncode}: {output.strip()}")
    summary: dict[str, int] = json.loads(output.rstrip().rpartition("\n")[2])
    wanted = summary["requests"] if row.status >= 400 else 0
    errors = [f"{summary[name]} {name}" for name in ("connect", "read", "write", "timeout") if summary[name]]
    if errors or summary["status"] != wanted:
        raise InvalidMeasurementError(f"wrk reports errors: {', '.join(errors)}, {summary['status']} of status 400 and above")
    return summary
