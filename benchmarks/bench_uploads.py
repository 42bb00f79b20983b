"""What do uploads cost, and what do they cost others?

Sends a large file to the program as people run it and to nginx with WebDAV, holds many uploads open at once, sends many small
files, and asks for hot files meanwhile. Every number stands beside its goal. What a durable file costs in fsyncs is counted
with strace, where that is installed.

Prints Markdown on stdout, progress on stderr, and writes JSON. Needs Linux, and nginx with its WebDAV module to compare with.
Exit codes: 0 done, 1 something did not work.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from statistics import median

import values
from bench_publish import minimal_files, run, write
from beside import measure_beside
from machine import MIB, BenchError, forget_peak, list_tree, read_cpu_s, read_peak_kb, say
from uploading import LIMIT_S, SMALL_BYTES, Server, cpu_of, in_threads, nginx, running, send_small
from values import Row

CONNECTIONS = 32
SYNCING_THREADS = 16


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


# --- What is measured --------------------------------------------------------------------------------------------------------


def measure_large(folder: str, data: str, plan: Plan) -> Iterator[Row]:
    """One large file: processor time against nginx's and that of SHA-256, and memory."""
    path = os.path.join(folder, "large")
    with open(path, "wb") as file:
        file.writelines(os.urandom(MIB) for _ in range(plan.large_mib))
    what = f"PUT of {plan.large_mib:,} MiB"
    with nginx(folder) as peer:
        theirs = median(cpu_of(peer, f"{peer.names}large-{number}", path) for number in range(plan.rounds))
    digest = hash_cpu_s(path)
    with running(data) as server:
        send_small(server, range(10))  # the records are opened with the first
        forget_peak(server.pid)
        before_kb = read_peak_kb(server.pid)
        ours = median(cpu_of(server, f"{server.names}large-{number}", path) for number in range(plan.rounds))
        grown = (read_peak_kb(server.pid) - before_kb) / 1024
    scale = 1024 / plan.large_mib
    goal = (1.5 * theirs + digest) * scale
    yield Row(f"{what}, nginx WebDAV (not synced)", theirs * scale, "s CPU/GiB")
    yield Row(f"SHA-256 of {plan.large_mib:,} MiB", digest * scale, "s CPU/GiB")
    yield Row(what, ours * scale, "s CPU/GiB", f"≤ {goal:.2f} (1.5 of nginx + SHA-256)", ours * scale <= goal)
    yield Row(f"{what}: memory, more than before", grown, "MiB", "≤ 32", grown <= 32)
    os.unlink(path)


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


def measure(folder: str, plan: Plan) -> Iterator[Row]:
    """Measure everything, one after the other, on a server of a site with some files."""
    data = os.path.join(folder, "data")
    run("publish", write(os.path.join(folder, "site"), minimal_files(400)), "--data", data, "--prod", "--json")
    for part in (measure_large, measure_many, measure_small, measure_beside):
        say(part.__doc__ or "")
        yield from part(folder, data, plan)


if __name__ == "__main__":
    sys.exit(values.run("uploads", __doc__, Plan(), QUICK, measure))
