"""What do uploads cost, and what do they cost others?

Sends a large file to the program as people run it and to nginx with WebDAV, holds many uploads open at once, sends many small
files, and asks for hot files meanwhile. Every number stands beside its goal. What a durable file costs in fsyncs is counted
with strace, where that is installed.

Prints Markdown on stdout, progress on stderr, and writes JSON. Needs Linux, and nginx with its WebDAV module to compare with.
Exit codes: 0 done, 1 something did not work.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from statistics import median, quantiles

import values
from bench_publish import (
    POLL_S,
    PROGRAM,
    START_LIMIT_S,
    Watcher,
    minimal_files,
    run,
    serving,
    write,
)
from machine import (
    MIB,
    BenchError,
    choose_cores,
    clean_environment,
    forget_peak,
    free_port,
    list_tree,
    pinned,
    read_cpu_s,
    read_peak_kb,
    say,
    stop,
)
from peers import PATH
from values import Row

SETTINGS = {"ASSETSERVER_UPLOADS__RESERVE_BYTES": "0", "ASSETSERVER_UPLOADS__UNFINISHED_BYTES": str(1 << 40)}
SETTINGS["ASSETSERVER_UPLOADS__TOKEN_UNFINISHED_BYTES"] = str(1 << 40)
SETTINGS["ASSETSERVER_UPLOADS__CONCURRENT"] = "1000"
SMALL_BYTES = 2000
CONNECTIONS = 32
SYNCING_THREADS = 16
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
  access_log off;
  server {{
    listen 127.0.0.1:{port};
    root dav;
    client_max_body_size 0;
    location / {{ dav_methods PUT; }}
  }}
}}
"""


@dataclass(frozen=True)
class Plan:
    """How much of everything."""

    large_mib: int = 1024
    at_once: int = 200
    each_mib: int = 8
    small_files: int = 4_000
    small_rounds: int = 7
    watch_s: float = 5.0
    watch_rounds: int = 7
    rounds: int = 3


QUICK = Plan(large_mib=16, at_once=8, each_mib=1, small_files=60, small_rounds=2, watch_s=0.5, watch_rounds=2, rounds=1)


@dataclass(frozen=True)
class Server:
    """A running server: its process, its port, and what a request must carry."""

    pid: int
    port: int
    fields: dict[str, str]


# --- Sending -----------------------------------------------------------------------------------------------------------------


def send_file(server: Server, target: str, path: str) -> None:
    """PUT a file. Raises ``BenchError`` unless it was taken."""
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=LIMIT_S)) as connection, open(path, "rb") as file:
        length = str(os.stat(path).st_size)
        connection.request("PUT", target, file, {**server.fields, "Content-Length": length})
        expect_taken(connection.getresponse())


def expect_taken(answer: http.client.HTTPResponse) -> None:
    """Raise ``BenchError`` unless the answer says that the upload was taken."""
    content = answer.read()
    if answer.status not in (http.client.CREATED, http.client.NO_CONTENT, http.client.OK):
        raise BenchError(f"answered {answer.status}: {content[:200]!r}")


def send_small(server: Server, numbers: Iterable[int]) -> None:
    """POST one small file after the other over one connection; no two are the same."""
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=LIMIT_S)) as connection:
        for number in numbers:
            content = hashlib.sha256(b"%d" % number).digest() * (SMALL_BYTES // 32)
            connection.request("POST", "/uploads?name=small.bin", content, server.fields)
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
        yield Server(process.pid, port, {})
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


# --- What is measured --------------------------------------------------------------------------------------------------------


def measure_large(folder: str, data: str, plan: Plan) -> Iterator[Row]:
    """One large file: processor time against nginx's and that of SHA-256, and memory."""
    path = os.path.join(folder, "large")
    with open(path, "wb") as file:
        file.writelines(os.urandom(MIB) for _ in range(plan.large_mib))
    what = f"PUT of {plan.large_mib:,} MiB"
    with nginx(folder) as peer:
        theirs = median(cpu_of(peer, f"/{number}", path) for number in range(plan.rounds))
    digest = hash_cpu_s(path)
    with running(data) as server:
        send_small(server, range(10))  # the records are opened with the first
        forget_peak(server.pid)
        before_kb = read_peak_kb(server.pid)
        ours = median(cpu_of(server, f"/uploads/by-name/{number}", path) for number in range(plan.rounds))
        grown = (read_peak_kb(server.pid) - before_kb) / 1024
    scale = 1024 / plan.large_mib
    goal = (1.5 * theirs + digest) * scale
    yield Row(f"{what}, nginx WebDAV (not synced)", theirs * scale, "s CPU/GiB")
    yield Row(f"SHA-256 of {plan.large_mib:,} MiB", digest * scale, "s CPU/GiB")
    yield Row(what, ours * scale, "s CPU/GiB", f"≤ {goal:.2f} (1.5 of nginx + SHA-256)", ours * scale <= goal)
    yield Row(f"{what}: memory, more than before", grown, "MiB", "≤ 32", grown <= 32)
    os.unlink(path)


def cpu_of(server: Server, target: str, path: str) -> float:
    """Return the processor time that a server takes for one upload, in seconds."""
    begun_s = read_cpu_s(server.pid)
    send_file(server, target, path)
    return read_cpu_s(server.pid) - begun_s


def hash_cpu_s(path: str) -> float:
    """Return the processor time of hashing a file that is in the page cache, less that of reading it."""
    times = []
    for hashed in (lambda _: None, hashlib.sha256().update):
        begun_s = time.process_time()
        with open(path, "rb", buffering=0) as file:
            while piece := file.read(MIB):
                hashed(piece)
        times.append(time.process_time() - begun_s)
    return times[1] - times[0]


def measure_many(_: str, data: str, plan: Plan) -> Iterator[Row]:
    """Many uploads at once, each slower than the disk: memory."""
    content = os.urandom(MIB)
    with running(data) as server, ExitStack() as stack:
        send_small(server, range(20))
        forget_peak(server.pid)
        before_kb = read_peak_kb(server.pid)
        senders = [
            stack.enter_context(closing(socket.create_connection(("127.0.0.1", server.port)))) for _ in range(plan.at_once)
        ]
        fields = "".join(f"{name}: {value}\r\n" for name, value in server.fields.items())
        head = f"POST /uploads?name=a HTTP/1.1\r\nHost: a\r\nContent-Length: {plan.each_mib * MIB}\r\n{fields}\r\n".encode()
        for sender in senders:
            sender.sendall(head)
        for _ in range(plan.each_mib):
            for sender in senders:
                sender.sendall(content)
        for sender in senders:
            sender.settimeout(LIMIT_S)
            if not (begin := sender.recv(4096)).startswith(b"HTTP/1.1 201"):
                raise BenchError(f"answered {begin[:200]!r}")
        grown = (read_peak_kb(server.pid) - before_kb) / 1024
    what = f"{plan.at_once} uploads of {plan.each_mib} MiB at once: memory, more than before"
    yield Row(what, grown, "MiB", "≤ 128", grown <= 128)


def measure_small(folder: str, data: str, plan: Plan) -> Iterator[Row]:
    """Many small files, each durable when answered."""
    for threads in (1, SYNCING_THREADS):
        what = f"the disk alone: files of {SMALL_BYTES:,} bytes written and synced (fdatasync) by {threads} threads"
        yield Row(what.replace("by 1 threads", "one after the other"), disk_files_per_s(folder, threads, plan), "files/s")
    with running(data) as server:
        send_small(server, range(10))
        speeds, costs_ms = zip(*(time_small(server, number, plan) for number in range(plan.small_rounds)), strict=True)
        speed = median(speeds)
        what = f"small files over {CONNECTIONS} connections, durable ({min(speeds):,.0f} to {max(speeds):,.0f})"
        yield Row(what, speed, "files/s", "≥ 1,000", speed >= 1000)
        yield Row(f"processor time of a small file ({min(costs_ms):.2f} to {max(costs_ms):.2f})", median(costs_ms), "ms")
        if (syncs := count_syncs(server, plan)) is not None:
            yield Row(f"fsyncs of a small file, {CONNECTIONS} at once", syncs, "calls", "as few as can be")


def time_small(server: Server, number: int, plan: Plan) -> tuple[float, float]:
    """Upload small files in round ``number``; return how many a second, and the milliseconds of processor time of each."""
    begun_s, begun_cpu_s = time.perf_counter(), read_cpu_s(server.pid)
    in_threads(CONNECTIONS, send_small, portions(server, 1000 + number * plan.small_files, plan.small_files))
    took_s, cpu_s = time.perf_counter() - begun_s, read_cpu_s(server.pid) - begun_cpu_s
    return plan.small_files / took_s, cpu_s / plan.small_files * 1000


def disk_files_per_s(folder: str, threads: int, plan: Plan) -> float:
    """Return how many small files threads make durable in a second without any server; their names are not."""
    count, content = min(plan.small_files, 4000), os.urandom(SMALL_BYTES)

    def write_some(place: str, numbers: Iterable[int]) -> None:
        for number in numbers:
            descriptor = os.open(os.path.join(place, str(number)), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            os.write(descriptor, content)
            os.fdatasync(descriptor)
            os.close(descriptor)

    with tempfile.TemporaryDirectory(dir=folder) as place:
        begun_s = time.perf_counter()
        in_threads(threads, write_some, ((place, range(first, count, threads)) for first in range(threads)))
        return count / (time.perf_counter() - begun_s)


def portions(server: Server, start: int, count: int) -> Iterator[tuple[Server, range]]:
    """Yield what each connection sends."""
    for number in range(CONNECTIONS):
        yield server, range(start + number, start + count, CONNECTIONS)


def count_syncs(server: Server, plan: Plan) -> float | None:
    """Return how many fsyncs a small file takes, or None without strace; it slows the server down."""
    if shutil.which("strace") is None:
        say("without strace fsyncs are not counted (apt-get install strace)")
        return None
    count = min(plan.small_files, 2000)
    with tempfile.NamedTemporaryFile(mode="r") as told:
        command = ["strace", "-f", "-qq", "-e", "trace=fsync,fdatasync", "-o", told.name]
        command += [word for member in list_tree(server.pid) for word in ("-p", str(member))]
        tracer = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        time.sleep(1)
        in_threads(CONNECTIONS, send_small, portions(server, 10_000_000, count))
        tracer.send_signal(signal.SIGINT)
        tracer.wait(LIMIT_S)
        return len(re.findall(r"\bf(?:data)?sync\(", told.read())) / count


def measure_others(folder: str, data: str, plan: Plan) -> Iterator[Row]:
    """Hot files are asked for while files are uploaded, in turn with spans in which nothing else happens."""
    path = os.path.join(folder, "medium")
    with open(path, "wb") as file:
        file.write(os.urandom(16 * MIB))
    alone: list[float] = []
    beside: list[float] = []
    with running(data) as server:
        watcher = Watcher(server.port)
        watcher.start()
        for number in range(plan.watch_rounds):
            begun_s = time.perf_counter()
            time.sleep(plan.watch_s)
            middle_s = time.perf_counter()
            upload_for(server, path, number, plan.watch_s)
            alone.append(p99(watcher.select_ms(begun_s, middle_s)))
            beside.append(p99(watcher.select_ms(middle_s, time.perf_counter())))
        watcher.is_over = True
        watcher.join()
    ratios = [one / other for one, other in zip(beside, alone, strict=True)]
    yield Row("p99 of a hot GET, nothing else", median(alone), "ms")
    yield Row("p99 of a hot GET while files are uploaded", median(beside), "ms")
    what = f"p99 beside uploads ÷ alone ({min(ratios):.2f} to {max(ratios):.2f})"
    yield Row(what, median(ratios), "", "≤ 2", median(ratios) <= 2)


def upload_for(server: Server, path: str, number: int, seconds: float) -> None:
    """Upload large and small files, one after the other, in round ``number``; no two are the same name or small file."""
    end_s, turn = time.perf_counter() + seconds, number * 1000
    while time.perf_counter() < end_s:
        send_file(server, f"/uploads/by-name/medium-{turn}", path)
        send_small(server, range(turn * 20 + 500_000, turn * 20 + 500_020))
        turn += 1


def p99(times: list[float]) -> float:
    """Return the 99th percentile."""
    return quantiles(times, n=100)[98] if len(times) > 1 else times[0]


def measure(folder: str, plan: Plan) -> Iterator[Row]:
    """Measure everything, one after the other, on a server of a site with some files."""
    data = os.path.join(folder, "data")
    run("publish", write(os.path.join(folder, "site"), minimal_files(400)), "--data", data, "--prod", "--json")
    for part in (measure_large, measure_many, measure_small, measure_others):
        say(part.__doc__ or "")
        yield from part(folder, data, plan)


if __name__ == "__main__":
    sys.exit(values.run("uploads", __doc__, Plan(), QUICK, measure))
