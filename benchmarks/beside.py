"""How long hot GETs wait while files are uploaded to the same server, and while none are.

200 connections ask about 2,000 times a second in all, as in ``bench_latency``; large and small files are uploaded one after the
other, as fast as the server takes them. Server and clients have a core each, so that what hashes and syncs shares the server's.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count, islice
from statistics import median
from typing import Protocol

import rows
from load import Load, prepare, run_wrk
from machine import MIB, BenchError, choose_cores, pinned, say
from peers import Running, Site, assetserver
from uploading import Server, nginx, running, send_file, send_small
from values import Row

MEDIUM_MIB = 16
SMALL_FILES = 20
"""So many follow each larger file."""

NETWORK, NETWORK_BYTES_PER_S = "at 100 Mbit/s", 12.5e6

HOT = rows.Row(
    "hot", "a hot file", None, paths=("0/0.txt",), fields=rows.BROWSER, length=None, connections=200, delay_ms=100, kind="p99"
)


_numbers = count(500_000)
"""Each names another file: no two have the same name or, if small, content."""


class Plan(Protocol):
    """How much of everything. ``watch_s``: for how long each of the ``watch_rounds`` asks, with uploads and without."""

    watch_s: float
    watch_rounds: int


def measure_beside(folder: str, data: str, plan: Plan) -> Iterator[Row]:
    """Hot files are asked for while files are uploaded, in turn with spans in which nothing else happens; of nginx, too."""
    path = os.path.join(folder, "medium")
    with open(path, "wb") as file:
        file.write(os.urandom(MEDIUM_MIB * MIB))
    with running(data) as server:
        send_small(server, range(20))  # the records are opened with the first
        alone, beside = measure_rounds(server, folder, path, plan)
        paced = measure_rounds(server, folder, path, plan, NETWORK_BYTES_PER_S)
    yield Row("p99 of a hot GET, 200 connections, nothing else", median(alone), "ms")
    yield Row("p99 of a hot GET while files are uploaded", median(beside), "ms")
    yield compare("p99 beside uploads ÷ alone", alone, beside, 2.0)
    yield compare(f"p99 beside uploads {NETWORK} ÷ alone", *paced, None)
    with nginx(folder) as peer:
        copy_site(os.path.join(folder, "site"), os.path.join(folder, "dav"))
        alone, beside = measure_rounds(peer, folder, path, plan)
        paced = measure_rounds(peer, folder, path, plan, NETWORK_BYTES_PER_S)
    yield Row("nginx WebDAV (neither hashed nor synced): p99 of a hot GET while files are uploaded", median(beside), "ms")
    yield compare("nginx WebDAV: p99 beside uploads ÷ alone", alone, beside, None)
    yield compare(f"nginx WebDAV: p99 beside uploads {NETWORK} ÷ alone", *paced, None)


def compare(what: str, alone: list[float], beside: list[float], goal: float | None) -> Row:
    """Return how many times as long it takes, each ratio of one round."""
    ratios = [one / other for one, other in zip(beside, alone, strict=True)]
    title = f"{what} ({min(ratios):.2f} to {max(ratios):.2f})"
    if goal is None:
        return Row(title, median(ratios), "")
    return Row(title, median(ratios), "", f"≤ {goal:g}", median(ratios) <= goal)


def copy_site(root: str, target: str) -> None:
    """Give nginx the file that is asked for, under the same path."""
    path = HOT.paths[0]
    os.makedirs(os.path.dirname(os.path.join(target, path)), exist_ok=True)
    os.link(os.path.join(root, path), os.path.join(target, path))


def measure_rounds(
    server: Server, folder: str, path: str, plan: Plan, bytes_per_s: float = math.inf
) -> tuple[list[float], list[float]]:
    """Return the p99 in milliseconds of each round, without uploads and with some of which the large ones are so fast."""
    load = Load(folder, choose_cores().load, plan.watch_s)
    alone, beside = [], []
    ask_hot(server, load)
    for number in range(plan.watch_rounds):
        say(f"visitors, round {number + 1} of {plan.watch_rounds}")
        alone.append(ask_hot(server, load))
        with uploading(server, path, bytes_per_s):
            beside.append(ask_hot(server, load))
    return alone, beside


def ask_hot(server: Server, load: Load) -> float:
    """Return the p99 of a hot GET in milliseconds."""
    asked = Running(assetserver(), None, server.port, Site("", ""))
    prepare(asked, HOT, load.folder)
    return run_wrk(asked, HOT, load, load.seconds)["p99_us"] / 1000


@contextmanager
def uploading(server: Server, path: str, bytes_per_s: float) -> Iterator[None]:
    """Upload large and small files, one after the other, until the block ends. Raises ``BenchError`` if one is not taken."""
    is_over, failures = threading.Event(), []

    def upload() -> None:
        try:
            while not is_over.is_set():
                make_different(path)
                send_file(server, f"{server.names}medium-{next(_numbers)}", path, bytes_per_s)
                send_small(server, islice(_numbers, SMALL_FILES))
        except (BenchError, OSError) as error:
            failures.append(error)

    with pinned({choose_cores().load}):
        thread = threading.Thread(target=upload)
        thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
    if failures:
        raise BenchError(f"uploading beside: {failures[0]}")


def make_different(path: str) -> None:
    """Change the content of a file: what a server has already need not be stored."""
    with open(path, "r+b") as file:
        file.write(os.urandom(64))
