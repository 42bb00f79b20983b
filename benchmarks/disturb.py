"""What else goes on while latency is measured: slow downloads, reads from disk, a publish, pictures. A process of its own.

``disturbed`` starts it and waits until it is at work; it works until its input is closed, and then tells what it did. What did
not happen is refused: the latency beside it would be told of a quiet server.
"""

from __future__ import annotations

import errno
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass

from machine import KIB, BenchError, InvalidMeasurementError, pinned
from peers import Running, Site
from photographs import make_photograph
from rows import FEW, Row, format_request
from sites import CHANGING, change_files, cold_files, publish

from assetserver.images.plan import Plan
from assetserver.images.studio import Studio
from assetserver.working import NICENESS

CLIENTS = 50
SLICE_BYTES, SLICE_S = 64 * KIB, 0.1
"""Each slow client takes 640 KiB/s: a mobile network."""
SLOW_PATH = "64m.bin"  # nobody comes to an end
COLD_PAUSE_S = 0.02
CHANGED = 30
LIMIT_S = 120.0
PICTURE = (1600, 1200)
"""A ladder of it takes a second or two of processor time."""


@dataclass
class Done:
    """What a disturbance did: how many times, of which ``real`` were what they should be."""

    times: int = 0
    real: int = 0


@contextmanager
def disturbed(row: Row, server: Running, core: int) -> Iterator[None]:
    """Let a row's disturbance go on until the block ends. Raises ``InvalidMeasurementError`` if it did not really.

    Clients run on ``core``; a publish has the other cores, the server's among them, and pictures are made on all.
    """
    if not row.beside:
        yield
        return
    usable = os.sched_getaffinity(0)
    cores = {"publish": usable - {core} or {core}, "resize": usable}.get(row.beside, {core})
    command = [sys.executable, os.path.abspath(__file__), row.beside, str(server.port), *server.site]
    with pinned(cores):
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        if process.stdout is None or process.stdout.readline() != "ready\n":
            raise BenchError(f"{row.beside} beside {server.peer.name} does not begin")
        yield
        done = Done(**json.loads(process.communicate(timeout=LIMIT_S)[0]))
    finally:
        process.kill()
        process.wait()
    if done.real < 1 or done.real < done.times * 0.9:
        raise InvalidMeasurementError(f"{row.beside} beside {server.peer.name}: {done.real} of {done.times} were real")


def is_over(wait_s: float = 0.0) -> bool:
    """Tell whether the input is closed, at the latest after some seconds."""
    return bool(select.select([sys.stdin], [], [], wait_s)[0])


def announce() -> None:
    """Say that the disturbance is at work."""
    print("ready", flush=True)


def download_slowly(port: int, _: Site) -> Done:
    """Let many clients download a large file, each a slice at a time; ``real`` are clients that got something all along."""
    request = format_request(SLOW_PATH, port, FEW)
    clients = []
    for _ in range(CLIENTS):
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SLICE_BYTES)
        client.connect(("127.0.0.1", port))
        client.sendall(request)
        client.setblocking(False)  # noqa: FBT003 - the socket's own
        clients.append(client)
    got = [0] * CLIENTS
    is_announced = False
    deadline_s = time.monotonic() + LIMIT_S / 2
    while not is_over() and (is_announced or time.monotonic() < deadline_s):
        for number, client in enumerate(clients):
            with suppress(BlockingIOError):
                got[number] += len(client.recv(SLICE_BYTES))
            time.sleep(SLICE_S / CLIENTS)
        if not is_announced and all(got):
            announce()  # not before: what a server does at the start of a download is over
            is_announced = True
    return Done(CLIENTS, sum(one > 0 for one in got))


def read_cold(port: int, site: Site) -> Done:
    """Ask for large files that memory does not hold, one after the other; ``real`` are those of which nothing was left."""
    files = cold_files(site)
    done = Done()
    with socket.create_connection(("127.0.0.1", port), 10.0) as connection:
        for path, _ in files:
            fetch(connection, format_request(path, port, FEW))  # what a server does once, it does now
        for turn in range(sys.maxsize):
            path, places = files[turn % len(files)]
            is_cold = sum(map(drop, places)) == len(places)
            fetch(connection, format_request(path, port, FEW))
            done.times += 1
            done.real += is_cold
            if turn == 0:
                announce()
            if is_over(COLD_PAUSE_S):
                break
    return done


def drop(path: str) -> bool:
    """Let the kernel forget what it holds of a file; tell whether it did."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.preadv(file, [bytearray(1)], 0, os.RWF_NOWAIT)
    except OSError as error:
        if error.errno != errno.EAGAIN:
            raise
        return True
    else:
        return False
    finally:
        os.close(file)


def fetch(connection: socket.socket, request: bytes) -> None:
    """Ask, and read the whole answer."""
    connection.sendall(request)
    head = b""
    while b"\r\n\r\n" not in head:
        piece = connection.recv(64 * KIB)
        if not piece:
            raise BenchError("the server ended the connection")
        head += piece
    head, _, body = head.lower().partition(b"\r\n\r\n")
    if not head.startswith(b"http/1.1 200"):
        raise BenchError(f"not the answer in question: {head!r}")
    left = int(head.partition(b"content-length:")[2].split()[0]) - len(body)
    while left > 0:
        left -= len(connection.recv(min(left, 256 * KIB)))


def publish_again(_: int, site: Site) -> Done:
    """Change some files and publish the folder, over and over."""
    done = Done()
    version = time.time_ns()
    announce()
    while not is_over():
        version += 1
        change_files(site.root, version, min(CHANGED, CHANGING))
        publish(site)
        done.times += 1
        done.real += 1
    return done


def resize_pictures(_: int, __: Site) -> Done:
    """Make ladders of a photograph on every core, over and over, niced as a job worker is; what was begun is finished."""
    os.nice(NICENESS)
    pictures, is_ended = [], threading.Event()
    with tempfile.TemporaryDirectory() as folder, Studio() as studio:
        source = make_photograph(os.path.join(folder, "photograph.jpg"), PICTURE)

        def make_again() -> None:
            while not is_ended.is_set():
                with tempfile.TemporaryDirectory() as made:
                    pictures.append(studio.make(source, Plan(), made).picture)

        threads = [threading.Thread(target=make_again) for _ in os.sched_getaffinity(0)]
        for thread in threads:
            thread.start()
        announce()
        while not is_over(1.0):
            pass
        is_ended.set()
        for thread in threads:
            thread.join()
    return Done(len(pictures), sum(bool(one.variants) for one in pictures))


DISTURBANCES: dict[str, Callable[[int, Site], Done]] = {
    "slow": download_slowly,
    "cold": read_cold,
    "publish": publish_again,
    "resize": resize_pictures,
}


def main(arguments: Sequence[str]) -> int:
    """Disturb until the input is closed; return the exit code."""
    what, port, root, data = arguments
    print(json.dumps(asdict(DISTURBANCES[what](int(port), Site(root, data)))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
